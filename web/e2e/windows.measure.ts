/** What ten windows of the page cost, beside one: run by `scripts/bench windows`. */

import { afterAll, beforeAll, it } from "vitest";
import { createApi } from "./api.ts";
import { launch, openWindow, openWindows, waitForBar } from "./browser.ts";
import { type Server, startServer } from "./server.ts";

/** Active tasks, and how often all of them are reported on. */
const TASKS = 20;
const REPORT_EVERY_MS = 100;
/** Changes that are followed until every window shows them. */
const FOLLOWED = 10;

let server: Server;

beforeAll(async () => {
  server = await startServer();
});

afterAll(async () => {
  await server?.stop();
});

it("measures windows", async () => {
  const api = createApi(server.origin);
  const tasks = await api.createMany(TASKS, "Busy", 1);
  const followed = await api.create({ kind: "import", title: "Followed" });
  await api.report(followed.taskId, { progress: 1 });
  say(`windows: ${TASKS} active tasks, each with a report every ${REPORT_EVERY_MS} ms`);
  say(row("windows", "streams", "further window, ms", "shown in all p50, ms", "max, ms"));
  let reported = 1;
  for (const count of [1, 10]) {
    const browser = await launch();
    const context = await browser.newContext();
    let streams = 0;
    context.on("request", (request) => {
      if (request.headers()["accept"] === "text/event-stream") streams += 1;
    });
    const windows = await openWindows(context, server.origin, count);
    for (const page of windows) await waitForBar(page, "Followed", reported);
    let reports = 0;
    const timer = setInterval(() => {
      reports += 1;
      const progress = 1 + (reports % 90);
      for (const { taskId } of tasks) void api.report(taskId, { progress });
    }, REPORT_EVERY_MS);
    const spans: number[] = [];
    for (let at = 0; at < FOLLOWED; at += 1) {
      reported += 1;
      spans.push(
        await spanMs(async () => {
          await api.report(followed.taskId, { progress: reported });
          await Promise.all(windows.map((page) => waitForBar(page, "Followed", reported)));
        }),
      );
    }
    const further = await spanMs(async () => {
      await waitForBar(await openWindow(context, server.origin), "Followed", reported);
    });
    clearInterval(timer);
    spans.sort((one, other) => one - other);
    say(row(count, streams, further, spans[FOLLOWED / 2] ?? 0, spans.at(-1) ?? 0));
    await browser.close();
  }
});

async function spanMs(work: () => Promise<void>): Promise<number> {
  const startedAtMs = performance.now();
  await work();
  return Math.round(performance.now() - startedAtMs);
}

function row(...cells: readonly (string | number)[]): string {
  return cells.map((cell) => String(cell).padStart(22)).join("");
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
