/** The examples, in the order of their folders. What does not end by itself comes last. */

import { earlierSystems } from "./earlier-systems.js";
import { endless } from "./endless.js";
import { pages } from "./pages.js";
import { people } from "./people.js";
import { service } from "./service.js";
import { start } from "./start.js";
import { streams } from "./streams.js";
import { tasks } from "./tasks.js";
import { topics } from "./topics.js";
import { uploads } from "./uploads.js";
import { users } from "./users.js";

/** @type {import("../collection.js").Folder[]} */
export const folders = [
  start,
  tasks,
  uploads,
  streams,
  topics,
  users,
  people,
  earlierSystems,
  service,
  pages,
  endless,
];

/** What a tester chooses; these are also in the environment. */
export const settings = { baseUrl: "http://127.0.0.1:8080", userId: "alice", topic: "news" };

const TASK_ID = "0199c0de-0000-7000-8000-000000000001";

/** What requests keep for later ones; until then, a value of the right form. */
export const variables = {
  taskId: TASK_ID,
  ownTaskId: TASK_ID,
  uploadId: TASK_ID,
  simulationId: TASK_ID,
  key: "8a6e0804-2bd0-4672-b79d-d97027f9071a",
  etag: '"k3f90000-1841"',
  cursor: "k3f90000-1841",
  asset: "index.js",
};
