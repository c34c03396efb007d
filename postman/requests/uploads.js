/** An upload is a task whose work is done by the service. */

/** @type {import("../collection.js").Folder} */
export const uploads = {
  name: "Uploads",
  about:
    "Choose a file in the body of each upload, or make the directory `postman/` the working directory of Postman (Settings, General), which holds `sample.csv`.",
  requests: [
    {
      route: "POST /api/tasks/upload",
      name: "Upload a file",
      query: { userId: "{{userId}}" },
      files: { file: "sample.csv" },
      has: { taskId: /^[0-9a-f-]{36}$/ },
      keep: { uploadId: "taskId" },
    },
    {
      route: "GET /api/tasks/{taskId}/progress",
      name: "Watch the upload",
      about: "One bar over receive, validate, transform and save.",
      path: { taskId: "{{uploadId}}" },
      has: { kind: "upload", status: "completed" },
    },
    {
      route: "GET /api/tasks/{taskId}/file",
      name: "Read the file",
      path: { taskId: "{{uploadId}}" },
      headers: { "content-disposition": /^attachment/, etag: /^"/ },
      keep: { etag: { header: "etag" } },
    },
    {
      route: "GET /api/tasks/{taskId}/file",
      name: "Read a range of the file",
      path: { taskId: "{{uploadId}}" },
      header: { Range: "bytes=0-1", "If-Range": "{{etag}}" },
      status: 206,
      headers: { "content-range": /^bytes 0-1\// },
    },
    {
      route: "POST /api/tasks",
      name: "Submit an upload before its file",
      about: "So that it can be watched while the file is sent.",
      json: { kind: "upload", title: "sample.csv" },
      type: "application/json",
      has: { kind: "upload", status: "pending" },
      keep: { uploadId: "taskId" },
    },
    {
      route: "POST /api/tasks/upload",
      name: "Send the file of that upload",
      query: { taskId: "{{uploadId}}" },
      files: { file: "sample.csv" },
      has: { taskId: "{{uploadId}}" },
    },
  ],
};
