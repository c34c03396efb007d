import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { deferred } from "../testing/fixtures.ts";
import { createPoller } from "./poller.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function harness(poll: (signal: AbortSignal) => Promise<void> = async () => undefined) {
  const asked = vi.fn(poll);
  const onOutcome = vi.fn();
  const poller = createPoller({ poll: asked, onOutcome, intervalMs: 100, maxIntervalMs: 350 });
  return { poller, asked, onOutcome };
}

it("asks at once and then again and again", async () => {
  const { poller, asked } = harness();
  poller.refresh();
  await vi.advanceTimersByTimeAsync(0);
  expect(asked).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(300);
  expect(asked).toHaveBeenCalledTimes(4);
});

it("asks nothing while nobody looks, and at once when somebody does", async () => {
  const { poller, asked } = harness();
  poller.refresh();
  await vi.advanceTimersByTimeAsync(0);
  poller.setVisible(false);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(asked).toHaveBeenCalledTimes(1);
  poller.setVisible(true);
  expect(asked).toHaveBeenCalledTimes(2);
});

it("asks once for a change while nobody looks, and not again", async () => {
  const { poller, asked } = harness();
  poller.setVisible(false);
  poller.refresh();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(asked).toHaveBeenCalledTimes(1);
});

it("asks less often the longer the server is away, to a bound", async () => {
  const { poller, asked, onOutcome } = harness(() => Promise.reject(new TypeError("away")));
  const times: number[] = [];
  const begin = Date.now();
  asked.mockImplementation(async () => {
    times.push(Date.now() - begin);
    throw new TypeError("away");
  });
  poller.refresh();
  await vi.advanceTimersByTimeAsync(1_100);
  expect(times).toEqual([0, 100, 300, 650, 1000]);
  expect(onOutcome).toHaveBeenLastCalledWith(5, expect.any(TypeError));
});

it("asks once more after an answer that may be older than the change", async () => {
  const first = deferred<void>();
  const { poller, asked } = harness(() => first.promise);
  poller.refresh();
  poller.refresh();
  poller.refresh();
  expect(asked).toHaveBeenCalledTimes(1);
  first.resolve();
  await vi.advanceTimersByTimeAsync(0);
  expect(asked).toHaveBeenCalledTimes(2);
});

it("does not take being hidden for a failure", async () => {
  const { poller, onOutcome } = harness(
    (signal) =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
      }),
  );
  poller.refresh();
  poller.setVisible(false);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(onOutcome).not.toHaveBeenCalled();
});
