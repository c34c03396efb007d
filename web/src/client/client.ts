/**
 * The client library: every route of the task API that a browser needs, as plain functions.
 *
 * A closure over `fetch` and a base URL, without state of its own. Knows nothing of the page.
 */

import { problemOf } from "./problem.ts";
import { type StreamEvent, watchStream } from "./stream.ts";
import { parseTask, parseTaskPage, type Task } from "./task.ts";

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

export interface ListQuery {
  limit?: number;
  page?: string;
  signal?: AbortSignal;
}

export interface WatchQuery {
  signal: AbortSignal;
  lastEventId?: string;
}

export interface Client {
  list(query?: ListQuery): Promise<{ tasks: Task[]; nextPage?: string }>;
  get(taskId: string): Promise<Task>;
  /** Creates a task under an id of the server's choice. */
  create(task: NewTask): Promise<Task>;
  /** Creates a task under an id of the caller's choice, so that it can be watched at once. */
  put(taskId: string, task: NewTask): Promise<Task>;
  cancel(taskId: string): Promise<Task>;
  /** Forgets a finished task and its file. */
  remove(taskId: string): Promise<void>;
  /** Sends a file into a task of the kind `upload`; resolves when the server has taken it. */
  sendFile(taskId: string, file: File, signal: AbortSignal): Promise<void>;
  watch(taskId: string, query: WatchQuery): AsyncGenerator<StreamEvent, void, undefined>;
  /** Where the progress of a task can be watched, by any client. */
  progressUrl(taskId: string): string;
}

export function createClient(options: ClientOptions = {}): Client {
  const { fetch: send = globalThis.fetch.bind(globalThis), baseUrl = "" } = options;
  const taskUrl = (taskId: string) => `${baseUrl}/api/tasks/${encodeURIComponent(taskId)}`;
  const progressUrl = (taskId: string) => `${taskUrl(taskId)}/progress`;

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
    async list({ limit = 50, page, signal } = {}) {
      const query = new URLSearchParams({ limit: String(limit), ...(page && { page }) });
      const response = await call(`${baseUrl}/api/tasks?${query}`, signal ? { signal } : {});
      return parseTaskPage(await response.json());
    },
    get: (taskId) => callTask(taskUrl(taskId)),
    create: (task) => callTask(`${baseUrl}/api/tasks`, json("POST", task)),
    put: (taskId, task) => callTask(taskUrl(taskId), json("PUT", task)),
    cancel: (taskId) => callTask(`${taskUrl(taskId)}/cancel`, { method: "POST" }),
    async remove(taskId) {
      await call(taskUrl(taskId), { method: "DELETE" });
    },
    async sendFile(taskId, file, signal) {
      const form = new FormData();
      form.append("file", file);
      const query = new URLSearchParams({ taskId });
      await call(`${baseUrl}/api/tasks/upload?${query}`, { method: "POST", body: form, signal });
    },
    watch: (taskId, query) => watchStream(progressUrl(taskId), { fetch: send, ...query }),
    progressUrl,
  };
}

function json(method: string, body: unknown): RequestInit {
  return {
    method,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
}
