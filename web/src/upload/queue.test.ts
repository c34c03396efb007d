import { expect, it, vi } from "vitest";
import { deferred, task } from "../testing/fixtures.ts";
import { createUploadQueue, type UploadState } from "./queue.ts";

function harness() {
  const sent: {
    taskId: string;
    name: string;
    signal: AbortSignal;
    end: ReturnType<typeof deferred<void>>;
  }[] = [];
  const put = vi.fn(async (taskId: string) => task({ taskId, status: "pending" }));
  const states: UploadState[] = [];
  const onTask = vi.fn();
  const onFailure = vi.fn();
  let made = 0;
  const queue = createUploadQueue({
    client: {
      put,
      sendFile(taskId, file, signal) {
        const end = deferred<void>();
        signal.addEventListener("abort", () => end.reject(signal.reason));
        sent.push({ taskId, name: file.name, signal, end });
        return end.promise;
      },
    },
    onTask,
    onFailure,
    onState: (state) => states.push(state),
    makeId: () => `id-${++made}`,
  });
  return { queue, put, sent, states, onTask, onFailure };
}

const file = (name: string) => new File(["abc"], name);

it("makes the task before it sends the file", async () => {
  const { queue, put, sent, onTask } = harness();
  queue.add([file("a.txt")]);
  expect(put).toHaveBeenCalledWith("id-1", {
    kind: "upload",
    title: "a.txt",
    total: 3,
    unit: "bytes",
  });
  expect(sent).toEqual([]);
  await vi.waitFor(() => expect(sent).toHaveLength(1));
  expect(onTask).toHaveBeenCalledWith(expect.objectContaining({ taskId: "id-1" }));
});

it("sends one file at a time", async () => {
  const { queue, sent, states } = harness();
  queue.add([file("a"), file("b")]);
  await vi.waitFor(() => expect(sent).toHaveLength(1));
  queue.add([file("c")]);
  expect(queue.state().waiting.map((waiting) => waiting.name)).toEqual(["b", "c"]);
  for (const index of [0, 1, 2]) {
    await vi.waitFor(() => expect(sent).toHaveLength(index + 1));
    sent[index]?.end.resolve();
  }
  await vi.waitFor(() => expect(states.at(-1)).toEqual({ waiting: [] }));
  expect(sent.map((each) => each.name)).toEqual(["a", "b", "c"]);
});

it("goes on with the next file after a failure", async () => {
  const { queue, sent, onFailure } = harness();
  const first = file("a");
  queue.add([first, file("b")]);
  await vi.waitFor(() => expect(sent).toHaveLength(1));
  const broken = new TypeError("line broke");
  sent[0]?.end.reject(broken);
  await vi.waitFor(() => expect(sent).toHaveLength(2));
  expect(onFailure).toHaveBeenCalledExactlyOnceWith(first, "id-1", broken);
});

it("does not send a file whose task could not be made", async () => {
  const { queue, put, sent, onFailure } = harness();
  put.mockRejectedValueOnce(new TypeError("away"));
  queue.add([file("a")]);
  await vi.waitFor(() => expect(onFailure).toHaveBeenCalled());
  expect(sent).toEqual([]);
});

it("stops the file of one task, and that is no failure", async () => {
  const { queue, sent, onFailure, states } = harness();
  queue.add([file("a")]);
  await vi.waitFor(() => expect(sent).toHaveLength(1));
  queue.stop("another");
  expect(sent[0]?.signal.aborted).toBe(false);
  queue.stop("id-1");
  await vi.waitFor(() => expect(states.at(-1)).toEqual({ waiting: [] }));
  expect(onFailure).not.toHaveBeenCalled();
});
