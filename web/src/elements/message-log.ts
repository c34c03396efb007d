/** `<message-log>`: the messages that arrived last, the newest first; read out as they come. */

import { channelName, type Message, messageText } from "../board/message.ts";
import { make } from "./dom.ts";

/** Older ones go. */
const MOST = 20;

export class MessageLog extends HTMLElement {
  connectedCallback(): void {
    this.setAttribute("role", "log");
    this.setAttribute("aria-label", "Messages");
  }

  add({ channel, data, atMs }: Message): void {
    const at = new Date(atMs);
    const isToday = at.toDateString() === new Date().toDateString();
    const shown = isToday ? at.toLocaleTimeString() : at.toLocaleString();
    const time = make("time", { datetime: at.toISOString() }, shown);
    const head = make("span", { class: "aside" }, time, ` ${channelName(channel)}`);
    this.prepend(make("p", {}, head, make("span", { dir: "auto" }, messageText(data))));
    while (this.childElementCount > MOST) this.lastElementChild?.remove();
  }
}

customElements.define("message-log", MessageLog);
