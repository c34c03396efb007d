/** Who one is, as the server says it. Pure. */

import { present, record, text, WireError } from "./json.ts";

const KINDS = ["person", "program", "open"] as const;

export interface Session {
  /** A person, a program with an API key, or anybody while access is off. */
  kind: (typeof KINDS)[number];
  /** The id of the user, or the name of the API key. */
  name?: string;
  /** When it ends (RFC 3339). */
  expiresAt?: string;
}

export function parseSession(value: unknown): Session {
  const fields = record(value) ?? {};
  const kind = KINDS.find((known) => known === fields["kind"]);
  if (kind === undefined) throw new WireError("a session has a kind");
  return { kind, ...present({ name: text(fields, "name"), expiresAt: text(fields, "expiresAt") }) };
}
