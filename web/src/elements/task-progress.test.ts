import { expect, it, vi } from "vitest";

// The element's pure part is tested here, the element itself in a real browser.
vi.stubGlobal("HTMLElement", class {});
vi.stubGlobal("customElements", { define: () => undefined });
const { notchPlaces } = await import("./task-progress.ts");

it("puts a notch between steps by their weight", () => {
  expect(notchPlaces([6, 1, 2, 1])).toEqual([0.6, 0.7, 0.9]);
});

it("has no notches without steps or weights", () => {
  expect(notchPlaces([])).toEqual([]);
  expect(notchPlaces([1])).toEqual([]);
  expect(notchPlaces([0, 0])).toEqual([]);
});
