/**
 * One task's progress stream as an async iterator that reconnects by itself.
 *
 * Owns the cursor, the reconnection time and the failure count of one watch; nothing outlives the
 * iterator. Follows the WHATWG rules for event streams ("the server can tell the client to stop
 * reconnecting with 204", "the last event ID is sent as Last-Event-ID") with the product's own
 * additions: a final status ends the iterator, `reset` and `refused` are events of their own.
 */

import { createParser, type EventSourceMessage } from "eventsource-parser";
import { problemOf } from "./problem.ts";
import { isFinal, parseTask, type Task, WireError } from "./task.ts";

/** What a watcher is told, in the order in which it happened. */
export type StreamEvent =
  /** The server accepted the stream. */
  | { type: "open" }
  /** The whole visible state of the task; `cursor` is where a later stream may resume. */
  | { type: "progress"; task: Task; cursor?: string }
  /** The cursor could not be resumed: the next `progress` is a fresh start, not a continuation. */
  | { type: "reset" }
  /** The server is alive, but has no room for this stream just now. */
  | { type: "refused"; code?: string; detail?: string }
  /** The stream broke or ended early; the next attempt starts after `delayMs`. */
  | { type: "waiting"; delayMs: number };

export interface StreamOptions {
  fetch: typeof fetch;
  /** Ends the iterator, at once and without an error. */
  signal: AbortSignal;
  /** Resumes after this cursor instead of starting with the current state. */
  lastEventId?: string;
  /** 0 ≤ n < 1; spreads reconnecting clients. */
  random?: () => number;
}

/** Reconnection time until the server says another with `retry:`. */
const DEFAULT_RETRY_MS = 2_000;
/** Longest wait between two attempts to reach a server that is away. */
const MAX_RETRY_MS = 30_000;
/** The server comments every 15 s; a stream that says nothing for three times as long is dead. */
const IDLE_LIMIT_MS = 45_000;

/**
 * Watches the stream at `url` until the task is final, the server says 204, or `signal` aborts.
 * Throws a `ProblemError` on a real refusal (404, 410, …) and a `WireError` on a broken frame.
 */
export async function* watchStream(
  url: string,
  options: StreamOptions,
): AsyncGenerator<StreamEvent, void, undefined> {
  const { signal, random = Math.random } = options;
  const session: Session = {
    cursor: options.lastEventId ?? "",
    retryMs: DEFAULT_RETRY_MS,
    failures: 0,
  };
  while (!signal.aborted) {
    const outcome = yield* attempt(url, session, options);
    if (outcome === "ended" || signal.aborted) return;
    if (outcome === "failed") session.failures += 1;
    const delayMs = reconnectDelayMs(session, random());
    yield { type: "waiting", delayMs };
    await sleep(delayMs, signal);
  }
}

/** After a planned end: what the server asked for. After failures: doubled each time, spread. */
export function reconnectDelayMs(
  { retryMs, failures }: { retryMs: number; failures: number },
  random: number,
): number {
  if (failures === 0) return retryMs;
  const doubled = Math.max(retryMs, 1) * 2 ** Math.min(failures - 1, 10);
  const capped = Math.min(doubled, Math.max(MAX_RETRY_MS, retryMs));
  return Math.round(capped * (1 + random / 4));
}

interface Session {
  cursor: string;
  retryMs: number;
  /** Attempts in a row that brought no event. */
  failures: number;
}

/** `ended`: never again. `closed`: the server ended the stream in order. `failed`: anything else. */
type Outcome = "ended" | "closed" | "failed";

async function* attempt(
  url: string,
  session: Session,
  options: StreamOptions,
): AsyncGenerator<StreamEvent, Outcome, undefined> {
  const connection = new AbortController();
  const abort = () => connection.abort();
  options.signal.addEventListener("abort", abort, { once: true });
  try {
    const response = await connect(url, session, options, connection.signal);
    if (response === undefined) return "failed";
    if (response.status === 204) return "ended";
    if (isRefusal(response.status)) throw await problemOf(response);
    if (!isEventStream(response) || response.body === null) return "failed";
    yield { type: "open" };
    return yield* follow(response.body, session, connection);
  } finally {
    options.signal.removeEventListener("abort", abort);
    connection.abort();
  }
}

/** The answer's head, or nothing where the server could not be reached. */
async function connect(
  url: string,
  session: Session,
  options: StreamOptions,
  signal: AbortSignal,
): Promise<Response | undefined> {
  const headers: Record<string, string> = { accept: "text/event-stream" };
  if (session.cursor !== "") headers["last-event-id"] = session.cursor;
  try {
    return await options.fetch(url, { headers, signal, cache: "no-store" });
  } catch {
    return undefined;
  }
}

async function* follow(
  body: ReadableStream<Uint8Array>,
  session: Session,
  connection: AbortController,
): AsyncGenerator<StreamEvent, Outcome, undefined> {
  const messages: EventSourceMessage[] = [];
  const parser = createParser({
    onEvent: (message) => messages.push(message),
    onRetry: (retryMs) => {
      session.retryMs = retryMs;
    },
  });
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const chunk = await readWithin(reader, IDLE_LIMIT_MS, connection);
      if (chunk === undefined) return "failed";
      if (chunk.done) return "closed";
      parser.feed(decoder.decode(chunk.value, { stream: true }));
      for (const message of messages.splice(0)) {
        session.failures = 0;
        const event = interpret(message, session);
        if (event === undefined) continue;
        yield event;
        if (event.type === "progress" && isFinal(event.task.status)) return "ended";
      }
    }
  } finally {
    reader.releaseLock();
  }
}

/** The next chunk, or nothing where the connection broke or stayed silent for too long. */
async function readWithin(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  limitMs: number,
  connection: AbortController,
): Promise<ReadableStreamReadResult<Uint8Array> | undefined> {
  const timer = setTimeout(() => connection.abort(), limitMs);
  try {
    return await reader.read();
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

/** Events of names that this client does not know are left to later clients. */
function interpret(message: EventSourceMessage, session: Session): StreamEvent | undefined {
  if (message.id !== undefined) session.cursor = message.id;
  switch (message.event) {
    case "progress": {
      const cursor = session.cursor === "" ? {} : { cursor: session.cursor };
      return { type: "progress", task: parseTask(parseJson(message.data)), ...cursor };
    }
    case "reset":
      // Should the stream break before the fresh state arrives, the next one is a first connect.
      session.cursor = "";
      return { type: "reset" };
    case "refused":
      return refusal(message, session);
    default:
      return undefined;
  }
}

function refusal(message: EventSourceMessage, session: Session): StreamEvent {
  const body = parseJson(message.data);
  const fields = typeof body === "object" && body !== null ? { ...body } : {};
  const { code, detail, retryAfterMs } = fields as Record<string, unknown>;
  if (typeof retryAfterMs === "number" && retryAfterMs >= 0) session.retryMs = retryAfterMs;
  return {
    type: "refused",
    ...(typeof code === "string" && { code }),
    ...(typeof detail === "string" && { detail }),
  };
}

function parseJson(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    throw new WireError("an event of the stream is not JSON");
  }
}

/**
 * Which statuses end the watch for good. Overload and servers that are away pass, so 408, 429 and
 * all 5xx are tried again, unlike in the browser's own `EventSource`.
 */
function isRefusal(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}

function isEventStream(response: Response): boolean {
  const contentType = response.headers.get("content-type") ?? "";
  return response.status === 200 && /^text\/event-stream\b/i.test(contentType);
}

/** Waits; an abort ends the wait early. */
function sleep(delayMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, delayMs);
    signal.addEventListener("abort", done, { once: true });
  });
}
