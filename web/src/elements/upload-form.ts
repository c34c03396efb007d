/**
 * `<upload-form>`: files by picker or by dropping them anywhere on the page.
 *
 * Wraps the plain form of the page, which works without a script as well. Tells the files with
 * the event `files-chosen`, and what was dropped but is no file with `folders-refused`.
 */

import { formatBytes } from "../board/format.ts";
import type { UploadState } from "../upload/queue.ts";
import { make, setText } from "./dom.ts";

export class UploadForm extends HTMLElement {
  readonly #waiting = make("p", { class: "upload-waiting", role: "status" });
  /** dragenter and dragleave come for every element under the pointer, so they are counted. */
  #dragDepth = 0;

  connectedCallback(): void {
    if (this.#waiting.isConnected) return;
    setText(this.#waiting, undefined);
    this.append(this.#waiting);
    const input = this.querySelector("input");
    input?.addEventListener("change", () => {
      this.#choose([...(input.files ?? [])]);
      // The same file can be chosen again.
      input.value = "";
    });
    window.addEventListener("dragenter", (event) => this.#drag(event, 1));
    window.addEventListener("dragleave", (event) => this.#drag(event, -1));
    window.addEventListener("dragover", (event) => {
      if (carriesFiles(event)) event.preventDefault();
    });
    window.addEventListener("drop", (event) => this.#drop(event));
  }

  show({ waiting }: UploadState): void {
    const size = waiting.reduce((sum, file) => sum + file.size, 0);
    const files = waiting.length === 1 ? "1 more file waits" : `${waiting.length} more files wait`;
    const text = `${files} to be sent (${formatBytes(size)}).`;
    setText(this.#waiting, waiting.length === 0 ? undefined : text);
  }

  #choose(files: readonly File[]): void {
    if (files.length === 0) return;
    this.dispatchEvent(new CustomEvent("files-chosen", { detail: files, bubbles: true }));
  }

  #drag(event: DragEvent, change: 1 | -1): void {
    if (!carriesFiles(event)) return;
    this.#dragDepth = Math.max(this.#dragDepth + change, 0);
    this.toggleAttribute("data-dragging", this.#dragDepth > 0);
  }

  #drop(event: DragEvent): void {
    if (!carriesFiles(event) || event.dataTransfer === null) return;
    event.preventDefault();
    this.#dragDepth = 0;
    this.removeAttribute("data-dragging");
    const { files, folders } = sortOut(event.dataTransfer);
    if (folders > 0) this.dispatchEvent(new CustomEvent("folders-refused", { bubbles: true }));
    this.#choose(files);
  }
}

function carriesFiles(event: DragEvent): boolean {
  return event.dataTransfer?.types.includes("Files") ?? false;
}

/** A folder looks like a file until it is read: only its entry tells. */
function sortOut(transfer: DataTransfer): { files: File[]; folders: number } {
  const files: File[] = [];
  let folders = 0;
  for (const item of transfer.items) {
    if (item.kind !== "file") continue;
    const file = item.getAsFile();
    if (item.webkitGetAsEntry()?.isDirectory) folders += 1;
    else if (file !== null) files.push(file);
  }
  return { files, folders };
}

customElements.define("upload-form", UploadForm);
