/**
 * The board: every task that the page knows, newest first, from two sources that may disagree.
 *
 * A stream tells of one task at once and in order; the list tells of all, some time after it was
 * asked for. The rule: an answer never replaces what was learned after its question was sent.
 * Pure: each function returns a new board. Times are milliseconds of one local, monotonic clock.
 */

import { isFinal, type Task } from "../client/task.ts";

export interface Board {
  readonly entries: ReadonlyMap<string, Entry>;
  /** When a task was deleted here, so that a list asked for earlier does not bring it back. */
  readonly removed: ReadonlyMap<string, number>;
  /** Where the list goes on beyond what is shown. */
  readonly nextPage?: string;
}

interface Entry {
  readonly task: Task;
  readonly seenAtMs: number;
}

export interface Page {
  tasks: readonly Task[];
  nextPage?: string;
}

export const emptyBoard: Board = { entries: new Map(), removed: new Map() };

/** All tasks, newest first by creation, as the server orders its list. */
export function tasksOf(board: Board): Task[] {
  return Array.from(board.entries.values(), (entry) => entry.task).sort(newestFirst);
}

/** A task as a stream or the answer to a command told it just now. */
export function withTask(board: Board, task: Task, nowMs: number): Board {
  return { ...board, entries: new Map(board.entries).set(task.taskId, entry(board, task, nowMs)) };
}

/** A task that is no more. */
export function withoutTask(board: Board, taskId: string, nowMs: number): Board {
  const entries = new Map(board.entries);
  entries.delete(taskId);
  return { ...board, entries, removed: new Map(board.removed).set(taskId, nowMs) };
}

/**
 * The first page of the list, which was asked for at `askedAtMs`. What it does not hold any more
 * is gone, unless it is older than the page reaches or was learned of after the question.
 */
export function withFirstPage(board: Board, page: Page, askedAtMs: number): Board {
  const listed = new Set(page.tasks.map((task) => task.taskId));
  const oldest = page.nextPage === undefined ? undefined : page.tasks.at(-1);
  const isBeyond = (task: Task) => oldest !== undefined && newestFirst(oldest, task) < 0;
  const kept = [...board.entries].filter(
    ([taskId, { task, seenAtMs }]) => listed.has(taskId) || seenAtMs > askedAtMs || isBeyond(task),
  );
  const removed = [...board.removed].filter(([, removedAtMs]) => removedAtMs > askedAtMs);
  // What lies beyond the first page was told by a later one, and only that knows what follows.
  const goesOnAt = kept.some(([, { task }]) => isBeyond(task)) ? board.nextPage : page.nextPage;
  const { nextPage: _old, ...rest } = board;
  return {
    ...rest,
    ...(goesOnAt !== undefined && { nextPage: goesOnAt }),
    entries: merged(board, new Map(kept), page.tasks, askedAtMs),
    removed: new Map(removed),
  };
}

/** A further page of the list, below the first. */
export function withOlderPage(board: Board, page: Page, askedAtMs: number): Board {
  const { nextPage: _old, ...rest } = board;
  return {
    ...rest,
    ...(page.nextPage !== undefined && { nextPage: page.nextPage }),
    entries: merged(board, new Map(board.entries), page.tasks, askedAtMs),
  };
}

function merged(
  board: Board,
  entries: Map<string, Entry>,
  tasks: readonly Task[],
  askedAtMs: number,
): Map<string, Entry> {
  for (const task of tasks) {
    const seenAtMs = board.entries.get(task.taskId)?.seenAtMs ?? Number.NEGATIVE_INFINITY;
    const removedAtMs = board.removed.get(task.taskId) ?? Number.NEGATIVE_INFINITY;
    if (seenAtMs > askedAtMs || removedAtMs > askedAtMs) continue;
    entries.set(task.taskId, entry(board, task, askedAtMs));
  }
  return entries;
}

/** A final status is final, whoever tells otherwise. */
function entry(board: Board, task: Task, seenAtMs: number): Entry {
  const known = board.entries.get(task.taskId);
  const keep = known !== undefined && isFinal(known.task.status) && !isFinal(task.status);
  return keep ? known : { task, seenAtMs };
}

function newestFirst(left: Task, right: Task): number {
  const byTime = compare(sortable(right.createdAt), sortable(left.createdAt));
  return byTime === 0 ? compare(right.taskId, left.taskId) : byTime;
}

/** RFC 3339 in UTC sorts as text once the Z is gone, which would come after any fraction. */
function sortable(time: string): string {
  return time.replace(/Z$/, "");
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
