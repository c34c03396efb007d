/** The examples: clients as they would be copied, in two windows where one hears the other. */

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { expectAccessible, launch, openPage, overflow } from "./browser.ts";
import { type Server, startServer } from "./server.ts";

let server: Server;
let browser: Browser;

beforeAll(async () => {
  [server, browser] = await Promise.all([startServer(), launch()]);
});

afterAll(async () => {
  await browser?.close();
  await server?.stop();
});

it("leads from the page to every example, and each shows its source", async () => {
  const options = { viewport: { width: 320, height: 640 } };
  const { page, close } = await openPage(browser, server.origin, options);
  await page.getByRole("link", { name: "Examples" }).click();
  await expectAccessible(page);
  const links = page.locator("main a");
  const paths = await links.evaluateAll((all) =>
    all.map((link) => (link as HTMLAnchorElement).href),
  );
  expect(paths).toHaveLength(6);
  for (const path of paths) {
    await page.goto(path);
    const name = path.split("/").at(-1)?.replace(".html", "") ?? "";
    await page.getByRole("heading", { name: `${name}.js` }).waitFor();
    await page.locator("h2 + pre", { hasText: "</main>" }).waitFor();
    await page.locator("h2 + pre", { hasText: "EventSource(" }).waitFor();
    expect(await overflow(page)).toBeLessThanOrEqual(0);
    await expectAccessible(page);
  }
  await close();
});

it("connects a user, and shows the texts of a task", async () => {
  const { page, complaints, close } = await openExample("user");
  await page.getByRole("button", { name: "Connect", exact: true }).click();
  await logged(page, "User 'alice' connected");
  await page.getByRole("button", { name: "Run the task" }).click();
  await logged(page, "User 'alice', attempt 10 / 10");
  await logged(page, "User 'alice' completed the task at");
  await page.getByRole("button", { name: "Disconnect" }).click();
  await logged(page, "User 'alice' disconnected");
  expect(complaints).toEqual([]);
  await close();
});

it("lets everybody hear a broadcast", async () => {
  const one = await openExample("events");
  const other = await openExample("events");
  for (const { page } of [one, other]) await logged(page, "connected");
  await one.page.getByRole("button", { name: "Send to all" }).click();
  await logged(one.page, "sent to 2 clients");
  for (const { page } of [one, other]) await logged(page, "Hello, everybody");
  expect([...one.complaints, ...other.complaints]).toEqual([]);
  await Promise.all([one.close(), other.close()]);
});

it("keeps notifications for a user who is away", async () => {
  const { page, complaints, close } = await openExample("notifications");
  await page.getByLabel("Title").fill("While away");
  await page.getByRole("button", { name: "Send to the user" }).click();
  await page.getByRole("button", { name: "Listen" }).click();
  await logged(page, '"Title":"While away"');
  await page.getByLabel("Title").fill("While there");
  await page.getByRole("button", { name: "Send to the user" }).click();
  await logged(page, '"Title":"While there"');
  expect(complaints).toEqual([]);
  await close();
});

it("draws a chart of metrics", async () => {
  const { page, complaints, close } = await openExample("metrics");
  await page.locator("pre", { hasText: /CPU \d.* memory \d.*, \d+ tasks/ }).waitFor();
  await page.locator("polyline[points*=',']").waitFor({ state: "attached" });
  expect(complaints).toEqual([]);
  await close();
});

it("shows the score to who comes later", async () => {
  const { page, complaints, close } = await openExample("scores");
  await page.getByRole("button", { name: "Report the score" }).click();
  await logged(page, "score 1 : 0");
  await page.reload();
  await logged(page, "initial 1 : 0");
  await page.getByLabel("Away").fill("1");
  await page.getByRole("button", { name: "Report the score" }).click();
  await page.getByRole("status").filter({ hasText: "1 : 1" }).waitFor();
  expect(complaints).toEqual([]);
  await close();
});

it("watches many channels on one stream", async () => {
  const { page, complaints, close } = await openExample("streams");
  await page.getByRole("button", { name: "Watch" }).click();
  await page.getByRole("button", { name: "Publish" }).click();
  await logged(page, '{"channel":"topic:news","data":{"text":"It rains."}}');
  await page.getByLabel("Topic").fill("sports");
  await page.getByRole("button", { name: "Publish" }).click();
  await logged(page, '"channel":"topic:sports"');
  expect(complaints).toEqual([]);
  await close();
});

function openExample(name: string) {
  return openPage(browser, `${server.origin}/examples/${name}.html`);
}

async function logged(page: Page, text: string): Promise<void> {
  await page.getByRole("log").filter({ hasText: text }).waitFor();
}
