/** A real file through the real page into the real binary, and back. */

import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import {
  barValue,
  card,
  launch,
  limitUpload,
  openPage,
  recordBars,
  recordedValues,
  waitForBar,
  waitForStatus,
} from "./browser.ts";
import { type Server, startServer } from "./server.ts";

const SIZE_BYTES = 20_000_000;
/** Big enough that its digests take a while after the last byte has arrived. */
const LARGE_SIZE_BYTES = 250_000_000;

let server: Server;
let browser: Browser;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "progressd-e2e-files-"));
  [server, browser] = await Promise.all([startServer(), launch()]);
});

afterAll(async () => {
  await browser?.close();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function fileOf(name: string, content: Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

it("shows one bar from the first byte to the result", async () => {
  const content = randomBytes(SIZE_BYTES);
  const path = await fileOf("holiday.bin", content);
  const { page, complaints, close } = await openPage(browser, server.origin);
  await limitUpload(page, 8_000_000);
  await recordBars(page);

  await page.getByLabel("Choose files").setInputFiles(path);
  await waitForStatus(page, "holiday.bin", "Processing");
  await waitForStatus(page, "holiday.bin", "Completed");

  const values = await recordedValues(page);
  expect(new Set(values).size).toBeGreaterThanOrEqual(3);
  expect(values).toEqual(values.toSorted((left, right) => left - right));
  expect(await barValue(page, "holiday.bin")).toBe(100);

  const href = await card(page, "holiday.bin")
    .getByRole("link", { name: "Download holiday.bin" })
    .getAttribute("href");
  const stored = await fetch(new URL(href ?? "", server.origin));
  const digest = createHash("sha256").update(Buffer.from(await stored.arrayBuffer()));
  expect(digest.digest("hex")).toBe(createHash("sha256").update(content).digest("hex"));
  expect(complaints).toEqual([]);
  await close();
});

it("goes on after a reload in the middle of the processing", async () => {
  const path = await fileOf("large.bin", Buffer.alloc(LARGE_SIZE_BYTES, "progress"));
  const { page, complaints, close } = await openPage(browser, server.origin);
  const received = page.waitForResponse((response) => response.url().includes("/upload?"));
  await page.getByLabel("Choose files").setInputFiles(path);
  await received;
  await page.reload();
  await waitForStatus(page, "large.bin", "Completed");
  expect(await barValue(page, "large.bin")).toBe(100);
  expect(complaints).toEqual([]);
  await close();
});

it("asks before it is left with a file half sent, and the task says what became of it", async () => {
  const path = await fileOf("cut.bin", randomBytes(SIZE_BYTES));
  const { page, close } = await openPage(browser, server.origin);
  await limitUpload(page, 1_000_000);
  const asked: string[] = [];
  page.on("dialog", (dialog) => {
    asked.push(dialog.type());
    void dialog.accept();
  });
  // A page asks only once somebody has used it.
  await page.getByRole("heading", { name: "Tasks", exact: true }).click();
  await page.getByLabel("Choose files").setInputFiles(path);
  await waitForBar(page, "cut.bin", 1);
  await page.reload();
  expect(asked).toEqual(["beforeunload"]);
  await waitForStatus(page, "cut.bin", "Error");
  await card(page, "cut.bin").locator(".card-error").waitFor();
  await close();
});

it("sends several files one after the other, and stops one that is cancelled", async () => {
  const first = await fileOf("first.bin", randomBytes(SIZE_BYTES));
  const second = await fileOf("second.bin", randomBytes(1_000));
  const { page, close } = await openPage(browser, server.origin);
  await limitUpload(page, 1_000_000);
  await page.getByLabel("Choose files").setInputFiles([first, second]);
  await waitForBar(page, "first.bin", 1);
  await page.getByText("1 more file waits").waitFor();
  await page.getByRole("button", { name: "Cancel first.bin" }).click();
  await waitForStatus(page, "first.bin", "Cancelled");
  // Under the pointer nothing moves; away from it, the next file is shown.
  await page.mouse.move(0, 0);
  await waitForStatus(page, "second.bin", "Completed");
  await expect(page.locator(".notice").count()).resolves.toBe(0);
  await close();
});

it("shows a file that is dropped on the list at once", async () => {
  const { page, close } = await openPage(browser, server.origin);
  await page.locator("task-list li").first().hover();
  await page.evaluate(() => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(["dropped"], "dropped.txt"));
    document
      .querySelector("task-list")
      ?.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
  });
  await waitForStatus(page, "dropped.txt", "Completed");
  await close();
});
