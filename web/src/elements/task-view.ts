/**
 * `<task-view>`: all that is known of one task, for its own page.
 *
 * The card of the list, and below it what a card has no room for. Knows nothing of the network.
 */

import { formatPercent, formatSeconds, formatTime, visible } from "../board/format.ts";
import type { Step, Task } from "../client/task.ts";
import { make, setText } from "./dom.ts";
import { FactList } from "./fact-list.ts";
import { type CardContext, TaskCard } from "./task-card.ts";
import { showIdentity } from "./task-details.ts";

export class TaskView extends HTMLElement {
  readonly #card = new TaskCard("h2");
  readonly #steps = make("ol", { class: "steps" });
  readonly #facts = new FactList();
  readonly #data = new Map<string, HTMLElement>();
  readonly #commands = new FactList();
  readonly #json = make("pre", { dir: "auto" });
  readonly #whole = make("details", {}, make("summary", {}, "JSON"), this.#json);
  #task: Task | undefined;

  connectedCallback(): void {
    if (this.childElementCount > 0) return;
    const payloads = ["Input", "Metadata", "Result", "Error"].map((name) => this.#payload(name));
    this.append(
      this.#card,
      section("Steps", this.#steps),
      section("Facts", this.#facts),
      ...payloads,
      section("From a shell", this.#commands),
      this.#whole,
    );
    this.#whole.addEventListener("toggle", () => this.#showJson());
  }

  show(task: Task, context: CardContext): void {
    this.#task = task;
    this.#card.show(task, context);
    this.#showSteps(task);
    this.#showFacts(task);
    this.#showPayload("Input", task.input);
    this.#showPayload("Metadata", task.metadata);
    this.#showPayload("Result", task.result);
    this.#showPayload("Error", task.error);
    this.#showCommands(context.progressUrl);
    this.#showJson();
  }

  #showSteps({ steps = [], step: current = -1 }: Task): void {
    const items = steps.map((step, index) => stepText(step, index < current));
    const shown = [...this.#steps.children].map((item) => item.textContent);
    if (items.join("\n") !== shown.join("\n"))
      this.#steps.replaceChildren(...items.map((text) => make("li", { dir: "auto" }, text)));
    [...this.#steps.children].forEach((item, index) => {
      item.toggleAttribute("data-current", index === current);
    });
    setSection(this.#steps, steps.length > 0);
  }

  #showFacts(task: Task): void {
    const { attempt, maxAttempts, eta, startedAt, finishedAt, queue } = task;
    this.#facts.fact("Kind", task.kind);
    this.#facts.fact("Queue", queue === "default" ? undefined : queue);
    this.#facts.fact("Attempt", maxAttempts === undefined ? `${attempt}` : attempts(task));
    this.#facts.fact("Started", formatTime(startedAt));
    this.#facts.fact("Finished", formatTime(finishedAt));
    this.#facts.fact("Took", duration(startedAt, finishedAt));
    this.#facts.fact("Done at about", formatTime(eta?.at));
    showIdentity(this.#facts, task);
  }

  #showCommands(progressUrl: string): void {
    const url = progressUrl.replace(/\/progress$/, "");
    this.#commands.copyable("Watch it", `curl -N ${progressUrl}`);
    this.#commands.copyable("Read it", `curl ${url}`);
    this.#commands.copyable(
      "Report on it",
      `curl -X PATCH ${url} -d progress=40 --data-urlencode 'message=40 % done'`,
    );
    this.#commands.copyable("Complete it", `curl -X PATCH ${url} -d status=completed`);
    this.#commands.copyable("Cancel it", `curl -X POST ${url}/cancel`);
  }

  #payload(name: string): HTMLElement {
    const content = make("pre", { dir: "auto" });
    this.#data.set(name, content);
    return section(name, content);
  }

  #showPayload(name: string, value: unknown): void {
    const content = this.#data.get(name);
    if (content === undefined) return;
    setText(content, value === undefined ? undefined : formatJson(value));
    setSection(content, value !== undefined);
  }

  /** Kept up to date only while it is open. */
  #showJson(): void {
    if (this.#whole.open && this.#task !== undefined) setText(this.#json, formatJson(this.#task));
  }
}

function section(name: string, content: HTMLElement): HTMLElement {
  return make("section", { class: "view-section" }, make("h3", {}, name), content);
}

function setSection(content: HTMLElement, isShown: boolean): void {
  const { parentElement } = content;
  if (parentElement !== null) parentElement.hidden = !isShown;
}

function stepText({ name, progress }: Step, isOver: boolean): string {
  const share = isOver ? 100 : progress;
  return share === undefined ? visible(name) : `${visible(name)}: ${formatPercent(share)}`;
}

function attempts({ attempt, maxAttempts }: Task): string {
  return `${attempt} of ${maxAttempts}`;
}

function duration(from: string | undefined, to: string | undefined): string | undefined {
  const ms = Date.parse(to ?? "") - Date.parse(from ?? "");
  return Number.isNaN(ms) ? undefined : formatSeconds(ms / 1000);
}

/** Line breaks are the layout's own; those of texts are escapes in JSON. */
function formatJson(value: unknown): string {
  return JSON.stringify(value, undefined, 2).split("\n").map(visible).join("\n");
}

customElements.define("task-view", TaskView);
