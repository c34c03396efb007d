/**
 * Asks for the list: every active task, and as many finished ones as are shown.
 *
 * One question at a time; one that fails is asked again, later each time. Owns the timer and the
 * request. Knows neither the DOM nor what becomes of the answer.
 */

import type { Client, PageQuery } from "../client/client.ts";
import { type Counts, isFinal, STATUSES, type Task } from "../client/task.ts";

export interface Loader {
  /** Asks now; what is on its way is asked for once more, since it may be older than the reason. */
  load(): void;
  /** Asks soon, unless something else asks before. */
  loadSoon(): void;
}

export interface LoaderOptions {
  client: Pick<Client, "page">;
  /** How many finished tasks are wanted. */
  finishedWanted(): number;
  /** `askedAtMs` is when the question was sent, by `performance.now()`. */
  onList(tasks: readonly Task[], counts: Counts | undefined, askedAtMs: number): void;
  /** Told after every failure, and with nothing after every answer. */
  onOutcome(error?: unknown): void;
}

/** Most tasks that the server lists at once. */
const LIMIT_MAX = 500;
/** A list that takes longer than this is a server that is away. */
const TIMEOUT_MS = 10_000;
const SOON_MS = 200;
const RETRY_MS = 2_000;
const RETRY_MAX_MS = 15_000;

const ACTIVE = STATUSES.filter((status) => !isFinal(status));
const FINISHED = STATUSES.filter(isFinal);

export function createLoader(options: LoaderOptions): Loader {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isLoading = false;
  let again = false;
  let failures = 0;

  async function run(): Promise<void> {
    clearTimeout(timer);
    if (isLoading) {
      again = true;
      return;
    }
    isLoading = true;
    again = false;
    try {
      const askedAtMs = performance.now();
      // In this order, a task that ends in between is in both lists and not in none.
      const active = await pages({ status: ACTIVE }, Number.POSITIVE_INFINITY);
      const finished = await pages({ status: FINISHED }, options.finishedWanted());
      failures = 0;
      options.onList([...active.tasks, ...finished.tasks], finished.counts, askedAtMs);
      options.onOutcome();
    } catch (error) {
      failures += 1;
      options.onOutcome(error);
      schedule(Math.min(RETRY_MS * 2 ** (failures - 1), RETRY_MAX_MS));
    } finally {
      isLoading = false;
    }
    if (again) void run();
  }

  async function pages(query: PageQuery, most: number) {
    const tasks: Task[] = [];
    for (let page: string | undefined; ; ) {
      const limit = Math.min(most - tasks.length, LIMIT_MAX);
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const next = page === undefined ? {} : { page };
      const answer = await options.client.page({ ...query, ...next, limit, signal });
      tasks.push(...answer.tasks);
      page = answer.nextPage;
      if (page === undefined || tasks.length >= most) return { tasks, counts: answer.counts };
    }
  }

  function schedule(delayMs: number): void {
    clearTimeout(timer);
    timer = setTimeout(() => void run(), delayMs);
  }

  return { load: () => void run(), loadSoon: () => schedule(SOON_MS) };
}
