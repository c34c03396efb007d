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
} from "../board/format.ts";
import { isFinal, type Task, uploadResult } from "../client/task.ts";
import { make, setAttribute, setText } from "./dom.ts";
import { TaskDetails } from "./task-details.ts";
import { TaskProgress, toneOf } from "./task-progress.ts";

export interface TaskAction {
  action: "cancel" | "delete";
  taskId: string;
}

/** What the page knows beyond the task itself. */
export interface CardContext {
  /** The address under which any client can watch the task. */
  progressUrl: string;
  /** Why the bar may be behind, in a few words. */
  note?: string;
}

export class TaskCard extends HTMLElement {
  readonly #title = make("h3", { class: "card-title" });
  readonly #status = make("span", { class: "card-status" });
  readonly #percent = make("span", { class: "card-percent", "aria-hidden": "true" });
  readonly #bar = new TaskProgress();
  readonly #message = make("p", { class: "card-message" });
  readonly #facts = make("p", { class: "card-facts" });
  readonly #error = make("p", { class: "card-error" });
  readonly #download = make("a", { class: "button" }, "Download");
  readonly #cancel = make("button", { type: "button" }, "Cancel");
  readonly #delete = make("button", { type: "button" }, "Delete");
  readonly #details = new TaskDetails();
  #task: Task | undefined;

  connectedCallback(): void {
    if (this.#title.isConnected) return;
    const text = make("div", { class: "card-text" }, this.#message, this.#error, this.#facts);
    const actions = make("div", { class: "card-actions" });
    actions.append(this.#download, this.#cancel, this.#delete);
    this.append(
      make("div", { class: "card-head" }, this.#title, this.#status, this.#percent),
      this.#bar,
      make("div", { class: "card-body" }, text, actions, this.#details),
    );
    this.#cancel.addEventListener("click", () => this.#ask("cancel"));
    this.#delete.addEventListener("click", () => this.#confirmDelete());
    this.#delete.addEventListener("blur", () => this.#disarm());
  }

  show(task: Task, context: CardContext): void {
    this.#task = task;
    const name = taskName(task);
    setText(this.#title, name);
    setText(this.#status, formatStatus(task));
    setAttribute(this.#status, "data-tone", toneOf(task));
    setText(this.#percent, task.progress === undefined ? undefined : formatPercent(task.progress));
    this.#bar.show(task, `Progress of ${name}`);
    setText(this.#message, message(task));
    setText(this.#error, task.status === "error" ? errorText(task) : undefined);
    setText(this.#facts, facts(task, context.note).join("\u00a0· "));
    this.#showActions(task, name);
    this.#details.show(task, context.progressUrl);
  }

  /** Puts the keyboard on this card, after the one beside it has gone. */
  focusAction(): void {
    (this.#cancel.hidden ? this.#delete : this.#cancel).focus();
  }

  #showActions(task: Task, name: string): void {
    const final = isFinal(task.status);
    const focused = this.#cancel === document.activeElement;
    const file = uploadResult(task);
    this.#download.hidden = file === undefined || task.status !== "completed";
    if (file !== undefined) {
      setAttribute(this.#download, "href", file.file);
      setAttribute(this.#download, "download", file.fileName);
      setAttribute(this.#download, "aria-label", `Download ${file.fileName}`);
    }
    this.#cancel.hidden = final;
    setAttribute(this.#cancel, "aria-label", `Cancel ${name}`);
    setAttribute(this.#cancel, "aria-disabled", task.status === "cancelling" ? "true" : undefined);
    this.#delete.hidden = !final;
    if (this.#delete.dataset["armed"] === undefined)
      setAttribute(this.#delete, "aria-label", `Delete ${name}`);
    // The button under the keyboard goes with the end of the task: its successor takes the focus.
    if (focused && final) this.#delete.focus();
  }

  /** A stored file cannot be brought back, so deleting one takes a second press. */
  #confirmDelete(): void {
    const precious = this.#task !== undefined && uploadResult(this.#task) !== undefined;
    if (!precious || this.#delete.dataset["armed"] !== undefined) {
      this.#ask("delete");
      return;
    }
    this.#delete.dataset["armed"] = "";
    this.#delete.textContent = "Delete with its file?";
    this.#delete.removeAttribute("aria-label");
  }

  #disarm(): void {
    delete this.#delete.dataset["armed"];
    this.#delete.textContent = "Delete";
    if (this.#task !== undefined)
      setAttribute(this.#delete, "aria-label", `Delete ${taskName(this.#task)}`);
  }

  #ask(action: TaskAction["action"]): void {
    if (this.#task === undefined || this.#task.status === "cancelling") return;
    const detail: TaskAction = { action, taskId: this.#task.taskId };
    this.dispatchEvent(new CustomEvent("task-action", { detail, bubbles: true }));
  }
}

/** Of a finished upload the file is told; what was done to it last is no news any more. */
function message(task: Task): string | undefined {
  const stored = task.status === "completed" && uploadResult(task) !== undefined;
  return stored ? undefined : task.message;
}

function errorText({ error }: Task): string {
  return error?.detail ?? error?.title ?? "The task failed and gave no reason.";
}

/** The numbers of the task, each a few words; a finished upload is told by its file. */
function facts(task: Task, note: string | undefined): string[] {
  const file = task.status === "completed" ? uploadResult(task) : undefined;
  const parts = isFinal(task.status)
    ? [file === undefined ? formatAmount(task) : formatBytes(file.size), file?.contentType]
    : [formatStep(task), formatAmount(task), formatRate(task), task.eta && formatEta(task.eta)];
  return [...parts, note].filter((part) => part !== undefined);
}

customElements.define("task-card", TaskCard);
