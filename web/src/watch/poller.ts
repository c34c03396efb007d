/**
 * Keeps the list fresh by asking for it again and again, but only while the page is visible.
 *
 * No stream of the whole list exists, and a page that nobody looks at needs none. Owns one timer
 * and one request in flight at most. Knows neither what it fetches nor the DOM.
 */

export interface Poller {
  /** Asks at once; also the way to say that something has just changed. */
  refresh(): void;
  /** A hidden page stops asking; one that comes back asks at once. */
  setVisible(visible: boolean): void;
  close(): void;
}

export interface PollerOptions {
  poll(signal: AbortSignal): Promise<void>;
  /** Told after every answer and every failure, with the failures in a row so far. */
  onOutcome(failures: number, error?: unknown): void;
  intervalMs?: number;
  maxIntervalMs?: number;
}

const INTERVAL_MS = 3_000;
const MAX_INTERVAL_MS = 12_000;

export function createPoller(options: PollerOptions): Poller {
  const { intervalMs = INTERVAL_MS, maxIntervalMs = MAX_INTERVAL_MS } = options;
  let visible = true;
  let failures = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let inFlight: AbortController | undefined;
  let again = false;

  async function run(): Promise<void> {
    if (inFlight !== undefined) {
      // What is on its way may have been read before the change that we were called for.
      again = true;
      return;
    }
    clearTimeout(timer);
    const request = new AbortController();
    inFlight = request;
    try {
      await options.poll(request.signal);
      failures = 0;
      options.onOutcome(failures);
    } catch (error) {
      if (request.signal.aborted) return;
      failures += 1;
      options.onOutcome(failures, error);
    } finally {
      if (inFlight === request) inFlight = undefined;
    }
    schedule();
  }

  function schedule(): void {
    clearTimeout(timer);
    if (!visible) return;
    const delayMs = again
      ? 0
      : Math.min(intervalMs * 2 ** Math.max(failures - 1, 0), maxIntervalMs);
    again = false;
    timer = setTimeout(() => void run(), delayMs);
  }

  function stop(): void {
    clearTimeout(timer);
    inFlight?.abort();
    inFlight = undefined;
    again = false;
  }

  return {
    refresh: () => void run(),
    setVisible(next) {
      if (next === visible) return;
      visible = next;
      if (next) void run();
      else stop();
    },
    close() {
      visible = false;
      stop();
    },
  };
}
