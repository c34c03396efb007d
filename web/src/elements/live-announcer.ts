/**
 * `<live-announcer>`: speaks to screen readers, politely, and shows nothing.
 */

import { make } from "./dom.ts";

/** Long enough to be read out, short enough not to be found later by browsing. */
const KEEP_MS = 10_000;

export class LiveAnnouncer extends HTMLElement {
  connectedCallback(): void {
    this.classList.add("visually-hidden");
    this.setAttribute("role", "log");
    this.setAttribute("aria-live", "polite");
    this.setAttribute("aria-label", "Changes of the tasks");
  }

  say(text: string): void {
    const line = make("p", {}, text);
    this.append(line);
    setTimeout(() => line.remove(), KEEP_MS);
  }
}

customElements.define("live-announcer", LiveAnnouncer);
