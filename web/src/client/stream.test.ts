import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  frame,
  openStreamResponse,
  pacedStreamResponse,
  problemResponse,
  scriptedFetch,
  streamResponse,
  whenAborted,
} from "../testing/fixtures.ts";
import { reconnectDelayMs } from "./events.ts";
import { type StreamEvent, watchStream } from "./stream.ts";

const URL_ = "/api/tasks/t/progress";
const active = (id: string, progress: number) => frame(id, { taskId: "t", progress });
const completed = (id: string) => frame(id, { taskId: "t", status: "completed", progress: 100 });
const noContent = () => new Response(null, { status: 204 });

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

interface WatchSetting {
  lastEventId?: string;
  signal?: AbortSignal;
}

/** Reads a whole watch, with every wait passing at once. */
async function readAll(send: typeof fetch, setting: WatchSetting = {}): Promise<StreamEvent[]> {
  const events: StreamEvent[] = [];
  const options = { signal: new AbortController().signal, random: () => 0, ...setting };
  const reading = (async () => {
    for await (const event of watchStream(URL_, { fetch: send, ...options })) events.push(event);
  })();
  // A rejection is looked at below; until then it must not count as unhandled.
  reading.catch(() => undefined);
  await vi.runAllTimersAsync();
  await reading;
  return events;
}

function kinds(events: readonly StreamEvent[]): string[] {
  return events.map((event) =>
    event.type === "progress" ? `${event.cursor}:${event.task.progress}` : event.type,
  );
}

function sentCursors(requests: readonly { init: RequestInit }[]): (string | null)[] {
  return requests.map(({ init }) => new Headers(init.headers).get("last-event-id"));
}

