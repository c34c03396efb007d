import { expect, it } from "vitest";
import { task } from "../testing/fixtures.ts";
import type { StreamEvent } from "./stream.ts";
import { reduceView, type TaskView, unwatched } from "./view.ts";

const half = task({ taskId: "t", progress: 50 });
const done = task({ taskId: "t", progress: 100, status: "completed" });

function after(...events: readonly StreamEvent[]): TaskView {
  return events.reduce(reduceView, unwatched);
}

it("holds the latest state and its cursor", () => {
  const view = after({ type: "open" }, { type: "progress", task: half, cursor: "a-1" });
  expect(view).toEqual({ connection: "live", task: half, cursor: "a-1" });
});

it("keeps what it knew while the connection is away", () => {
  const progress: StreamEvent = { type: "progress", task: half, cursor: "a-1" };
  const view = after(progress, { type: "waiting", delayMs: 9 });
  expect(view).toEqual({ connection: "waiting", task: half, cursor: "a-1" });
});

it("forgets the cursor on a reset, but not what is on the screen", () => {
  const progress: StreamEvent = { type: "progress", task: half, cursor: "a-1" };
  expect(after(progress, { type: "reset" })).toEqual({ connection: "live", task: half });
});

it("says why it was refused until the stream is back", () => {
  const refused: StreamEvent = { type: "refused", detail: "no room" };
  const waiting = after(refused, { type: "waiting", delayMs: 9 });
  expect(waiting).toEqual({ connection: "waiting", refusal: "no room" });
  expect(reduceView(waiting, { type: "progress", task: half })).toEqual({
    connection: "live",
    task: half,
  });
});

it("ends with a final status", () => {
  expect(after({ type: "progress", task: done, cursor: "a-2" }).connection).toBe("ended");
});
