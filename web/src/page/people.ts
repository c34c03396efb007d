/**
 * The people of the page: who is connected, what is sent to them, and what arrives where somebody
 * listens. One stream for all tabs, beside that of the tasks.
 */

import { messageOf } from "../board/message.ts";
import type { WatchQuery } from "../client/client.ts";
import { parseUser } from "../client/people.ts";
import { explain } from "../client/problem.ts";
import type { ChannelChange, ChannelEvent } from "../client/stream.ts";
import type { Outgoing } from "../elements/message-form.ts";
import { joinHub, type Link } from "../live/hub.ts";
import { tabsOf } from "../live/leader.ts";
import type { PeopleElements } from "./elements.ts";
import { createListening } from "./listening.ts";
import { createPresence } from "./presence.ts";
import { createRepeats } from "./repeats.ts";
import type { Visit } from "./session.ts";

const HUB = "progressd-people";
const PRESENCE = "topic:presence";
/** What a notification is called that is sent from here. */
const TITLE = "Message";

export function startPeople({ client, session }: Visit, page: PeopleElements): void {
  /** A person is told their own messages only, and nothing of others. */
  const own = session.kind === "person" ? [`user:${session.name}`] : undefined;
  let isSending = false;
  let isRenderAsked = false;
  /** Ends the stream that the leader holds, for one of other channels. */
  let reopen: AbortController | undefined;

  const repeats = createRepeats();
  const presence = createPresence(client, render);
  const listening = createListening(() => {
    reopen?.abort();
    render();
  });

  async function* open(query: WatchQuery): AsyncGenerator<ChannelEvent, void, undefined> {
    for (let from = query; !query.signal.aborted; from = { signal: query.signal }) {
      reopen = new AbortController();
      const signal = AbortSignal.any([query.signal, reopen.signal]);
      const channels = own ?? [PRESENCE, ...listening.channels()];
      const isRepeat = from.lastEventId === undefined && repeats.startAnew(channels);
      for await (const event of client.watchMany(channels, { ...from, signal }))
        if (event.type !== "message" || !isRepeat || !isRepeat(event.channel, event.data))
          yield event;
    }
  }

  function onChanges(changes: readonly ChannelChange[]): void {
    for (const change of changes) {
      if (change.type !== "message") continue;
      const { channel, data } = change;
      if (channel === PRESENCE) presence.learn(parseUser(data));
      else {
        repeats.remember(channel, data);
        page.messages.add(messageOf(channel, data, Date.now()));
      }
    }
  }

  function onLink(link: Link): void {
    if (link.state === "live" && own === undefined) void presence.load();
    page.showTrouble(link.refusal);
  }

  async function send(outgoing: Outgoing): Promise<void> {
    // Enter that is pressed twice is one message.
    if (isSending) return;
    isSending = true;
    try {
      page.form.showOutcome(await sent(outgoing), true);
    } catch (error) {
      page.form.showOutcome(explain(error), false);
    }
    isSending = false;
  }

  /** Sends a message, and says whom it has reached. */
  async function sent({ kind, name, text }: Outgoing): Promise<string> {
    const notification = { title: TITLE, message: text };
    switch (kind) {
      case "user": {
        await client.notifyUser(name, notification);
        const isThere = presence.connected()?.users.has(name);
        return isThere ? `Sent to ${name}.` : `Sent. It waits until ${name} connects.`;
      }
      case "group": {
        const { members, connected } = await client.notifyGroup(name, notification);
        return `Sent to ${name}: ${members} in the group, ${connected} connected.`;
      }
      case "topic":
        await client.publish(name, text);
        return `Sent to the topic ${name}.`;
    }
  }

  /** Many events within one frame are one rendering. */
  function render(): void {
    if (isRenderAsked) return;
    isRenderAsked = true;
    requestAnimationFrame(() => {
      isRenderAsked = false;
      const connected = presence.connected();
      if (connected !== undefined) page.showConnected(connected);
      page.form.showListening(listening.channels());
    });
  }

  page.onMessage((outgoing) => void send(outgoing));
  page.onListen(listening.add);
  page.onStop(listening.remove);
  if (own !== undefined) page.showOwnOnly();
  joinHub({ ...tabsOf(HUB), open, onChanges, onLink });
  render();
}
