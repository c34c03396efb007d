/**
 * `<task-details>`: what few need of a task and those few need exactly: where to watch it, its
 * id, its times, the digests of its file. Closed until asked for.
 */

import { formatTime, visible } from "../board/format.ts";
import { type Task, uploadResult } from "../client/task.ts";
import { make } from "./dom.ts";
import { FactList } from "./fact-list.ts";

export class TaskDetails extends HTMLElement {
  readonly #disclosure = make("details");
  readonly #facts = new FactList();
  #latest: { task: Task; progressUrl: string } | undefined;

  connectedCallback(): void {
    if (this.#disclosure.isConnected) return;
    this.#disclosure.append(make("summary", {}, "Details"), this.#facts);
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
    this.#facts.copyable("Follow in a shell", `curl -N ${progressUrl}`);
    this.#facts.copyable("Progress URL", progressUrl);
    showIdentity(this.#facts, task);
  }
}

/** What a task is and was, without what it is about just now. */
export function showIdentity(facts: FactList, task: Task): void {
  const file = uploadResult(task);
  facts.copyable("Task", task.taskId);
  facts.copyable("SHA-256", file?.sha256);
  facts.copyable("BLAKE3", file?.blake3);
  facts.fact("Error code", task.error?.code);
  facts.fact("For user", task.userId && visible(task.userId));
  facts.fact("Created", formatTime(task.createdAt));
  facts.fact("Last change", formatTime(task.updatedAt));
}

customElements.define("task-details", TaskDetails);
