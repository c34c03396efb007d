/**
 * Tells a screen reader what has changed, at a pace at which it can be heard: the first change at
 * once, and what follows it soon together.
 */

/** More changes than this at once are told as a number. */
const MOST = 4;
const PACE_MS = 500;

export function createNews(say: (text: string) => void) {
  let waiting: string[] = [];
  let isPaused = false;

  function tell(): void {
    isPaused = waiting.length > 0;
    if (!isPaused) return;
    if (waiting.length > MOST) say(`${waiting.length} changes of tasks`);
    else for (const text of waiting) say(text);
    waiting = [];
    setTimeout(tell, PACE_MS);
  }

  return {
    add(...texts: readonly string[]): void {
      waiting.push(...texts);
      if (!isPaused) tell();
    },
  };
}
