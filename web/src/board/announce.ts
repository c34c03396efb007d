/**
 * What a screen reader is told of a task: a change of status, and every quarter of the way.
 *
 * A live region that repeats each tick drowns its listener, so most events are silent. Pure.
 */

import { isFinal, type Task } from "../client/task.ts";
import { formatStatus, taskName } from "./format.ts";

const QUARTER = 25;

/** The sentence for the step from `previous` to `next`, or nothing where it is not worth one. */
export function announcement(previous: Task | undefined, next: Task): string | undefined {
  const name = taskName(next);
  const status = formatStatus(next);
  if (previous === undefined || formatStatus(previous) !== status) {
    const reason = next.status === "error" ? next.error?.detail : undefined;
    return reason === undefined ? `${name}: ${status}` : `${name}: ${status}. ${reason}`;
  }
  if (isFinal(next.status) || next.progress === undefined) return undefined;
  const quarter = Math.floor(next.progress / QUARTER);
  const before = Math.floor((previous.progress ?? 0) / QUARTER);
  return quarter > before ? `${name}: ${quarter * QUARTER} percent` : undefined;
}
