/**
 * The page's one place of state: joins the client, the board, the streams, the list and the
 * uploads, and shows the result. Elements tell it what a person wants; it tells them what to show.
 */

import { announcement } from "../board/announce.ts";
import {
  type Board,
  emptyBoard,
  tasksOf,
  withFirstPage,
  withOlderPage,
  withoutTask,
  withTask,
} from "../board/board.ts";
import { formatPercent, taskName } from "../board/format.ts";
import type { Client } from "../client/client.ts";
import { explain, isGone } from "../client/problem.ts";
import { isFinal, type Task } from "../client/task.ts";
import type { TaskView } from "../client/view.ts";
import type { CardContext } from "../elements/task-card.ts";
import { createUploadQueue, type UploadState } from "../upload/queue.ts";
import { createPoller } from "../watch/poller.ts";
import { createWatchPool } from "../watch/pool.ts";
import { createCommands } from "./commands.ts";
import type { PageElements } from "./elements.ts";

const PAGE_SIZE = 50;
/** A list that takes longer than this is a server that is away. */
const LIST_TIMEOUT_MS = 10_000;
/** More changes than this at once (a page that was hidden for long) are told as a number. */
const MAX_ANNOUNCEMENTS = 4;

export function createApp(client: Client, page: PageElements): { start(): void } {
  let board: Board = emptyBoard;
  /** What the running streams know. */
  const views = new Map<string, TaskView>();
  let loaded = false;
  let renderAsked = false;

  const pool = createWatchPool({
    watch: client.watch,
    onView(taskId, view) {
      if (view.connection === "ended") views.delete(taskId);
      else views.set(taskId, view);
      if (view.task === undefined) render();
      else learn(view.task);
    },
    onError(taskId, error) {
      views.delete(taskId);
      // Any other refusal leaves the task to the list, which goes on telling its state.
      if (isGone(error)) forget(taskId);
    },
  });

  const poller = createPoller({
    async poll(signal) {
      const askedAtMs = performance.now();
      const within = AbortSignal.any([signal, AbortSignal.timeout(LIST_TIMEOUT_MS)]);
      const first = await client.list({ limit: PAGE_SIZE, signal: within });
      const next = withFirstPage(board, first, askedAtMs);
      // The first list is what was there before anybody listened: nothing of it is news.
      if (loaded) announce(board, next);
      loaded = true;
      replace(next);
    },
    onOutcome: (_failures, error) =>
      page.showServer(error === undefined ? undefined : explain(error)),
  });

  const uploads = createUploadQueue({
    client,
    onTask: learn,
    onFailure: (file, taskId, error) => void commands.uploadFailed(file, taskId, error),
    onState(state) {
      page.uploadForm.show(state);
      guardLeaving(state);
      render();
    },
  });

  const commands = createCommands({
    client,
    learn,
    forget(taskId) {
      forget(taskId);
      page.announcer.say("Deleted");
    },
    refresh: poller.refresh,
    notify: (notice) => page.notices.add(notice),
    send: uploads.add,
  });

  function learn(task: Task): void {
    const next = withTask(board, task, performance.now());
    announce(board, next);
    replace(next);
    // What nobody waits for any more need not be sent to its end.
    if (isFinal(task.status) && task.status !== "completed") uploads.stop(task.taskId);
  }

  function forget(taskId: string): void {
    replace(withoutTask(board, taskId, performance.now()));
  }

  function replace(next: Board): void {
    board = next;
    render();
  }

  function announce(before: Board, after: Board): void {
    const texts = tasksOf(after).flatMap((task) => {
      const previous = before.entries.get(task.taskId)?.task;
      return previous === task ? [] : (announcement(previous, task) ?? []);
    });
    if (texts.length > MAX_ANNOUNCEMENTS) page.announcer.say(`${texts.length} tasks have changed`);
    else for (const text of texts) page.announcer.say(text);
  }

  /** Many events within one frame are one rendering; of a hidden page, only the title is seen. */
  function render(): void {
    choosePool();
    showTitle();
    if (renderAsked) return;
    renderAsked = true;
    requestAnimationFrame(() => {
      renderAsked = false;
      show();
    });
  }

  function show(): void {
    const tasks = tasksOf(board);
    page.taskList.show(tasks, contextOf);
    page.showSummary(loaded ? tasks : undefined);
    page.older.hidden = board.nextPage === undefined;
  }

  function showTitle(): void {
    const sending = board.entries.get(uploads.state().sending ?? "")?.task;
    page.showTitle(sending && `${formatPercent(sending.progress ?? 0)} ${taskName(sending)}`);
  }

  function contextOf({ taskId, status }: Task): CardContext {
    const progressUrl = new URL(client.progressUrl(taskId), location.href).href;
    const view = views.get(taskId);
    const broken = !isFinal(status) && view?.connection === "waiting";
    return { progressUrl, ...(broken && { note: view.refusal ?? "reconnecting" }) };
  }

  /** A hidden page gives its connections to the tab in front, but for what it is sending. */
  function choosePool(): void {
    const { sending } = uploads.state();
    const active = tasksOf(board).filter((task) => !isFinal(task.status));
    const candidates = active.map(({ taskId }) => ({
      taskId,
      sending: taskId === sending,
      onScreen: page.taskList.onScreen.has(taskId),
    }));
    pool.update(document.hidden ? candidates.filter((candidate) => candidate.sending) : candidates);
  }

  async function loadOlder(): Promise<void> {
    const askedAtMs = performance.now();
    const query = board.nextPage === undefined ? {} : { page: board.nextPage };
    const older = await client.list({ limit: PAGE_SIZE, ...query });
    replace(withOlderPage(board, older, askedAtMs));
  }

  return {
    start() {
      page.onFiles(uploads.add);
      page.onFoldersRefused(commands.foldersRefused);
      page.onTenSteps(commands.tenSteps);
      page.onAction(commands.act);
      page.onOlder(() => commands.attempt("Loading older tasks", loadOlder));
      page.onScreenChange(choosePool);
      document.addEventListener("visibilitychange", () => {
        poller.setVisible(!document.hidden);
        render();
      });
      poller.refresh();
    },
  };
}

/** Leaving the page would cut an upload whose bytes are still being sent, and nothing else. */
function guardLeaving({ sending }: UploadState): void {
  window.removeEventListener("beforeunload", askToStay);
  if (sending !== undefined) window.addEventListener("beforeunload", askToStay);
}

function askToStay(event: BeforeUnloadEvent): void {
  event.preventDefault();
}
