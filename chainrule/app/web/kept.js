// @ts-check
/** The epochs of a run whose weights are kept. */

import { get } from "./api.js";

const MOST = 5000;

/**
 * The checkpoints of a run behind an epoch, of very long runs the first 5,000.
 * @param {string} id @param {AbortSignal} signal @param {number} [begin] the epoch
 * @returns {Promise<any[]>}
 */
export async function checkpoints(id, signal, begin = -1) {
  /** @type {any[]} */
  const found = [];
  let after = begin;
  while (after !== null && found.length < MOST) {
    const page = await get(`/v1/runs/${id}/checkpoints?limit=1000&after=${after}`, { signal });
    found.push(...page.items);
    after = page.next_after;
  }
  return found;
}

/** The kept epoch that an address means: the nearest to the one it names, or the last. @param {any[]} kept @param {string | null} asked */
export function epochOf(kept, asked) {
  const last = kept.length ? kept[kept.length - 1].epoch : 0;
  if (asked === null || asked === "" || !Number.isFinite(Number(asked))) return last;
  return kept.reduce((best, one) => Math.abs(one.epoch - Number(asked)) < Math.abs(best - Number(asked)) ? one.epoch : best, last);
}
