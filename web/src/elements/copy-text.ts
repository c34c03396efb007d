/**
 * `<copy-text>`: one line of text with a button that copies it.
 *
 * Long commands are broken after a slash or a space rather than in the middle of a word.
 */

import { make } from "./dom.ts";

/** How long the button says that it has copied. */
const CONFIRM_MS = 2_000;

export class CopyText extends HTMLElement {
  readonly #code = make("code");
  readonly #button = make("button", { type: "button", class: "quiet" }, "Copy");
  #timer: ReturnType<typeof setTimeout> | undefined;

  connectedCallback(): void {
    if (this.#code.isConnected) return;
    this.replaceChildren(this.#code, this.#button);
    this.#button.addEventListener("click", () => void this.#copy());
    this.#nameButton();
  }

  set text(text: string) {
    if (this.#code.textContent === text) return;
    const parts = text.split(/(?<=[^/:]\/|[?=])/);
    this.#code.replaceChildren(...parts.flatMap((part) => [part, make("wbr")]));
  }

  async #copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(this.#code.textContent);
      this.#button.textContent = "Copied";
    } catch {
      // Without a secure context or a permission there is no clipboard: the next best thing is
      // to mark the text, so that the keyboard's own copy takes it.
      getSelection()?.selectAllChildren(this.#code);
      this.#button.textContent = "Press Ctrl+C";
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#button.textContent = "Copy";
    }, CONFIRM_MS);
  }

  /** Several buttons of one page say "Copy": what they copy tells them apart. */
  #nameButton(): void {
    const label = this.getAttribute("label");
    if (label !== null) this.#button.setAttribute("aria-description", label);
  }
}

customElements.define("copy-text", CopyText);
