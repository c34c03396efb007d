import { expect, it } from "vitest";
import { channelName, messageOf, messageText } from "./message.ts";

it.each([
  ["rain", "rain"],
  [{ title: "Build", message: "passed", id: "1" }, "Build: passed"],
  [{ title: "Build", message: "" }, "Build"],
  [{ title: 1, message: "" }, '{"title":1,"message":""}'],
  [null, "null"],
  ["a\nb\u202ec", "a\nb\\u202Ec"],
])("says %j as %s", (data, text) => {
  expect(messageText(data)).toBe(text);
});

it("names a channel", () => {
  expect(channelName("topic:news")).toBe("topic news");
});

it("dates a notification back to when it was sent, and anything else to now", () => {
  const sent = { title: "Build", message: "", occurredAt: "1970-01-01T00:00:01Z" };
  expect(messageOf("user:alice", sent, 9_000).atMs).toBe(1_000);
  expect(messageOf("user:alice", { ...sent, occurredAt: "soon" }, 9_000).atMs).toBe(9_000);
  expect(messageOf("topic:news", "rain", 9_000).atMs).toBe(9_000);
});
