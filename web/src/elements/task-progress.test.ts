import { expect, it, vi } from "vitest";
import { task } from "../testing/fixtures.ts";

// The element's pure part is tested here, the element itself in a real browser.
vi.stubGlobal("HTMLElement", class {});
vi.stubGlobal("customElements", { define: () => undefined });
const { notchPlaces, stepWeights } = await import("./task-progress.ts");

it("puts a notch between steps by their weight", () => {
  expect(notchPlaces([6, 1, 2, 1])).toEqual([0.6, 0.7, 0.9]);
});

it("has no notches without steps or weights", () => {
  expect(notchPlaces([])).toEqual([]);
  expect(notchPlaces([1])).toEqual([]);
  expect(notchPlaces([0, 0])).toEqual([]);
});

it("knows the steps of a task that names them, or only counts them", () => {
  const steps = [{ name: "receive", weight: 3 }];
  expect(stepWeights(task({ taskId: "t", steps }))).toEqual([3]);
  expect(stepWeights(task({ taskId: "t", unit: "steps", total: 3 }))).toEqual([1, 1, 1]);
  expect(stepWeights(task({ taskId: "t", unit: "steps", total: 10_000 }))).toEqual([]);
  expect(stepWeights(task({ taskId: "t", unit: "bytes", total: 3 }))).toEqual([]);
});
