import { expect, it } from "vitest";
import { createRepeats } from "./repeats.ts";

it("knows what a stream tells again, and what is new though it is the same", () => {
  const repeats = createRepeats();
  for (const id of [1, 2]) repeats.remember("user:alice", { id });
  repeats.remember("topic:news", "rain");
  const isRepeat = repeats.startAnew(["user:alice", "topic:news"]);
  expect(isRepeat("user:alice", { id: 1 })).toBe(true);
  expect(isRepeat("user:alice", { id: 2 })).toBe(true);
  expect(isRepeat("user:alice", { id: 3 })).toBe(false);
  expect(isRepeat("topic:news", "sun")).toBe(false);
  expect(isRepeat("topic:news", "rain")).toBe(false);
});

it("tells a channel from its start when it was not listened to for a while", () => {
  const repeats = createRepeats();
  repeats.remember("topic:news", "rain");
  repeats.startAnew([]);
  expect(repeats.startAnew(["topic:news"])("topic:news", "rain")).toBe(false);
});
