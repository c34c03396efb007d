/**
 * The client library: every route of the API that a browser needs, as plain functions.
 *
 * A closure over `fetch` and a base URL, without state of its own. Knows nothing of the page.
 */

import {
  type NewNotification,
  parseReach,
  parseUserPage,
  type Reach,
  type User,
  type UserPage,
} from "./people.ts";
import { problemOf } from "./problem.ts";
import { parseSession, type Session } from "./session.ts";
import {
  type ChannelEvent,
  type ListEvent,
  type StreamEvent,
  watchChannels,
  watchList,
  watchStream,
} from "./stream.ts";
import { parseTask, parseTaskPage, type Status, type Task, type TaskPage } from "./task.ts";

export interface ClientOptions {
  /** Injected by tests; the platform's own otherwise. */
  fetch?: typeof fetch;
  /** Origin of the server; the page's own otherwise. */
  baseUrl?: string;
}

/** What `POST /api/tasks` and `PUT /api/tasks/{id}` take. */
export interface NewTask {
  kind?: string;
  title?: string;
  total?: number;
  unit?: string;
  input?: unknown;
}

/** Which tasks are listed; a filter that is absent or empty lets every task pass. */
export interface ListFilters {
  status?: readonly Status[];
  kind?: readonly string[];
  userId?: readonly string[];
  queue?: readonly string[];
  /** Tasks on a page. */
  limit?: number;
}

export interface PageQuery extends ListFilters {
  /** The `nextPage` of the page before. */
  page?: string;
  signal?: AbortSignal;
}

export interface UserQuery {
  status?: User["status"];
  /** Users on a page. */
  limit?: number;
}

export interface WatchQuery {
  signal: AbortSignal;
  lastEventId?: string;
}

export interface Client {
  /** One page of the list as it stands now. */
  page(query?: PageQuery): Promise<TaskPage>;
  /** The list and every change of it, on one stream. */
  list(filters: ListFilters, query: WatchQuery): AsyncGenerator<ListEvent, void, undefined>;
  get(taskId: string): Promise<Task>;
  /** Creates a task under an id of the server's choice. */
  create(task: NewTask): Promise<Task>;
  /** Creates a task under an id of the caller's choice, so that it can be watched at once. */
  put(taskId: string, task: NewTask): Promise<Task>;
  cancel(taskId: string): Promise<Task>;
  /** Forgets a finished task and its file; goes on when the page is left meanwhile. */
  remove(taskId: string): Promise<void>;
  /** Sends a file into a task of the kind `upload`; resolves when the server has taken it. */
  sendFile(taskId: string, file: File, signal: AbortSignal): Promise<void>;
  watch(taskId: string, query: WatchQuery): AsyncGenerator<StreamEvent, void, undefined>;
  /** Up to 100 channels on one stream with one cursor: `task:{id}`, `user:{id}`, `topic:{name}`. */
  watchMany(
    channels: readonly string[],
    query: WatchQuery,
  ): AsyncGenerator<ChannelEvent, void, undefined>;
  /** Where the progress of a task can be watched, by any client. */
  progressUrl(taskId: string): string;
  /** Users in the order of their ids. */
  users(query: UserQuery): Promise<UserPage>;
  /** Stored once this resolves; a user who is away finds it on connecting. */
  notifyUser(userId: string, notification: NewNotification): Promise<void>;
  notifyGroup(group: string, notification: NewNotification): Promise<Reach>;
  /** Sets the value of a topic, which who comes later is shown first. */
  publish(topic: string, data: unknown): Promise<void>;
  /** Who one is. */
  session(): Promise<Session>;
  /** Turns a token or an API key into a cookie of this browser. */
  signIn(token: string): Promise<Session>;
  /** Ends the session of the cookie. */
  signOut(): Promise<void>;
}

export function createClient(options: ClientOptions = {}): Client {
  const { fetch: send = globalThis.fetch.bind(globalThis), baseUrl = "" } = options;
  const urlOf = (kind: string, id: string) => `${baseUrl}/api/${kind}/${encodeURIComponent(id)}`;
  const taskUrl = (taskId: string) => urlOf("tasks", taskId);
  const sessionUrl = `${baseUrl}/api/session`;
  const progressUrl = (taskId: string) => `${taskUrl(taskId)}/progress`;

  function listUrl({ limit = 50, page, ...filters }: Omit<PageQuery, "signal">): string {
    const query = new URLSearchParams({ limit: String(limit), ...(page && { page }) });
    for (const [name, values] of Object.entries(filters))
      if (values.length > 0) query.set(name, values.join());
    return `${baseUrl}/api/tasks?${query}`;
  }

  async function call(url: string, init: RequestInit = {}): Promise<Response> {
    const response = await send(url, { cache: "no-store", ...init });
    if (!response.ok) throw await problemOf(response);
    return response;
  }

  async function callTask(url: string, init?: RequestInit): Promise<Task> {
    const response = await call(url, init);
    return parseTask(await response.json());
  }

  return {
    async page({ signal, ...query } = {}) {
      const response = await call(listUrl(query), signal ? { signal } : {});
      return parseTaskPage(await response.json());
    },
    list: (filters, query) => watchList(listUrl(filters), { fetch: send, ...query }),
    get: (taskId) => callTask(taskUrl(taskId)),
    create: (task) => callTask(`${baseUrl}/api/tasks`, json("POST", task)),
    put: (taskId, task) => callTask(taskUrl(taskId), json("PUT", task)),
    cancel: (taskId) => callTask(`${taskUrl(taskId)}/cancel`, { method: "POST" }),
    async remove(taskId) {
      await call(taskUrl(taskId), { method: "DELETE", keepalive: true });
    },
    async sendFile(taskId, file, signal) {
      const form = new FormData();
      form.append("file", file);
      const query = new URLSearchParams({ taskId });
      await call(`${baseUrl}/api/tasks/upload?${query}`, { method: "POST", body: form, signal });
    },
    watch: (taskId, query) => watchStream(progressUrl(taskId), { fetch: send, ...query }),
    watchMany(channels, query) {
      const names = new URLSearchParams(channels.map((channel) => ["channel", channel]));
      return watchChannels(`${baseUrl}/api/stream?${names}`, { fetch: send, ...query });
    },
    progressUrl,
    async users({ status, limit = 50 }) {
      const query = new URLSearchParams({ limit: String(limit), ...(status && { status }) });
      const response = await call(`${baseUrl}/api/users?${query}`);
      return parseUserPage(await response.json());
    },
    async notifyUser(userId, notification) {
      await call(`${urlOf("users", userId)}/notifications`, json("POST", notification));
    },
    async notifyGroup(group, notification) {
      const url = `${urlOf("groups", group)}/notifications`;
      const response = await call(url, json("POST", notification));
      return parseReach(await response.json());
    },
    async publish(topic, data) {
      await call(urlOf("topics", topic), json("PUT", { data }));
    },
    async session() {
      const response = await call(sessionUrl);
      return parseSession(await response.json());
    },
    async signIn(token) {
      const headers = { authorization: `Bearer ${token}` };
      const response = await call(sessionUrl, { method: "POST", headers });
      return parseSession(await response.json());
    },
    async signOut() {
      await call(sessionUrl, { method: "DELETE" });
    },
  };
}

function json(method: string, body: unknown): RequestInit {
  return {
    method,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
}
