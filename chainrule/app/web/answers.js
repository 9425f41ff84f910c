// @ts-check
/** The same question about many epochs: some evenly spread, a few at a time, with what there is so far. */

const AT_ONCE = 2;

/** At most so many of them, evenly spread, the first and the last with them. @param {any[]} all @param {number} most */
export function spread(all, most) {
  if (all.length <= most) return all;
  return Array.from({ length: most }, (_, i) => all[Math.round(i * (all.length - 1) / (most - 1))]);
}

/**
 * One question for each, a few at a time; `each` is told of what there is so far, in order.
 * @param {any[]} items @param {(item: any) => Promise<any>} ask @param {(answers: any[]) => void} each @param {AbortSignal} signal
 */
export async function answers(items, ask, each, signal) {
  /** @type {any[]} */
  const found = new Array(items.length);
  let next = 0;
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, async () => {
    while (next < items.length && !signal.aborted) {
      const i = next;
      next += 1;
      found[i] = await ask(items[i]);
      each(found.filter(Boolean));
    }
  }));
  return found;
}
