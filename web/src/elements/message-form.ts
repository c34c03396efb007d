/**
 * `<message-form>`: sends a message to a user, a group or a topic, or listens to it; shows what is
 * listened to. Wraps the plain form of the page.
 *
 * Tells `message-asked` (an `Outgoing`), `listen-asked` and `stop-asked` (the name of a channel).
 */

import { channelName } from "../board/message.ts";
import { make, setText } from "./dom.ts";

export type Kind = "user" | "group" | "topic";

/** What a person wants to send. */
export interface Outgoing {
  kind: Kind;
  name: string;
  text: string;
}

export class MessageForm extends HTMLElement {
  readonly #outcome = make("p", { class: "outcome", role: "status" });
  readonly #listening = make("ul", { class: "listening" });
  readonly #rows = new Map<string, HTMLLIElement>();

  connectedCallback(): void {
    if (this.#outcome.isConnected) return;
    this.append(this.#outcome, this.#listening);
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#tell("message-asked", { ...this.#address(), text: this.#field("text").value });
    });
    this.#form.querySelector("button[type=button]")?.addEventListener("click", () => {
      const { kind, name } = this.#address();
      if (this.#field("name").reportValidity()) this.#tell("listen-asked", `${kind}:${name}`);
    });
  }

  /** Addresses this user. */
  choose(userId: string): void {
    this.#field("kind").value = "user";
    this.#field("name").value = userId;
    this.#field("text").focus();
  }

  /** Says what became of it; only what was sent may be typed over. */
  showOutcome(text: string, isSent: boolean): void {
    setText(this.#outcome, text);
    this.#outcome.toggleAttribute("data-failed", !isSent);
    if (isSent) this.#field("text").value = "";
  }

  showListening(channels: readonly string[]): void {
    for (const [channel, row] of this.#rows) {
      if (channels.includes(channel)) continue;
      // The button that was pressed goes: the keyboard must not be left nowhere.
      if (row.contains(document.activeElement)) this.#field("name").focus();
      row.remove();
      this.#rows.delete(channel);
    }
    for (const channel of channels) if (!this.#rows.has(channel)) this.#addRow(channel);
    this.#listening.hidden = channels.length === 0;
  }

  #addRow(channel: string): void {
    const stop = make("button", { type: "button", class: "quiet" }, "Stop");
    stop.setAttribute("aria-label", `Stop listening to ${channelName(channel)}`);
    stop.addEventListener("click", () => this.#tell("stop-asked", channel));
    const row = make("li", {}, make("span", {}, `Listening to ${channelName(channel)}`), stop);
    this.#rows.set(channel, row);
    this.#listening.append(row);
  }

  get #form(): HTMLFormElement {
    const form = this.querySelector("form");
    if (form === null) throw new Error("<message-form> wraps a form");
    return form;
  }

  #field(name: string): HTMLInputElement | HTMLSelectElement {
    return this.#form.elements.namedItem(name) as HTMLInputElement | HTMLSelectElement;
  }

  #address(): { kind: Kind; name: string } {
    return { kind: this.#field("kind").value as Kind, name: this.#field("name").value };
  }

  #tell(name: string, detail: Outgoing | string): void {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true }));
  }
}

customElements.define("message-form", MessageForm);
