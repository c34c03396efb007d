/**
 * What a worker or a script does to the server, for tests that need somebody outside the page.
 */

export interface Api {
  send(method: string, path: string, body: unknown): Promise<Response>;
  create(task: Record<string, unknown>): Promise<{ taskId: string }>;
  report(taskId: string, report: Record<string, unknown>): Promise<void>;
  /** The status with which a read of the task is answered. */
  statusOf(taskId: string): Promise<number>;
  /** Creates several, and brings each to this progress or, without one, to its end. */
  createMany(count: number, title: string, progress?: number): Promise<Named[]>;
}

export interface Named {
  taskId: string;
  title: string;
}

/** Requests that are under way at once. */
const AT_ONCE = 20;

export function createApi(origin: string): Api {
  async function send(method: string, path: string, body: unknown): Promise<Response> {
    const response = await fetch(`${origin}${path}`, {
      method,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status}`);
    return response;
  }

  const api: Api = {
    send,
    async create(task) {
      const response = await send("POST", "/api/tasks", task);
      return (await response.json()) as { taskId: string };
    },
    async report(taskId, report) {
      await send("PATCH", `/api/tasks/${taskId}`, report);
    },
    async statusOf(taskId) {
      const response = await fetch(`${origin}/api/tasks/${taskId}`);
      return response.status;
    },
    async createMany(count, title, progress) {
      const tasks: Named[] = [];
      const report = progress === undefined ? { status: "completed" } : { progress };
      for (let from = 0; from < count; from += AT_ONCE) {
        const places = Array.from(
          { length: Math.min(AT_ONCE, count - from) },
          (_, at) => from + at,
        );
        const some = places.map(async (place) => {
          const named = { title: `${title} ${place}` };
          const { taskId } = await api.create({ kind: "import", ...named });
          await api.report(taskId, report);
          return { taskId, ...named };
        });
        tasks.push(...(await Promise.all(some)));
      }
      return tasks;
    },
  };
  return api;
}
