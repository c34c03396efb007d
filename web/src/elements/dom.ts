/**
 * The few lines of DOM that every element repeats. No state.
 *
 * Nothing here takes HTML: text from the server is only ever set as text.
 */

/** Makes an element with attributes and children. A class list is the attribute `class`. */
export function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Readonly<Record<string, string>> = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Sets a text only where it differs, and hides the element that has none. */
export function setText(element: HTMLElement, text: string | undefined): void {
  const shown = text ?? "";
  const hidden = shown === "";
  if (element.hidden !== hidden) element.hidden = hidden;
  if (element.textContent !== shown) element.textContent = shown;
}

export function setAttribute(element: Element, name: string, value: string | undefined): void {
  if (value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** The element of the page with this id; a page without it is broken. */
export function byId<T extends HTMLElement>(id: string, type: new (...args: never[]) => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no <${type.name} id="${id}">`);
  return found;
}
