/**
 * The page's one place of state: joins the client, the board, the live list and the uploads, and
 * shows the result. Elements tell it what a person wants; it tells them what to show.
 */

import { announcement } from "../board/announce.ts";
import {
  activeOf,
  type Board,
  countsOf,
  emptyBoard,
  finishedOf,
  taskOf,
  withFinishedUpTo,
  withList,
  withoutTask,
  withTasks,
} from "../board/board.ts";
import { formatAgo, formatPercent, taskName } from "../board/format.ts";
import type { WatchQuery } from "../client/client.ts";
import { explain, isGone } from "../client/problem.ts";
import type { ListChange } from "../client/stream.ts";
import { type Counts, isFinal, type Task } from "../client/task.ts";
import type { CardContext } from "../elements/task-card.ts";
import { joinHub, type Link } from "../live/hub.ts";
import { tabsOf } from "../live/leader.ts";
import { createUploadQueue, type UploadState } from "../upload/queue.ts";
import { createCommands } from "./commands.ts";
import type { PageElements } from "./elements.ts";
import { createLoader } from "./loader.ts";
import { createNews } from "./news.ts";
import { createRouter, taskPath } from "./route.ts";
import type { Visit } from "./session.ts";

/** Finished tasks that are shown at first, and how many more at a time. */
const FINISHED_STEP = 50;
/** A connection that is away for less than this is not worth a word: streams end and come again. */
const STALE_AFTER_MS = 3_000;
const HUB = "progressd-live";

