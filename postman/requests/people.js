/** Notifications and groups. */

/** @type {import("../collection.js").Folder} */
export const people = {
  name: "Notifications and groups",
  about:
    "Notifications wait for users who are away. To see them arrive, open “Listen to notifications” of the last folder in a tab of its own.",
  requests: [
    {
      route: "PUT /api/users/{userId}/groups",
      name: "Join a group",
      json: ["complaints"],
      contains: ['["complaints"]'],
    },
    {
      route: "GET /api/users/{userId}/groups",
      name: "List the groups of a user",
      contains: ["complaints"],
    },
    {
      route: "POST /api/users/{userId}/notifications",
      name: "Notify a user",
      json: { title: "Build", message: "It has passed.", type: "build", data: { number: 7 } },
      has: { cursor: /-/ },
    },
    {
      route: "POST /api/groups/{group}/notifications",
      name: "Notify a group",
      path: { group: "complaints" },
      json: { title: "Complaint", message: "The lift is stuck." },
      has: { members: 1 },
    },
    {
      route: "GET /api/groups/{group}",
      name: "Read a group",
      path: { group: "complaints" },
      has: { group: "complaints", members: 1, "users[0].userId": "{{userId}}" },
    },
    {
      route: "GET /api/users/{userId}/notifications",
      name: "List what was not read",
      query: { unread: "true", limit: "10" },
      has: { "notifications[0].read": false },
    },
    {
      route: "PUT /api/users/{userId}/notifications/read",
      name: "Mark all as read",
      json: {},
      status: 204,
    },
    {
      route: "POST /api/users/{userId}/mention",
      name: "Mention a user",
      json: { text: "Have a look", mentionedBy: "bob" },
      has: { success: true },
    },
  ],
};
