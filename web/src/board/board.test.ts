import { describe, expect, it } from "vitest";
import type { Task } from "../client/task.ts";
import { task } from "../testing/fixtures.ts";
import {
  type Board,
  emptyBoard,
  tasksOf,
  withFirstPage,
  withOlderPage,
  withoutTask,
  withTask,
} from "./board.ts";

/** A task created in second `at`. */
function at(second: number, fields: Partial<Task> = {}): Task {
  const createdAt = `2026-01-01T00:00:${String(second).padStart(2, "0")}Z`;
  return task({ taskId: `t${second}`, createdAt, ...fields });
}

const ids = (board: Board) => tasksOf(board).map((known) => known.taskId);
const progressOf = (board: Board, taskId: string) => board.entries.get(taskId)?.task.progress;

describe("withFirstPage", () => {
  it("orders tasks as the server does", () => {
    const board = withFirstPage(emptyBoard, { tasks: [at(3), at(1), at(2)] }, 0);
    expect(ids(board)).toEqual(["t3", "t2", "t1"]);
  });

  it("orders times with and without a fraction", () => {
    const times = ["2026-01-01T00:00:05Z", "2026-01-01T00:00:05.25Z", "2026-01-01T00:00:05.3Z"];
    const tasks = times.map((createdAt) => task({ taskId: createdAt, createdAt }));
    expect(ids(withFirstPage(emptyBoard, { tasks }, 0))).toEqual(times.toReversed());
  });

  it("does not replace what was learned after it was asked for", () => {
    const known = withTask(emptyBoard, at(1, { progress: 60 }), 500);
    const board = withFirstPage(known, { tasks: [at(1, { progress: 40 })] }, 400);
    expect(progressOf(board, "t1")).toBe(60);
  });

  it("replaces what was learned before it was asked for", () => {
    const known = withTask(emptyBoard, at(1, { progress: 60 }), 500);
    const board = withFirstPage(known, { tasks: [at(1, { progress: 70 })] }, 600);
    expect(progressOf(board, "t1")).toBe(70);
  });

  it("keeps a task that was made after it was asked for", () => {
    const known = withTask(emptyBoard, at(1), 500);
    expect(ids(withFirstPage(known, { tasks: [] }, 400))).toEqual(["t1"]);
  });

  it("drops a task that is gone", () => {
    const known = withFirstPage(emptyBoard, { tasks: [at(2), at(1)] }, 100);
    expect(ids(withFirstPage(known, { tasks: [at(2)] }, 200))).toEqual(["t2"]);
  });

  it("does not bring back what was deleted after it was asked for", () => {
    const known = withoutTask(withTask(emptyBoard, at(1), 100), "t1", 300);
    const stale = withFirstPage(known, { tasks: [at(1)] }, 200);
    expect(ids(stale)).toEqual([]);
    expect(ids(withFirstPage(stale, { tasks: [at(1)] }, 400))).toEqual(["t1"]);
  });

  it("keeps older pages that were loaded, and where they go on", () => {
    const first = withFirstPage(emptyBoard, { tasks: [at(4), at(3)], nextPage: "p2" }, 100);
    const both = withOlderPage(first, { tasks: [at(2), at(1)], nextPage: "p3" }, 200);
    const board = withFirstPage(both, { tasks: [at(5), at(3)], nextPage: "p2" }, 300);
    expect(ids(board)).toEqual(["t5", "t3", "t2", "t1"]);
    expect(board.nextPage).toBe("p3");
  });

  it("does not offer older pages again once all are loaded", () => {
    const first = withFirstPage(emptyBoard, { tasks: [at(2)], nextPage: "p2" }, 100);
    const all = withOlderPage(first, { tasks: [at(1)] }, 200);
    expect(withFirstPage(all, { tasks: [at(2)], nextPage: "p2" }, 300).nextPage).toBeUndefined();
  });
});

it("forgets where the list goes on when the last page is loaded", () => {
  const first = withFirstPage(emptyBoard, { tasks: [at(2)], nextPage: "p2" }, 100);
  expect(first.nextPage).toBe("p2");
  expect(withOlderPage(first, { tasks: [at(1)] }, 200).nextPage).toBeUndefined();
});

it("holds a final status against whatever comes later", () => {
  const done = withTask(emptyBoard, at(1, { status: "completed", progress: 100 }), 100);
  expect(progressOf(withTask(done, at(1, { progress: 90 }), 200), "t1")).toBe(100);
  expect(progressOf(withFirstPage(done, { tasks: [at(1, { progress: 90 })] }, 300), "t1")).toBe(
    100,
  );
});
