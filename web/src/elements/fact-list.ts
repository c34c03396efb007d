/**
 * `<fact-list>`: terms and what they are, each updated in place; one without a value is not shown.
 */

import { CopyText } from "./copy-text.ts";
import { make } from "./dom.ts";

export class FactList extends HTMLElement {
  readonly #list = make("dl");
  readonly #rows = new Map<string, { term: HTMLElement; description: HTMLElement }>();

  connectedCallback(): void {
    if (!this.#list.isConnected) this.append(this.#list);
  }

  /** A text to read. */
  fact(name: string, value: string | undefined): void {
    this.#row(name, value, false);
  }

  /** A text to copy. */
  copyable(name: string, value: string | undefined): void {
    this.#row(name, value, true);
  }

  #row(name: string, value: string | undefined, isCopyable: boolean): void {
    const known = this.#rows.get(name);
    const isAbsent = value === undefined || value === "";
    if (isAbsent && known === undefined) return;
    const row = known ?? this.#addRow(name, isCopyable);
    row.term.hidden = isAbsent;
    row.description.hidden = isAbsent;
    if (isAbsent) return;
    const [content] = row.description.children;
    if (content instanceof CopyText) content.text = value;
    else if (row.description.textContent !== value) row.description.textContent = value;
  }

  #addRow(name: string, isCopyable: boolean) {
    const row = { term: make("dt", {}, name), description: make("dd", { dir: "auto" }) };
    if (isCopyable) {
      const copy = new CopyText();
      copy.setAttribute("label", name);
      row.description.append(copy);
    }
    this.#rows.set(name, row);
    this.#list.append(row.term, row.description);
    return row;
  }
}

customElements.define("fact-list", FactList);
