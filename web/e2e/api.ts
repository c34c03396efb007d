/**
 * What a worker or a script does to the server, for tests that need somebody outside the page.
 */

export interface Api {
  create(task: Record<string, unknown>): Promise<{ taskId: string }>;
  report(taskId: string, report: Record<string, unknown>): Promise<void>;
}

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

  return {
    async create(task) {
      const response = await send("POST", "/api/tasks", task);
      return (await response.json()) as { taskId: string };
    },
    async report(taskId, report) {
      await send("PATCH", `/api/tasks/${taskId}`, report);
    },
  };
}
