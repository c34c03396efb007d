import { expect, it, vi } from "vitest";
import type { User, UserPage } from "../client/people.ts";
import { deferred } from "../testing/fixtures.ts";
import { createPresence } from "./presence.ts";

const user = (userId: string, status: User["status"] = "connected"): User => ({
  userId,
  status,
  since: "2026-01-01T00:00:00Z",
});

function scripted() {
  const answers = [deferred<UserPage>(), deferred<UserPage>()];
  let asked = 0;
  const users = vi.fn(() => answers[asked++]?.promise ?? Promise.reject(new Error("no answer")));
  const presence = createPresence({ users }, () => undefined);
  return { answers, presence, users, names: () => [...(presence.connected()?.users.keys() ?? [])] };
}

it("knows nobody before the first answer, and all of them after it", async () => {
  const { answers, presence } = scripted();
  expect(presence.connected()).toBeUndefined();
  const loaded = presence.load();
  answers[0]?.resolve({ users: [user("alice")], nextPage: "alice" });
  await loaded;
  expect(presence.connected()).toMatchObject({ hasMore: true });
});

it("asks for the others when most of those who were listed have gone", async () => {
  const { answers, presence, users } = scripted();
  const loaded = presence.load();
  answers[0]?.resolve({ users: [user("alice")], nextPage: "alice" });
  await loaded;
  presence.learn(user("alice", "disconnected"));
  presence.learn(user("bob", "disconnected"));
  expect(users).toHaveBeenCalledTimes(2);
});

it("lets what was told meanwhile win over the answer", async () => {
  const { answers, presence, names } = scripted();
  const loaded = presence.load();
  presence.learn(user("bob"));
  presence.learn(user("alice", "disconnected"));
  answers[0]?.resolve({ users: [user("alice"), user("carol")] });
  await loaded;
  expect(names()).toEqual(["carol", "bob"]);
});

it("forgets an answer that came after a later one", async () => {
  const { answers, presence, names } = scripted();
  const loads = [presence.load(), presence.load()];
  answers[1]?.resolve({ users: [user("new")] });
  await loads[1];
  answers[0]?.resolve({ users: [user("old")] });
  await loads[0];
  expect(names()).toEqual(["new"]);
});

it("asks again when it was not answered", async () => {
  vi.useFakeTimers();
  const { answers, presence, users } = scripted();
  answers[0]?.reject(new TypeError("Failed to fetch"));
  await presence.load();
  await vi.advanceTimersByTimeAsync(5_000);
  expect(users).toHaveBeenCalledTimes(2);
  vi.useRealTimers();
});
