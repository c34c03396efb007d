/**
 * `<task-list>`: the cards of all tasks, in the order given, and which of them are on the screen.
 *
 * Cards are kept by id and never rebuilt, so that focus, selection and disclosures survive.
 */

import type { Task } from "../client/task.ts";
import { make } from "./dom.ts";
import { type CardContext, TaskCard } from "./task-card.ts";

interface Row {
  readonly item: HTMLLIElement;
  readonly card: TaskCard;
  /** What the card shows now. */
  shown?: { task: Task; note: string | undefined };
}

export class TaskList extends HTMLElement {
  readonly #list = make("ol", { class: "cards" });
  readonly #rows = new Map<string, Row>();
  readonly #onScreen = new Set<string>();
  readonly #observer = new IntersectionObserver((entries) => this.#observed(entries));

  connectedCallback(): void {
    if (this.#list.isConnected) return;
    // Safari forgets that a list without bullets is one.
    this.#list.setAttribute("role", "list");
    this.append(this.#list);
  }

  /** The tasks that can be seen without scrolling. Changes are told with `screen-change`. */
  get onScreen(): ReadonlySet<string> {
    return this.#onScreen;
  }

  show(tasks: readonly Task[], contextOf: (task: Task) => CardContext): void {
    const wanted = new Set(tasks.map((task) => task.taskId));
    this.#drop([...this.#rows.keys()].filter((taskId) => !wanted.has(taskId)));
    let place = this.#list.firstElementChild;
    for (const task of tasks) {
      const row = this.#rows.get(task.taskId) ?? this.#add(task.taskId);
      // Moving a node takes its focus away, so a row is only inserted where it is not already.
      if (row.item === place) place = place.nextElementSibling;
      else this.#list.insertBefore(row.item, place);
      update(row, task, contextOf(task));
    }
  }

  #add(taskId: string): Row {
    const card = new TaskCard();
    const item = make("li", { "data-task-id": taskId }, card);
    const row: Row = { item, card };
    this.#rows.set(taskId, row);
    this.#observer.observe(item);
    return row;
  }

  #drop(taskIds: readonly string[]): void {
    for (const taskId of taskIds) {
      const row = this.#rows.get(taskId);
      if (row === undefined) continue;
      const hadFocus = row.item.contains(document.activeElement);
      const neighbour = row.item.nextElementSibling ?? row.item.previousElementSibling;
      this.#observer.unobserve(row.item);
      this.#rows.delete(taskId);
      this.#onScreen.delete(taskId);
      row.item.remove();
      if (hadFocus) this.#focusNear(neighbour);
    }
  }

  /** A keyboard must not fall back to the top of the page because a card went away. */
  #focusNear(neighbour: Element | null): void {
    const card = neighbour?.querySelector("task-card");
    if (card instanceof TaskCard) card.focusAction();
    else this.dispatchEvent(new CustomEvent("focus-lost", { bubbles: true }));
  }

  #observed(entries: readonly IntersectionObserverEntry[]): void {
    for (const { target, isIntersecting } of entries) {
      const taskId = target instanceof HTMLElement ? target.dataset["taskId"] : undefined;
      if (taskId === undefined || !this.#rows.has(taskId)) continue;
      if (isIntersecting) this.#onScreen.add(taskId);
      else this.#onScreen.delete(taskId);
    }
    this.dispatchEvent(new CustomEvent("screen-change", { bubbles: true }));
  }
}

/** A tick of one task must not cost a rendering of all others. */
function update(row: Row, task: Task, context: CardContext): void {
  if (row.shown?.task === task && row.shown.note === context.note) return;
  row.shown = { task, note: context.note };
  row.card.show(task, context);
}

customElements.define("task-list", TaskList);
