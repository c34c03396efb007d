/**
 * Who of a browser's tabs holds the one stream.
 *
 * A browser opens six HTTP/1.1 connections to one host, over all its tabs. A stream holds one for
 * as long as it lives, so a stream per tab would leave the seventh tab unable to load.
 */

/** Runs `lead` when this tab becomes the leader; its signal says that it is the leader no more. */
export type Election = (lead: (signal: AbortSignal) => Promise<void>) => void;

/** The tab that holds the lock leads until it is closed; the browser gives the lock to the next. */
export function electByLock(locks: LockManager, name: string): Election {
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
