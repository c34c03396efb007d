/** The three verbs in a row: submit, report, watch. */

/** @type {import("../collection.js").Folder} */
export const start = {
  name: "Start here",
  about:
    "Submit a task, report on it, watch it to its end. To see it live, send the watching request in a tab of its own before you report.",
  requests: [
    {
      route: "POST /api/tasks",
      name: "Submit a task",
      about: "The answer holds the id of the task, which the requests below use.",
      json: { title: "import", total: 200, unit: "rows" },
      type: "application/json",
      has: { status: "pending", total: 200 },
      headers: { location: /^\/api\/tasks\// },
      keep: { taskId: "taskId" },
    },
    {
      route: "PATCH /api/tasks/{taskId}",
      name: "Report progress",
      about: "The first report starts the task; the answer tells the worker whether to go on.",
      json: { current: 80, message: "80 rows read" },
      has: { status: "processing", progress: 40, directive: "continue" },
    },
    {
      route: "PATCH /api/tasks/{taskId}",
      name: "Report the end",
      about: "Form fields do as well as JSON.",
      form: { current: "200", status: "completed" },
      has: { status: "completed", progress: 100 },
    },
    {
      route: "GET /api/tasks/{taskId}/progress",
      name: "Watch the task to its end",
      about: "First the current state, then each change; the final one ends the stream.",
      has: { taskId: "{{taskId}}", status: "completed" },
    },
    {
      route: "POST /api/tasks",
      name: "Submit and watch in one call",
      about: "A job of the service: ten steps in one second, each an event of the stream.",
      json: { kind: "simulate", input: { steps: 10, intervalMs: 100 } },
      status: 200,
      type: "text/event-stream",
      has: { status: "completed", "result.steps": 10 },
    },
  ],
};
