import { describe, expect, it } from "vitest";
import {
  jsonResponse,
  noCounts,
  problemResponse,
  scriptedFetch,
  task,
} from "../testing/fixtures.ts";
import { createClient } from "./client.ts";
import { uuidV7 } from "./identifier.ts";
import { WireError } from "./json.ts";
import { explain, ProblemError } from "./problem.ts";

describe("createClient", () => {
  it("asks for a page of the list", async () => {
    const one = task({ taskId: "one" });
    const { fetch, requests } = scriptedFetch(() =>
      jsonResponse({ tasks: [one], nextPage: "p2", counts: { error: 3 } }),
    );
    const query = { limit: 20, page: "p 1", status: ["error", "completed"], kind: [] } as const;
    const page = await createClient({ fetch }).page(query);
    expect(page).toEqual({ tasks: [one], nextPage: "p2", counts: { ...noCounts, error: 3 } });
    expect(requests[0]?.url).toBe("/api/tasks?limit=20&page=p+1&status=error%2Ccompleted");
  });

  it("creates a task under an id of its own choice", async () => {
    const { fetch, requests } = scriptedFetch(() => jsonResponse(task({ taskId: "mine" }), 202));
    await createClient({ fetch, baseUrl: "http://host" }).put("mine", { kind: "upload", total: 3 });
    expect(requests[0]?.url).toBe("http://host/api/tasks/mine");
    expect(requests[0]?.init).toMatchObject({
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: '{"kind":"upload","total":3}',
    });
  });

  it("sends a file as the form field `file`", async () => {
    const { fetch, requests } = scriptedFetch(() => jsonResponse({ taskId: "mine" }, 202));
    const file = new File(["abc"], "a b.txt");
    await createClient({ fetch }).sendFile("mine", file, new AbortController().signal);
    expect(requests[0]?.url).toBe("/api/tasks/upload?taskId=mine");
    const body = requests[0]?.init.body;
    expect(body instanceof FormData && body.get("file")).toMatchObject({ name: "a b.txt" });
  });

  it("sends to a user, a group and a topic", async () => {
    const { fetch, requests } = scriptedFetch(
      () => jsonResponse({ id: "1" }),
      () => jsonResponse({ id: "2", members: 3, connected: 1 }),
      () => jsonResponse({ topic: "news" }),
    );
    const client = createClient({ fetch });
    const notification = { title: "Build", message: "passed" };
    await client.notifyUser("a@b", notification);
    expect(await client.notifyGroup("ops", notification)).toEqual({ members: 3, connected: 1 });
    await client.publish("news", "rain");
    expect(requests.map(({ url, init }) => `${init.method} ${url} ${init.body}`)).toEqual([
      'POST /api/users/a%40b/notifications {"title":"Build","message":"passed"}',
      'POST /api/groups/ops/notifications {"title":"Build","message":"passed"}',
      'PUT /api/topics/news {"data":"rain"}',
    ]);
  });

  it("lists the users who are connected", async () => {
    const alice = { userId: "alice", status: "connected", since: "2026-01-01T00:00:00Z" };
    const { fetch, requests } = scriptedFetch(() =>
      jsonResponse({ users: [{ ...alice, connections: 2 }], nextPage: "alice" }),
    );
    const page = await createClient({ fetch }).users({ status: "connected", limit: 1 });
    expect(page).toEqual({ users: [alice], nextPage: "alice" });
    expect(requests[0]?.url).toBe("/api/users?limit=1&status=connected");
  });

  it("turns a problem into an error that says the detail", async () => {
    const { fetch } = scriptedFetch(() => problemResponse(409, "the task is final"));
    const refused = createClient({ fetch }).cancel("t");
    await expect(refused).rejects.toMatchObject({ status: 409, problem: { code: "test" } });
  });

  it("copes with a refusal that is no problem document", async () => {
    const { fetch } = scriptedFetch(() => new Response("<html>", { status: 502 }));
    await expect(createClient({ fetch }).get("t")).rejects.toMatchObject({ status: 502 });
  });
});

describe("explain", () => {
  it.each([
    [new ProblemError(409, { detail: "the task is final" }), "The task is final."],
    [new ProblemError(502, {}), "The server has a problem."],
    [new ProblemError(418, {}), "The server refused this (418)."],
    [new TypeError("Failed to fetch"), "The server does not answer."],
    [new DOMException("signal timed out", "TimeoutError"), "The server does not answer."],
    [new WireError("no taskId"), "The server's answer could not be understood."],
  ])("says %s in plain words", (error, sentence) => {
    expect(explain(error)).toBe(sentence);
  });
});

describe("uuidV7", () => {
  it("carries the time, the version and the variant", () => {
    const id = uuidV7(0x0199_1234_5678);
    expect(id).toMatch(/^01991234-5678-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(uuidV7(0x0199_1234_5678)).not.toBe(id);
  });
});
