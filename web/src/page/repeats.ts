/**
 * What a stream that starts anew tells again: the values of topics, and notifications that wait.
 *
 * Owns the messages that were told last on each channel.
 */

/** Messages that are remembered of a channel. */
const MOST = 50;

export function createRepeats() {
  const told = new Map<string, string[]>();

  return {
    remember(channel: string, data: unknown): void {
      told.set(channel, [...(told.get(channel) ?? []), JSON.stringify(data)].slice(-MOST));
    },

    /**
     * For a stream of these channels that starts anew: whether a message was told before. From the
     * first one on that was not, all of its channel is new.
     */
    startAnew(channels: readonly string[]): (channel: string, data: unknown) => boolean {
      for (const channel of told.keys()) if (!channels.includes(channel)) told.delete(channel);
      const old = new Set(told.keys());
      return (channel, data) => {
        if (!old.has(channel)) return false;
        const isRepeat = told.get(channel)?.includes(JSON.stringify(data)) ?? false;
        if (!isRepeat) old.delete(channel);
        return isRepeat;
      };
    },
  };
}
