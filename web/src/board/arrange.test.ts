import { expect, it } from "vitest";
import { arrange } from "./arrange.ts";

it("shows what is wanted while nothing holds it", () => {
  expect(arrange(["a", "b"], ["c", "b"], false)).toEqual({ order: ["c", "b"], waiting: 0 });
  expect(arrange([], ["c"], true)).toEqual({ order: ["c"], waiting: 0 });
});

it("moves nothing while it is held", () => {
  // `d` is new, `a` has ended and belongs further down, `b` is no more.
  expect(arrange(["a", "b", "c"], ["d", "c", "a"], true)).toEqual({
    order: ["a", "b", "c"],
    waiting: 1,
  });
});

it("appends what comes after all others, which moves nothing", () => {
  expect(arrange(["a", "b"], ["n", "a", "b", "y", "z"], true)).toEqual({
    order: ["a", "b", "y", "z"],
    waiting: 1,
  });
});
