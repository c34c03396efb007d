/**
 * Debian's Chromium, and what every browser test asks of a page.
 */

import { AxeBuilder } from "@axe-core/playwright";
import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  type Page,
} from "playwright-core";
import { expect } from "vitest";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export function launch(): Promise<Browser> {
  const executablePath = process.env["CHROMIUM_BIN"] ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: FLAGS });
}

export interface OpenPage {
  page: Page;
  /** Everything that the page complained of. */
  complaints: string[];
  close(): Promise<void>;
}

export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<OpenPage> {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(url);
  return { page, complaints, close: () => context.close() };
}

/** Several windows of one browser, which all can be seen. */
export async function openWindows(context: BrowserContext, url: string, count: number) {
  return Promise.all(Array.from({ length: count }, () => openWindow(context, url)));
}

export async function openWindow(context: BrowserContext, url: string): Promise<Page> {
  const page = await context.newPage();
  await page.goto(url);
  return page;
}

/** Lets bytes leave the browser no faster than this, so that an upload has a middle. */
export async function limitUpload(page: Page, bytesPerSecond: number): Promise<void> {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.emulateNetworkConditions", {
    offline: false,
    latency: 0,
    downloadThroughput: -1,
    uploadThroughput: bytesPerSecond,
  });
}

/** The card of the newest task with this title. */
export function card(page: Page, title: string) {
  const heading = page.getByRole("heading", { name: title, exact: true });
  return page.locator("task-card").filter({ has: heading }).first();
}

export async function waitForStatus(page: Page, title: string, status: string): Promise<void> {
  await card(page, title).locator(".card-status", { hasText: status }).waitFor();
}

/** Where the bar of a task stands, as a screen reader would be told. */
export async function barValue(page: Page, title: string): Promise<number> {
  const bar = card(page, title).getByRole("progressbar");
  return Number((await bar.getAttribute("aria-valuenow")) ?? Number.NaN);
}

/** Waits until a bar stands at `least` or beyond, and says where. */
export async function waitForBar(page: Page, title: string, least: number): Promise<number> {
  const bar = await card(page, title).getByRole("progressbar").elementHandle();
  await page.waitForFunction(
    ([element, value]) => Number(element?.getAttribute("aria-valuenow") ?? Number.NaN) >= value,
    [bar, least] as const,
  );
  return barValue(page, title);
}

/** From now on keeps every value that any bar of the page shows; read with `recordedValues`. */
export async function recordBars(page: Page): Promise<void> {
  await page.evaluate(() => {
    const values: string[] = [];
    Object.assign(window, { recordedValues: values });
    new MutationObserver((changes) => {
      for (const { target } of changes) {
        const value = target instanceof Element && target.getAttribute("aria-valuenow");
        if (value && value !== values.at(-1)) values.push(value);
      }
    }).observe(document.body, { subtree: true, attributeFilter: ["aria-valuenow"] });
  });
}

export async function recordedValues(page: Page): Promise<number[]> {
  const values = await page.evaluate(
    () => (window as unknown as { recordedValues: string[] }).recordedValues,
  );
  return values.map(Number);
}

/** How far the page is wider than its window. */
export function overflow(page: Page): Promise<number> {
  return page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
}

export async function expectAccessible(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html)}`)).toEqual([]);
}
