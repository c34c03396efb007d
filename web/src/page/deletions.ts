/**
 * Deletions that can still be undone: they are sent after a while, or when the page is left.
 *
 * Owns the timers. Knows neither the DOM nor how a task is deleted.
 */

export interface Deletions {
  add(taskId: string): void;
  undo(taskId: string): void;
  has(taskId: string): boolean;
  /** Sends all of them now. */
  flush(): void;
}

export interface DeletionsOptions {
  /** Deletes the task; settled when that has happened or has failed. */
  send(taskId: string): Promise<void>;
  onChange(): void;
}

export const UNDO_MS = 5_000;

export function createDeletions(options: DeletionsOptions): Deletions {
  const timers = new Map<string, ReturnType<typeof setTimeout>>();
  const sent = new Set<string>();

  async function send(taskId: string): Promise<void> {
    drop(taskId);
    sent.add(taskId);
    await options.send(taskId);
    sent.delete(taskId);
    options.onChange();
  }

  function drop(taskId: string): void {
    clearTimeout(timers.get(taskId));
    timers.delete(taskId);
  }

  return {
    add(taskId) {
      drop(taskId);
      timers.set(
        taskId,
        setTimeout(() => void send(taskId), UNDO_MS),
      );
      options.onChange();
    },
    undo(taskId) {
      drop(taskId);
      options.onChange();
    },
    has: (taskId) => timers.has(taskId) || sent.has(taskId),
    flush() {
      for (const taskId of [...timers.keys()]) void send(taskId);
    },
  };
}
