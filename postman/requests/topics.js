/** Topics: publish under a name, and read what was published. */

/** @type {import("../collection.js").Folder} */
export const topics = {
  name: "Topics",
  about:
    "A topic begins with its first event. To see events arrive, open “Watch a topic” of the last folder first.",
  requests: [
    {
      route: "PUT /api/topics/{topic}",
      name: "Put a value",
      json: { event: "headline", data: { title: "Hello" } },
      has: { topic: "{{topic}}", cursor: /./ },
      keep: { cursor: "cursor" },
    },
    {
      route: "PUT /api/topics/{topic}",
      name: "Put a value with an id",
      about: "The same request with the same id publishes nothing more.",
      json: { event: "headline", data: { title: "Hello again" }, id: "{{key}}" },
      has: { topic: "{{topic}}", cursor: /./ },
    },
    {
      route: "GET /api/topics/{topic}",
      name: "Read the value",
      has: { topic: "{{topic}}", event: "headline", updatedAt: /Z$/ },
    },
    {
      route: "GET /api/topics",
      name: "List topics",
      query: { limit: "10" },
      has: { "topics[0].topic": /./ },
    },
    {
      route: "DELETE /api/topics/{topic}",
      name: "Delete a topic",
      status: 204,
    },
    {
      route: "GET /api/topics/{topic}",
      name: "Read a topic that was deleted",
      status: 404,
      has: { code: "topic_not_found" },
    },
  ],
};