describe("watchStream", () => {
  it("ends after a final status without asking again", async () => {
    const { fetch, requests } = scriptedFetch(() =>
      streamResponse("retry: 2000\n\n", active("a-1", 10), completed("a-2")),
    );
    expect(kinds(await readAll(fetch))).toEqual(["open", "a-1:10", "a-2:100"]);
    expect(requests).toHaveLength(1);
    expect(sentCursors(requests)).toEqual([null]);
  });

  it("understands frames that are cut anywhere, even within a letter", async () => {
    const message = "größer als 1 €";
    const first = frame("a-1", { taskId: "t", progress: 10, message });
    const bytes = new TextEncoder().encode(`: comment\r\n\r\n${first}${completed("a-2")}`);
    const { fetch } = scriptedFetch(() =>
      streamResponse(...Array.from(bytes, (byte) => Uint8Array.of(byte))),
    );
    const events = await readAll(fetch);
    expect(kinds(events)).toEqual(["open", "a-1:10", "a-2:100"]);
    expect(events[1]).toMatchObject({ task: { message } });
  });

  it("resumes after the last cursor and stops on 204", async () => {
    const { fetch, requests } = scriptedFetch(() => streamResponse(active("a-1", 10)), noContent);
    expect(kinds(await readAll(fetch))).toEqual(["open", "a-1:10", "waiting"]);
    expect(sentCursors(requests)).toEqual([null, "a-1"]);
  });

  it("starts from a cursor that it is given", async () => {
    const { fetch, requests } = scriptedFetch(noContent);
    expect(await readAll(fetch, { lastEventId: "a-7" })).toEqual([]);
    expect(sentCursors(requests)).toEqual(["a-7"]);
  });

  it("waits as long as the server says", async () => {
    const { fetch } = scriptedFetch(
      () => streamResponse("retry: 750\n\n", active("a-1", 1)),
      noContent,
    );
    expect(await readAll(fetch)).toContainEqual({
      type: "waiting",
      delayMs: 750,
      reason: "closed",
      idleMs: 0,
    });
  });

  it("passes a reset on and forgets the cursor until the fresh state came", async () => {
    const { fetch, requests } = scriptedFetch(
      () => streamResponse('event: reset\ndata: {"channel":"task:t"}\n\n'),
      () => streamResponse(completed("b-9")),
    );
    const events = await readAll(fetch, { lastEventId: "a-7" });
    expect(kinds(events)).toEqual(["open", "reset", "waiting", "open", "b-9:100"]);
    expect(sentCursors(requests)).toEqual(["a-7", null]);
  });

  it("waits as long as a refusal says", async () => {
    const data = '{"code":"too_many","detail":"no room","retryAfterMs":5000}';
    const { fetch } = scriptedFetch(
      () => streamResponse(`event: refused\ndata: ${data}\n\n`),
      noContent,
    );
    expect(await readAll(fetch)).toEqual([
      { type: "open" },
      { type: "refused", code: "too_many", detail: "no room" },
      { type: "waiting", delayMs: 5000, reason: "closed", idleMs: 0 },
    ]);
  });

  it("comes back after failures, later each time", async () => {
    const unreachable = () => Promise.reject(new TypeError("fetch failed"));
    const overloaded = () => problemResponse(503, "away");
    const { fetch } = scriptedFetch(unreachable, overloaded, unreachable, () =>
      streamResponse(completed("a-1")),
    );
    const waits = (await readAll(fetch)).filter((event) => event.type === "waiting");
    expect(waits.map((event) => event.delayMs)).toEqual([2000, 4000, 8000]);
    const reasons = waits.map((event) => event.reason);
    expect(reasons).toEqual(["unreachable", "unavailable", "unreachable"]);
  });

  it.each([404, 410, 401, 406])("throws on a real refusal (%i)", async (status) => {
    const { fetch, requests } = scriptedFetch(() => problemResponse(status, "no such task"));
    await expect(readAll(fetch)).rejects.toMatchObject({ status, message: "no such task" });
    expect(requests).toHaveLength(1);
  });

  it("throws on a frame that is no task", async () => {
    const { fetch } = scriptedFetch(() => streamResponse("event: progress\ndata: {}\n\n"));
    await expect(readAll(fetch)).rejects.toMatchObject({ name: "WireError" });
  });

  it("gives up a connection that stays silent", async () => {
    const { fetch, requests } = scriptedFetch(
      ({ signal }) => openStreamResponse(signal, active("a-1", 10)),
      noContent,
    );
    const events = await readAll(fetch);
    expect(kinds(events)).toEqual(["open", "a-1:10", "waiting"]);
    expect(events.at(-1)).toMatchObject({ reason: "silent", idleMs: 20_000 });
    expect(sentCursors(requests)).toEqual([null, "a-1"]);
  });

  it("gives up a server that takes a request and says nothing", async () => {
    const { fetch } = scriptedFetch(
      ({ signal }) => new Promise((_, reject) => whenAborted(signal, reject)),
      noContent,
    );
    expect((await readAll(fetch)).at(-1)).toMatchObject({ reason: "unreachable", idleMs: 20_000 });
  });

  it("takes a comment for a sign of life", async () => {
    const { fetch } = scriptedFetch(({ signal }) =>
      pacedStreamResponse(signal, 15_000, ": alive\n\n", ": alive\n\n", completed("a-1")),
    );
    expect(kinds(await readAll(fetch))).toEqual(["open", "a-1:100"]);
  });

  it("ends quietly when it is aborted in the middle of a stream", async () => {
    const stop = new AbortController();
    const { fetch, requests } = scriptedFetch(({ signal }) =>
      openStreamResponse(signal, active("a-1", 10)),
    );
    const events: StreamEvent[] = [];
    for await (const event of watchStream(URL_, { fetch, signal: stop.signal })) {
      events.push(event);
      if (event.type === "progress") stop.abort();
    }
    expect(kinds(events)).toEqual(["open", "a-1:10"]);
    expect(requests[0]?.init.signal?.aborted).toBe(true);
  });
});

describe("reconnectDelayMs", () => {
  it("is what the server asked for after a stream that ended in order", () => {
    expect(reconnectDelayMs({ retryMs: 1234, failures: 0 }, 0.9)).toBe(1234);
  });

  it("grows to a bound, and is spread", () => {
    expect(reconnectDelayMs({ retryMs: 2000, failures: 50 }, 0)).toBe(30_000);
    expect(reconnectDelayMs({ retryMs: 2000, failures: 50 }, 0.999)).toBeGreaterThan(37_000);
  });
});
