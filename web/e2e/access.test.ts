/** The page while access is on: signing in with a token, being oneself, and signing out. */

import { createHmac } from "node:crypto";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { expectAccessible, launch, openPage, waitForStatus } from "./browser.ts";
import { type Server, startServer } from "./server.ts";

const SECRET = "a secret of the tests, and of nothing else";

let server: Server;
let browser: Browser;

beforeAll(async () => {
  [server, browser] = await Promise.all([startServer("--jwt-secret", SECRET), launch()]);
});

afterAll(async () => {
  await browser?.close();
  await server?.stop();
});

function tokenOf(userId: string, seconds = 3600): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const signed = `${part({ alg: "HS256" })}.${part({ sub: userId, exp })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

async function signIn(page: Page, token: string): Promise<void> {
  await page.getByLabel("Token or API key").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
}

function as(userId: string) {
  const authorization = `Bearer ${tokenOf(userId)}`;
  return (path: string, init: RequestInit = {}) =>
    fetch(server.origin + path, {
      ...init,
      headers: { authorization, "content-type": "application/json" },
    });
}

async function submit(userId: string, title: string): Promise<void> {
  const body = JSON.stringify({ kind: "simulate", title, input: { steps: 1, intervalMs: 1 } });
  const answer = await as(userId)("/api/tasks", { method: "POST", body });
  expect(answer.status).toBe(202);
}

it("asks for a token, and shows the tasks of its person only", async () => {
  await submit("alice", "Import of alice");
  await submit("bob", "Import of bob");
  const { page, close } = await openPage(browser, server.origin);
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  expect(await page.getByRole("heading", { name: "Tasks" }).isVisible()).toBe(false);
  await expectAccessible(page);

  await signIn(page, `${tokenOf("alice")}x`);
  await page.getByRole("alert").filter({ hasText: "not signed with a key" }).waitFor();
  await signIn(page, tokenOf("alice"));
  await page.locator("#who").filter({ hasText: "alice" }).waitFor();
  await waitForStatus(page, "Import of alice", "Completed");
  expect(await page.getByText("Import of bob").count()).toBe(0);
  expect(await page.getByRole("heading", { name: "Sign in" }).isVisible()).toBe(false);
  await submit("bob", "Later of bob");
  await submit("alice", "Later of alice");
  await waitForStatus(page, "Later of alice", "Completed");
  expect(await page.getByText("Later of bob").count()).toBe(0);
  await expectAccessible(page);

  // The token is nowhere that a script could find it, and the session outlives a reload.
  const kept = await page.evaluate(() =>
    JSON.stringify([document.cookie, { ...localStorage }, { ...sessionStorage }, location.href]),
  );
  expect(kept).not.toContain("ey");
  await page.reload();
  await page.locator("#who").filter({ hasText: "alice" }).waitFor();

  await page.getByRole("button", { name: "Run the ten-step task" }).click();
  await waitForStatus(page, "Ten steps", "Processing");
  const [cookie] = await page.context().cookies();
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict", path: "/" });
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  expect(await page.context().cookies()).toEqual([]);
  const replayed = await fetch(`${server.origin}/api/session`, {
    headers: { cookie: `${cookie?.name}=${cookie?.value}` },
  });
  expect(replayed.status).toBe(401);
  await close();
});

it("asks again before the session ends, and goes on with a new token", async () => {
  const { page, close } = await openPage(browser, server.origin);
  await signIn(page, tokenOf("carol", 8));
  await page.locator("#who").filter({ hasText: "carol" }).waitFor();
  await page.getByText("Your session is about to end.").waitFor();
  await signIn(page, tokenOf("carol"));
  await page.getByRole("heading", { name: "Sign in" }).waitFor({ state: "hidden" });
  // Beyond the end of the first token.
  await page.waitForTimeout(8_500);
  await submit("carol", "After the first token");
  await waitForStatus(page, "After the first token", "Completed");
  expect(await page.getByRole("heading", { name: "Sign in" }).isVisible()).toBe(false);
  await close();
});

it("asks again when the session has ended elsewhere", async () => {
  const { page, close } = await openPage(browser, server.origin);
  await signIn(page, tokenOf("dave"));
  await page.locator("#who").filter({ hasText: "dave" }).waitFor();
  const [cookie] = await page.context().cookies();
  const headers = { cookie: `${cookie?.name}=${cookie?.value}` };
  await fetch(`${server.origin}/api/session`, { method: "DELETE", headers });
  await page.getByText("Your session has ended.").waitFor();
  await signIn(page, tokenOf("erin"));
  await page.locator("#who").filter({ hasText: "erin" }).waitFor();
  await close();
});
