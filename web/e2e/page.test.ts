/** The page as people use it: after a reload, with a keyboard, on a phone, while the server is away. */

import { readFile } from "node:fs/promises";
import type { Browser, Page } from "playwright-core";
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

it("says so when there is nothing yet", async () => {
  const fresh = await startServer();
  const { page, complaints, close } = await openPage(browser, fresh.origin);
  await page.getByText("Nothing here yet.").waitFor();
  await expectAccessible(page);
  expect(complaints).toEqual([]);
  await close();
  await fresh.stop();
});

it("offers the Postman collection", async () => {
  const { page, close } = await openPage(browser, server.origin);
  const link = page.getByRole("link", { name: "Postman collection" });
  const [download] = await Promise.all([page.waitForEvent("download"), link.click()]);
  expect(download.suggestedFilename()).toBe("progressd.postman_collection.json");
  const collection = JSON.parse(await readFile(await download.path(), "utf8"));
  expect(collection.info.name).toBe("progressd");
  await close();
});

it("goes on with a ten-step task after a reload", async () => {
  const { page, complaints, close } = await openPage(browser, server.origin);
  await page.getByRole("button", { name: "Run the ten-step task" }).click();
  const before = await waitForBar(page, "Ten steps", 20);
  await page.reload();
  const after = await waitForBar(page, "Ten steps", before);
  expect(after).toBeLessThan(100);
  await waitForStatus(page, "Ten steps", "Completed");
  expect(complaints).toEqual([]);
  await close();
});

it("shows what a worker outside reports, before and after a reload", async () => {
  const { page, complaints, close } = await openPage(browser, server.origin);
  const { taskId } = await api.create({ kind: "import", title: "Reported" });
  await api.report(taskId, { progress: 40, message: "half way" });
  await waitForBar(page, "Reported", 40);
  await card(page, "Reported").getByText("half way").waitFor();
  await page.reload();
  expect(await waitForBar(page, "Reported", 40)).toBe(40);
  await api.report(taskId, { progress: 70 });
  await waitForBar(page, "Reported", 70);
  await api.report(taskId, { status: "completed" });
  await waitForStatus(page, "Reported", "Completed");
  expect(complaints).toEqual([]);
  await close();
});

it("works with more active tasks than a browser has connections", async () => {
  const titles = Array.from({ length: 9 }, (_, index) => `Many ${index}`);
  const tasks = await Promise.all(
    titles.map(async (title) => {
      const { taskId } = await api.create({ kind: "import", title });
      await api.report(taskId, { progress: 10 });
      return { taskId, title };
    }),
  );
  const { page, close } = await openPage(browser, server.origin);
  for (const { taskId, title } of tasks) {
    await waitForBar(page, title, 10);
    await api.report(taskId, { progress: 50 });
  }
  for (const { title } of tasks) await waitForBar(page, title, 50);
  await page.getByRole("button", { name: "Cancel Many 0" }).click();
  await waitForStatus(page, "Many 0", "Cancel");
  for (const { taskId } of tasks.slice(1)) await api.report(taskId, { status: "completed" });
  await close();
});

it("can be used with a keyboard alone", async () => {
  const { page, complaints, close } = await openPage(browser, server.origin);
  // Waited for early: the browser has to be told to hand the dialog over before it opens.
  const chooser = page.waitForEvent("filechooser");
  await tabTo(page, page.getByLabel("Choose files"));
  await page.keyboard.press("Enter");
  const small = { name: "keyboard.txt", mimeType: "text/plain", buffer: Buffer.from("hello\n") };
  await (await chooser).setFiles([small]);
  await waitForStatus(page, "keyboard.txt", "Completed");

  await tabTo(page, page.getByRole("button", { name: "Run the ten-step task" }));
  await page.keyboard.press("Enter");
  await waitForStatus(page, "Ten steps", "Processing");
  const cancel = card(page, "Ten steps").getByRole("button", { name: "Cancel Ten steps" });
  await tabTo(page, cancel);
  await page.keyboard.press("Enter");
  await waitForStatus(page, "Ten steps", "Cancelled");

  // The button that was pressed is gone; the row keeps the focus, and Enter there does nothing.
  await expectFocus(page, row(page, "Ten steps"));
  await page.keyboard.press("Enter");
  await tabTo(page, card(page, "Ten steps").getByRole("button", { name: "Delete Ten steps" }));
  await page.keyboard.press("Enter");
  await expectFocus(page, row(page, "Deleted Ten steps"));
  await page.keyboard.press("Tab");
  await expectFocus(page, page.getByRole("button", { name: "Undo deleting Ten steps" }));
  await page.keyboard.press("Enter");
  await expectFocus(page, row(page, "Ten steps"));
  await waitForStatus(page, "Ten steps", "Cancelled");

  const taskId = await row(page, "Ten steps").getAttribute("data-task-id");
  await tabTo(page, card(page, "Ten steps").getByRole("button", { name: "Delete Ten steps" }));
  await page.keyboard.press("Enter");
  await page.locator(`li[data-task-id="${taskId}"]`).waitFor({ state: "detached" });
  await expectFocus(page, row(page, "keyboard.txt"));
  expect(complaints).toEqual([]);
  await close();
});

