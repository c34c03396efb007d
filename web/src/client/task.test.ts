import { expect, it } from "vitest";
import { WireError } from "./json.ts";
import { isFinal, parseTask, parseTaskPage, STATUSES, uploadResult } from "./task.ts";

it("fills in what every task has", () => {
  expect(parseTask({ taskId: "t", status: "pending" })).toEqual({
    taskId: "t",
    status: "pending",
    kind: "task",
    stalled: false,
    attempt: 1,
    createdAt: "",
  });
});

it("leaves absent what is absent, and what has another type", () => {
  const parsed = parseTask({ taskId: "t", status: "pending", progress: "40", message: null });
  expect(Object.keys(parsed)).not.toContain("progress");
  expect(Object.keys(parsed)).not.toContain("message");
});

it.each([null, 3, [], {}, { taskId: "t" }, { taskId: "t", status: "running" }])(
  "refuses %j",
  (value) => {
    expect(() => parseTask(value)).toThrow(WireError);
  },
);

it("refuses a list that is none", () => {
  expect(() => parseTaskPage({ items: [] })).toThrow(WireError);
});

it("knows the final statuses", () => {
  expect(STATUSES.filter(isFinal)).toEqual(["completed", "error", "cancelled"]);
});

it("reads the result of an upload, and nothing else as one", () => {
  const result = { fileName: "a", size: 3, contentType: "text/plain", blake3: "b", sha256: "s" };
  const withFile = { ...result, file: "/api/tasks/t/file" };
  const parse = (value: unknown) =>
    uploadResult(parseTask({ taskId: "t", status: "completed", result: value }));
  expect(parse(withFile)).toEqual(withFile);
  expect(parse(result)).toBeUndefined();
  expect(parse("done")).toBeUndefined();
});
