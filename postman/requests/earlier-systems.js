/** Routes of earlier systems, as their clients know them. */

const AT_ONCE = { Prefer: "respond-async" };

/** @type {import("../collection.js").Folder} */
export const earlierSystems = {
  name: "Earlier systems",
  about:
    "Their tasks tell the user of each step: open “Listen to a user” of the last folder in a tab of its own first. Without `Prefer` they answer at their end.",
  requests: [
    {
      route: "POST /sse/task/{userId}",
      name: "Run ten attempts",
      header: AT_ONCE,
      status: 202,
      has: { kind: "simulate", userId: "{{userId}}" },
    },
    {
      route: "GET /sse/task/{userId}",
      name: "Run ten attempts by GET",
      header: AT_ONCE,
      status: 202,
      has: { kind: "simulate", userId: "{{userId}}" },
    },
    {
      route: "POST /sse/task-with-obj/{userId}",
      name: "Count down and wait for the end",
      about: "Five seconds, then the user gets an object and the caller an answer.",
      has: { message: "Task completed", data: /^User '.+' completed the task at: .+Z\.$/ },
    },
    {
      route: "GET /sse/task-with-obj/{userId}",
      name: "Count down by GET",
      header: AT_ONCE,
      status: 202,
      has: { kind: "simulate", userId: "{{userId}}" },
    },
    {
      route: "GET /sse/disconnect/{userId}",
      name: "Disconnect a user",
      has: { message: "User '{{userId}}' disconnected" },
    },
    {
      route: "POST /api/users",
      name: "Make a user",
      about: "All who listen to events are told `user.created`.",
      json: { name: "Alice", email: "alice@example.org" },
      status: 201,
      has: { name: "Alice", createdAt: /Z$/ },
    },
    {
      route: "POST /api/broadcast",
      name: "Broadcast an event",
      json: { event: "announcement", data: { text: "Hello" } },
      has: { success: true, event_id: /./ },
    },
    {
      route: "POST /api/games/{gameId}/score",
      name: "Set the score of a game",
      path: { gameId: "7" },
      json: { home_score: 1, away_score: 0 },
      has: { success: true },
    },
    { route: "GET /sse", name: "Receive ten messages", contains: ["Message 0 à ", "Message 9 à "] },
  ],
};
