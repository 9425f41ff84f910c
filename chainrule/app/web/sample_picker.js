// @ts-check
// Which sample: the ones the network gets wrong first, as pictures where their features are one.

import { get } from "./api.js";
import { paint, pool } from "./cells.js";
import { el, number, percent } from "./dom.js";

/** @typedef {{row: number, target: any, prediction: any, wrong: boolean | null, cost: number | null, features: any[] | null}} Sample */

/**
 * Find samples to choose from: those with the largest cost, of these the ones got wrong first.
 * @param {any} run @param {number} epoch @param {string} split @param {AbortSignal} signal
 * @param {{features?: boolean, limit: number}} options
 * @returns {Promise<Sample[]>}
 */
export async function findSamples(run, epoch, split, signal, { features = true, limit }) {
  const found = await get(`/v1/runs/${run.id}/checkpoints/${epoch}/samples?split=${split}&features=${features}&limit=${limit}`, { signal });
  return [...found.items.filter((/** @type {Sample} */ one) => one.wrong), ...found.items.filter((/** @type {Sample} */ one) => !one.wrong)];
}

/** The side of the picture that so many features are; 0 where they are none. @param {number} features */
export function side(features) {
  const root = Math.sqrt(features);
  return features >= 16 && Number.isInteger(root) ? root : 0;
}

/**
 * The picker: buttons in a row that is scrolled, the chosen one pressed.
 * @param {Sample[]} samples @param {number} chosen row @param {(row: number) => void} choose
 */
export function picker(samples, chosen, choose) {
  const buttons = samples.map((sample) => {
    const { wrong } = sample;
    const [label, taken] = [sample.target, sample.prediction].map((one) => (Array.isArray(one) ? one.slice(0, 2).map((value) => number(value, 2)).join(", ") : String(one)));
    const features = sample.features?.every((value) => typeof value === "number" || value === null) ? sample.features : undefined;
    const width = side(features?.length ?? 0);
    const canvas = width ? el("canvas", { "aria-hidden": "true" }) : null;
    if (canvas && features) paint(canvas, pool(features.map((/** @type {number | null} */ value) => value ?? NaN), width, width), { ink: true });
    const said = wrong ? `${label} → ${taken}` : label;
    const told = `row ${sample.row}, ${Array.isArray(sample.target) ? "target" : "class"} ${label}${wrong ? `, wrong: taken for ${taken}` : ""}, cost ${number(sample.cost, 3)}`;
    return el("button", {
      type: "button", class: `sample${wrong ? " wrong" : ""}`, "data-row": sample.row, "aria-pressed": String(sample.row === chosen),
      title: told, "aria-label": told,
      onclick: () => choose(sample.row),
    }, canvas ?? el("span", { class: "features" }, (sample.features ?? []).slice(0, 3).map((value) => (typeof value === "number" ? number(value, 2) : value)).join(", ")),
    el("span", { class: "said" }, wrong ? el("b", { "aria-hidden": "true" }, "✕ ") : null, said));
  });
  const strip = el("div", { class: "samples-strip", role: "group", "aria-label": "Samples, those with the largest cost first" }, buttons);
  strip.choose = (/** @type {number} */ row) => buttons.forEach((button) => button.setAttribute("aria-pressed", String(Number(button.dataset.row) === row)));
  return strip;
}

/** What came out, in words. @param {import("./walk.js").Walk} walk @param {string[]} classes */
export function outcome(walk, classes) {
  const L = walk.depth;
  const C = el("span", { class: "chip", title: "the cost, of the samples shown" }, el("var", {}, "C"), ` = ${number(walk.value("C"))}`);
  const outputs = walk.size(`A${L}`).columns;
  if (walk.mean) return [el("span", { class: "chip" }, `mean of ${walk.m.toLocaleString("en")} samples`), C];
  const [A, Y] = [`A${L}`, "Y"].map((name) => Array.from({ length: outputs }, (_, at) => walk.value(name, at)));
  if (classes.length === 0) {
    const few = (/** @type {number[]} */ values) => `${values.slice(0, 3).map((value) => number(value, 3)).join(", ")}${values.length > 3 ? ", …" : ""}`;
    return [el("span", { class: "chip" }, `should be ${few(Y)}`), el("span", { class: "chip" }, `is ${few(A)}`), C];
  }
  const single = outputs === 1 && classes.length === 2;
  const best = (/** @type {number[]} */ values) => (single ? Number(values[0] > 0.5) : values.indexOf(Math.max(...values)));
  const [out, wanted] = [best(A), best(Y)];
  const share = single ? (out ? A[0] : 1 - A[0]) : A[out];
  const right = out === wanted;
  return [el("span", { class: "chip" }, `class ${classes[wanted]}`),
    el("span", { class: `chip ${right ? "right" : "wrong"}` }, `${right ? "✓" : "✕"} taken for ${classes[out] ?? "none"}${Number.isFinite(share) ? ` (${percent(share)})` : ""}`), C];
}
