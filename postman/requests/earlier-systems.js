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
    { route: "GET /sse", name: "Receive ten messages", contains: ["Message 0 à ", "Message 9 à "] },
  ],
};
