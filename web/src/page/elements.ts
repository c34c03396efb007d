/**
 * The page's elements by name, and the few things that are said outside of the cards.
 *
 * The only place that knows the ids of `index.html`. Keeps no state of tasks.
 */

import collection from "../../../postman/progressd.postman_collection.json?url";
import type { Session } from "../client/session.ts";
import { type Counts, isFinal, STATUSES } from "../client/task.ts";
import { CopyText } from "../elements/copy-text.ts";
import { byId, make, setAttribute, setText } from "../elements/dom.ts";
import { LiveAnnouncer } from "../elements/live-announcer.ts";
import { MessageForm, type Outgoing } from "../elements/message-form.ts";
import { MessageLog } from "../elements/message-log.ts";
import { NoticeList } from "../elements/notice-list.ts";
import type { TaskAction } from "../elements/task-card.ts";
import { TaskList } from "../elements/task-list.ts";
import { TaskView } from "../elements/task-view.ts";
import { UploadForm } from "../elements/upload-form.ts";
import { UserList } from "../elements/user-list.ts";
import type { Connected } from "./presence.ts";

export type PageElements = ReturnType<typeof findPageElements>;

export function findPageElements() {
  const taskList = byId("task-list", TaskList);
  const task = byId("task", TaskView);
  const missing = byId("task-missing", HTMLParagraphElement);
  const uploadForm = byId("upload-form", UploadForm);
  const announcer = byId("announcer", LiveAnnouncer);
  const heading = byId("tasks-heading", HTMLHeadingElement);
  const summary = byId("tasks-summary", HTMLParagraphElement);
  const empty = byId("tasks-empty", HTMLParagraphElement);
  const server = byId("server-state", HTMLParagraphElement);
  const listView = byId("list-view", HTMLElement);
  const taskView = byId("task-view", HTMLElement);
  const older = byId("older", HTMLButtonElement);
  const ownTitle = document.title;
  let wasAway = false;

  fillInOrigin();
  linkCollection();
  taskList.addEventListener("focus-lost", () => heading.focus());

  return {
    taskList,
    task,
    uploadForm,
    announcer,
    older,
    notices: byId("notices", NoticeList),

    /** Shows the list, or the page of one task. */
    showView(isTask: boolean): void {
      listView.hidden = isTask;
      taskView.hidden = !isTask;
    },

    /** Puts the keyboard where the view that was just chosen begins. */
    focusView(): void {
      (taskView.hidden ? heading : task).focus({ preventScroll: true });
    },

    /** Why there is nothing to be shown of the task; nothing when there is. */
    showMissing(reason: string | undefined): void {
      setText(missing, reason);
    },

    /** How many tasks there are; nothing while the first list is on its way. */
    showCounts(counts: Counts | undefined): void {
      const of = (wanted: boolean) =>
        STATUSES.filter((status) => isFinal(status) === wanted)
          .map((status) => counts?.[status] ?? 0)
          .reduce((sum, count) => sum + count, 0);
      const [active, finished] = [of(false), of(true)];
      const say = (count: number) => count.toLocaleString("en");
      const isEmpty = active + finished === 0;
      setText(summary, isEmpty ? undefined : `${say(active)} active, ${say(finished)} finished`);
      setAttribute(taskList, "aria-busy", String(counts === undefined));
      empty.hidden = counts === undefined || !isEmpty;
    },

    /** Says what is wrong with the connection; nothing when it is good again. */
    showServer(trouble: string | undefined): void {
      const isAway = trouble !== undefined;
      setText(server, isAway ? `${trouble} Trying again…` : undefined);
      if (isAway !== wasAway) announcer.say(isAway ? trouble : "The server answers again.");
      wasAway = isAway;
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
      for (const place of [taskList, task]) listen<TaskAction>(place, "task-action", run);
    },
  };
}

export type PeopleElements = ReturnType<typeof findPeopleElements>;

export function findPeopleElements() {
  const users = byId("users", UserList);
  const form = byId("message-form", MessageForm);
  const summary = byId("people-summary", HTMLParagraphElement);
  const trouble = byId("people-trouble", HTMLParagraphElement);
  const hint = byId("people-hint", HTMLParagraphElement);
  const heading = byId("people-heading", HTMLHeadingElement);
  listen<string>(users, "user-chosen", (userId) => form.choose(userId));

  return {
    form,
    messages: byId("messages", MessageLog),

    showConnected({ users: connected, hasMore }: Connected): void {
      users.show([...connected.keys()], hasMore);
      const count = `${connected.size.toLocaleString("en")} connected`;
      setText(summary, connected.size === 0 ? undefined : hasMore ? `more than ${count}` : count);
    },

    /** Shows what a person is sent, and nothing of others. */
    showOwnOnly(): void {
      users.hidden = true;
      form.hidden = true;
      setText(heading, "Messages");
      setText(hint, "What is sent to you appears here.");
    },

    /** Why nothing arrives; nothing when it does. */
    showTrouble(reason: string | undefined): void {
      setText(trouble, reason);
    },

    onMessage: (run: (outgoing: Outgoing) => void) => listen(form, "message-asked", run),
    onListen: (run: (channel: string) => void) => listen(form, "listen-asked", run),
    onStop: (run: (channel: string) => void) => listen(form, "stop-asked", run),
  };
}

export type SessionElements = ReturnType<typeof findSessionElements>;

export function findSessionElements() {
  const panel = byId("sign-in", HTMLElement);
  const form = byId("sign-in-form", HTMLFormElement);
  const token = byId("token", HTMLInputElement);
  const reason = byId("sign-in-reason", HTMLParagraphElement);
  const outcome = byId("sign-in-outcome", HTMLParagraphElement);
  const who = byId("who", HTMLParagraphElement);
  const name = byId("who-name", HTMLElement);

  return {
    /** Asks for a token, and says why again. */
    ask(why: string | undefined): void {
      setText(reason, why);
      // Whoever was never let in has nothing to look at.
      if (why === undefined) {
        document.body.dataset["signedOut"] = "";
        panel.setAttribute("role", "main");
      }
      if (!panel.hidden) return;
      panel.hidden = false;
      token.focus();
    },

    /** Says who one is; nothing where everybody is the same. */
    show(session: Session): void {
      delete document.body.dataset["signedOut"];
      panel.removeAttribute("role");
      panel.hidden = true;
      setText(outcome, undefined);
      who.hidden = session.kind === "open";
      setText(name, session.name);
    },

    /** Why nobody was signed in or out. */
    showOutcome(problem: string): void {
      setText(outcome, problem);
    },

    onSignIn(run: (token: string) => void): void {
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        run(token.value.trim());
        // It is kept nowhere, not even here.
        form.reset();
      });
    },
    onSignOut: (run: () => void) =>
      byId("sign-out", HTMLButtonElement).addEventListener("click", run),
  };
}

/** Commands in the page name the address under which the page itself was reached. */
function fillInOrigin(): void {
  for (const command of document.querySelectorAll("copy-text[data-command]")) {
    const text = command.getAttribute("data-command") ?? "";
    if (command instanceof CopyText) command.text = text.replaceAll("ORIGIN", location.origin);
  }
}

/** The build names the file by its content, which `index.html` cannot know. */
function linkCollection(): void {
  const attributes = { href: collection, download: "progressd.postman_collection.json" };
  byId("reference", HTMLElement).append(make("a", attributes, "Postman collection"));
}

function listen<Detail>(element: HTMLElement, name: string, run: (detail: Detail) => void): void {
  element.addEventListener(name, (event) => {
    if (event instanceof CustomEvent) run(event.detail as Detail);
  });
}
