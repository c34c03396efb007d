/** One live list for all windows of a browser: many tasks, many windows, a server that hangs. */

import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { type Api, createApi } from "./api.ts";
import { card, launch, openWindow, openWindows, waitForBar, waitForStatus } from "./browser.ts";
import { type Server, startServer } from "./server.ts";

let browser: Browser;
let server: Server;
let api: Api;
let context: BrowserContext;

beforeAll(async () => {
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
});

beforeEach(async () => {
  server = await startServer("--stalled-after", "1s");
  api = createApi(server.origin);
  context = await browser.newContext();
});

afterEach(async () => {
  await context?.close();
  await server?.stop();
});

/** From now on keeps the windows that open a stream of this route, each as often as it does. */
function recordStreams(path: string): Page[] {
  const holders: Page[] = [];
  context.on("request", (request) => {
    const isStream = request.headers()["accept"] === "text/event-stream";
    if (isStream && new URL(request.url()).pathname === path) holders.push(request.frame().page());
  });
  return holders;
}

const summary = (page: Page) => page.locator("#tasks-summary");

it("keeps ten windows live with a connection for tasks and one for people, and hands them on", async () => {
  const tasks = await api.createMany(10, "Shared", 1);
  const streams = recordStreams("/api/tasks");
  const peopleStreams = recordStreams("/api/stream");
  const windows = await openWindows(context, server.origin, 10);
  const see = async (least: number) => {
    for (const page of windows.filter((open) => !open.isClosed()))
      for (const { title } of tasks) await waitForBar(page, title, least);
  };
  await see(1);
  for (const { taskId } of tasks) await api.report(taskId, { progress: 40 });
  await see(40);
  expect(streams).toHaveLength(1);

  const startedAtMs = Date.now();
  const further = await openWindow(context, server.origin);
  await waitForBar(further, "Shared 0", 40);
  expect(Date.now() - startedAtMs).toBeLessThan(5_000);
  expect(streams).toHaveLength(1);
  expect(peopleStreams).toHaveLength(1);

  // When the window that holds the stream goes, another goes on from where it was.
  await streams[0]?.close();
  for (const { taskId } of tasks) await api.report(taskId, { progress: 70 });
  await see(70);
  expect(streams).toHaveLength(2);
});

it("is live without locks, as over plain HTTP from another host", async () => {
  await context.addInitScript(() => {
    Object.defineProperty(Navigator.prototype, "locks", { value: undefined });
  });
  const { taskId } = await api.create({ kind: "import", title: "Alone" });
  const windows = await openWindows(context, server.origin, 2);
  await api.report(taskId, { progress: 20 });
  for (const page of windows) await waitForBar(page, "Alone", 20);
});

it("shows a running task behind sixty newer ones that are finished", async () => {
  const { taskId } = await api.create({ kind: "import", title: "Long runner" });
  await api.report(taskId, { progress: 30 });
  await api.createMany(60, "Finished");
  const page = await openWindow(context, server.origin);
  await waitForBar(page, "Long runner", 30);
  await expectText(summary(page), "1 active, 60 finished");
  const first = page.locator("task-list li").first();
  expect(await first.getByRole("heading").textContent()).toBe("Long runner");
  expect(await page.locator("task-list li").count()).toBe(51);
  await page.getByRole("button", { name: "Show older tasks" }).click();
  await page.locator("task-list li").nth(60).waitFor();
  await page.getByRole("button", { name: "Show older tasks" }).waitFor({ state: "hidden" });
  await api.report(taskId, { progress: 50 });
  await waitForBar(page, "Long runner", 50);
});

it("keeps every one of seventy active tasks live", async () => {
  const tasks = await api.createMany(70, "Crowd", 1);
  const page = await openWindow(context, server.origin);
  await page.locator("task-list li").nth(69).waitFor();
  for (const { taskId } of tasks) await api.report(taskId, { progress: 20 });
  for (const { title } of tasks) await waitForBar(page, title, 20);
  for (const { taskId } of tasks.slice(0, 20)) await api.report(taskId, { status: "completed" });
  for (const { title } of tasks.slice(0, 20)) await waitForStatus(page, title, "Completed");
  await expectText(summary(page), "50 active, 20 finished");
});

it("says a thousand when there are a thousand, and shows the last of them", async () => {
  const tasks = await api.createMany(1_000, "Many", 1);
  const page = await openWindow(context, server.origin);
  await expectText(summary(page), "1,000 active, 0 finished");
  const oldest = tasks[0]?.title ?? "";
  await card(page, oldest).scrollIntoViewIfNeeded();
  await api.report(tasks[0]?.taskId ?? "", { progress: 33 });
  await waitForBar(page, oldest, 33);
});

it("never lets a click meet another button than the one that was there", async () => {
  const { taskId } = await api.create({ kind: "import", title: "Slip" });
  await api.create({ kind: "import", title: "Neighbour" });
  await api.report(taskId, { progress: 10 });
  const page = await openWindow(context, server.origin);
  const cancel = page.getByRole("button", { name: "Cancel Slip" });
  await cancel.hover();
  const place = await cancel.boundingBox();
  await api.report(taskId, { status: "completed" });
  await waitForStatus(page, "Slip", "Completed");
  if (place === null) throw new Error("the button is not shown");
  const middle = [place.x + place.width / 2, place.y + place.height / 2] as const;
  for (let clicks = 0; clicks < 2; clicks += 1) await page.mouse.click(...middle);
  await waitForStatus(page, "Slip", "Completed");
  await waitForStatus(page, "Neighbour", "Pending");
  expect(await page.locator("[data-deletion]").count()).toBe(0);
});

