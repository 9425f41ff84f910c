// @ts-check
/** What runs have in common and where they differ: specs, curves over a common axis, weights. */

import { get } from "./api.js";

const POINTS = 500;
const WHOLE = 2000;
const MOST_RECORDS = 6000;
/** Below so many seconds an axis has milliseconds: its ticks are whole. */
const SHORT_S = 5;
export const AXES = { epochs: "epoch", seconds: "seconds of training", steps: "step" };

/**
 * A spec as names and values, one for each leaf; layers are counted from 1.
 * @param {any} value @param {string} [name]
 * @returns {[string, any][]}
 */
export function leaves(value, name = "") {
  if (Array.isArray(value) && name === "network.layers") {
    return value.flatMap((layer, i) => Object.entries(layer).flatMap(([key, inner]) => leaves(inner, `layer ${i + 1} · ${key}`)));
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [[name, value]];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, name ? `${name}.${key}` : key));
}

/**
 * The rows in which specs differ; undefined where one has no such field.
 * @param {any[]} configs
 * @returns {{name: string, values: any[]}[]}
 */
export function differences(configs) {
  const all = configs.map((config) => new Map(leaves(config)));
  const names = [...new Set(all.flatMap((one) => [...one.keys()]))].filter((name) => name !== "name");
  return names.map((name) => ({ name, values: all.map((one) => one.get(name)) }))
    .filter(({ values }) => values.some((value) => JSON.stringify(value) !== JSON.stringify(values[0])));
}

/**
 * A run's epochs, with the seconds and steps it had taken by the end of each.
 * @param {any} run @param {AbortSignal} signal
 */
export async function history(run, signal) {
  const query = run.progress.epochs_total <= WHOLE ? `limit=${WHOLE + 1}` : `at_most=${POINTS}`;
  const { columns, downsampled } = await get(`/v1/runs/${run.id}/epochs?${query}`, { signal });
  const stride = downsampled?.stride ?? 1;
  let total = 0;
  const seconds = columns.seconds.map((/** @type {number} */ s, /** @type {number} */ i) => {
    const epochs = i ? columns.epoch[i] - columns.epoch[i - 1] : 1;
    total += columns.epoch[i] ? s * Math.min(stride, epochs) : 0;
    return total;
  });
  const steps = run.progress.steps_total / run.progress.epochs_total;
  return { ...columns, at: { epochs: columns.epoch, seconds, steps: columns.epoch.map((/** @type {number} */ e) => e * steps) } };
}

/**
 * Recorded statistics of gradients: by name of the gradient a column of epochs and the records.
 * @param {string} id @param {AbortSignal} signal
 * @returns {Promise<Map<string, {epoch: number[], records: any[]}>>}
 */
export async function recorded(id, signal) {
  const found = new Map();
  let after = -1, count = 0;
  while (after !== null && count < MOST_RECORDS) {
    const page = await get(`/v1/runs/${id}/gradients?limit=500&after=${after}`, { signal });
    for (const one of page.items) {
      if (!found.has(one.gradient)) found.set(one.gradient, { epoch: [], records: [] });
      found.get(one.gradient).epoch.push(one.epoch);
      found.get(one.gradient).records.push(one);
    }
    count += page.items.length;
    after = page.next_after;
  }
  return found;
}

/**
 * How an axis is called, and by what its values are multiplied, so that they are large enough.
 * @param {keyof typeof AXES} axis @param {{at: Record<string, number[]>}[]} all
 */
export function unit(axis, all) {
  const most = Math.max(0, ...all.map(({ at }) => at[axis][at[axis].length - 1] ?? 0));
  return axis === "seconds" && most < SHORT_S ? { label: "milliseconds of training", scale: 1000 } : { label: AXES[axis], scale: 1 };
}

/**
 * Curves with x of their own over one x, by straight lines between their points; null where a curve has no points.
 * @param {{x: number[], y: (number | null)[]}[]} curves
 * @returns {{x: number[], values: (number | null)[][]}}
 */
export function overlay(curves) {
  const all = [...new Set(curves.flatMap(({ x }) => x))].sort((a, b) => a - b);
  const end = all[all.length - 1] ?? 0;
  const x = all.length <= POINTS ? all : Array.from({ length: POINTS + 1 }, (_, i) => end * i / POINTS);
  const values = curves.map((curve) => {
    let at = 0;
    return x.map((place) => {
      while (at < curve.x.length && curve.x[at] < place) at += 1;
      if (at >= curve.x.length) return null;
      if (curve.x[at] === place) return curve.y[at];
      const [before, behind] = [curve.y[at - 1], curve.y[at]];
      if (at === 0 || !Number.isFinite(before) || !Number.isFinite(behind)) return null;
      const share = (place - curve.x[at - 1]) / (curve.x[at] - curve.x[at - 1]);
      return /** @type {number} */ (before) + share * (/** @type {number} */ (behind) - /** @type {number} */ (before));
    });
  });
  return { x, values };
}

/**
 * How far two runs have the same weights, told by the hashes of those that both have kept.
 * @param {any[]} mine @param {any[]} theirs
 * @returns {{compared: number, equal: number, last: number | null, differs: number | null}} last: the last epoch before any differs
 */
export function sameWeights(mine, theirs) {
  const known = new Map(mine.map((one) => [one.epoch, one.sha256]));
  const both = theirs.filter((one) => known.has(one.epoch));
  const differs = both.find((one) => known.get(one.epoch) !== one.sha256)?.epoch ?? null;
  const before = both.filter((one) => differs === null || one.epoch < differs);
  return { compared: both.length, equal: before.length, last: before.length ? before[before.length - 1].epoch : null, differs };
}
