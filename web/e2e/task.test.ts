/** The page of one task: an address to share. */

import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Api, createApi } from "./api.ts";
import {
  card,
  expectAccessible,
  launch,
  openPage,
  overflow,
  waitForBar,
  waitForStatus,
} from "./browser.ts";
import { type Server, startServer } from "./server.ts";

let server: Server;
let browser: Browser;
let api: Api;

beforeAll(async () => {
  [server, browser] = await Promise.all([startServer(), launch()]);
  api = createApi(server.origin);
});

afterAll(async () => {
  await browser?.close();
  await server?.stop();
});

const NIGHTLY = {
  kind: "import",
  title: "Nightly",
  total: 200,
  unit: "rows",
  input: { table: "orders" },
  metadata: { host: "db-1" },
};

it("shows all that is known of a task, live", async () => {
  const steps = [
    { name: "read", weight: 1 },
    { name: "write", weight: 3 },
  ];
  const { taskId } = await api.create({ ...NIGHTLY, steps });
  await api.report(taskId, { step: 0 });
  const url = `${server.origin}/tasks/${taskId}`;
  const { page, complaints, close } = await openPage(browser, url);
  const view = page.locator("task-view");
  await view.getByRole("heading", { name: "Nightly" }).waitFor();
  for (const text of ['"table": "orders"', '"host": "db-1"', taskId, "Attempt", "Created"])
    await view.getByText(text).first().waitFor();
  expect(await view.locator(".steps li").count()).toBe(2);
  await view.getByText(`curl -N ${server.origin}/api/tasks/${taskId}/progress`).waitFor();

  await api.report(taskId, { step: 1, stepProgress: 40, message: "writing" });
  await waitForBar(page, "Nightly", 50);
  await view.getByText("writing").waitFor();
  expect(await view.locator(".steps [data-current]").textContent()).toMatch(/^write/);
  expect(await page.title()).toMatch(/^\d\d % Nightly/);
  await expectAccessible(page);

  await api.report(taskId, { status: "error", error: { detail: "The disk is full." } });
  await waitForStatus(page, "Nightly", "Error");
  await view.locator(".card-error", { hasText: "The disk is full." }).waitFor();
  await view.getByText("Took").waitFor();
  await view.getByText("JSON", { exact: true }).click();
  await view.locator("details pre", { hasText: `"taskId": "${taskId}"` }).waitFor();
  // What was told once only is not lost by what came later.
  await view.getByText('"table": "orders"').first().waitFor();
  expect(complaints).toEqual([]);
  await close();
});

it("is what the progress URL shows in a browser", async () => {
  const { taskId } = await api.create(NIGHTLY);
  const progressUrl = `${server.origin}/api/tasks/${taskId}/progress`;
  const { page, close } = await openPage(browser, progressUrl);
  expect(page.url()).toBe(`${server.origin}/tasks/${taskId}`);
  await card(page, "Nightly").waitFor();
  await close();
});

it("is one click from the list and back, without leaving the page", async () => {
  const { taskId } = await api.create({ kind: "import", title: "Linked" });
  const { page, complaints, close } = await openPage(browser, server.origin);
  const link = card(page, "Linked").getByRole("link", { name: "Linked" });
  await page.evaluate(() => Object.assign(window, { isSame: true }));
  await link.click();
  await page.waitForURL(`${server.origin}/tasks/${taskId}`);
  await page.locator("task-view").getByRole("heading", { name: "Linked" }).waitFor();
  await page.goBack();
  await page.locator("task-list").getByRole("heading", { name: "Linked" }).waitFor();
  expect(await page.evaluate(() => "isSame" in window)).toBe(true);
  expect(complaints).toEqual([]);
  await close();
});

it("cancels and deletes, and says when there is nothing", async () => {
  const { taskId } = await api.create({ kind: "import", title: "Ends here" });
  const { page, close } = await openPage(browser, `${server.origin}/tasks/${taskId}`);
  await page.getByRole("button", { name: "Cancel Ends here" }).click();
  await waitForStatus(page, "Ends here", "Cancelled");
  await page.getByRole("button", { name: "Delete Ends here" }).click();
  await page.getByRole("button", { name: "Undo deleting Ends here" }).waitFor();
  await page.getByText("This task is no more.").waitFor();
  expect(await api.statusOf(taskId)).toBe(410);
  await page.goto(`${server.origin}/tasks/0199c0de-0000-7000-8000-000000000001`);
  await page.locator("#task-missing", { hasText: /no such task|not exist/i }).waitFor();
  await close();
});

it("fits on a narrow screen", async () => {
  const { taskId } = await api.create({ ...NIGHTLY, title: "x".repeat(150) });
  const options = { viewport: { width: 320, height: 640 } };
  const url = `${server.origin}/tasks/${taskId}`;
  const { page, close } = await openPage(browser, url, options);
  await page.locator("task-view h2").waitFor();
  expect(await overflow(page)).toBeLessThanOrEqual(0);
  await close();
});
