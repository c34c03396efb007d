/** Streams that end by themselves, because their tasks do. */

const HALF_A_SECOND = { kind: "simulate", input: { steps: 5, intervalMs: 100 } };

/** @type {import("../collection.js").Folder} */
export const streams = {
  name: "Streams",
  about: "Postman shows each event as it arrives. These streams end with their tasks.",
  requests: [
    {
      route: "POST /api/tasks",
      name: "Run a simulated task",
      json: HALF_A_SECOND,
      type: "application/json",
      has: { kind: "simulate" },
      keep: { simulationId: "taskId" },
    },
    {
      route: "GET /api/tasks/{taskId}/progress",
      name: "Watch a task",
      about: "The id of the last event is the cursor, from which a later stream resumes.",
      path: { taskId: "{{simulationId}}" },
      contains: ["event: progress"],
      has: { status: "completed", progress: 100 },
      keep: { cursor: /^id: (.+)\n+$(?![\s\S])/m },
    },
    {
      route: "GET /api/tasks/{taskId}/progress",
      name: "Resume at the end",
      about: "Nothing is left to be seen: 204 tells a browser to stop.",
      path: { taskId: "{{simulationId}}" },
      header: { "Last-Event-ID": "{{cursor}}" },
      status: 204,
    },
    {
      route: "POST /api/tasks",
      name: "Run another simulated task",
      json: HALF_A_SECOND,
      type: "application/json",
      has: { kind: "simulate" },
      keep: { taskId: "taskId" },
    },
    {
      route: "GET /api/stream",
      name: "Watch several tasks at once",
      about: "One connection and one cursor for all; it ends when the last of them has ended.",
      query: { channel: ["task:{{simulationId}}", "task:{{taskId}}"] },
      type: "text/event-stream",
      contains: ['"channel":"task:{{simulationId}}"'],
      has: { channel: "task:{{taskId}}", "data.status": "completed" },
    },
    {
      route: "POST /api/tickets",
      name: "Issue a ticket",
      about:
        "What a back end hands to a browser: with `?ticket=` it opens these streams, and nothing else.",
      json: { channels: ["task:{{taskId}}"], ttlSeconds: 60 },
      type: "application/json",
      has: { ticket: /./, expiresAt: /^20/ },
    },
    {
      route: "GET /api/stream",
      name: "Poll several channels",
      about:
        "Without a stream: the answer comes as soon as there is something, and holds the next cursor.",
      query: { channel: ["task:{{simulationId}}", "user:{{userId}}"] },
      header: { Prefer: "wait=1" },
      type: "application/json",
      has: { "events[0].channel": "task:{{simulationId}}", ended: false },
      keep: { cursor: "cursor" },
    },
    {
      route: "GET /api/stream",
      name: "Poll for what comes next",
      about: "Only what happened since the cursor; nothing, if nothing did within the time given.",
      query: {
        channel: ["task:{{simulationId}}", "user:{{userId}}"],
        lastEventId: "{{cursor}}",
      },
      header: { Prefer: "wait=0" },
      type: "application/json",
      has: { reset: [], cursor: /./ },
    },
  ],
};
