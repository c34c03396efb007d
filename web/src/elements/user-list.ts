/**
 * `<user-list>`: who is connected, by name. Tells who was chosen with the event `user-chosen`.
 */

import { make, setText } from "./dom.ts";

/** More than this many are told as a number. */
const MOST = 12;

export class UserList extends HTMLElement {
  readonly #list = make("ul", { class: "users" });
  readonly #note = make("p", { class: "aside" });
  readonly #rows = new Map<string, HTMLLIElement>();

  connectedCallback(): void {
    if (this.#list.isConnected) return;
    this.append(this.#list, this.#note);
  }

  /** Shows these users, unless there are too many: then the first, by name. */
  show(userIds: readonly string[], hasMore: boolean): void {
    const shown = [...userIds].sort().slice(0, MOST);
    for (const [userId, row] of this.#rows) {
      if (shown.includes(userId)) continue;
      row.remove();
      this.#rows.delete(userId);
    }
    // Rows that stay are never moved: one of them may have the focus.
    for (const [place, userId] of shown.entries()) {
      const known = this.#rows.get(userId);
      const row = known ?? this.#makeRow(userId);
      const there = this.#list.children[place] ?? null;
      if (row !== there) this.#list.insertBefore(row, there);
    }
    this.#list.hidden = shown.length === 0;
    const rest = userIds.length - shown.length;
    const others = rest > 0 ? `and ${hasMore ? "more than " : ""}${rest} others` : undefined;
    setText(this.#note, userIds.length === 0 ? "Nobody is connected." : others);
  }

  #makeRow(userId: string): HTMLLIElement {
    const button = make("button", { type: "button", class: "quiet" }, userId);
    button.setAttribute("aria-label", `Write to ${userId}`);
    button.addEventListener("click", () => {
      this.dispatchEvent(new CustomEvent("user-chosen", { detail: userId, bubbles: true }));
    });
    const row = make("li", {}, button);
    this.#rows.set(userId, row);
    return row;
  }
}

customElements.define("user-list", UserList);