it("lets a deletion be undone, and deletes what is left when the page is left", async () => {
  const [kept, gone] = await api.createMany(2, "Deleted");
  if (kept === undefined || gone === undefined) throw new Error("two tasks were made");
  const page = await openWindow(context, server.origin);
  await page.getByRole("button", { name: `Delete ${kept.title}` }).click();
  await page.getByRole("button", { name: `Undo deleting ${kept.title}` }).click();
  await waitForStatus(page, kept.title, "Completed");
  await page.getByRole("button", { name: `Delete ${gone.title}` }).click();
  await page.getByRole("button", { name: `Undo deleting ${gone.title}` }).waitFor();
  expect(await api.statusOf(gone.taskId)).toBe(200);
  await page.goto("about:blank");
  await expect.poll(() => api.statusOf(gone.taskId)).toBe(410);
  expect(await api.statusOf(kept.taskId)).toBe(200);
});

it("takes what is deleted elsewhere off the list", async () => {
  const [task] = await api.createMany(1, "Elsewhere");
  const [here, there] = await openWindows(context, server.origin, 2);
  if (task === undefined || here === undefined || there === undefined) throw new Error("none");
  await card(here, task.title).waitFor();
  await there.getByRole("button", { name: `Delete ${task.title}` }).click();
  await card(here, task.title).waitFor({ state: "detached" });
  await expectText(here.locator("#tasks-empty"), "Nothing here yet.");
});

it("holds new rows back while the pointer is over the list", async () => {
  const { taskId } = await api.create({ kind: "import", title: "Under the pointer" });
  await api.report(taskId, { progress: 10 });
  const page = await openWindow(context, server.origin);
  const held = card(page, "Under the pointer");
  await held.hover();
  const before = await held.boundingBox();
  await api.createMany(3, "Fresh", 5);
  const button = page.getByRole("button", { name: "3 new tasks" });
  await button.waitFor();
  expect(await held.boundingBox()).toEqual(before);
  await api.report(taskId, { progress: 50 });
  await waitForBar(page, "Under the pointer", 50);
  await button.click();
  await card(page, "Fresh 2").waitFor();
  await held.hover();
  await api.createMany(1, "Later", 5);
  await page.getByRole("button", { name: "1 new task" }).waitFor();
  await page.mouse.move(0, 0);
  await card(page, "Later 0").waitFor();
});

it("notices a server that hangs, and says since when nothing was heard", async () => {
  const { taskId } = await api.create({ kind: "import", title: "Hung", total: 900, unit: "rows" });
  const page = await openWindow(context, server.origin);
  for (const current of [10, 20, 30]) {
    await api.report(taskId, { current });
    await card(page, "Hung").getByText(`${current} of 900 rows`).waitFor();
  }
  server.freeze();
  await page
    .locator("#server-state", { hasText: "The server does not answer. Trying again…" })
    .waitFor();
  await card(page, "Hung")
    .getByText(/last update 2\d s ago/)
    .waitFor();
  expect(await card(page, "Hung").getAttribute("data-stale")).not.toBeNull();
  server.thaw();
  await page.locator("#server-state").waitFor({ state: "hidden" });
  await card(page, "Hung").getByText("last update").waitFor({ state: "hidden" });
  await api.report(taskId, { current: 400 });
  await card(page, "Hung").getByText("400 of 900 rows").waitFor();
});

it("shows names as they are, and a stalled bar without motion", async () => {
  const title = "invoice_\u202Efdp.exe";
  const { taskId } = await api.create({ kind: "import", title });
  await api.report(taskId, { status: "processing", message: "صفوف 12" });
  const page = await openWindow(context, server.origin);
  const shown = card(page, "invoice_\\u202Efdp.exe");
  await shown.waitFor();
  for (const part of [".card-link", ".card-message"])
    expect(await shown.locator(part).getAttribute("dir")).toBe("auto");
  const moving = () =>
    shown.locator(".bar-fill").evaluate((bar) => getComputedStyle(bar).animationName);
  await waitForStatus(page, "invoice_\\u202Efdp.exe", "Stalled");
  expect(await moving()).toBe("none");
  await api.report(taskId, { message: "again" });
  await waitForStatus(page, "invoice_\\u202Efdp.exe", "Processing");
  expect(await moving()).toBe("sweep");
});

it("does not say 100 % beside 99 of 100", async () => {
  const { taskId } = await api.create({ kind: "import", title: "Rows", total: 100, unit: "rows" });
  await api.report(taskId, { current: 99 });
  const page = await openWindow(context, server.origin);
  await card(page, "Rows").getByText("99 of 100 rows").waitFor();
  await api.report(taskId, { status: "completed" });
  await waitForStatus(page, "Rows", "Completed");
  const text = (await card(page, "Rows").textContent()) ?? "";
  expect(text).toContain("100 %");
  expect(text).not.toContain("99 of 100");
});

async function expectText(target: ReturnType<Page["locator"]>, text: string): Promise<void> {
  await expect.poll(() => target.textContent(), { timeout: 10_000 }).toContain(text);
}
