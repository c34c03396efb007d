import { expect, it, vi } from "vitest";
import type { ListChange as Change, ListEvent } from "../client/stream.ts";
import { deferred, noCounts, task } from "../testing/fixtures.ts";
import { type HubOptions, joinHub, type Link } from "./hub.ts";

/** A browser: its tabs hear each other, and one of them holds the lock. */
function browser() {
  const listeners = new Map<number, (event: MessageEvent) => void>();
  const queue: { tab: number; run: () => void }[] = [];
  const opened: { tab: number; lastEventId?: string; say: (event: ListEvent) => void }[] = [];
  let tabs = 0;

  function openTab(stream?: HubOptions<Change>["open"]) {
    tabs += 1;
    const tab = tabs;
    const changes: Change[] = [];
    const links: Link[] = [];
    joinHub<Change>({
      now: () => 100_000,
      defer: (run) => run(),
      onChanges: (told) => changes.push(...told),
      onLink: (link) => links.push(link),
      channel: {
        postMessage(data) {
          const copy: unknown = structuredClone(data);
          for (const [other, hear] of listeners)
            if (other !== tab) hear({ data: copy } as MessageEvent);
        },
        addEventListener: (_: string, hear: unknown) =>
          listeners.set(tab, hear as (event: MessageEvent) => void),
      },
      elect(lead) {
        queue.push({ tab, run: () => void lead(new AbortController().signal) });
        if (queue.length === 1) queue[0]?.run();
      },
      open: stream ?? ((query) => scripted(tab, query)),
    });
    return { changes, links, close: () => close(tab), link: () => links.at(-1) };
  }

  async function* scripted(tab: number, query: { lastEventId?: string }) {
    const waiting: ListEvent[] = [];
    let wake = deferred<void>();
    const { lastEventId } = query;
    const say = (event: ListEvent) => {
      waiting.push(event);
      wake.resolve();
    };
    opened.push({ tab, say, ...(lastEventId !== undefined && { lastEventId }) });
    for (;;) {
      yield* waiting.splice(0);
      await wake.promise;
      wake = deferred();
    }
  }

  /** The tab goes, and its lock goes to the next. */
  function close(tab: number): void {
    listeners.delete(tab);
    const wasLeader = queue[0]?.tab === tab;
    queue.splice(
      queue.findIndex((waiting) => waiting.tab === tab),
      1,
    );
    if (wasLeader) queue[0]?.run();
  }

  return { openTab, opened };
}

const page = (cursor: string): Change => ({
  type: "page",
  page: { tasks: [], counts: noCounts },
  cursor,
});
const progress = (value: number, cursor: string): Change => ({
  type: "progress",
  task: task({ taskId: "t", progress: value }),
  cursor,
});

it("opens one stream for all tabs, and all are told the same", async () => {
  const { openTab, opened } = browser();
  const tabs = Array.from({ length: 10 }, () => openTab());
  opened[0]?.say({ type: "open" });
  opened[0]?.say(page("a-1"));
  opened[0]?.say(progress(10, "a-2"));
  await vi.waitFor(() => expect(tabs[9]?.changes).toHaveLength(2));
  for (const tab of tabs) {
    expect(tab.changes).toEqual([page("a-1"), progress(10, "a-2")]);
    expect(tab.link()?.state).toBe("live");
  }
  expect(opened).toHaveLength(1);
});

it("tells a tab that comes later how the connection is", async () => {
  const { openTab, opened } = browser();
  const first = openTab();
  opened[0]?.say({ type: "open" });
  await vi.waitFor(() => expect(first.link()?.state).toBe("live"));
  expect(openTab().link()).toEqual({ state: "live" });
});

it("goes on from the last cursor when the leader goes", async () => {
  const { openTab, opened } = browser();
  const first = openTab();
  const second = openTab();
  openTab();
  opened[0]?.say(page("a-1"));
  opened[0]?.say(progress(10, "a-2"));
  await vi.waitFor(() => expect(second.changes).toHaveLength(2));
  first.close();
  expect(opened.map(({ tab, lastEventId }) => [tab, lastEventId])).toEqual([
    [1, undefined],
    [2, "a-2"],
  ]);
  opened[1]?.say(progress(20, "a-3"));
  await vi.waitFor(() => expect(second.changes.at(-1)).toEqual(progress(20, "a-3")));
});

it("says since when nothing was heard, and why", async () => {
  const { openTab, opened } = browser();
  const first = openTab();
  const second = openTab();
  opened[0]?.say({ type: "open" });
  opened[0]?.say({ type: "waiting", delayMs: 1, reason: "silent", idleMs: 20_000 });
  const link = { state: "waiting", reason: "silent", heardAtMs: 80_000 };
  await vi.waitFor(() => expect(second.link()).toEqual(link));
  expect(first.link()).toEqual(link);
  opened[0]?.say({ type: "open" });
  await vi.waitFor(() => expect(second.link()?.state).toBe("live"));
});

it("tells what the server said when it had no room", async () => {
  const { openTab, opened } = browser();
  const tab = openTab();
  opened[0]?.say({ type: "open" });
  opened[0]?.say({ type: "refused", detail: "no room" });
  opened[0]?.say({ type: "waiting", delayMs: 1, reason: "closed", idleMs: 0 });
  await vi.waitFor(() =>
    expect(tab.link()).toMatchObject({ state: "waiting", refusal: "no room" }),
  );
  opened[0]?.say({ type: "open" });
  await vi.waitFor(() => expect(tab.link()).not.toHaveProperty("refusal"));
});

it("comes again after a refusal for good, from the start", async () => {
  vi.useFakeTimers();
  const asked: (string | undefined)[] = [];
  const tab = browser().openTab(async function* ({ lastEventId }) {
    asked.push(lastEventId);
    yield page("a-1");
    throw new Error("not allowed");
  });
  await vi.advanceTimersByTimeAsync(15_000);
  expect(asked).toEqual([undefined, undefined]);
  expect(tab.link()).toMatchObject({ state: "waiting", refusal: "Not allowed." });
  vi.useRealTimers();
});
