/**
 * Who one is: asks for a token where the server wants one, and again when it has ended.
 *
 * The token is given to the server, which makes a cookie of it that scripts cannot read; it is kept
 * nowhere here. Owns what is known of the session.
 */

import { type Client, createClient } from "../client/client.ts";
import { explain, ProblemError } from "../client/problem.ts";
import type { Session } from "../client/session.ts";
import type { SessionElements } from "./elements.ts";

const RETRY_MS = 2_000;

export interface Visit {
  /** Asks for a token whenever the server refuses the one that it has. */
  client: Client;
  session: Session;
  /** The session is about to end: a new token now, and nothing is missed. */
  expires(): void;
}

/** Runs `start` once it is known who one is. */
export function startSession(page: SessionElements, start: (visit: Visit) => void): void {
  const plain = createClient();
  let current: Session | undefined;

  const client = createClient({
    async fetch(input, init) {
      const response = await fetch(input, init);
      if (response.status === 401) page.ask("Your session has ended. Sign in again.");
      return response;
    },
  });

  function know(session: Session): void {
    page.show(session);
    const before = current;
    current = session;
    if (before === undefined) {
      const expires = () => page.ask("Your session is about to end. Sign in again to go on.");
      start({ client, session, expires });
    } else if (before.kind !== session.kind || before.name !== session.name) location.reload();
  }

  async function begin(): Promise<void> {
    try {
      know(await plain.session());
    } catch (error) {
      if (error instanceof ProblemError && error.status === 401) return page.ask(undefined);
      page.showOutcome(explain(error));
      setTimeout(() => void begin(), RETRY_MS);
    }
  }

  async function signIn(token: string): Promise<void> {
    try {
      know(await plain.signIn(token));
    } catch (error) {
      page.showOutcome(explain(error));
    }
  }

  async function signOut(): Promise<void> {
    try {
      await plain.signOut();
      location.reload();
    } catch (error) {
      page.showOutcome(explain(error));
    }
  }

  page.onSignIn((token) => void signIn(token));
  page.onSignOut(() => void signOut());
  void begin();
}
