/**
 * Who of a browser's tabs holds the one stream.
 *
 * A browser opens six HTTP/1.1 connections to one host, over all its tabs. A stream holds one for
 * as long as it lives, so a stream per tab would leave the seventh tab unable to load.
 */

/** How the tabs of a browser find each other. */
export interface Tabs {
  elect: Election;
  /** Where they hear each other. */
  channel: Pick<BroadcastChannel, "postMessage" | "addEventListener">;
}

/** Those that share the stream of this name; without locks each is on its own. */
export function tabsOf(name: string): Tabs {
  const locks: LockManager | undefined = navigator.locks;
  if (locks !== undefined)
    return { elect: electByLock(locks, name), channel: new BroadcastChannel(name) };
  const nobody = { postMessage: () => undefined, addEventListener: () => undefined };
  return { elect: electWhileVisible(document), channel: nobody };
}

/** Runs `lead` when this tab becomes the leader; its signal says that it is the leader no more. */
export type Election = (lead: (signal: AbortSignal) => Promise<void>) => void;

/** The tab that holds the lock leads until it is closed; the browser gives the lock to the next. */
function electByLock(locks: LockManager, name: string): Election {
  return (lead) => {
    void locks.request(name, () => lead(new AbortController().signal));
  };
}

/**
 * Where there are no locks (a page that was loaded over plain HTTP from another host), every tab
 * leads itself, but only while it can be seen.
 */
export function electWhileVisible(page: Document): Election {
  return (lead) => {
    let leading: AbortController | undefined;
    const change = () => {
      if (page.hidden === (leading === undefined)) return;
      if (leading !== undefined) {
        leading.abort();
        leading = undefined;
        return;
      }
      leading = new AbortController();
      void lead(leading.signal);
    };
    page.addEventListener("visibilitychange", change);
    change();
  };
}
