/** People on the page: who is connected, what is sent to them, and what arrives. */

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Api, createApi } from "./api.ts";
import { expectAccessible, launch, openPage, openWindow, overflow } from "./browser.ts";
import { type Server, startServer } from "./server.ts";

let server: Server;
let browser: Browser;
let api: Api;

beforeAll(async () => {
  [server, browser] = await Promise.all([startServer("--presence-grace", "50ms"), launch()]);
  api = createApi(server.origin);
});

afterAll(async () => {
  await browser?.close();
  await server?.stop();
});

const user = (page: Page, name: string) =>
  page.locator("user-list").getByRole("button", { name: `Write to ${name}` });
const messages = (page: Page) => page.getByRole("log", { name: "Messages" });
const outcome = (page: Page, text: string) =>
  page.locator("message-form").getByRole("status").filter({ hasText: text });

async function address(page: Page, kind: string, name: string, text = ""): Promise<void> {
  await page.getByLabel("To", { exact: true }).selectOption(kind);
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Message", { exact: true }).fill(text);
}

async function send(page: Page, kind: string, name: string, text: string): Promise<void> {
  await address(page, kind, name, text);
  await page.getByRole("button", { name: "Send" }).click();
}

async function listen(page: Page, kind: string, name: string): Promise<void> {
  await address(page, kind, name);
  await page.getByRole("button", { name: "Listen", exact: true }).click();
  await page.getByText(`Listening to ${kind} ${name}`).waitFor();
}

it("shows who comes and goes", async () => {
  const { page, complaints, close } = await openPage(browser, server.origin);
  await page.getByText("Nobody is connected.").waitFor();
  const stream = await fetch(`${server.origin}/sse/connect/bob`);
  await user(page, "bob").waitFor();
  await page.getByText("1 connected").waitFor();
  await user(page, "bob").click();
  expect(await page.getByLabel("Name", { exact: true }).inputValue()).toBe("bob");
  await page.reload();
  await user(page, "bob").waitFor();
  await stream.body?.cancel();
  await page.getByText("Nobody is connected.").waitFor();
  expect(complaints).toEqual([]);
  await close();
});

it("sends to a user, a group and a topic, and shows what arrives in every tab", async () => {
  await api.send("PUT", "/api/users/alice/groups", ["ops"]);
  const { page, complaints, close } = await openPage(browser, server.origin);
  await send(page, "user", "alice", "before she came");
  await outcome(page, "It waits until alice connects.").waitFor();

  await listen(page, "user", "alice");
  await user(page, "alice").waitFor();
  await messages(page).getByText("before she came").waitFor();
  await listen(page, "topic", "news");
  const other = await openWindow(page.context(), server.origin);
  await other.getByText("Listening to topic news").waitFor();
  await page.bringToFront();

  await send(page, "user", "alice", "to her");
  await outcome(page, "Sent to alice.").waitFor();
  await send(page, "group", "ops", "to all of ops");
  await outcome(page, "Sent to ops: 1 in the group, 1 connected.").waitFor();
  await send(page, "topic", "news", "to everybody");
  await outcome(page, "Sent to the topic news.").waitFor();
  for (const tab of [page, other])
    for (const text of ["to her", "to all of ops", "to everybody"])
      await messages(tab).getByText(text).waitFor();

  // A stream that starts anew tells some of it again.
  await listen(page, "topic", "sports");
  await send(page, "topic", "sports", "one to nil");
  for (const tab of [page, other]) {
    await messages(tab).getByText("one to nil").waitFor();
    expect(await messages(tab).getByText("to everybody").count()).toBe(1);
    expect(await messages(tab).getByText("to her").count()).toBe(1);
  }
  await expectAccessible(page);

  await page.getByRole("button", { name: "Stop listening to user alice" }).click();
  await user(other, "alice").waitFor({ state: "detached" });
  await page.locator("message-form input[name=name]:focus").waitFor();
  expect(complaints).toEqual([]);
  await close();
});

it("listens to a group, alone and beside a member of it", async () => {
  await api.send("PUT", "/api/users/carol/groups", ["support"]);
  const { page, complaints, close } = await openPage(browser, server.origin);
  await listen(page, "group", "support");
  await send(page, "group", "support", "to whoever helps");
  await outcome(page, "Sent to support: 1 in the group, 0 connected.").waitFor();
  await messages(page).getByText("to whoever helps").waitFor();
  await listen(page, "user", "carol");
  await user(page, "carol").waitFor();
  await send(page, "group", "support", "to carol too");
  await messages(page).getByText("to carol too").waitFor();
  await send(page, "group", "support", "the last");
  await messages(page).getByText("the last").waitFor();
  for (const text of ["to whoever helps", "to carol too"])
    expect(await messages(page).getByText(text).count()).toBe(1);
  await page.getByRole("button", { name: "Stop listening to user carol" }).click();
  await page.getByRole("button", { name: "Stop listening to group support" }).click();
  await user(page, "carol").waitFor({ state: "detached" });
  expect(complaints).toEqual([]);
  await close();
});

it("says what is wrong with a message, and keeps it", async () => {
  const { page, close } = await openPage(browser, server.origin);
  await address(page, "user", "not a name", "text");
  await page.getByRole("button", { name: "Listen", exact: true }).click();
  expect(
    await page.getByLabel("Name", { exact: true }).evaluate((field) => field.matches(":invalid")),
  ).toBe(true);
  await server.crash();
  await send(page, "topic", "news", "nobody is there");
  await outcome(page, "The server does not answer.").waitFor();
  expect(await page.getByLabel("Message", { exact: true }).inputValue()).toBe("nobody is there");
  await server.restart();
  await page.getByRole("button", { name: "Send" }).click();
  await outcome(page, "Sent to the topic news.").waitFor();
  await close();
});

it("fits on a narrow screen", async () => {
  const options = { viewport: { width: 320, height: 640 } };
  const { page, close } = await openPage(browser, server.origin, options);
  await listen(page, "topic", "a-name-that-has-no-place-to-break-and-goes-on-and-on-and-on-and-on");
  expect(await overflow(page)).toBeLessThanOrEqual(0);
  await close();
});
