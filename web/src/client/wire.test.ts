/**
 * The golden bytes that the server's own tests check as well: this client must read each of them
 * without losing a field or an event.
 */

import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { openStreamResponse } from "../testing/fixtures.ts";
import { watchStream } from "./stream.ts";
import { parseTask } from "./task.ts";

const FOLDER = new URL("../../../tests/fixtures/wire/", import.meta.url);
const files = readdirSync(FOLDER);
const read = (name: string) => readFileSync(new URL(name, FOLDER), "utf8");

describe("the golden files", () => {
  it("hold a task and a stream", () => {
    expect(files).toEqual(expect.arrayContaining(["task.json", "stream.txt"]));
  });

  it.each(files.filter((name) => name.endsWith(".json")))("%s is a task as it was sent", (name) => {
    const wire: unknown = JSON.parse(read(name));
    const parsed = parseTask(wire);
    // What the page has no use for is not read; what it reads must be exactly what was sent.
    expect(wire).toMatchObject(parsed);
    for (const field of ["taskId", "kind", "status", "attempt", "createdAt"] as const)
      expect(wire).toHaveProperty(field);
  });

  it.each(files.filter((name) => name.endsWith(".txt")))(
    "%s is a stream of which nothing is lost",
    async (name) => {
      const text = read(name);
      const ids = [...text.matchAll(/^id: ?(.*)$/gm)].map((match) => match[1]);
      expect(ids.length).toBeGreaterThan(0);
      expect(await cursorsOf(text, ids.length)).toEqual(ids);
    },
  );
});

/** The cursors of a stream that says all this and then stays open. */
async function cursorsOf(text: string, expected: number): Promise<(string | undefined)[]> {
  const stop = new AbortController();
  const send: typeof fetch = async (_url, init) => openStreamResponse(init?.signal ?? null, text);
  const cursors: (string | undefined)[] = [];
  for await (const event of watchStream("/", { fetch: send, signal: stop.signal })) {
    if (event.type === "progress") cursors.push(event.cursor);
    if (cursors.length === expected) stop.abort();
  }
  return cursors;
}
