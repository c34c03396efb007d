/** What operators and tools ask. */

/** @type {import("../collection.js").Folder} */
export const service = {
  name: "Service",
  about: "Health, metrics, the description of the API, and who one is.",
  requests: [
    { route: "GET /healthz", name: "Ask whether the process is alive", has: { status: "ok" } },
    { route: "GET /readyz", name: "Ask whether it is ready", has: { status: "ok" } },
    { route: "GET /metrics", name: "Read metrics", contains: ["# EOF"] },
    {
      route: "GET /openapi.json",
      name: "Read the description",
      has: { "info.title": "progressd" },
    },
    {
      route: "GET /api/session",
      name: "Ask who one is",
      about: "While access is off, everybody is the same.",
      type: "application/json",
      has: { kind: "open" },
    },
    {
      route: "POST /api/session",
      name: "Sign in",
      about: "Turns the token or API key in `Authorization` into a cookie, while access is on.",
      type: "application/json",
      has: { kind: "open" },
    },
    { route: "DELETE /api/session", name: "Sign out", status: 204 },
  ],
};
