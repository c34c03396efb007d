/**
 * The progress stream read by a client that is not ours: the npm package `eventsource`, which
 * follows the WHATWG rules of the browser's own.
 */

import { EventSource, type FetchLike } from "eventsource";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { parseTask } from "../src/client/task.ts";
import { type Api, createApi } from "./api.ts";
import { type Server, startServer } from "./server.ts";

let server: Server;
let api: Api;

beforeAll(async () => {
  server = await startServer();
  api = createApi(server.origin);
});

afterAll(async () => {
  await server?.stop();
});

interface Received {
  id: string;
  progress: number | undefined;
  status: string;
}

/** An `EventSource` on a task, and everything that it was told. */
function watch(taskId: string, options: { query?: string; fetch?: FetchLike } = {}) {
  const url = `${server.origin}/api/tasks/${taskId}/progress${options.query ?? ""}`;
  const source = new EventSource(url, options.fetch === undefined ? {} : { fetch: options.fetch });
  const received: Received[] = [];
  const errors: (number | undefined)[] = [];
  source.addEventListener("progress", (event) => {
    const { progress, status } = parseTask(JSON.parse(event.data));
    received.push({ id: event.lastEventId, progress, status });
  });
  source.addEventListener("error", (event) => errors.push(event.code));
  return { source, received, errors };
}

/** Reports one value and waits until the watcher has it, so that no two are merged. */
async function reportAndSee(taskId: string, progress: number, received: Received[]): Promise<void> {
  await api.report(taskId, { progress });
  await vi.waitFor(() => expect(received.at(-1)?.progress).toBe(progress), { timeout: 10_000 });
}

it("receives the state and every change, and stops for good on 204", async () => {
  const { taskId } = await api.create({ kind: "import", title: "Watched" });
  const { source, received, errors } = watch(taskId);
  await vi.waitFor(() => expect(received).toHaveLength(1), { timeout: 10_000 });
  expect(received[0]?.status).toBe("pending");
  for (const progress of [20, 40, 60]) await reportAndSee(taskId, progress, received);
  await api.report(taskId, { status: "completed" });

  await vi.waitFor(() => expect(source.readyState).toBe(EventSource.CLOSED), { timeout: 20_000 });
  expect(errors.at(-1)).toBe(204);
  expect(received.at(-1)).toMatchObject({ progress: 100, status: "completed" });
  expect(received.map((event) => event.progress)).toEqual([undefined, 20, 40, 60, 100]);
  expect(new Set(received.map((event) => event.id)).size).toBe(received.length);
});

it("resumes by Last-Event-ID after the connection is cut", async () => {
  const { taskId } = await api.create({ kind: "import", title: "Cut" });
  const sent: (string | null)[] = [];
  let cut: (() => void) | undefined;
  const { source, received } = watch(taskId, {
    async fetch(url, init) {
      sent.push(new Headers(init.headers).get("last-event-id"));
      const response = await fetch(url, init as RequestInit);
      const { body, ...stoppable } = cuttable(response);
      cut = stoppable.cut;
      return {
        body,
        url: response.url,
        status: response.status,
        redirected: false,
        headers: response.headers,
      };
    },
  });
  await vi.waitFor(() => expect(received).toHaveLength(1), { timeout: 10_000 });
  await reportAndSee(taskId, 30, received);
  const before = received.length;
  cut?.();
  // While nobody listens, the task moves on and ends.
  await api.report(taskId, { progress: 50 });
  await api.report(taskId, { status: "completed" });

  await vi.waitFor(() => expect(source.readyState).toBe(EventSource.CLOSED), { timeout: 20_000 });
  expect(sent[1]).toBe(received[before - 1]?.id);
  expect(received.at(-1)).toMatchObject({ progress: 100, status: "completed" });
  // A resumed stream starts with what is new, never with what was seen before.
  expect(new Set(received.map((event) => event.id)).size).toBe(received.length);
});

it("resumes by query for a client that cannot set headers", async () => {
  const { taskId } = await api.create({ kind: "import", title: "Query" });
  const first = watch(taskId);
  await vi.waitFor(() => expect(first.received).toHaveLength(1), { timeout: 10_000 });
  await reportAndSee(taskId, 30, first.received);
  first.source.close();
  const cursor = first.received.at(-1)?.id ?? "";

  const second = watch(taskId, { query: `?lastEventId=${encodeURIComponent(cursor)}` });
  await reportAndSee(taskId, 80, second.received);
  second.source.close();
  expect(second.received.map((event) => event.progress)).toEqual([80]);
});

/** A body that the test can end early, as a broken line would. */
function cuttable(response: Response) {
  const reader = response.body?.getReader();
  let cut = () => {};
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      let open = true;
      cut = () => {
        if (!open) return;
        open = false;
        controller.close();
        void reader?.cancel();
      };
    },
    async pull(controller) {
      const chunk = await reader?.read().catch(() => undefined);
      if (chunk?.value !== undefined) controller.enqueue(chunk.value);
      else cut();
    },
  });
  return { body: response.status === 200 ? body : null, cut: () => cut() };
}
