/**
 * Which of the page's views the address names: the list at `/`, a task at `/tasks/{id}`.
 *
 * Links between them change the address without leaving the page, so that a file that is being
 * sent goes on.
 */

export interface Router {
  /** The task that the address names; nothing for the list. */
  taskId(): string | undefined;
}

export function taskPath(taskId: string): string {
  return `/tasks/${encodeURIComponent(taskId)}`;
}

export function taskIdOf(path: string): string | undefined {
  const [, taskId] = /^\/tasks\/([^/]+)\/?$/.exec(path) ?? [];
  try {
    return taskId === undefined ? undefined : decodeURIComponent(taskId);
  } catch {
    return taskId;
  }
}

export function createRouter(onChange: () => void): Router {
  document.addEventListener("click", (event) => {
    const path = event.defaultPrevented || !isPlain(event) ? undefined : linkedView(event.target);
    if (path === undefined) return;
    event.preventDefault();
    history.pushState(null, "", path);
    window.scrollTo(0, 0);
    onChange();
  });
  window.addEventListener("popstate", onChange);
  return { taskId: () => taskIdOf(location.pathname) };
}

/** Only a plain click stays here: with a key it opens a tab or a window, as ever. */
function isPlain({ button, metaKey, ctrlKey, shiftKey, altKey }: MouseEvent): boolean {
  return button === 0 && !metaKey && !ctrlKey && !shiftKey && !altKey;
}

function linkedView(target: EventTarget | null): string | undefined {
  const link = target instanceof Element ? target.closest("a[href]") : null;
  if (!(link instanceof HTMLAnchorElement) || link.origin !== location.origin) return undefined;
  const isView = link.pathname === "/" || taskIdOf(link.pathname) !== undefined;
  // A link within the view is the browser's own business.
  return isView && link.hash === "" && link.download === "" ? link.pathname : undefined;
}
