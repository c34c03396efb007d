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
import { explain, ProblemError } from "../client/problem.ts";
import { isFinal, type Task } from "../client/task.ts";
import type { TaskView } from "../client/view.ts";
import type { CardContext, TaskAction } from "../elements/task-card.ts";
import { createUploadQueue, type UploadState } from "../upload/queue.ts";
import { createPoller } from "../watch/poller.ts";
import { createWatchPool } from "../watch/pool.ts";
import type { PageElements } from "./elements.ts";

const PAGE_SIZE = 50;
/** A list that takes longer than this is a server that is away. */
const LIST_TIMEOUT_MS = 10_000;

const TEN_STEPS = {
  kind: "simulate",
  title: "Ten steps",
  input: { steps: 10, intervalMs: 1000 },
} as const;

export interface App {
  start(): void;
}

export function createApp(client: Client, page: PageElements): App {
  let board: Board = emptyBoard;
  let views: ReadonlyMap<string, TaskView> = new Map();
  let loaded = false;
  let away = false;
  let renderAsked = false;

  const pool = createWatchPool({
    watch: client.watch,
    onView(taskId, view) {
      views = new Map(views).set(taskId, view);
      if (view.task !== undefined) learn(view.task);
      else render();
    },
    onError(taskId, error) {
      views = new Map([...views].filter(([known]) => known !== taskId));
      const gone = error instanceof ProblemError && (error.status === 404 || error.status === 410);
      if (gone) board = withoutTask(board, taskId, performance.now());
      render();
    },
  });

  const poller = createPoller({
    async poll(signal) {
      const askedAtMs = performance.now();
      const within = AbortSignal.any([signal, AbortSignal.timeout(LIST_TIMEOUT_MS)]);
      const first = await client.list({ limit: PAGE_SIZE, signal: within });
      // The first list is what was there before anybody listened: nothing of it is news.
      replace(withFirstPage(board, first, askedAtMs), loaded);
      loaded = true;
    },
    onOutcome(failures, error) {
      away = failures > 0;
      page.showServer(away ? explain(error) : undefined);
      render();
    },
  });

  const uploads = createUploadQueue({
    client,
    onTask: learn,
    onFailure: (file, error) => void uploadFailed(file, error),
    onState(state) {
      page.uploadForm.show(state);
      guardLeaving(state);
      render();
    },
  });

  function learn(task: Task): void {
    replace(withTask(board, task, performance.now()), true);
    // What nobody waits for any more need not be sent to its end.
    if (isFinal(task.status) && task.status !== "completed") uploads.stop(task.taskId);
  }

  function replace(next: Board, announce: boolean): void {
    const before = board;
    board = next;
    if (announce) {
      for (const { task } of next.entries.values()) {
        const previous = before.entries.get(task.taskId)?.task;
        if (previous === task) continue;
        const text = announcement(previous, task);
        if (text !== undefined) page.announcer.say(text);
      }
    }
    render();
  }

  /** Many events of one frame are one rendering. A hidden page is rendered when it is seen again. */
  function render(): void {
    if (renderAsked) return;
    renderAsked = true;
    requestAnimationFrame(() => {
      renderAsked = false;
      show();
    });
    choosePool();
  }

  function show(): void {
    const tasks = tasksOf(board);
    page.taskList.show(tasks, contextOf);
    page.showSummary(loaded ? tasks : undefined);
    page.older.hidden = board.nextPage === undefined;
    const sending = board.entries.get(uploads.state().sending ?? "")?.task;
    page.showTitle(sending && `${formatPercent(sending.progress ?? 0)} ${taskName(sending)}`);
  }

  function contextOf({ taskId, status }: Task): CardContext {
    const url = new URL(client.progressUrl(taskId), location.href).href;
    const view = views.get(taskId);
    const broken = !isFinal(status) && view?.connection === "waiting";
    return { progressUrl: url, ...(broken && { note: view?.refusal ?? "reconnecting" }) };
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

  async function uploadFailed(file: File, error: unknown): Promise<void> {
    poller.refresh();
    page.notices.add({
      text: `${file.name} was not sent. ${explain(error)}`,
      remedy: { label: "Try again", run: () => uploads.add([file]) },
    });
  }

  /** Runs a command that a person asked for, and says so when it fails. */
  async function command(what: string, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      page.notices.add({ text: `${what} did not work. ${explain(error)}` });
      poller.refresh();
    }
  }

  async function cancel(taskId: string): Promise<void> {
    // The server hears of the cancel first: a line that breaks before it would end as an error.
    learn(await client.cancel(taskId));
    uploads.stop(taskId);
  }

  async function remove(taskId: string): Promise<void> {
    await client.remove(taskId).catch((error: unknown) => {
      if (!(error instanceof ProblemError && error.status === 404)) throw error;
    });
    replace(withoutTask(board, taskId, performance.now()), false);
    page.announcer.say("Deleted");
  }

  async function loadOlder(): Promise<void> {
    const askedAtMs = performance.now();
    const query = board.nextPage === undefined ? {} : { page: board.nextPage };
    const older = await client.list({ limit: PAGE_SIZE, ...query });
    replace(withOlderPage(board, older, askedAtMs), false);
  }

  function listen(): void {
    page.onFiles((files) => uploads.add(files));
    page.onFoldersRefused(() =>
      page.notices.add({ text: "Folders cannot be sent. Choose the files in them." }),
    );
    page.onTenSteps(() =>
      command("Starting the task", async () => learn(await client.create(TEN_STEPS))),
    );
    page.onOlder(() => command("Loading older tasks", loadOlder));
    page.onAction(({ action, taskId }: TaskAction) =>
      action === "cancel"
        ? command("Cancelling", () => cancel(taskId))
        : command("Deleting", () => remove(taskId)),
    );
    page.onScreenChange(choosePool);
    document.addEventListener("visibilitychange", () => {
      poller.setVisible(!document.hidden);
      render();
    });
  }

  return {
    start() {
      listen();
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