it("tells a screen reader of changes, but not of every tick", async () => {
  const { page, close } = await openPage(browser, server.origin);
  await page.locator('task-list[aria-busy="false"]').waitFor();
  const { taskId } = await api.create({ kind: "import", title: "Spoken" });
  await card(page, "Spoken").waitFor();
  for (const progress of [5, 10, 20, 30, 35, 40]) {
    await api.report(taskId, { progress });
    await waitForBar(page, "Spoken", progress);
  }
  await api.report(taskId, { status: "error", error: { detail: "The disk is full." } });
  await waitForStatus(page, "Spoken", "Error");
  await page.locator("live-announcer p", { hasText: "Spoken: Error" }).waitFor();
  const spoken = await page.locator("live-announcer p", { hasText: "Spoken" }).allTextContents();
  expect(spoken[0]).toBe("Spoken: Pending");
  expect(spoken).toContain("Spoken: Processing");
  expect(spoken).toContain("Spoken: 25 percent");
  expect(spoken.at(-1)).toContain("Spoken: Error");
  expect(spoken).toHaveLength(4);
  await close();
});

it.each(["light", "dark"] as const)("has no serious barrier in %s", async (colorScheme) => {
  const { taskId } = await api.create({ kind: "import", title: "Active", total: 10, unit: "rows" });
  await api.report(taskId, { current: 4, message: "row four" });
  const options = { colorScheme, viewport: { width: 1280, height: 900 } };
  const { page, complaints, close } = await openPage(browser, server.origin, options);
  await waitForBar(page, "Active", 40);
  await card(page, "Active").getByText("Details").click();
  await expectAccessible(page);
  expect(complaints).toEqual([]);
  await api.report(taskId, { status: "completed" });
  await close();
});

it("fits on a narrow screen", async () => {
  const options = { viewport: { width: 320, height: 640 } };
  const { page, close } = await openPage(browser, server.origin, options);
  const title = "A-task-with-a-name-that-has-no-place-to-break-and-goes-on-and-on-for-long.tar.gz";
  const { taskId } = await api.create({ kind: "import", title });
  await card(page, title).getByText("Details").click();
  expect(await overflow(page)).toBeLessThanOrEqual(0);
  await api.report(taskId, { status: "completed" });
  await close();
});

it("says that the server is away, and goes on when it is back", async () => {
  const { taskId } = await api.create({ kind: "import", title: "Survivor" });
  await api.report(taskId, { progress: 30 });
  const { page, close } = await openPage(browser, server.origin);
  await waitForBar(page, "Survivor", 30);
  await server.crash();
  await page.locator("#server-state", { hasText: "does not answer" }).waitFor();
  expect(await waitForBar(page, "Survivor", 30)).toBe(30);
  await server.restart();
  await page.locator("#server-state").waitFor({ state: "hidden" });
  await api.report(taskId, { progress: 60 });
  await waitForBar(page, "Survivor", 60);
  await close();
});

/** The row of the list that says this. */
function row(page: Page, text: string) {
  return page.locator("task-list li", { hasText: text }).first();
}

type Target = ReturnType<Page["getByRole"]>;

/** Presses Tab until the target has the focus: what cannot be reached so fails the test. */
async function tabTo(page: Page, target: Target): Promise<void> {
  for (let presses = 0; presses < 60; presses += 1) {
    if (await hasFocus(target)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error("the keyboard does not get there");
}

async function expectFocus(page: Page, target: Target): Promise<void> {
  const element = await target.elementHandle();
  await page.waitForFunction((wanted) => wanted === document.activeElement, element);
}

function hasFocus(target: Target): Promise<boolean> {
  return target.evaluate((element) => element === document.activeElement);
}
