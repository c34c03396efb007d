/** How what came on a channel is said to a person. Pure; English. */

import { record } from "../client/json.ts";
import { visible } from "./format.ts";

/** What came on a channel, and when. */
export interface Message {
  channel: string;
  data: unknown;
  atMs: number;
}

/** What has come now; a notification may have waited. */
export function messageOf(channel: string, data: unknown, nowMs: number): Message {
  const { occurredAt } = record(data) ?? {};
  const atMs = isNotification(data) ? Date.parse(String(occurredAt)) : Number.NaN;
  return { channel, data, atMs: Number.isNaN(atMs) ? nowMs : atMs };
}

/** `topic:news` → `topic news`. */
export function channelName(channel: string): string {
  return channel.replace(":", " ");
}

/** A text as it is, a notification by its title and message, anything else as JSON. */
export function messageText(data: unknown): string {
  return plainText(data).split("\n").map(visible).join("\n");
}

function plainText(data: unknown): string {
  if (typeof data === "string") return data;
  if (isNotification(data)) return [data.title, data.message].filter((part) => part).join(": ");
  return JSON.stringify(data);
}

function isNotification(data: unknown): data is { title: string; message: string } {
  const { title, message } = record(data) ?? {};
  return typeof title === "string" && typeof message === "string";
}
