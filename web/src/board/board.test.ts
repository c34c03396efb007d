import { describe, expect, it } from "vitest";
import type { Task } from "../client/task.ts";
import { task } from "../testing/fixtures.ts";
import {
  activeOf,
  type Board,
  emptyBoard,
  finishedOf,
  taskOf,
  withFinishedUpTo,
  withList,
  withoutTask,
  withTasks,
} from "./board.ts";

/** A task created in second `at`. */
function at(second: number, fields: Partial<Task> = {}): Task {
  return task({ taskId: `t${second}`, createdAt: time(second), ...fields });
}

/** A task that ended in second `end`. */
function ended(second: number, end: number): Task {
  return at(second, { status: "completed", progress: 100, finishedAt: time(end) });
}

function time(second: number): string {
  return `2026-01-01T00:00:${String(second).padStart(2, "0")}Z`;
}

const ids = (tasks: readonly Task[]) => tasks.map((known) => known.taskId);
const active = (board: Board) => ids(activeOf(board));
const progressOf = (board: Board, taskId: string) => taskOf(board, taskId)?.progress;
const withOne = (board: Board, one: Task, nowMs: number) => withTasks(board, [one], nowMs);

describe("the order", () => {
  it("is that of creation for active tasks, and that of the end for finished ones", () => {
    const tasks = [at(3), ended(1, 9), at(1), at(2), ended(5, 8), ended(6, 10)];
    const board = withList(emptyBoard, tasks, 0);
    expect(active(board)).toEqual(["t3", "t2"]);
    expect(ids(finishedOf(board))).toEqual(["t6", "t1", "t5"]);
  });

  it("knows times with and without a fraction", () => {
    const times = ["2026-01-01T00:00:05Z", "2026-01-01T00:00:05.25Z", "2026-01-01T00:00:05.3Z"];
    const tasks = times.map((createdAt) => task({ taskId: createdAt, createdAt }));
    expect(active(withList(emptyBoard, tasks, 0))).toEqual(times.toReversed());
  });
});

describe("withList", () => {
  it("does not replace what was learned after it was asked for", () => {
    const known = withOne(emptyBoard, at(1, { progress: 60 }), 500);
    const board = withList(known, [at(1, { progress: 40 })], 400);
    expect(progressOf(board, "t1")).toBe(60);
  });

  it("replaces what was learned before it was asked for", () => {
    const known = withOne(emptyBoard, at(1, { progress: 60 }), 500);
    const board = withList(known, [at(1, { progress: 70 })], 600);
    expect(progressOf(board, "t1")).toBe(70);
  });

  it("keeps a task that was made after it was asked for", () => {
    const known = withOne(emptyBoard, at(1), 500);
    expect(active(withList(known, [], 400))).toEqual(["t1"]);
  });

  it("drops a task that is gone", () => {
    const known = withList(emptyBoard, [at(2), at(1)], 100);
    expect(active(withList(known, [at(2)], 200))).toEqual(["t2"]);
  });

  it("does not bring back what was removed after it was asked for", () => {
    const known = withoutTask(withOne(emptyBoard, at(1), 100), "t1", 300);
    const stale = withList(known, [at(1)], 200);
    expect(active(stale)).toEqual([]);
    expect(active(withList(stale, [at(1)], 400))).toEqual(["t1"]);
  });

  it("takes the end of a task that ended while the list was read", () => {
    const board = withList(emptyBoard, [at(1, { progress: 90 }), ended(1, 5)], 100);
    expect([active(board), ids(finishedOf(board))]).toEqual([[], ["t1"]]);
    const other = withList(emptyBoard, [ended(1, 5), at(1, { progress: 90 })], 100);
    expect(ids(finishedOf(other))).toEqual(["t1"]);
  });
});

it("holds a final status against whatever comes later", () => {
  const done = withOne(emptyBoard, ended(1, 5), 100);
  expect(progressOf(withOne(done, at(1, { progress: 90 }), 200), "t1")).toBe(100);
  expect(progressOf(withList(done, [at(1, { progress: 90 })], 300), "t1")).toBe(100);
});

it("keeps what never changes and is told once only", () => {
  const known = withOne(emptyBoard, at(1, { input: { a: 1 }, metadata: "m" }), 100);
  const board = withOne(known, at(1, { progress: 5 }), 200);
  expect(taskOf(board, "t1")).toMatchObject({ input: { a: 1 }, metadata: "m", progress: 5 });
});

it("grows neither by finished tasks nor by removed ones", () => {
  const tasks = [at(9), ...[1, 2, 3].map((second) => ended(second, second))];
  const board = withFinishedUpTo(withTasks(emptyBoard, tasks, 1), 2);
  expect([active(board), ids(finishedOf(board))]).toEqual([["t9"], ["t3", "t2"]]);
  const early = withoutTask(emptyBoard, "a", 0);
  expect([...withoutTask(early, "b", 1_000_000).removed.keys()]).toEqual(["b"]);
});
