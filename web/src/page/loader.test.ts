import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { PageQuery } from "../client/client.ts";
import type { TaskPage } from "../client/task.ts";
import { deferred, noCounts, task } from "../testing/fixtures.ts";
import { createLoader } from "./loader.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A server with this many active and finished tasks, in pages of at most `pageSize`. */
function server(active: number, finished: number, pageSize: number) {
  return async ({ status = [], limit = 50, page = "0" }: PageQuery = {}): Promise<TaskPage> => {
    const [kind, total] = status.includes("pending") ? ["a", active] : ["f", finished];
    const from = Number(page);
    const to = Math.min(from + Math.min(limit, pageSize), total);
    const tasks = Array.from({ length: to - from }, (_, at) =>
      task({ taskId: `${kind}${from + at}` }),
    );
    return { tasks, counts: noCounts, ...(to < total && { nextPage: String(to) }) };
  };
}

function harness(page: (query?: PageQuery) => Promise<TaskPage>, finishedWanted = 50) {
  const onList = vi.fn();
  const onOutcome = vi.fn();
  const asked = vi.fn(page);
  const loader = createLoader({
    client: { page: asked },
    finishedWanted: () => finishedWanted,
    onList,
    onOutcome,
  });
  return { loader, onList, onOutcome, asked };
}

it("loads all active tasks and as many finished ones as are wanted", async () => {
  const { loader, onList } = harness(server(1_200, 300, 40), 100);
  loader.load();
  await vi.advanceTimersByTimeAsync(0);
  const ids: string[] = onList.mock.calls[0]?.[0].map((one: { taskId: string }) => one.taskId);
  expect(ids.filter((id) => id.startsWith("a"))).toHaveLength(1_200);
  expect(ids.filter((id) => id.startsWith("f"))).toHaveLength(100);
});

it("asks once more for what may be older than the reason to ask", async () => {
  const first = deferred<void>();
  const answer = server(1, 1, 50);
  const { loader, onList, asked } = harness(async (query) => {
    await first.promise;
    return answer(query);
  });
  loader.load();
  loader.load();
  loader.load();
  expect(asked).toHaveBeenCalledTimes(1);
  first.resolve();
  await vi.advanceTimersByTimeAsync(0);
  expect(onList).toHaveBeenCalledTimes(2);
});

it("asks again after a failure, and says when it is over", async () => {
  let failures = 2;
  const answer = server(1, 1, 50);
  const { loader, onList, onOutcome } = harness(async (query) => {
    failures -= 1;
    if (failures >= 0) throw new TypeError("away");
    return answer(query);
  });
  loader.load();
  await vi.advanceTimersByTimeAsync(0);
  expect(onOutcome).toHaveBeenLastCalledWith(expect.any(TypeError));
  await vi.advanceTimersByTimeAsync(6_000);
  expect(onOutcome.mock.calls.map(([error]) => error !== undefined)).toEqual([true, true, false]);
  expect(onList).toHaveBeenCalledTimes(1);
});

it("need not ask soon when it was asked meanwhile", async () => {
  const { loader, onList } = harness(server(1, 1, 50));
  loader.loadSoon();
  loader.load();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(onList).toHaveBeenCalledTimes(1);
});
