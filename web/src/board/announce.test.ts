import { expect, it } from "vitest";
import type { Task } from "../client/task.ts";
import { task } from "../testing/fixtures.ts";
import { announcement } from "./announce.ts";

const at = (fields: Partial<Task>) => task({ taskId: "t", title: "a.mp4", ...fields });

it("tells a task that is new", () => {
  expect(announcement(undefined, at({ status: "pending" }))).toBe("a.mp4: Pending");
});

it("tells each quarter once and nothing between", () => {
  const told: string[] = [];
  let previous = at({ progress: 0 });
  for (let progress = 1; progress < 100; progress += 1) {
    const next = at({ progress });
    const text = announcement(previous, next);
    if (text !== undefined) told.push(text);
    previous = next;
  }
  expect(told).toEqual(["a.mp4: 25 percent", "a.mp4: 50 percent", "a.mp4: 75 percent"]);
});

it("tells the status instead of the last quarter", () => {
  const done = at({ status: "completed", progress: 100 });
  expect(announcement(at({ progress: 99 }), done)).toBe("a.mp4: Completed");
  expect(announcement(done, done)).toBeUndefined();
});

it("tells why a task failed", () => {
  const failed = at({ status: "error", error: { detail: "The disk is full." } });
  expect(announcement(at({}), failed)).toBe("a.mp4: Error. The disk is full.");
});

it("tells that a task has stalled", () => {
  expect(announcement(at({}), at({ stalled: true }))).toBe("a.mp4: Stalled");
});
