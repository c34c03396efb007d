/**
 * The watch pool: which tasks have a stream of their own, and those streams.
 *
 * Why a bound: a browser opens six HTTP/1.1 connections to one host, over all its tabs. A stream
 * holds one for as long as it lives, so a stream per task would leave a list of ten tasks unable
 * to send anything. The pool keeps to four, which leaves one connection for a file that is being
 * sent and one for everything else; the tasks beyond are kept fresh by the list itself.
 *
 * Owns the running streams and the cursors of those that were put aside. Knows no DOM.
 */

import type { StreamEvent } from "../client/stream.ts";
import { reduceView, type TaskView, unwatched } from "../client/view.ts";

export const MAX_STREAMS = 4;

export interface Candidate {
  taskId: string;
  /** This page is sending the file of the task: the one bar that somebody surely looks at. */
  sending: boolean;
  onScreen: boolean;
}

export interface WatchPool {
  /** Says which active tasks there are, newest first, and starts and stops streams accordingly. */
  update(candidates: readonly Candidate[]): void;
  close(): void;
}

export interface WatchPoolOptions {
  watch(
    taskId: string,
    query: { signal: AbortSignal; lastEventId?: string },
  ): AsyncIterable<StreamEvent>;
  /** Called with what is known of a task, after every event of its stream. */
  onView(taskId: string, view: TaskView): void;
  /** Called when a stream ended for good with a refusal. */
  onError(taskId: string, error: unknown): void;
  maxStreams?: number;
}

/** The tasks that get a stream: those being sent, then those on the screen, then the newest. */
export function choose(candidates: readonly Candidate[], maxStreams: number): string[] {
  const rank = (candidate: Candidate) => (candidate.sending ? 0 : candidate.onScreen ? 1 : 2);
  return candidates
    .toSorted((left, right) => rank(left) - rank(right))
    .slice(0, maxStreams)
    .map((candidate) => candidate.taskId);
}

export function createWatchPool(options: WatchPoolOptions): WatchPool {
  const { maxStreams = MAX_STREAMS } = options;
  const running = new Map<string, AbortController>();
  const views = new Map<string, TaskView>();
  /** Tasks whose stream came to its own end: watching again would bring nothing new. */
  const ended = new Set<string>();

  async function follow(taskId: string, stop: AbortController): Promise<void> {
    const cursor = views.get(taskId)?.cursor;
    const resume = cursor === undefined ? {} : { lastEventId: cursor };
    try {
      for await (const event of options.watch(taskId, { signal: stop.signal, ...resume })) {
        if (stop.signal.aborted) return;
        const view = reduceView(views.get(taskId) ?? unwatched, event);
        views.set(taskId, view);
        options.onView(taskId, view);
      }
      if (!stop.signal.aborted) ended.add(taskId);
    } catch (error) {
      if (stop.signal.aborted) return;
      ended.add(taskId);
      options.onError(taskId, error);
    } finally {
      if (running.get(taskId) === stop) running.delete(taskId);
    }
  }

  function stopAll(except: ReadonlySet<string>): void {
    for (const [taskId, stop] of running) {
      if (except.has(taskId)) continue;
      running.delete(taskId);
      stop.abort();
    }
  }

  return {
    update(candidates) {
      const known = new Set(candidates.map((candidate) => candidate.taskId));
      for (const taskId of views.keys()) if (!known.has(taskId)) views.delete(taskId);
      for (const taskId of ended) if (!known.has(taskId)) ended.delete(taskId);

      const eligible = candidates.filter((candidate) => !ended.has(candidate.taskId));
      const chosen = new Set(choose(eligible, maxStreams));
      // Stop first, so that no more than `maxStreams` connections are held at any moment.
      stopAll(chosen);
      for (const taskId of chosen) {
        if (running.has(taskId)) continue;
        const stop = new AbortController();
        running.set(taskId, stop);
        void follow(taskId, stop);
      }
    },
    close: () => stopAll(new Set()),
  };
}
