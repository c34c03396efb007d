/**
 * `<task-progress>`: the one bar of a task, with a notch where each step ends.
 *
 * Shows what it is given and knows nothing of where that came from. Sizes are set through the
 * CSSOM, because the page's policy forbids style attributes.
 */

import { isFinal, type Task } from "../client/task.ts";
import { make, setAttribute } from "./dom.ts";

export type Tone = "active" | "stalled" | "completed" | "error" | "cancelled";

export function toneOf({ status, stalled }: Task): Tone {
  if (status === "completed" || status === "error" || status === "cancelled") return status;
  return stalled && status === "processing" ? "stalled" : "active";
}

export class TaskProgress extends HTMLElement {
  readonly #fill = make("span", { class: "bar-fill" });
  readonly #notches = make("span", { class: "bar-notches" });
  #notchPlaces = "";

  connectedCallback(): void {
    if (this.#fill.isConnected) return;
    this.setAttribute("role", "progressbar");
    this.setAttribute("aria-valuemin", "0");
    this.setAttribute("aria-valuemax", "100");
    this.append(this.#fill, this.#notches);
  }

  show(task: Task, label: string): void {
    const { progress } = task;
    const indeterminate = progress === undefined && !isFinal(task.status);
    setAttribute(this, "aria-label", label);
    // No aria-valuenow is how a progressbar says that it does not know how far it is.
    setAttribute(this, "aria-valuenow", progress === undefined ? undefined : rounded(progress));
    setAttribute(this, "data-tone", toneOf(task));
    this.toggleAttribute("data-indeterminate", indeterminate && task.status !== "pending");
    this.#fill.style.setProperty("--share", String((progress ?? 0) / 100));
    this.#showNotches(task);
  }

  #showNotches(task: Task): void {
    const places = notchPlaces(stepWeights(task));
    const key = places.join();
    if (key === this.#notchPlaces) return;
    this.#notchPlaces = key;
    this.#notches.replaceChildren(
      ...places.map((place) => {
        const notch = make("span", { class: "bar-notch" });
        notch.style.setProperty("--place", String(place));
        return notch;
      }),
    );
  }
}

/** Beyond this many, notches are noise. */
const MAX_NOTCHES = 20;

/** The weights of a task's steps; one that only counts steps has as many of equal weight. */
export function stepWeights({ steps, unit, total = 0 }: Task): number[] {
  if (steps !== undefined) return steps.map((step) => step.weight);
  const counts = unit === "steps" && Number.isInteger(total) && total >= 0 && total <= MAX_NOTCHES;
  return counts ? Array.from({ length: total }, () => 1) : [];
}

/** Where one step ends and the next begins, as shares of the whole; none at either end. */
export function notchPlaces(weights: readonly number[]): number[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (!(total > 0)) return [];
  let sum = 0;
  return weights.slice(0, -1).map((weight) => {
    sum += weight;
    return sum / total;
  });
}

/** One decimal: finer steps would only make a screen reader talk more. */
function rounded(progress: number): string {
  return String(Math.round(progress * 10) / 10);
}

customElements.define("task-progress", TaskProgress);
