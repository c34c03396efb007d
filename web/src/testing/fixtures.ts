/** What several unit tests need: a task, answers of a server, a stream that the test writes. */

import type { Task } from "../client/task.ts";

export function task(fields: Partial<Task> & { taskId: string }): Task {
  return {
    kind: "simulate",
    status: "processing",
    stalled: false,
    attempt: 1,
    createdAt: "2026-01-01T00:00:00Z",
    ...fields,
  };
}

export function jsonResponse(body: unknown, status = 200, type = "application/json"): Response {
  return new Response(JSON.stringify(body), { status, headers: { "content-type": type } });
}

export function problemResponse(status: number, detail: string): Response {
  return jsonResponse({ status, detail, code: "test" }, status, "application/problem+json");
}

/** A complete event stream that ends after these chunks. */
export function streamResponse(...chunks: readonly (string | Uint8Array)[]): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of chunks)
        controller.enqueue(typeof chunk === "string" ? new TextEncoder().encode(chunk) : chunk);
      controller.close();
    },
  });
  return eventStream(body);
}

/** A stream that says these chunks and then neither speaks nor ends, until it is aborted. */
export function openStreamResponse(signal: AbortSignal | null, ...chunks: string[]): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(new TextEncoder().encode(chunk));
      whenAborted(signal, (error) => controller.error(error));
    },
  });
  return eventStream(body);
}

/** A stream that says one chunk after the other, each after a while, and then ends. */
export function pacedStreamResponse(
  signal: AbortSignal | null,
  everyMs: number,
  ...chunks: string[]
): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const timer = setInterval(() => {
        const chunk = chunks.shift();
        if (chunk !== undefined) return controller.enqueue(new TextEncoder().encode(chunk));
        clearInterval(timer);
        controller.close();
      }, everyMs);
      whenAborted(signal, (error) => {
        clearInterval(timer);
        controller.error(error);
      });
    },
  });
  return eventStream(body);
}

export function whenAborted(signal: AbortSignal | null, run: (error: Error) => void): void {
  signal?.addEventListener("abort", () => run(new DOMException("", "AbortError")));
}

function eventStream(body: ReadableStream<Uint8Array>): Response {
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

/** One frame of the progress stream. */
export function frame(id: string, fields: Partial<Task> & { taskId: string }): string {
  return `event: progress\ndata: ${JSON.stringify(task(fields))}\nid: ${id}\n\n`;
}

/** One event of any name. */
export function event(name: string | undefined, data: unknown, id?: string): string {
  const lines = [name && `event: ${name}`, `data: ${JSON.stringify(data)}`, id && `id: ${id}`];
  return `${lines.filter((line) => line !== undefined).join("\n")}\n\n`;
}

export const noCounts = {
  pending: 0,
  processing: 0,
  cancelling: 0,
  completed: 0,
  error: 0,
  cancelled: 0,
};

/** A `fetch` that gives one prepared answer after the other and keeps what it was asked. */
export function scriptedFetch(
  ...answers: readonly ((request: { signal: AbortSignal | null }) => Response | Promise<Response>)[]
) {
  const requests: { url: string; init: RequestInit }[] = [];
  const send: typeof fetch = async (input, init = {}) => {
    const answer = answers[requests.length];
    requests.push({ url: String(input), init });
    if (answer === undefined) throw new Error("the script has no further answer");
    return answer({ signal: init.signal ?? null });
  };
  return { fetch: send, requests };
}

/** A promise that the test settles itself. */
export function deferred<T>() {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
