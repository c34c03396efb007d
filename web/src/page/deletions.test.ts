import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { deferred } from "../testing/fixtures.ts";
import { createDeletions, UNDO_MS } from "./deletions.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it("sends a deletion only when it can no longer be undone", async () => {
  const send = vi.fn(async () => undefined);
  const deletions = createDeletions({ send, onChange: vi.fn() });
  deletions.add("a");
  deletions.add("b");
  await vi.advanceTimersByTimeAsync(UNDO_MS - 1);
  deletions.undo("a");
  expect([deletions.has("a"), deletions.has("b")]).toEqual([false, true]);
  expect(send).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(UNDO_MS);
  expect(send.mock.calls).toEqual([["b"]]);
});

it("sends all of them when the page is left, and each once", async () => {
  const send = vi.fn(async () => undefined);
  const deletions = createDeletions({ send, onChange: vi.fn() });
  deletions.add("a");
  deletions.add("b");
  deletions.flush();
  expect(send.mock.calls).toEqual([["a"], ["b"]]);
  await vi.advanceTimersByTimeAsync(UNDO_MS * 2);
  expect(send).toHaveBeenCalledTimes(2);
});

it("counts as deleted until the server has answered", async () => {
  const answered = deferred<void>();
  const deletions = createDeletions({ send: () => answered.promise, onChange: vi.fn() });
  deletions.add("a");
  deletions.flush();
  expect(deletions.has("a")).toBe(true);
  answered.resolve();
  await vi.advanceTimersByTimeAsync(0);
  expect(deletions.has("a")).toBe(false);
});
