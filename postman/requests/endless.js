/** Streams that do not end by themselves. */

/** @type {import("../collection.js").Folder} */
export const endless = {
  name: "Streams without an end",
  about:
    "Send these one by one, each in a tab of its own, and leave the folder out of a run. Cancel the request to close the stream.",
  requests: [
    {
      route: "GET /api/tasks",
      name: "Watch the list",
      about: "First a page of the list, then each task that changes.",
      query: { limit: "10" },
      type: "text/event-stream",
      contains: ["event: page"],
      endless: "event: page",
    },
    {
      route: "GET /api/stream",
      name: "Watch a user and a task",
      about:
        "Every text to the user and every change of the task; the user is connected meanwhile.",
      query: { channel: ["user:{{userId}}", "task:{{simulationId}}"] },
      type: "text/event-stream",
      contains: ['"channel":"task:{{simulationId}}"'],
      endless: '"channel":"task:',
    },
    {
      route: "GET /api/notifications/stream",
      name: "Listen to notifications",
      about: "Those that wait, and those that come; the user is connected meanwhile.",
      query: { userId: "{{userId}}" },
      contains: ["event: connected"],
      endless: "event: connected",
    },
    {
      route: "GET /api/stream",
      name: "Watch all topics",
      about: "What is published from now on, on any topic.",
      type: "text/event-stream",
      contains: ["id: "],
      endless: "id: ",
    },
    {
      route: "GET /api/topics/{topic}/events",
      name: "Watch a topic",
      about: "First its value, then each event with its own name.",
      contains: ["retry: "],
      endless: "id: ",
    },
    {
      route: "GET /api/events",
      name: "Listen to events",
      contains: ["event: connected"],
      endless: "event: connected",
    },
    {
      route: "GET /api/notifications/subscribe/{userId}",
      name: "Subscribe to notifications",
      about: "Those that this stream has not sent before; first mention the user.",
      contains: ["data: "],
      endless: "data: ",
    },
    {
      route: "GET /api/sse/events",
      name: "Listen to broadcasts",
      contains: ["SSE connection established"],
      endless: "SSE connection established",
    },
    {
      route: "GET /api/games/{gameId}/stream",
      name: "Watch a game",
      about: "First `initial` with the score, if there is one.",
      path: { gameId: "7" },
      contains: ["id: "],
      endless: "id: ",
    },
    {
      route: "GET /api/metrics/stream",
      name: "Watch what the process uses",
      contains: ["event: metrics"],
      endless: "event: metrics",
    },
    {
      route: "GET /sse/connect/{userId}",
      name: "Listen to a user",
      about:
        "Every text to the user, who is connected meanwhile; a sign of life every five seconds.",
      contains: ["data: User '{{userId}}' connected"],
      endless: "<3: Keep alive",
    },
  ],
};
