/**
 * Who is connected: a list that is asked for, and what is told of users after that.
 *
 * Owns the users. Knows neither the DOM nor the stream.
 */

import type { Client } from "../client/client.ts";
import type { User } from "../client/people.ts";

/** Most users that the server lists at once. */
const LIMIT_MAX = 500;
const RETRY_MS = 5_000;

export interface Connected {
  users: ReadonlyMap<string, User>;
  /** Whether there were more than could be listed. */
  hasMore: boolean;
}

export function createPresence(client: Pick<Client, "users">, onChange: () => void) {
  let users = new Map<string, User>();
  /** Absent until the first answer. */
  let hasMore: boolean | undefined;
  /** What was told since the question that is under way, whose answer may be older. */
  let told: User[] | undefined;
  let questions = 0;

  function apply(user: User): void {
    if (user.status === "connected") users.set(user.userId, user);
    else users.delete(user.userId);
  }

  /** Asks who is connected, because something may have been missed. */
  async function load(): Promise<void> {
    questions += 1;
    const question = questions;
    const since: User[] = [];
    told = since;
    try {
      const page = await client.users({ status: "connected", limit: LIMIT_MAX });
      if (question !== questions) return;
      users = new Map(page.users.map((user) => [user.userId, user]));
      hasMore = page.nextPage !== undefined;
      since.forEach(apply);
      told = undefined;
      onChange();
    } catch {
      // The list of tasks says that the server is away.
      setTimeout(() => question === questions && void load(), RETRY_MS);
    }
  }

  return {
    load,
    /** Nothing while it is not known. */
    connected: (): Connected | undefined =>
      hasMore === undefined ? undefined : { users, hasMore },
    /** A user has come or gone. */
    learn(user: User): void {
      told?.push(user);
      apply(user);
      onChange();
      // Those who were not listed are missed once most of the others have gone.
      if (hasMore && told === undefined && users.size < LIMIT_MAX / 2) void load();
    },
  };
}
