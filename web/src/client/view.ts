/**
 * What a watcher knows of one task: a pure reducer over the events of its stream.
 *
 * Every `progress` event carries the whole state, so there is nothing to merge.
 */

import type { StreamEvent } from "./stream.ts";
import { isFinal, type Task } from "./task.ts";

export interface TaskView {
  connection: "connecting" | "live" | "waiting" | "ended";
  task?: Task;
  /** Where a later stream of the same task may resume. */
  cursor?: string;
  /** Why the server has no room for the stream just now. */
  refusal?: string;
}

export const unwatched: TaskView = { connection: "connecting" };

export function reduceView(view: TaskView, event: StreamEvent): TaskView {
  switch (event.type) {
    case "open":
      return { ...view, connection: "live" };
    case "progress": {
      const { refusal: _over, cursor: _old, ...rest } = view;
      const connection = isFinal(event.task.status) ? "ended" : "live";
      const cursor = event.cursor === undefined ? {} : { cursor: event.cursor };
      return { ...rest, ...cursor, task: event.task, connection };
    }
    case "reset": {
      const { cursor: _invalid, ...rest } = view;
      return rest;
    }
    case "refused":
      return { ...view, refusal: event.detail ?? event.code ?? "the server is busy" };
    case "waiting":
      return { ...view, connection: "waiting" };
  }
}
