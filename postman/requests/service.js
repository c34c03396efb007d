/** What operators and tools ask. */

/** @type {import("../collection.js").Folder} */
export const service = {
  name: "Service",
  about: "Health, metrics, and the description of the API.",
  requests: [
    { route: "GET /healthz", name: "Ask whether the process is alive", has: { status: "ok" } },
    { route: "GET /readyz", name: "Ask whether it is ready", has: { status: "ok" } },
    { route: "GET /metrics", name: "Read metrics", contains: ["# EOF"] },
    {
      route: "GET /openapi.json",
      name: "Read the description",
      has: { "info.title": "progressd" },
    },
  ],
};
