/**
 * `<task-list>`: the cards of all tasks, in the order wanted, unless the pointer is over them.
 *
 * Cards are kept by id and never rebuilt, so that focus, selection and disclosures survive. Those
 * on the screen are drawn at once, the others as time allows.
 */

import { arrange } from "../board/arrange.ts";
import type { Task } from "../client/task.ts";
import { make, setText } from "./dom.ts";
import { type CardContext, TaskCard } from "./task-card.ts";

interface Row {
  readonly item: HTMLLIElement;
  readonly card: TaskCard;
  /** What the card shows now. */
  shown?: Shown;
}

interface Shown {
  task: Task;
  context: CardContext;
}

/** What is to be shown of a task; nothing where it is no more. */
export type ShownOf = (taskId: string) => Shown | undefined;

/** Cards out of sight that are drawn in one frame. */
const UNSEEN_PER_FRAME = 25;
/** What a person has just asked for is shown although the list is held. */
const REVEAL_MS = 2_000;
/** After a touch the list keeps still this long: a finger cannot hover. */
const TOUCH_HOLD_MS = 2_000;

export class TaskList extends HTMLElement {
  readonly #list = make("ol", { class: "cards" });
  readonly #fresh = make("button", { type: "button", class: "fresh" });
  readonly #rows = new Map<string, Row>();
  readonly #onScreen = new Set<string>();
  readonly #observer = new IntersectionObserver((entries) => this.#observed(entries), {
    rootMargin: "50% 0px",
  });
  #order: readonly string[] = [];
  #wanted: readonly string[] = [];
  #shownOf: ShownOf = () => undefined;
  #isHeld = false;
  #revealUntilMs = 0;
  #release: ReturnType<typeof setTimeout> | undefined;
  #isDrawing = false;
  /** Where the last drawing of what is out of sight came to: each has its turn. */
  #nextUnseen = -1;

  connectedCallback(): void {
    if (this.#list.isConnected) return;
    // Safari forgets that a list without bullets is one.
    this.#list.setAttribute("role", "list");
    this.#fresh.hidden = true;
    this.append(make("div", { class: "fresh-place" }, this.#fresh), this.#list);
    this.#fresh.addEventListener("click", () => this.#arrange(false));
    this.addEventListener("pointerenter", () => this.#hold(true));
    this.addEventListener("pointerleave", ({ pointerType }) => {
      if (pointerType === "mouse") this.#hold(false);
      else this.#release = setTimeout(() => this.#hold(false), TOUCH_HOLD_MS);
    });
  }

  show(wanted: readonly string[], shownOf: ShownOf): void {
    this.#wanted = wanted;
    this.#shownOf = shownOf;
    this.#arrange(this.#isHeld && performance.now() > this.#revealUntilMs);
  }

  /** What comes next was asked for just now, by a file that was dropped here for example. */
  reveal(): void {
    this.#revealUntilMs = performance.now() + REVEAL_MS;
  }

  #hold(isHeld: boolean): void {
    clearTimeout(this.#release);
    if (this.#isHeld === isHeld) return;
    this.#isHeld = isHeld;
    if (!isHeld) this.#arrange(false);
  }

  #arrange(isHeld: boolean): void {
    const { order, waiting } = arrange(this.#order, this.#wanted, isHeld);
    this.#order = order;
    const tasks = waiting === 1 ? "task" : "tasks";
    setText(this.#fresh, waiting === 0 ? undefined : `${waiting} new ${tasks}`);
    this.#place();
    this.#draw();
  }

  /** Puts the rows in their order. */
  #place(): void {
    const wanted = new Set(this.#order);
    this.#drop([...this.#rows.keys()].filter((taskId) => !wanted.has(taskId)));
    const focused = document.activeElement;
    let place = this.#list.firstElementChild;
    for (const taskId of this.#order) {
      const row = this.#rows.get(taskId) ?? this.#add(taskId);
      if (row.item === place) place = place.nextElementSibling;
      else this.#list.insertBefore(row.item, place);
    }
    // A node that is moved loses its focus.
    if (focused !== document.activeElement && focused instanceof HTMLElement)
      focused.focus({ preventScroll: true });
  }

  /** Draws what can be seen, and some of the rest; what remains comes with the next frames. */
  #draw(): void {
    for (const taskId of this.#onScreen) this.#drawRow(taskId);
    const { length } = this.#order;
    let drawn = 0;
    for (let looked = 0; looked < length; looked += 1) {
      if (drawn === UNSEEN_PER_FRAME) {
        this.#drawLater();
        return;
      }
      this.#nextUnseen = (this.#nextUnseen + 1) % length;
      if (this.#drawRow(this.#order[this.#nextUnseen] ?? "")) drawn += 1;
    }
  }

  #drawRow(taskId: string): boolean {
    const row = this.#rows.get(taskId);
    const next = this.#shownOf(taskId) ?? gone(row?.shown);
    if (row === undefined || next === undefined || isSame(row.shown, next)) return false;
    row.shown = next;
    row.card.show(next.task, next.context);
    return true;
  }

  #drawLater(): void {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.#draw();
    });
  }

  #add(taskId: string): Row {
    const card = new TaskCard();
    const item = make("li", { "data-task-id": taskId, tabindex: "-1" }, card);
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

  /** A keyboard must not fall back to the top of the page because a row went away. */
  #focusNear(neighbour: Element | null): void {
    if (neighbour instanceof HTMLElement) neighbour.focus({ preventScroll: true });
    else this.dispatchEvent(new CustomEvent("focus-lost", { bubbles: true }));
  }

  #observed(entries: readonly IntersectionObserverEntry[]): void {
    for (const { target, isIntersecting } of entries) {
      const taskId = target instanceof HTMLElement ? target.dataset["taskId"] : undefined;
      if (taskId === undefined || !this.#rows.has(taskId)) continue;
      if (isIntersecting) this.#onScreen.add(taskId);
      else this.#onScreen.delete(taskId);
    }
    this.#drawLater();
  }
}

/** A row that is kept in its place although its task is no more. */
function gone(shown: Shown | undefined): Shown | undefined {
  return shown && { task: shown.task, context: { ...shown.context, deletion: "done" } };
}

/** A tick of one task must not cost a rendering of all others. */
function isSame(left: Shown | undefined, right: Shown): boolean {
  return (
    left?.task === right.task &&
    left.context.note === right.context.note &&
    left.context.deletion === right.context.deletion
  );
}

customElements.define("task-list", TaskList);
