import { expect, it } from "vitest";
import { taskIdOf, taskPath } from "./route.ts";

it("finds the task that an address names", () => {
  expect(taskIdOf(taskPath("0199-a"))).toBe("0199-a");
  expect(taskIdOf("/tasks/0199-a/")).toBe("0199-a");
  expect(taskIdOf(taskPath("a b"))).toBe("a b");
  for (const path of ["/", "/tasks", "/tasks/", "/tasks/a/b", "/api/tasks/a"])
    expect(taskIdOf(path)).toBeUndefined();
  expect(taskIdOf("/tasks/%ff")).toBe("%ff");
});
