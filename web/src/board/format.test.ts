import { describe, expect, it } from "vitest";
import { task } from "../testing/fixtures.ts";
import {
  formatAmount,
  formatBytes,
  formatEta,
  formatPercent,
  formatRate,
  formatSeconds,
  formatStatus,
  formatStep,
  formatTime,
  taskName,
  visible,
} from "./format.ts";

it.each([
  [0, "0 B"],
  [999, "999 B"],
  [1_000, "1.0 kB"],
  [99_960, "100 kB"],
  [999_499, "999 kB"],
  [999_500, "1.0 MB"],
  [20_000_000, "20.0 MB"],
  [5e18, "5000 PB"],
])("formatBytes(%d) is %s", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

it.each([
  [0.4, "0 s"],
  [59, "59 s"],
  [60, "1 min"],
  [125, "2 min 5 s"],
  [1_500, "25 min"],
  [3_600, "1 h"],
  [4_800, "1 h 20 min"],
])("formatSeconds(%d) is %s", (seconds, text) => {
  expect(formatSeconds(seconds)).toBe(text);
});

it("never rounds up to 100 %", () => {
  expect(formatPercent(99.9)).toBe("99 %");
  expect(formatPercent(100)).toBe("100 %");
});

it("counts bytes and other units in their own way", () => {
  const bytes = task({ taskId: "t", current: 5_200_000, total: 2e7, unit: "bytes", rate: 1.84e6 });
  expect(formatAmount(bytes)).toBe("5.2 MB of 20.0 MB");
  expect(formatRate(bytes)).toBe("1.8 MB/s");
  const rows = task({ taskId: "t", current: 1200, total: 100_000, unit: "rows", rate: 2.34 });
  expect(formatAmount(rows)).toBe("1,200 of 100,000 rows");
  expect(formatRate(rows)).toBe("2.3 rows/s");
  expect(formatAmount(task({ taskId: "t", current: 7 }))).toBe("7");
  expect(formatAmount(task({ taskId: "t" }))).toBeUndefined();
  expect(formatRate(task({ taskId: "t", rate: 0, unit: "rows" }))).toBeUndefined();
  expect(formatRate(task({ taskId: "t", rate: 1, unit: "steps" }))).toBeUndefined();
});

describe("formatEta", () => {
  it("gives one number where the estimate is good", () => {
    expect(formatEta({ at: "", seconds: 100, low: 95, high: 105 })).toBe("about 1 min 40 s left");
    expect(formatEta({ at: "", seconds: 3 })).toBe("about 3 s left");
  });

  it("gives a range where it is not", () => {
    expect(formatEta({ at: "", seconds: 33, low: 28, high: 41 })).toBe("28 s to 41 s left");
  });
});

it("names the current step unless its name only counts", () => {
  const steps = [
    { name: "receive", weight: 1 },
    { name: "step 2", weight: 1 },
  ];
  expect(formatStep(task({ taskId: "t", step: 0, steps }))).toBe("Step 1 of 2: receive");
  expect(formatStep(task({ taskId: "t", step: 1, steps }))).toBe("Step 2 of 2");
  expect(formatStep(task({ taskId: "t", step: 0, steps: steps.slice(0, 1) }))).toBeUndefined();
});

it("calls a silent task stalled only while it is in processing", () => {
  expect(formatStatus(task({ taskId: "t", stalled: true }))).toBe("Stalled");
  expect(formatStatus(task({ taskId: "t", stalled: true, status: "error" }))).toBe("Error");
});

it("has a name for a task without a title", () => {
  expect(taskName(task({ taskId: "t", title: "" }))).toBe("simulate");
  expect(taskName(task({ taskId: "t", title: " " }))).toBe("simulate");
  const result = { fileName: "a.mp4", size: 3, file: "/api/tasks/t/file" };
  expect(taskName(task({ taskId: "t", kind: "upload", result }))).toBe("a.mp4");
});

it("does not say 99 of 100 of what is done", () => {
  const rows = { taskId: "t", current: 99, total: 100, unit: "rows" };
  expect(formatAmount(task({ ...rows, status: "completed" }))).toBeUndefined();
  expect(formatAmount(task({ ...rows, status: "error" }))).toBe("99 of 100 rows");
  expect(formatAmount(task({ ...rows, current: 100, status: "completed" }))).toBe(
    "100 of 100 rows",
  );
});

it("shows what would deceive a reader", () => {
  expect(visible("invoice_\u202Efdp.exe")).toBe("invoice_\\u202Efdp.exe");
  expect(visible("a\u0000b\u0085c\u200Bd")).toBe("a\\u0000b\\u0085c\\u200Bd");
  const innocent = "größe \u{1F469}\u200D\u{1F680} \u0645\u06CC\u200C\u0631\u0648\u062F";
  expect(visible(innocent)).toBe(innocent);
  expect(taskName(task({ taskId: "t", title: "a\u2066b" }))).toBe("a\\u2066b");
});

it("has no words for a time that is none", () => {
  expect(formatTime(undefined)).toBeUndefined();
  expect(formatTime("soon")).toBeUndefined();
  expect(formatTime("2026-01-01T00:00:00Z")).toMatch(/20(25|26)/);
});