export function createApp({ client, expires }: Visit, page: PageElements): { start(): void } {
  let board: Board = emptyBoard;
  /** Of all tasks, where the server tells them. */
  let counts: Counts | undefined;
  let hasList = false;
  let link: Link = { state: "connecting" };
  let finishedWanted = FINISHED_STEP;
  /** Why the last question failed. */
  let trouble: unknown;
  /** The task of this view that cannot be shown, and why. */
  let missing: { taskId: string; reason: string } | undefined;
  let renderAsked = false;

  const news = createNews((text) => page.announcer.say(text));
  const router = createRouter(() => {
    refresh();
    show();
    page.focusView();
  });

  const loader = createLoader({
    client,
    finishedWanted: () => finishedWanted,
    onList(tasks, listed, askedAtMs) {
      const isFirst = !hasList;
      [hasList, counts] = [true, listed];
      const next = withList(board, tasks, askedAtMs);
      // The first list is what was there before anybody listened: nothing of it is news.
      if (!isFirst) announce(board, next, tasks);
      board = next;
      render();
    },
    onOutcome(error) {
      trouble = error;
      render();
    },
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
      board = withoutTask(board, taskId, performance.now());
      page.announcer.say("Deleted");
      render();
    },
    refresh,
    render,
    notify: (notice) => page.notices.add(notice),
    send: uploads.add,
  });

  function learn(...tasks: readonly Task[]): void {
    const next = withTasks(board, tasks, performance.now());
    announce(board, next, tasks);
    board = withFinishedUpTo(next, finishedWanted + FINISHED_STEP);
    // What nobody waits for any more need not be sent to its end.
    for (const { status, taskId } of tasks)
      if (isFinal(status) && status !== "completed") uploads.stop(taskId);
    render();
  }

  function onChanges(changes: readonly ListChange[]): void {
    learn(...changes.flatMap((change) => (change.type === "progress" ? [change.task] : [])));
    for (const change of changes) {
      if (change.type === "removed") board = withoutTask(board, change.taskId, performance.now());
      else if (change.type === "counts") counts = change.counts;
      // A page is a fresh start: what happened before it may never have been told.
      else if (change.type === "page") refresh();
    }
  }

  function onLink(next: Link): void {
    link = next;
    // A leader gets a page and asks for the list then; a tab that joins later does not.
    if (next.isExpiring) expires();
    if (!hasList && next.state !== "connecting") loader.loadSoon();
    render();
  }

  /** Asks for what this view shows. */
  function refresh(): void {
    const taskId = router.taskId();
    if (taskId === undefined) loader.load();
    else void readTask(taskId);
  }

  async function readTask(taskId: string): Promise<void> {
    try {
      const task = await client.get(taskId);
      missing = undefined;
      learn(task);
    } catch (error) {
      if (isGone(error)) board = withoutTask(board, taskId, performance.now());
      missing = { taskId, reason: explain(error) };
      render();
    }
  }

  function announce(before: Board, after: Board, tasks: readonly Task[]): void {
    const texts = tasks.flatMap(({ taskId }) => {
      const [previous, next] = [taskOf(before, taskId), taskOf(after, taskId)];
      return next === undefined || next === previous ? [] : (announcement(previous, next) ?? []);
    });
    news.add(...texts);
  }

  /** Many events within one frame are one rendering; of a hidden page, only the title is seen. */
  function render(): void {
    showTitle();
    if (renderAsked) return;
    renderAsked = true;
    requestAnimationFrame(() => {
      renderAsked = false;
      show();
    });
  }

  function show(): void {
    const taskId = router.taskId();
    page.showView(taskId !== undefined);
    page.showServer(serverTrouble());
    if (taskId === undefined) showList();
    else showTask(taskId);
  }

  function showList(): void {
    const finished = finishedOf(board);
    const wanted = [...activeOf(board), ...finished].map((task) => task.taskId);
    page.taskList.show(wanted, (taskId) => {
      const task = taskOf(board, taskId);
      return task && { task, context: contextOf(task, taskPath(taskId)) };
    });
    page.showCounts(hasList ? (counts ?? countsOf(board)) : undefined);
    const { completed = 0, error = 0, cancelled = 0 } = counts ?? {};
    const hasAll = completed + error + cancelled <= finished.length;
    page.older.hidden = counts === undefined ? finished.length < finishedWanted : hasAll;
  }

  function showTask(taskId: string): void {
    const task = taskOf(board, taskId);
    page.task.hidden = task === undefined;
    if (task !== undefined) page.task.show(task, contextOf(task));
    const reason = missing?.taskId === taskId ? missing.reason : "This task is no more.";
    const isAsking = missing?.taskId !== taskId && !board.removed.has(taskId);
    page.showMissing(task !== undefined || isAsking ? undefined : reason);
  }

  function showTitle(): void {
    const sending = taskOf(board, uploads.state().sending ?? "");
    const shown = sending ?? taskOf(board, router.taskId() ?? "");
    const percent = shown?.progress === undefined ? "" : `${formatPercent(shown.progress)} `;
    page.showTitle(shown && `${percent}${taskName(shown)}`);
  }

  function contextOf({ taskId, status }: Task, path?: string): CardContext {
    const silentMs = silence();
    const isAsked = commands.deletions.has(taskId);
    return {
      progressUrl: new URL(client.progressUrl(taskId), location.href).href,
      ...(path !== undefined && { page: path }),
      ...(isAsked && { deletion: "asked" as const }),
      ...(!isFinal(status) &&
        silentMs !== undefined && { note: `last update ${formatAgo(silentMs)}` }),
    };
  }

  /** For how long nothing is known any more; nothing while the connection is good. */
  function silence(): number | undefined {
    if (link.state === "live" || link.heardAtMs === undefined) return undefined;
    const silentMs = Date.now() - link.heardAtMs;
    return silentMs < STALE_AFTER_MS ? undefined : silentMs;
  }

  function serverTrouble(): string | undefined {
    if (link.refusal !== undefined) return explain(new Error(link.refusal));
    if (link.state === "live") return trouble === undefined ? undefined : explain(trouble);
    const isAway =
      link.reason !== undefined && link.reason !== "closed" && link.reason !== "broken";
    if (isAway || silence() !== undefined) return "The server does not answer.";
    return trouble === undefined ? undefined : explain(trouble);
  }

  function joinLive(): void {
    const open = (query: WatchQuery) => client.list({ limit: 1 }, query);
    joinHub({ ...tabsOf(HUB), open, onChanges, onLink });
    // What says how long ago the last update was has to be said anew.
    setInterval(() => {
      if (link.state !== "live") render();
    }, 1_000);
  }

  return {
    start() {
      page.onFiles((files) => {
        page.taskList.reveal();
        uploads.add(files);
      });
      page.onFoldersRefused(commands.foldersRefused);
      page.onTenSteps(commands.tenSteps);
      page.onAction(commands.act);
      page.onOlder(() => {
        finishedWanted += FINISHED_STEP;
        loader.load();
      });
      window.addEventListener("pagehide", commands.deletions.flush);
      // A page that was asleep has missed what the others were told.
      window.addEventListener("pageshow", ({ persisted }) => persisted && refresh());
      document.addEventListener("resume", refresh);
      if (router.taskId() !== undefined) refresh();
      joinLive();
      show();
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
