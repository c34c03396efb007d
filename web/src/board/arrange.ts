/**
 * Which rows are shown where: nothing moves under a pointer.
 *
 * While the list is held, each row keeps its place, rows that have gone keep theirs empty, and rows
 * that are new wait, unless they come after all others. Pure.
 */

export interface Arrangement {
  /** The rows in their order. */
  order: readonly string[];
  /** How many new rows wait. */
  waiting: number;
}

export function arrange(
  shown: readonly string[],
  wanted: readonly string[],
  isHeld: boolean,
): Arrangement {
  if (!isHeld || shown.length === 0) return { order: wanted, waiting: 0 };
  const isShown = new Set(shown);
  const last = wanted.findLastIndex((id) => isShown.has(id));
  const below = last === -1 ? [] : wanted.slice(last + 1);
  const added = wanted.filter((id) => !isShown.has(id)).length;
  return { order: [...shown, ...below], waiting: added - below.length };
}
