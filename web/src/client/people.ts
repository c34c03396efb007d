/** Users, and what is sent to them, as they travel on the wire. Pure. */

import { number, present, record, text, WireError } from "./json.ts";

/** Whether a user is connected. */
export interface User {
  userId: string;
  status: "connected" | "disconnected";
  /** When that last changed (RFC 3339). */
  since: string;
}

export interface UserPage {
  users: User[];
  /** The `page` of the next page; absent on the last one. */
  nextPage?: string;
}

/** What waits for a user who is away. */
export interface NewNotification {
  title: string;
  message: string;
}

/** Whom a message to a group has reached. */
export interface Reach {
  members: number;
  connected: number;
}

/** Reads a user: from a list, or from an event of `topic:presence`. */
export function parseUser(value: unknown): User {
  const fields = record(value) ?? {};
  const userId = text(fields, "userId");
  if (userId === undefined) throw new WireError("a user has a userId");
  const status = fields["status"] === "connected" ? "connected" : "disconnected";
  return { userId, status, since: text(fields, "since") ?? "" };
}

export function parseUserPage(value: unknown): UserPage {
  const fields = record(value) ?? {};
  const users = fields["users"];
  if (!Array.isArray(users)) throw new WireError("a list of users has an array `users`");
  return { users: users.map(parseUser), ...present({ nextPage: text(fields, "nextPage") }) };
}

export function parseReach(value: unknown): Reach {
  const fields = record(value) ?? {};
  return { members: number(fields, "members") ?? 0, connected: number(fields, "connected") ?? 0 };
}
