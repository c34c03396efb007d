/**
 * Sends files one after the other: each becomes a task of its own before its first byte leaves.
 *
 * One at a time, because two uploads share one line anyway, and a third of the browser's six
 * connections would be gone. Owns the files that wait and the one request that is on its way.
 * Knows no DOM; what a file became is told by its task; a file that did not get through goes to
 * `onFailure`.
 */

import type { Client } from "../client/client.ts";
import { uuidV7 } from "../client/identifier.ts";
import type { Task } from "../client/task.ts";

export interface UploadQueue {
  add(files: readonly File[]): void;
  /** Stops sending the file of this task, if that is what is being sent. */
  stop(taskId: string): void;
  state(): UploadState;
}

export interface UploadState {
  /** The task whose file is on its way. */
  readonly sending?: string;
  /** The files that wait for their turn. */
  readonly waiting: readonly File[];
}

export interface UploadQueueOptions {
  client: Pick<Client, "put" | "sendFile">;
  onTask(task: Task): void;
  onFailure(file: File, taskId: string, error: unknown): void;
  onState(state: UploadState): void;
  makeId?: () => string;
}

/** Longest title that a file name becomes; the result keeps the whole name. */
const MAX_TITLE_LENGTH = 200;

export function createUploadQueue(options: UploadQueueOptions): UploadQueue {
  const { client, makeId = uuidV7 } = options;
  let waiting: readonly File[] = [];
  let sending: { taskId: string; stop: AbortController } | undefined;

  const state = (): UploadState => ({
    waiting,
    ...(sending !== undefined && { sending: sending.taskId }),
  });

  async function drain(): Promise<void> {
    for (;;) {
      const [file, ...rest] = waiting;
      if (file === undefined) break;
      waiting = rest;
      await send(file);
    }
    sending = undefined;
    options.onState(state());
  }

  async function send(file: File): Promise<void> {
    const stop = new AbortController();
    const taskId = makeId();
    sending = { taskId, stop };
    options.onState(state());
    try {
      options.onTask(await client.put(taskId, newTask(file)));
      await client.sendFile(taskId, file, stop.signal);
    } catch (error) {
      // An upload that was stopped on purpose is no failure: its task says what became of it.
      if (!stop.signal.aborted) options.onFailure(file, taskId, error);
    }
  }

  return {
    add(files) {
      if (files.length === 0) return;
      waiting = [...waiting, ...files];
      if (sending === undefined) void drain();
      else options.onState(state());
    },
    stop(taskId) {
      if (sending?.taskId === taskId) sending.stop.abort();
    },
    state,
  };
}

function newTask(file: File) {
  const title = file.name.slice(0, MAX_TITLE_LENGTH);
  return { kind: "upload", title, total: file.size, unit: "bytes" };
}
