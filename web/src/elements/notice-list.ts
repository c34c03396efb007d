/**
 * `<notice-list>`: what went wrong with something that a person asked for, until it is dismissed.
 *
 * What a task itself can tell is told by its card, not here.
 */

import { make } from "./dom.ts";

export interface Notice {
  text: string;
  /** What can be done about it. */
  remedy?: { label: string; run: () => void };
}

/** Beyond this many the oldest go: a person who sees five failures has seen enough. */
const MAX_NOTICES = 5;

export class NoticeList extends HTMLElement {
  connectedCallback(): void {
    this.setAttribute("role", "alert");
  }

  add({ text, remedy }: Notice): void {
    const notice = make("div", { class: "notice" }, make("p", {}, text));
    const actions = make("div", { class: "notice-actions" });
    if (remedy !== undefined) actions.append(button(remedy.label, remedy.run));
    actions.append(button("Dismiss", () => undefined));
    actions.addEventListener("click", () => notice.remove());
    notice.append(actions);
    this.append(notice);
    while (this.childElementCount > MAX_NOTICES) this.firstElementChild?.remove();
  }
}

function button(label: string, run: () => void): HTMLButtonElement {
  const element = make("button", { type: "button", class: "quiet" }, label);
  element.addEventListener("click", run);
  return element;
}

customElements.define("notice-list", NoticeList);
