/**
 * The three streams of the server as async iterators that reconnect by themselves: one task,
 * several channels, the list of tasks. Reads what their events say; how a stream lives is told in
 * `events.ts`. No state.
 */

import { followStream, type LinkEvent, parseJson, type StreamOptions } from "./events.ts";
import { WireError } from "./json.ts";
import {
  type Counts,
  isFinal,
  parseCounts,
  parseRemoved,
  parseTask,
  parseTaskPage,
  type Task,
  type TaskPage,
} from "./task.ts";

/** `cursor` is where a later stream may resume. */
interface Progress {
  /** The whole visible state of the task. */
  type: "progress";
  task: Task;
  cursor?: string;
}

/** What the watcher of one task is told, in the order in which it happened. */
export type StreamEvent = LinkEvent | Progress;

/** What the watcher of several channels is told. */
export type ChannelEvent =
  | LinkEvent
  | (Progress & { channel: string })
  /** What came on a channel that is no task's: a text or any JSON. */
  | { type: "message"; channel: string; data: unknown; cursor?: string };

/** What the watcher of a list is told. */
export type ListEvent =
  | LinkEvent
  /** The list as it stands; what was known before is void. */
  | { type: "page"; page: TaskPage; cursor?: string }
  | Progress
  | { type: "removed"; taskId: string; cursor?: string }
  | { type: "counts"; counts: Counts; cursor?: string };

type Own<Event> = Exclude<Event, LinkEvent>;
/** What is told of a list, as opposed to the connection. */
export type ListChange = Own<ListEvent>;
/** What is told of channels, as opposed to the connection. */
export type ChannelChange = Own<ChannelEvent>;

/** Watches one task until it is final. */
export function watchStream(
  url: string,
  options: StreamOptions,
): AsyncGenerator<StreamEvent, void, undefined> {
  return followStream<Own<StreamEvent>>(
    url,
    {
      resetsAll: true,
      read: (name, data) =>
        name === "progress" ? { type: "progress", task: parseTask(parseJson(data)) } : undefined,
      isLast: ({ task }) => isFinal(task.status),
    },
    options,
  );
}

/** Watches several channels, in the dialect *multiplexed*, until all have ended. */
export function watchChannels(
  url: string,
  options: StreamOptions,
): AsyncGenerator<ChannelEvent, void, undefined> {
  return followStream<ChannelChange>(
    url,
    {
      // A cursor that one channel cannot use is good for the others; that one is reset again.
      resetsAll: false,
      read: (name, data) => (name === undefined ? readAddressed(parseJson(data)) : undefined),
    },
    options,
  );
}

/** Watches a list of tasks; it has no end of its own. */
export function watchList(
  url: string,
  options: StreamOptions,
): AsyncGenerator<ListEvent, void, undefined> {
  return followStream<ListChange>(url, { resetsAll: true, read: readOfList }, options);
}

function readOfList(name: string | undefined, data: string): ListChange | undefined {
  switch (name) {
    case "page":
      return { type: "page", page: parseTaskPage(parseJson(data)) };
    case "progress":
      return { type: "progress", task: parseTask(parseJson(data)) };
    case "removed":
      return { type: "removed", taskId: parseRemoved(parseJson(data)) };
    case "counts":
      return { type: "counts", counts: parseCounts(parseJson(data)) };
    default:
      return undefined;
  }
}

function readAddressed(body: unknown): ChannelChange {
  if (typeof body !== "object" || body === null || !("channel" in body) || !("data" in body))
    throw new WireError("an event of several channels has `channel` and `data`");
  const { channel, data } = body;
  if (typeof channel !== "string") throw new WireError("the name of a channel is a text");
  return channel.startsWith("task:")
    ? { type: "progress", channel, task: parseTask(data) }
    : { type: "message", channel, data };
}
