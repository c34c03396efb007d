/** Pages for people. */

/** @type {import("../collection.js").Folder} */
export const pages = {
  name: "Pages",
  about: "What a browser shows.",
  requests: [
    {
      route: "GET /",
      name: "Open the page",
      contains: ["<title>progressd</title>"],
      keep: { asset: /\/assets\/([^"]+\.js)"/ },
    },
    {
      route: "GET /assets/{path}",
      name: "Load its script",
      path: { path: "{{asset}}" },
      type: "text/javascript",
      headers: { "cache-control": /immutable/ },
    },
    {
      route: "GET /tasks/{taskId}",
      name: "Open the page of a task",
      contains: ["<title>progressd</title>"],
    },
    { route: "GET /examples", name: "List the examples", contains: ["<h1>Examples</h1>"] },
    {
      route: "GET /examples/{file}",
      name: "Open an example",
      path: { file: "user.html" },
      type: "text/html",
      contains: ["/examples/user.js"],
    },
    { route: "GET /docs", name: "Find the reference", headers: { location: /^\/docs\/$/ } },
    { route: "GET /docs/", name: "Open the reference", contains: ["swagger-ui"] },
    {
      route: "GET /docs/{file}",
      name: "Load its style",
      path: { file: "swagger-ui.css" },
      type: "text/css",
      contains: [".swagger-ui"],
    },
  ],
};
