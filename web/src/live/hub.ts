/**
 * One stream for all tabs of a browser: the leader holds it and passes its events on, and when the
 * leader goes, another goes on from the last cursor that all of them have seen.
 *
 * Owns that cursor and what is known of the connection. Knows neither the DOM nor what is told.
 */

import { isLinkEvent, type LinkEvent, type Reason } from "../client/events.ts";
import { explain } from "../client/problem.ts";
import type { Tabs } from "./leader.ts";

/** What a stream tells, as opposed to the connection. */
interface Told {
  type: string;
  cursor?: string;
}

export interface Link {
  state: "connecting" | "live" | "waiting";
  /** Until when what was told is known to be true, in Unix milliseconds; nothing before the first. */
  heardAtMs?: number;
  /** Why the stream is away. */
  reason?: Reason;
  /** What the server said when it refused the stream. */
  refusal?: string;
  /** Whether the credential of the stream is about to end. */
  isExpiring?: boolean;
}

/** What tabs say to each other. */
type Message<Change> =
  | { type: "changes"; changes: readonly Change[] }
  | { type: "link"; link: Link }
  /** A new tab asks how things stand. */
  | { type: "hello" };

export interface HubOptions<Change extends Told> extends Tabs {
  /** The stream, fresh or from a cursor. */
  open(query: { signal: AbortSignal; lastEventId?: string }): AsyncIterable<LinkEvent | Change>;
  onChanges(changes: readonly Change[]): void;
  onLink(link: Link): void;
  /** Runs after what is already on its way; injected by tests. */
  defer?: (run: () => void) => void;
  now?: () => number;
}

/** How long a stream rests that the server refused for a reason of its own, or that made no sense. */
const REST_MS = 10_000;

export function joinHub<Change extends Told>(options: HubOptions<Change>): void {
  const { channel, defer = nextTask, now = Date.now } = options;
  let link: Link = { state: "connecting" };
  let cursor: string | undefined;
  let isLeading = false;
  let batch: Change[] = [];

  function learn(changes: readonly Change[]): void {
    cursor = changes.findLast((change) => change.cursor !== undefined)?.cursor ?? cursor;
    options.onChanges(changes);
  }

  function setLink(next: Link): void {
    link = next;
    options.onLink(link);
  }

  function say(message: Message<Change>): void {
    channel.postMessage(message);
  }

  function sayLink(next: Link): void {
    const { heardAtMs = next.heardAtMs } = link;
    setLink({ ...(heardAtMs !== undefined && { heardAtMs }), ...next });
    say({ type: "link", link });
  }

  /** Changes of one chunk are one message: a busy list would drown the tabs otherwise. */
  function pass(change: Change): void {
    batch.push(change);
    if (batch.length === 1) defer(flush);
  }

  function flush(): void {
    const changes = batch;
    batch = [];
    if (changes.length === 0) return;
    learn(changes);
    say({ type: "changes", changes });
  }

  async function lead(signal: AbortSignal): Promise<void> {
    isLeading = true;
    while (!signal.aborted) {
      sayLink({ state: "connecting" });
      try {
        await followOnce(signal);
      } catch (error) {
        // What was refused may be allowed later; what made no sense may have been a new release.
        cursor = undefined;
        sayLink({ state: "waiting", reason: "unavailable", refusal: explain(error) });
      }
      await rest(signal);
    }
    isLeading = false;
  }

  async function followOnce(signal: AbortSignal): Promise<void> {
    const resume = cursor === undefined ? {} : { lastEventId: cursor };
    for await (const event of options.open({ signal, ...resume })) {
      if (isLinkEvent(event)) follow(event);
      else pass(event);
    }
  }

  function follow(event: LinkEvent): void {
    if (event.type === "open") sayLink({ state: "live" });
    else if (event.type === "expiring") sayLink({ ...link, isExpiring: true });
    else if (event.type === "refused") {
      const refusal = event.detail ?? "The server is busy.";
      sayLink({ ...link, state: "waiting", refusal });
    } else if (event.type === "waiting") {
      flush();
      const { refusal } = link;
      const heardAtMs = now() - event.idleMs;
      const why = refusal === undefined || event.reason !== "closed" ? {} : { refusal };
      sayLink({ state: "waiting", reason: event.reason, heardAtMs, ...why });
    }
    // After a reset follows all that there is to know.
  }

  channel.addEventListener("message", ({ data }: MessageEvent<Message<Change>>) => {
    if (data.type === "hello") {
      if (isLeading) say({ type: "link", link });
    } else if (data.type === "link") setLink(data.link);
    else learn(data.changes);
  });
  say({ type: "hello" });
  options.elect(lead);
}

function rest(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, REST_MS);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** A timer would do, but those of a hidden tab are slow, and a hidden tab may lead. */
function nextTask(run: () => void): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    run();
  };
  port2.postMessage(null);
}
