/**
 * `<task-card>`: one task with its bar, its facts and what can be done with it.
 *
 * Updates in place, so that focus and an open disclosure survive every tick. Asks for changes
 * with the event `task-action`; makes none itself and knows nothing of the network.
 */

import {
  formatAmount,
  formatBytes,
  formatEta,
  formatPercent,
  formatRate,
  formatStatus,
  formatStep,
  taskName,
  visible,
} from "../board/format.ts";
import { isFinal, type Task, uploadResult } from "../client/task.ts";
import { make, setAttribute, setText } from "./dom.ts";
import { TaskDetails } from "./task-details.ts";
import { TaskProgress, toneOf } from "./task-progress.ts";

export interface TaskAction {
  action: "cancel" | "delete" | "undo";
  taskId: string;
}

/** What the page knows beyond the task itself. */
export interface CardContext {
  /** The address under which any client can watch the task. */
  progressUrl: string;
  /** The address of the task's own page; absent on that page. */
  page?: string;
  /** Since when nothing is known of the task any more, in a few words. */
  note?: string;
  /** The task is about to be deleted, or is no more. */
  deletion?: "asked" | "done";
}

export class TaskCard extends HTMLElement {
  readonly #link = make("a", { class: "card-link", dir: "auto" });
  readonly #status = make("span", { class: "card-status" });
  readonly #percent = make("span", { class: "card-percent", "aria-hidden": "true" });
  readonly #bar = new TaskProgress();
  readonly #message = make("p", { class: "card-message", dir: "auto" });
  readonly #counted = make("span");
  readonly #pace = make("span", { class: "card-pace" });
  readonly #note = make("span", { class: "card-note" });
  readonly #facts = make("p", { class: "card-facts" }, this.#counted, this.#pace, this.#note);
  readonly #error = make("p", { class: "card-error", dir: "auto" });
  readonly #download = make("a", { class: "button" }, "Download");
  readonly #cancel = make("button", { type: "button" }, "Cancel");
  readonly #delete = make("button", { type: "button" }, "Delete");
  readonly #details = new TaskDetails();
  readonly #content: readonly HTMLElement[];
  readonly #deleted = make("p", { dir: "auto" });
  readonly #undo = make("button", { type: "button", class: "undo" }, "Undo");
  readonly #deletion = make("div", { class: "card-deletion" }, this.#deleted, this.#undo);
  #task: Task | undefined;

  constructor(heading: "h2" | "h3" = "h3") {
    super();
    const title = make(heading, { class: "card-title" }, this.#link);
    const text = make("div", { class: "card-text" }, this.#message, this.#error, this.#facts);
    const actions = make("div", { class: "card-actions" });
    actions.append(this.#download, this.#cancel, this.#delete);
    this.#content = [
      make("div", { class: "card-head" }, title, this.#status, this.#percent),
      this.#bar,
      make("div", { class: "card-body" }, text, actions, this.#details),
    ];
    this.#cancel.addEventListener("click", () => this.#ask("cancel"));
    this.#delete.addEventListener("click", () => this.#ask("delete"));
    this.#undo.addEventListener("click", () => this.#ask("undo"));
  }

  connectedCallback(): void {
    if (this.childElementCount === 0) this.append(...this.#content, this.#deletion);
  }

  show(task: Task, context: CardContext): void {
    this.#task = task;
    const name = taskName(task);
    this.#showDeletion(name, context.deletion);
    setText(this.#link, name);
    setAttribute(this.#link, "href", context.page);
    setText(this.#status, formatStatus(task));
    setAttribute(this.#status, "data-tone", toneOf(task));
    setText(this.#percent, task.progress === undefined ? undefined : formatPercent(task.progress));
    this.#bar.show(task, `Progress of ${name}`);
    setText(this.#message, message(task));
    setText(this.#error, task.status === "error" ? errorText(task) : undefined);
    this.toggleAttribute("data-stale", context.note !== undefined);
    setText(this.#counted, joined(counted(task)));
    setText(this.#pace, joined(pace(task)));
    setText(this.#note, context.note);
    this.#facts.hidden = [this.#counted, this.#pace, this.#note].every((part) => part.hidden);
    this.#showActions(task, name);
    this.#details.hidden = context.page === undefined;
    this.#details.show(task, context.progressUrl);
  }

  /** Cancel and Delete each have a place of their own, so that no click on one meets the other. */
  #showActions(task: Task, name: string): void {
    const final = isFinal(task.status);
    const file = uploadResult(task);
    this.#download.hidden = file === undefined || task.status !== "completed";
    if (file !== undefined) {
      setAttribute(this.#download, "href", file.file);
      setAttribute(this.#download, "download", file.fileName);
      setAttribute(this.#download, "aria-label", `Download ${visible(file.fileName)}`);
    }
    const hadFocus = this.#cancel === document.activeElement;
    this.#cancel.classList.toggle("absent", final);
    setAttribute(this.#cancel, "aria-label", `Cancel ${name}`);
    setAttribute(this.#cancel, "aria-disabled", task.status === "cancelling" ? "true" : undefined);
    this.#delete.classList.toggle("absent", !final);
    setAttribute(this.#delete, "aria-label", `Delete ${name}`);
    if (hadFocus && final) this.#focusRow();
  }

  /** The row keeps its height, so that nothing below it moves under the pointer. */
  #showDeletion(name: string, deletion: CardContext["deletion"]): void {
    const isDeleted = deletion !== undefined;
    if (isDeleted !== this.hasAttribute("data-deletion")) {
      const height = isDeleted ? `${this.offsetHeight}px` : "";
      this.style.setProperty("min-height", height);
      for (const part of this.#content) part.hidden = isDeleted;
    }
    setAttribute(this, "data-deletion", deletion);
    setText(this.#deleted, isDeleted ? `Deleted ${name}` : undefined);
    this.#deletion.hidden = !isDeleted;
    this.#undo.hidden = deletion !== "asked";
    setAttribute(this.#undo, "aria-label", `Undo deleting ${name}`);
  }

  #ask(action: TaskAction["action"]): void {
    if (this.#task === undefined || this.#task.status === "cancelling") return;
    // Never to another button: the next key press is not meant for it.
    this.#focusRow();
    const detail: TaskAction = { action, taskId: this.#task.taskId };
    this.dispatchEvent(new CustomEvent("task-action", { detail, bubbles: true }));
  }

  #focusRow(): void {
    this.closest<HTMLElement>("[tabindex]")?.focus({ preventScroll: true });
  }
}

/** Of a finished upload the file is told; what was done to it last is no news any more. */
function message(task: Task): string | undefined {
  const stored = task.status === "completed" && uploadResult(task) !== undefined;
  return stored || task.message === undefined ? undefined : visible(task.message);
}

function errorText({ error }: Task): string {
  return visible(error?.detail ?? error?.title ?? "The task failed and gave no reason.");
}

/** How far the task is in numbers; a finished upload is told by its file. */
function counted(task: Task): (string | undefined)[] {
  const file = task.status === "completed" ? uploadResult(task) : undefined;
  if (file !== undefined) return [formatBytes(file.size), visible(file.contentType)];
  return [isFinal(task.status) ? undefined : formatStep(task), formatAmount(task)];
}

/** What is only true for the moment. */
function pace(task: Task): (string | undefined)[] {
  if (isFinal(task.status)) return [];
  return [formatRate(task), task.eta && formatEta(task.eta)];
}

function joined(parts: readonly (string | undefined)[]): string {
  return parts.filter((part) => part !== undefined).join("\u00a0· ");
}

customElements.define("task-card", TaskCard);
