/**
 * What a person can ask for, each as one call that either changes the board or says why not.
 *
 * Keeps no state but the deletions that can be undone: what the server answered goes to `learn` and
 * `forget`.
 */

import type { Client } from "../client/client.ts";
import { explain, isGone } from "../client/problem.ts";
import { isFinal, type Task } from "../client/task.ts";
import type { Notice } from "../elements/notice-list.ts";
import type { TaskAction } from "../elements/task-card.ts";
import { createDeletions } from "./deletions.ts";

const TEN_STEPS = {
  kind: "simulate",
  title: "Ten steps",
  input: { steps: 10, intervalMs: 1000 },
} as const;

export interface CommandOptions {
  client: Client;
  learn(task: Task): void;
  forget(taskId: string): void;
  /** Asks again for what is shown, because it may be wrong. */
  refresh(): void;
  /** Shows again what has changed here without the server. */
  render(): void;
  notify(notice: Notice): void;
  /** Sends these files. */
  send(files: readonly File[]): void;
}

export type Commands = ReturnType<typeof createCommands>;

export function createCommands(options: CommandOptions) {
  const { client } = options;

  /** Runs a command, and says so when it fails. */
  async function attempt(what: string, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      options.notify({ text: `${what} did not work. ${explain(error)}` });
      options.refresh();
    }
  }

  async function remove(taskId: string): Promise<void> {
    try {
      await client.remove(taskId);
    } catch (error) {
      // Somebody else was faster: what was asked for has happened.
      if (!isGone(error)) throw error;
    }
    options.forget(taskId);
  }

  const deletions = createDeletions({
    send: (taskId) => attempt("Deleting", () => remove(taskId)),
    onChange: options.render,
  });

  return {
    deletions,

    tenSteps: () =>
      attempt("Starting the task", async () => options.learn(await client.create(TEN_STEPS))),

    act({ action, taskId }: TaskAction): void {
      if (action === "delete") deletions.add(taskId);
      else if (action === "undo") deletions.undo(taskId);
      else void attempt("Cancelling", async () => options.learn(await client.cancel(taskId)));
    },

    /** A file that did not get through: its task tells why, or else a notice does. */
    async uploadFailed(file: File, taskId: string, error: unknown): Promise<void> {
      const task = await client.get(taskId).catch(() => undefined);
      if (task !== undefined) options.learn(task);
      if (task !== undefined && isFinal(task.status)) return;
      options.notify({
        text: `${file.name} was not sent. ${explain(error)}`,
        remedy: { label: "Try again", run: () => options.send([file]) },
      });
      options.refresh();
    },

    foldersRefused: () =>
      options.notify({ text: "Folders cannot be sent. Choose the files in them." }),
  };
}
