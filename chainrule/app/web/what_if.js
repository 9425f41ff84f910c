// @ts-check
// What if a number were another: the cost before and after, and the slope between, held against backpropagation's.

import { post } from "./api.js";
import { el, number, problem } from "./dom.js";
import { parse, written } from "./walk.js";

/** @typedef {import("./walk.js").Walk} Walk */
/** @typedef {import("./walk.js").Cell} Cell */

const PARAMETERS = /** @type {Record<string, string>} */ ({ dW: "W", db: "b", dgamma: "gamma", dbeta: "beta", W: "W", b: "b", gamma: "gamma", beta: "beta" });
/** How far a number is moved either way: as far as its type needs for the costs to differ, and no further. */
const MOVE = /** @type {Record<string, number>} */ ({ float64: 1e-5, float32: 1e-2 });

/** Samples as a question that is posted. @param {string} samples a query, see `selection` */
export function posted(samples) {
  const query = new URLSearchParams(samples);
  const split = query.get("split");
  if (split) return { split };
  const rows = (query.get("rows") ?? "").split(",").flatMap((part) => {
    const [first, last = first] = part.split("-").map(Number);
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => first + at);
  });
  return { rows };
}

/**
 * What of a cell can be changed, and its gradient: a parameter, or a feature of one sample where it is the input itself.
 * @param {Walk} walk @param {Cell} cell @param {any} run
 * @returns {{name: string, gradient: string, index: number[], change: (value: number) => object} | null}
 */
export function changeable(walk, { name, index }, run) {
  const { symbol, layer } = parse(name);
  const parameter = PARAMETERS[symbol];
  if (parameter && layer) {
    return { name: `${parameter}${layer}`, gradient: `d${parameter}${layer}`, index, change: (value) => ({ parameters: [{ name: `${parameter}${layer}`, index, value }] }) };
  }
  const itself = !run.config.inputs && !walk.mean && (name === "A0" || name === "dA0");
  return itself ? { name: "A0", gradient: "dA0", index, change: (value) => ({ inputs: [{ sample: 0, feature: index[0], value }] }) } : null;
}

/**
 * A field for another value of a number, and a button that moves it both ways.
 * @param {string} checkpoint path @param {string} samples @param {Walk} walk @param {Cell} cell @param {any} run @param {AbortSignal} signal
 */
export function whatIf(checkpoint, samples, walk, cell, run, signal) {
  const found = changeable(walk, cell, run);
  if (!found) return null;
  const { name, gradient, index, change } = found;
  const now = walk.value(name, ...index);
  const answer = el("div", { class: "what-if-answer", "aria-live": "polite" });
  const ask = (/** @type {number} */ value) => post(`${checkpoint}/what-if`, { ...posted(samples), ...change(value) }, { signal });
  const tell = (/** @type {() => Promise<any>} */ what) => what().then((shown) => answer.replaceChildren(shown), (error) => { if (!signal.aborted) answer.replaceChildren(problem(error)); });
  const field = el("input", { type: "number", step: "any", value: Number(now.toPrecision(4)), "aria-label": `Another value of ${written(name, index)}`,
    onchange: () => Number.isFinite(field.valueAsNumber) && tell(async () => difference(await ask(field.valueAsNumber))) });
  const slope = el("button", { type: "button", class: "small", onclick: () => tell(async () => {
    const h = MOVE[walk.dtype] ?? 1e-2;
    const [up, down] = await Promise.all([ask(now + h), ask(now - h)]);
    // What was asked for is rounded to the run's type; the distance is that of the numbers it became.
    const [above, below] = [up, down].map((one) => one.changes[0]?.after ?? now);
    const numeric = (up.after.cost - down.after.cost) / (above - below);
    const analytic = walk.value(gradient, ...index);
    const size = Math.abs(numeric) + Math.abs(analytic);
    return el("p", {}, `(C(x + h) − C(x − h)) / 2h = `, el("b", { class: "numeric", "data-value": numeric }, number(numeric, 6)), ` with h = ${number(h, 1)}; ${written(gradient, index)} = `, el("b", {}, number(analytic, 6)),
      `. Relative error ${number(size ? Math.abs(numeric - analytic) / size : 0, 2)}`, walk.dtype === "float32" ? ", in float32, which holds about 7 digits of a cost: a few digits of a slope are left." : ".");
  }) }, "Slope by differences");
  return el("div", { class: "what-if" }, el("div", { class: "tools" }, el("label", { class: "one-field" }, el("span", {}, `What if ${written(name, index)} were`), field), slope), answer);
}

/** Before and after. @param {any} found */
function difference(found) {
  const { before, after } = found;
  const taken = (/** @type {any} */ side) => (side.labels?.length === 1 ? side.labels[0] : null);
  const rows = [["C", before.cost, after.cost], ["‖gradient‖", before.gradient_norm, after.gradient_norm], ...(taken(before) === null ? [] : [["taken for", taken(before), taken(after)]])];
  return el("table", { class: "terms" }, el("thead", {}, el("tr", {}, ["", "before", "after"].map((text) => el(text ? "th" : "td", text ? { scope: "col" } : {}, text)))),
    el("tbody", {}, rows.map(([name, was, is]) => el("tr", {}, el("th", { scope: "row" }, name), [was, is].map((value) => el("td", { "data-value": value }, typeof value === "number" ? number(value, 6) : value ?? "–"))))));
}
