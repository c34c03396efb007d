import { expect, it } from "vitest";
import { electWhileVisible } from "./leader.ts";

it("leads only while the tab can be seen", () => {
  const page = Object.assign(new EventTarget(), { hidden: true });
  const led: AbortSignal[] = [];
  const show = (isShown: boolean) => {
    page.hidden = !isShown;
    page.dispatchEvent(new Event("visibilitychange"));
  };
  electWhileVisible(page as unknown as Document)(async (signal) => {
    led.push(signal);
  });
  expect(led).toHaveLength(0);
  show(true);
  show(true);
  expect(led.map((signal) => signal.aborted)).toEqual([false]);
  show(false);
  expect(led.map((signal) => signal.aborted)).toEqual([true]);
  show(true);
  expect(led.map((signal) => signal.aborted)).toEqual([true, false]);
});
