/**
 * The board: every active task and the newest finished ones, from two sources that may disagree.
 *
 * The live list tells of each change at once and in order; a list that is asked for tells of all,
 * some time after it was asked for. The rule: an answer never replaces what was learned after its
 * question was sent. Pure: each function returns a new board. Times are milliseconds of one local,
 * monotonic clock.
 */

import { type Counts, isFinal, parseCounts, type Task } from "../client/task.ts";

export interface Board {
  readonly entries: ReadonlyMap<string, Entry>;
  /** When a task was removed, so that a list asked for earlier does not bring it back. */
  readonly removed: ReadonlyMap<string, number>;
}

interface Entry {
  readonly task: Task;
  readonly seenAtMs: number;
}

/** No answer takes longer than this, so what was removed earlier need not be remembered. */
const REMOVED_KEPT_MS = 120_000;

export const emptyBoard: Board = { entries: new Map(), removed: new Map() };

/** Active tasks, newest first by creation. */
export function activeOf(board: Board): Task[] {
  const active = tasksOf(board).filter((task) => !isFinal(task.status));
  return active.sort((left, right) => later(left.createdAt, right.createdAt, left, right));
}

/** Finished tasks, the last one to finish first. */
export function finishedOf(board: Board): Task[] {
  const finished = tasksOf(board).filter((task) => isFinal(task.status));
  return finished.sort((left, right) => later(endOf(left), endOf(right), left, right));
}

/** How many tasks of each status are known. */
export function countsOf(board: Board): Counts {
  const counts = parseCounts(undefined);
  for (const { status } of [...activeOf(board), ...finishedOf(board)]) counts[status] += 1;
  return counts;
}

export function taskOf(board: Board, taskId: string): Task | undefined {
  return board.entries.get(taskId)?.task;
}

/** Tasks as the live list or the answer to a command told them just now. */
export function withTasks(board: Board, tasks: readonly Task[], nowMs: number): Board {
  const entries = new Map(board.entries);
  for (const task of tasks) entries.set(task.taskId, merged(entries.get(task.taskId), task, nowMs));
  return { ...board, entries };
}

/** A task that is no more. */
export function withoutTask(board: Board, taskId: string, nowMs: number): Board {
  const entries = new Map(board.entries);
  entries.delete(taskId);
  const removed = [...board.removed].filter(([, atMs]) => nowMs - atMs < REMOVED_KEPT_MS);
  return { entries, removed: new Map(removed).set(taskId, nowMs) };
}

/**
 * All active tasks and the newest finished ones, which were asked for at `askedAtMs`. What is not
 * among them is gone, unless it was learned of after the question.
 */
export function withList(board: Board, tasks: readonly Task[], askedAtMs: number): Board {
  const isNewer = (entry: Entry) => entry.seenAtMs > askedAtMs;
  const entries = new Map([...board.entries].filter(([, entry]) => isNewer(entry)));
  for (const task of tasks) {
    const known = board.entries.get(task.taskId);
    const removedAtMs = board.removed.get(task.taskId) ?? Number.NEGATIVE_INFINITY;
    if (removedAtMs > askedAtMs || (known !== undefined && isNewer(known))) continue;
    // A task that ended while the list was read is told twice: the end counts.
    entries.set(task.taskId, merged(entries.get(task.taskId) ?? known, task, askedAtMs));
  }
  return { ...board, entries };
}

/** No more than this many finished tasks: a page that is open for days must not grow. */
export function withFinishedUpTo(board: Board, most: number): Board {
  const surplus = finishedOf(board).slice(most);
  if (surplus.length === 0) return board;
  const entries = new Map(board.entries);
  for (const { taskId } of surplus) entries.delete(taskId);
  return { ...board, entries };
}

/**
 * A final status is final, whoever tells otherwise. What never changes is told once only: a later
 * event leaves it out.
 */
function merged(known: Entry | undefined, task: Task, seenAtMs: number): Entry {
  if (known === undefined) return { task, seenAtMs };
  if (isFinal(known.task.status) && !isFinal(task.status)) return known;
  const { input, metadata } = known.task;
  const constant = {
    ...(input !== undefined && { input }),
    ...(metadata !== undefined && { metadata }),
  };
  return { task: { ...constant, ...task }, seenAtMs };
}

function tasksOf(board: Board): Task[] {
  return Array.from(board.entries.values(), (entry) => entry.task);
}

function endOf({ finishedAt, updatedAt, createdAt }: Task): string {
  return finishedAt ?? updatedAt ?? createdAt;
}

function later(leftTime: string, rightTime: string, left: Task, right: Task): number {
  const byTime = compare(sortable(rightTime), sortable(leftTime));
  return byTime === 0 ? compare(right.taskId, left.taskId) : byTime;
}

/** RFC 3339 in UTC sorts as text once the Z is gone, which would come after any fraction. */
function sortable(time: string): string {
  return time.replace(/Z$/, "");
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
