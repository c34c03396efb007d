import { expect, it, vi } from "vitest";
import type { StreamEvent } from "../client/stream.ts";
import { deferred, task } from "../testing/fixtures.ts";
import { type Candidate, choose, createWatchPool, MAX_STREAMS } from "./pool.ts";

function candidate(taskId: string, fields: Partial<Candidate> = {}): Candidate {
  return { taskId, sending: false, onScreen: false, ...fields };
}

/** Streams that say one thing and then stay open until they are stopped. */
function harness(say: (taskId: string) => StreamEvent[] = () => []) {
  const open = new Map<string, { lastEventId?: string }>();
  let mostOpen = 0;
  const onView = vi.fn();
  const onError = vi.fn();
  const pool = createWatchPool({
    onView,
    onError,
    async *watch(taskId, { signal, ...query }) {
      open.set(taskId, query);
      mostOpen = Math.max(mostOpen, open.size);
      const stopped = deferred<void>();
      signal.addEventListener("abort", () => {
        open.delete(taskId);
        stopped.resolve();
      });
      yield* say(taskId);
      await stopped.promise;
    },
  });
  return { pool, open, onView, onError, mostOpen: () => mostOpen };
}

it("chooses what is sent, then what is on the screen, then the newest", () => {
  const candidates = [
    candidate("newest"),
    candidate("second"),
    candidate("seen", { onScreen: true }),
    candidate("sent", { sending: true }),
  ];
  expect(choose(candidates, 3)).toEqual(["sent", "seen", "newest"]);
});

it("never holds more streams than a browser can spare", async () => {
  const { pool, open, mostOpen } = harness();
  const many = Array.from({ length: 9 }, (_, index) => candidate(`t${index}`));
  pool.update(many);
  expect([...open.keys()]).toEqual(["t0", "t1", "t2", "t3"]);
  pool.update(many.toReversed());
  expect([...open.keys()]).toEqual(["t8", "t7", "t6", "t5"]);
  expect(mostOpen()).toBe(MAX_STREAMS);
});

it("leaves a running stream alone", () => {
  const { pool, open } = harness();
  pool.update([candidate("one")]);
  const query = open.get("one");
  pool.update([candidate("two"), candidate("one", { onScreen: true })]);
  expect(open.get("one")).toBe(query);
});

it("resumes a stream that was put aside where it stopped", async () => {
  const half = task({ taskId: "one", progress: 50 });
  const { pool, open, onView } = harness(() => [{ type: "progress", task: half, cursor: "a-5" }]);
  pool.update([candidate("one")]);
  await vi.waitFor(() => expect(onView).toHaveBeenCalled());
  const others = ["a", "b", "c", "d"].map((id) => candidate(id, { onScreen: true }));
  pool.update([...others, candidate("one")]);
  expect(open.has("one")).toBe(false);
  pool.update([candidate("one")]);
  expect(open.get("one")).toEqual({ lastEventId: "a-5" });
});

it("does not watch again what came to its end", async () => {
  const watch = vi.fn(async function* (): AsyncGenerator<StreamEvent> {});
  const pool = createWatchPool({ watch, onView: vi.fn(), onError: vi.fn() });
  pool.update([candidate("one")]);
  await vi.waitFor(() => {
    pool.update([candidate("one")]);
    expect(watch).toHaveBeenCalledTimes(1);
  });
  await Promise.resolve();
  pool.update([candidate("one")]);
  expect(watch).toHaveBeenCalledTimes(1);
});

it("tells a refusal once and gives the place to another", async () => {
  const refusal = new Error("gone");
  const onError = vi.fn();
  const watched: string[] = [];
  const pool = createWatchPool({
    maxStreams: 1,
    onView: vi.fn(),
    onError,
    // biome-ignore lint/correctness/useYield: this stream is refused before it says anything
    async *watch(taskId) {
      watched.push(taskId);
      throw refusal;
    },
  });
  pool.update([candidate("one"), candidate("two")]);
  await vi.waitFor(() => expect(onError).toHaveBeenCalledWith("one", refusal));
  await vi.waitFor(() => {
    pool.update([candidate("one"), candidate("two")]);
    expect(watched).toEqual(["one", "two"]);
  });
});

it("closes every stream", () => {
  const { pool, open } = harness();
  pool.update([candidate("one"), candidate("two")]);
  pool.close();
  expect(open.size).toBe(0);
});
