/** The streams of lists and of several channels, against a server that cuts its bytes anywhere. */

import { expect, it } from "vitest";
import { event, noCounts, scriptedFetch, streamResponse, task } from "../testing/fixtures.ts";
import { createClient } from "./client.ts";
import type { ChannelEvent, ListEvent } from "./stream.ts";

const half = task({ taskId: "t", progress: 50, message: "größer als 1 €" });
const LIST = [
  ": hello\n\nretry: 1\n\n",
  event("page", { tasks: [half], nextPage: "p2", counts: { processing: 1 } }, "a-1"),
  event("progress", { ...half, progress: 60 }, "a-2"),
  event("counts", { processing: 1, error: 4 }),
  event("later", { unknown: true }),
  event("removed", { taskId: "t" }, "a-3"),
];
const CHANNELS = [
  event(undefined, { channel: "task:t", data: half }),
  event(undefined, { channel: "user:alice", data: "hello €" }, "a-1"),
  event("reset", { channel: "user:alice" }),
  event(undefined, { channel: "user:alice", data: { any: 1 } }, "a-2"),
];

/** Says `text` in two parts, cut at `place`, and cuts the connection after the second. */
function cutAt(text: string, place: number): Response {
  const bytes = new TextEncoder().encode(text);
  return streamResponse(bytes.subarray(0, place), bytes.subarray(place));
}

async function told<Event extends ListEvent | ChannelEvent>(
  events: AsyncIterable<Event>,
  most: number,
): Promise<Event[]> {
  const all: Event[] = [];
  for await (const one of events) {
    if (one.type !== "waiting") all.push(one);
    if (all.length === most) break;
  }
  return all;
}

const { signal } = new AbortController();

it("tells a list, cut at any byte", async () => {
  const text = LIST.join("");
  for (let place = 0; place <= new TextEncoder().encode(text).length; place += 1) {
    const { fetch } = scriptedFetch(() => cutAt(text, place));
    const events = await told(createClient({ fetch }).list({}, { signal }), 5);
    expect(events).toEqual([
      { type: "open" },
      {
        type: "page",
        page: { tasks: [half], nextPage: "p2", counts: { ...noCounts, processing: 1 } },
        cursor: "a-1",
      },
      { type: "progress", task: { ...half, progress: 60 }, cursor: "a-2" },
      { type: "counts", counts: { ...noCounts, processing: 1, error: 4 }, cursor: "a-2" },
      { type: "removed", taskId: "t", cursor: "a-3" },
    ]);
  }
});

it("resumes a list that broke in the middle of any event after the last whole one", async () => {
  const bytes = new TextEncoder().encode(LIST.join(""));
  for (let length = 0; length < bytes.length; length += 1) {
    const before = new TextDecoder().decode(bytes.subarray(0, length));
    const ids = [...before.matchAll(/^id: (.*)\n\n/gm)].map((match) => match[1]);
    const { fetch, requests } = scriptedFetch(
      () => streamResponse("retry: 1\n\n", bytes.subarray(0, length)),
      () => streamResponse(event("removed", { taskId: "end" }, "z-1")),
    );
    const events: ListEvent[] = [];
    for await (const one of createClient({ fetch }).list({}, { signal })) {
      events.push(one);
      if (one.type === "removed" && one.taskId === "end") break;
    }
    const sent = new Headers(requests[1]?.init.headers).get("last-event-id");
    expect(sent).toBe(ids.at(-1) ?? null);
    const cursors = events.flatMap((one) => ("cursor" in one ? [one.cursor] : []));
    expect(new Set(cursors)).toEqual(new Set([...ids, "z-1"]));
  }
});

it("asks for a list with its filters, and starts anew after a reset", async () => {
  const { fetch, requests } = scriptedFetch(
    () => streamResponse("retry: 1\n\n", event("reset", { list: true })),
    () => streamResponse(event("page", { tasks: [], counts: {} }, "b-1")),
  );
  const client = createClient({ fetch, baseUrl: "http://host" });
  const filters = { status: ["pending", "processing"], userId: ["alice"], limit: 1 } as const;
  const events = await told(client.list(filters, { signal, lastEventId: "a-7" }), 4);
  expect(events.map((one) => one.type)).toEqual(["open", "reset", "open", "page"]);
  expect(requests[0]?.url).toBe(
    "http://host/api/tasks?limit=1&status=pending%2Cprocessing&userId=alice",
  );
  const cursors = requests.map(({ init }) => new Headers(init.headers).get("last-event-id"));
  expect(cursors).toEqual(["a-7", null]);
});

it("tells several channels, cut at any byte", async () => {
  const text = CHANNELS.join("");
  for (let place = 0; place <= new TextEncoder().encode(text).length; place += 1) {
    const { fetch, requests } = scriptedFetch(() => cutAt(text, place));
    const channels = ["task:t", "user:alice"];
    const events = await told(createClient({ fetch }).watchMany(channels, { signal }), 5);
    expect(requests[0]?.url).toBe("/api/stream?channel=task%3At&channel=user%3Aalice");
    expect(events).toEqual([
      { type: "open" },
      { type: "progress", channel: "task:t", task: half },
      { type: "message", channel: "user:alice", data: "hello €", cursor: "a-1" },
      { type: "reset", channel: "user:alice" },
      { type: "message", channel: "user:alice", data: { any: 1 }, cursor: "a-2" },
    ]);
  }
});

it("keeps the cursor of several channels when one of them is reset, and ends with 204", async () => {
  const { fetch, requests } = scriptedFetch(
    () => streamResponse("retry: 1\n\n", ...CHANNELS.slice(0, 3)),
    () => new Response(null, { status: 204 }),
  );
  const events = await told(createClient({ fetch }).watchMany(["user:alice"], { signal }), 99);
  expect(events).toHaveLength(4);
  expect(new Headers(requests[1]?.init.headers).get("last-event-id")).toBe("a-1");
});

it.each([
  ["page", { items: [] }],
  ["removed", {}],
  ["progress", {}],
])("refuses an event `%s` that is none", async (name, data) => {
  const { fetch } = scriptedFetch(() => streamResponse(event(name, data, "a-1")));
  const reading = told(createClient({ fetch }).list({}, { signal }), 2);
  await expect(reading).rejects.toMatchObject({ name: "WireError" });
});
