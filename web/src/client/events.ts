/**
 * An event stream that reconnects by itself: what every stream of the server has in common.
 *
 * Owns the cursor, the reconnection time and the failure count of one stream; nothing outlives the
 * iterator. Follows the WHATWG rules ("the server can tell the client to stop reconnecting with
 * 204", "the last event ID is sent as Last-Event-ID") with the product's own additions: `reset` and
 * `refused` are events of their own. What the other events say is read by a function that the
 * caller gives.
 */

import { createParser, type EventSourceMessage } from "eventsource-parser";
import { WireError } from "./json.ts";
import { problemOf } from "./problem.ts";

/** Why a stream is away. */
export type Reason =
  /** The server ended it in order. */
  | "closed"
  /** The connection broke. */
  | "broken"
  /** No byte came for too long. */
  | "silent"
  /** Nobody answers at the address. */
  | "unreachable"
  /** Somebody answers, but not with a stream: an overloaded server, a proxy. */
  | "unavailable";

/** What every stream tells, whatever it is about. */
export type LinkEvent =
  /** The server accepted the stream. */
  | { type: "open" }
  /** The cursor could not be resumed: what follows is a fresh start; `channel` where only one is meant. */
  | { type: "reset"; channel?: string }
  /** The credential that the stream was opened with is about to end, and the stream with it. */
  | { type: "expiring" }
  /** The server is alive, but has no room for this stream just now. */
  | { type: "refused"; code?: string; detail?: string }
  /** The stream is away since the last byte, `idleMs` ago; the next attempt starts after `delayMs`. */
  | { type: "waiting"; delayMs: number; reason: Reason; idleMs: number };

export interface StreamOptions {
  fetch: typeof fetch;
  /** Ends the iterator, at once and without an error. */
  signal: AbortSignal;
  /** Resumes after this cursor instead of starting with the current state. */
  lastEventId?: string;
  /** 0 ≤ n < 1; spreads reconnecting clients. */
  random?: () => number;
}

/** How the events of one kind of stream are read. */
export interface Reader<T extends object> {
  /** The event of this name; nothing for a name that this client does not know. */
  read(name: string | undefined, data: string): T | undefined;
  /** Whether the stream has come to its end with this event. */
  isLast?(event: T): boolean;
  /** Whether a reset makes the cursor useless for all that the stream tells. */
  resetsAll: boolean;
}

/** Reconnection time until the server says another with `retry:`. */
const DEFAULT_RETRY_MS = 2_000;
/** Longest wait between two attempts to reach a server that is away. */
const MAX_RETRY_MS = 30_000;
/** The server comments every 15 s; a stream of which no byte comes for longer than this is dead. */
const IDLE_LIMIT_MS = 20_000;

/**
 * Follows the stream at `url` until its last event, until the server says 204, or `signal` aborts.
 * Throws a `ProblemError` on a real refusal (404, 410, …) and a `WireError` on a broken event.
 */
