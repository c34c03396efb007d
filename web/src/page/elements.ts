/**
 * The page's elements by name, and the few things that are said outside of the cards.
 *
 * The only place that knows the ids of `index.html`. Keeps no state of tasks.
 */

import { isFinal, type Task } from "../client/task.ts";
import { CopyText } from "../elements/copy-text.ts";
import { byId, setAttribute, setText } from "../elements/dom.ts";
import { LiveAnnouncer } from "../elements/live-announcer.ts";
import { NoticeList } from "../elements/notice-list.ts";
import type { TaskAction } from "../elements/task-card.ts";
import { TaskList } from "../elements/task-list.ts";
import { UploadForm } from "../elements/upload-form.ts";

export type PageElements = ReturnType<typeof findPageElements>;

export function findPageElements() {
  const taskList = byId("task-list", TaskList);
  const uploadForm = byId("upload-form", UploadForm);
  const announcer = byId("announcer", LiveAnnouncer);
  const heading = byId("tasks-heading", HTMLHeadingElement);
  const summary = byId("tasks-summary", HTMLParagraphElement);
  const empty = byId("tasks-empty", HTMLParagraphElement);
  const server = byId("server-state", HTMLParagraphElement);
  const older = byId("older", HTMLButtonElement);
  const ownTitle = document.title;
  let wasAway = false;

  fillInOrigin();
  taskList.addEventListener("focus-lost", () => heading.focus());

  return {
    taskList,
    uploadForm,
    announcer,
    older,
    notices: byId("notices", NoticeList),

    /** How many tasks there are; nothing while the first list is on its way. */
    showSummary(tasks: readonly Task[] | undefined): void {
      const active = tasks?.filter((task) => !isFinal(task.status)).length ?? 0;
      const finished = (tasks?.length ?? 0) - active;
      setText(summary, tasks?.length ? `${active} active, ${finished} finished` : undefined);
      setAttribute(taskList, "aria-busy", String(tasks === undefined));
      empty.hidden = tasks === undefined || tasks.length > 0;
    },

    /** Says that the server is away, and why; nothing when it is back. */
    showServer(reason: string | undefined): void {
      const away = reason !== undefined;
      setText(server, away ? `${reason} Trying again until it does.` : undefined);
      if (away !== wasAway) announcer.say(away ? reason : "The server answers again.");
      wasAway = away;
    },

    showTitle(state: string | undefined): void {
      const title = state === undefined ? ownTitle : `${state} · ${ownTitle}`;
      if (document.title !== title) document.title = title;
    },

    onFiles(run: (files: readonly File[]) => void): void {
      listen<readonly File[]>(uploadForm, "files-chosen", run);
    },
    onFoldersRefused(run: () => void): void {
      uploadForm.addEventListener("folders-refused", run);
    },
    onTenSteps(run: () => void): void {
      byId("ten-steps", HTMLButtonElement).addEventListener("click", run);
    },
    onOlder(run: () => void): void {
      older.addEventListener("click", run);
    },
    onAction(run: (action: TaskAction) => void): void {
      listen<TaskAction>(taskList, "task-action", run);
    },
    onScreenChange(run: () => void): void {
      taskList.addEventListener("screen-change", run);
    },
  };
}

/** Commands in the page name the address under which the page itself was reached. */
function fillInOrigin(): void {
  for (const command of document.querySelectorAll("copy-text[data-command]")) {
    const text = command.getAttribute("data-command") ?? "";
    if (command instanceof CopyText) command.text = text.replaceAll("ORIGIN", location.origin);
  }
}

function listen<Detail>(element: HTMLElement, name: string, run: (detail: Detail) => void): void {
  element.addEventListener(name, (event) => {
    if (event instanceof CustomEvent) run(event.detail as Detail);
  });
}
