/** Who is connected. */

/** @type {import("../collection.js").Folder} */
export const users = {
  name: "Users",
  about: "A user is connected while one of their streams is open: see the last folder.",
  requests: [
    {
      route: "GET /api/users",
      name: "List users",
      query: { limit: "10" },
      has: { "users[0].status": /^(dis)?connected$/ },
    },
    {
      route: "GET /api/users/{userId}",
      name: "Read a user",
      has: { userId: "{{userId}}", since: /Z$/ },
    },
    {
      route: "GET /api/users/{userId}",
      name: "Read a user who has never been seen",
      path: { userId: "nobody" },
      status: 404,
      has: { code: "user_not_found" },
    },
  ],
};
