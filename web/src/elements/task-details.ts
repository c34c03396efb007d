/**
 * `<task-details>`: what few need of a task and those few need exactly: where to watch it, its
 * id, its times, the digests of its file. Closed until asked for.
 */

import { formatTime } from "../board/format.ts";
import { type Task, uploadResult } from "../client/task.ts";
import { CopyText } from "./copy-text.ts";
import { make } from "./dom.ts";

export class TaskDetails extends HTMLElement {
  readonly #disclosure = make("details");
  readonly #list = make("dl");
  readonly #rows = new Map<string, { term: HTMLElement; description: HTMLElement }>();
  #latest: { task: Task; progressUrl: string } | undefined;

  connectedCallback(): void {
    if (this.#disclosure.isConnected) return;
    this.#disclosure.append(make("summary", {}, "Details"), this.#list);
    this.append(this.#disclosure);
    // A closed disclosure is not kept up to date: most cards are never opened.
    this.#disclosure.addEventListener("toggle", () => this.#render());
  }

  show(task: Task, progressUrl: string): void {
    this.#latest = { task, progressUrl };
    this.#render();
  }

  #render(): void {
    if (!this.#disclosure.open || this.#latest === undefined) return;
    const { task, progressUrl } = this.#latest;
    const file = uploadResult(task);
    this.#row("Follow in a shell", `curl -N ${progressUrl}`, true);
    this.#row("Progress URL", progressUrl, true);
    this.#row("Task", task.taskId, true);
    this.#row("SHA-256", file?.sha256, true);
    this.#row("BLAKE3", file?.blake3, true);
    this.#row("Error code", task.error?.code, false);
    this.#row("For user", task.userId, false);
    this.#row("Created", formatTime(task.createdAt), false);
    this.#row("Last change", formatTime(task.updatedAt), false);
  }

  #row(name: string, value: string | undefined, copyable: boolean): void {
    if (value === undefined || value === "") return;
    const row = this.#rows.get(name) ?? this.#addRow(name, copyable);
    const [content] = row.description.children;
    if (content instanceof CopyText) content.text = value;
    else if (row.description.textContent !== value) row.description.textContent = value;
  }

  #addRow(name: string, copyable: boolean) {
    const row = { term: make("dt", {}, name), description: make("dd") };
    if (copyable) {
      const copy = new CopyText();
      copy.setAttribute("label", name);
      row.description.append(copy);
    }
    this.#rows.set(name, row);
    this.#list.append(row.term, row.description);
    return row;
  }
}

customElements.define("task-details", TaskDetails);