export async function* followStream<T extends object>(
  url: string,
  reader: Reader<T>,
  options: StreamOptions,
): AsyncGenerator<LinkEvent | (T & { cursor?: string }), void, undefined> {
  const { signal, random = Math.random } = options;
  const session: Session = {
    cursor: options.lastEventId ?? "",
    retryMs: DEFAULT_RETRY_MS,
    failures: 0,
    heardAtMs: performance.now(),
  };
  while (!signal.aborted) {
    const outcome = yield* attempt(url, reader, session, options);
    if (outcome === "ended" || signal.aborted) return;
    if (outcome !== "closed") session.failures += 1;
    const delayMs = reconnectDelayMs(session, random());
    const idleMs = Math.round(performance.now() - session.heardAtMs);
    yield { type: "waiting", delayMs, reason: outcome, idleMs };
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
  /** When the last byte came. */
  heardAtMs: number;
}

/** `ended`: never again. Anything else is a reason to come again. */
type Outcome = "ended" | Reason;

async function* attempt<T extends object>(
  url: string,
  reader: Reader<T>,
  session: Session,
  options: StreamOptions,
): AsyncGenerator<LinkEvent | (T & { cursor?: string }), Outcome, undefined> {
  const connection = new AbortController();
  const abort = () => connection.abort();
  options.signal.addEventListener("abort", abort, { once: true });
  try {
    const response = await connect(url, session, options, connection);
    if (typeof response === "string") return response;
    if (response.status === 204) return "ended";
    if (isRefusal(response.status)) throw await problemOf(response);
    if (!isEventStream(response) || response.body === null) return "unavailable";
    session.heardAtMs = performance.now();
    yield { type: "open" };
    return yield* follow(response.body, reader, session, connection);
  } finally {
    options.signal.removeEventListener("abort", abort);
    connection.abort();
  }
}

/** The answer's head, or why there is none. */
async function connect(
  url: string,
  session: Session,
  options: StreamOptions,
  connection: AbortController,
): Promise<Response | Reason> {
  const headers: Record<string, string> = { accept: "text/event-stream" };
  if (session.cursor !== "") headers["last-event-id"] = session.cursor;
  const { signal } = connection;
  // A server that is stopped still accepts connections: its system does.
  const answered = within(IDLE_LIMIT_MS, connection, () =>
    options.fetch(url, { headers, signal, cache: "no-store" }),
  );
  return (await answered.catch(() => undefined)) ?? "unreachable";
}

async function* follow<T extends object>(
  body: ReadableStream<Uint8Array>,
  reader: Reader<T>,
  session: Session,
  connection: AbortController,
): AsyncGenerator<LinkEvent | (T & { cursor?: string }), Outcome, undefined> {
  const messages: EventSourceMessage[] = [];
  const parser = createParser({
    onEvent: (message) => messages.push(message),
    onRetry: (retryMs) => {
      session.retryMs = retryMs;
    },
  });
  const decoder = new TextDecoder();
  const bytes = body.getReader();
  try {
    for (;;) {
      const chunk = await next(bytes, connection);
      if (typeof chunk === "string") return chunk;
      session.heardAtMs = performance.now();
      if (chunk.done) return "closed";
      parser.feed(decoder.decode(chunk.value, { stream: true }));
      for (const message of messages.splice(0)) {
        session.failures = 0;
        const event = interpret(message, reader, session);
        if (event === undefined) continue;
        yield event;
        if (!isLinkEvent(event) && reader.isLast?.(event)) return "ended";
      }
    }
  } finally {
    bytes.releaseLock();
  }
}

/** The next chunk, or why none came. */
async function next(
  bytes: ReadableStreamDefaultReader<Uint8Array>,
  connection: AbortController,
): Promise<ReadableStreamReadResult<Uint8Array> | Reason> {
  try {
    return (await within(IDLE_LIMIT_MS, connection, () => bytes.read())) ?? "silent";
  } catch {
    return "broken";
  }
}

/** What `run` gives; nothing where it takes too long, and then the connection is given up. */
async function within<R>(
  limitMs: number,
  connection: AbortController,
  run: () => Promise<R>,
): Promise<R | undefined> {
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    connection.abort();
  }, limitMs);
  try {
    return await run();
  } catch (error) {
    if (isLate) return undefined;
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

function interpret<T extends object>(
  message: EventSourceMessage,
  reader: Reader<T>,
  session: Session,
) {
  if (message.id !== undefined) session.cursor = message.id;
  switch (message.event) {
    case "reset": {
      // Should the stream break before the fresh state arrives, the next one is a first connect.
      if (reader.resetsAll) session.cursor = "";
      const { channel } = fieldsOf(message.data);
      return { type: "reset" as const, ...(typeof channel === "string" && { channel }) };
    }
    case "refused":
      return refusal(message, session);
    case "auth-expiring":
      return { type: "expiring" as const };
    default: {
      const event = reader.read(message.event, message.data);
      if (event === undefined) return undefined;
      return session.cursor === "" ? event : { ...event, cursor: session.cursor };
    }
  }
}

function refusal(message: EventSourceMessage, session: Session): LinkEvent {
  const { code, detail, retryAfterMs } = fieldsOf(message.data);
  if (typeof retryAfterMs === "number" && retryAfterMs >= 0) session.retryMs = retryAfterMs;
  return {
    type: "refused",
    ...(typeof code === "string" && { code }),
    ...(typeof detail === "string" && { detail }),
  };
}

const LINK_EVENTS: readonly unknown[] = ["open", "reset", "expiring", "refused", "waiting"];

export function isLinkEvent(event: object): event is LinkEvent {
  return "type" in event && LINK_EVENTS.includes(event.type);
}

function fieldsOf(data: string): Record<string, unknown> {
  const body = parseJson(data);
  return typeof body === "object" && body !== null ? { ...body } : {};
}

/** The data of an event, which is JSON. */
export function parseJson(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    throw new WireError("an event of the stream is not JSON");
  }
}

/**
 * Which statuses end the stream for good. Overload and servers that are away pass, so 408, 429 and
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
