// @ts-check
// What is asked about one number, or one array: its terms, a check by differences, a table, code.

import { get, post } from "./api.js";
import { el, eq, number } from "./dom.js";
import { parse, pretty, written } from "./walk.js";

/** @typedef {import("./walk.js").Walk} Walk */
/** @typedef {import("./walk.js").Cell} Cell */

const OVER_SAMPLES = ["dW", "db", "dgamma", "dbeta", "C"];
const GRADIENT_OF = /** @type {Record<string, string>} */ ({ W: "dW", b: "db", gamma: "dgamma", beta: "dbeta" });
const TABLE_CELLS = 4000;

/** What to ask the service of a cell; null where it has no terms. @param {Walk} walk @param {Cell} cell */
export function question(walk, { name, index }) {
  const { symbol, layer } = parse(name);
  const asked = GRADIENT_OF[symbol] ?? symbol;
  const explained = ["dW", "db", "dgamma", "dbeta", "Z", "A", "N", "dA", "dN", "dZ", "C", "E"];
  if (!explained.includes(asked) || name === "A0") return null;
  if (OVER_SAMPLES.includes(asked)) return { name: asked === "C" ? "C" : `${asked}${layer}`, index };
  return walk.mean ? null : { name: asked === "E" ? "E" : name, index: asked === "E" ? [0] : [0, ...index] };
}

/**
 * The terms of a number.
 * @param {string} checkpoint path @param {string} samples query @param {Walk} walk @param {Cell} cell
 * @param {{signal: AbortSignal, choose: (row: number) => void}} options
 * @returns {Promise<HTMLElement>}
 */
export async function explanation(checkpoint, samples, walk, cell, { signal, choose }) {
  const asked = question(walk, cell);
  if (!asked) {
    const why = walk.mean ? "is a mean over samples of what has a value for each; choose one sample to see its terms." : "comes from nothing before it: it is given.";
    return el("p", { class: "note" }, `${written(cell.name, cell.index)} ${why}`);
  }
  const query = samples.replace(/&?reduce=\w+/, "");
  const found = await get(`${checkpoint}/explain?${query}&name=${asked.name}&index=${asked.index.join(",")}&top=8`, { signal });
  const most = Math.max(...found.terms.map((/** @type {any} */ term) => Math.abs(term.contribution ?? 0)), Math.abs(found.rest.sum ?? 0), 1e-300);
  const bar = (/** @type {number | null} */ size) => el("td", { class: "bar-cell", "aria-hidden": "true" }, el("i", {
    class: (size ?? 0) < 0 ? "negative" : "positive", style: { width: `${(50 * Math.abs(size ?? 0)) / most}%`, left: (size ?? 0) < 0 ? `${50 - (50 * Math.abs(size ?? 0)) / most}%` : "50%" } }));
  const rows = found.terms.map((/** @type {any} */ term) => {
    const who = term.row !== null && term.row !== undefined ? el("button", { type: "button", class: "quiet small", onclick: () => choose(term.row), title: "Take this sample" }, `row ${term.row}`)
      : term.sample !== null ? `sample ${term.sample}` : term.unit === null ? "bias" : `unit ${term.unit}`;
    const factors = Object.entries(term.factors).flatMap(([name, value], at) => [at ? " × " : "", el("span", { title: pretty(name) }, number(/** @type {number} */ (value)))]);
    return el("tr", {}, el("th", { scope: "row" }, who), el("td", {}, factors), el("td", { class: "value" }, number(term.contribution)), bar(term.contribution));
  });
  if (found.rest.count) rows.push(el("tr", { class: "rest" }, el("th", { scope: "row" }, `${found.rest.count.toLocaleString("en")} others`), el("td", {}, ""), el("td", { class: "value" }, number(found.rest.sum)), bar(found.rest.sum)));
  const names = found.terms.length ? Object.keys(found.terms[0].factors).map((name) => name.replace(/\[.*/, "")) : [];
  const table = found.terms.length ? el("div", { class: "scroll" }, el("table", { class: "terms" },
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, found.over === "samples" ? "sample" : "unit"), el("th", { scope: "col" }, names.map((name) => written(name)).join(" × ")),
      el("th", { scope: "col" }, found.over === "samples" ? "adds, 1/m in it" : "adds"), el("th", { scope: "col" }, el("span", { class: "visually-hidden" }, "its size")))),
    el("tbody", {}, rows),
    el("tfoot", {}, el("tr", {}, el("th", { scope: "row" }, "together"), el("td", {}), el("td", { class: "value", "data-value": found.recomputed }, number(found.recomputed)), el("td", {})))))
    : el("dl", { class: "operands" }, Object.entries(found.operands).flatMap(([name, value]) => [el("dt", {}, pretty(name)), el("dd", {}, number(/** @type {number} */ (value)))]));
  const instead = asked.name !== cell.name && cell.name !== "C" ? el("p", { class: "hint" }, `${written(cell.name, cell.index)} = ${number(walk.value(cell.name, ...cell.index))} is learnt; this is its gradient.`) : null;
  return el("div", { class: "explanation" },
    el("p", { class: "total" }, eq(found.equation), " = ", el("b", { "data-value": found.value }, number(found.value))),
    found.function ? el("p", { class: "hint" }, found.function) : null, instead, table);
}

/**
 * Check the gradients of the run's network by central differences, at its beginning.
 * @param {any} run @param {number[] | null} rows @param {AbortSignal} signal
 */
export async function numericCheck(run, rows, signal) {
  const { network, cost, label_smoothing, class_weights, sample_weights, dataset, inputs, seed } = run.config;
  const found = await post("/v1/gradient-checks", { network: { layers: network.layers }, cost, label_smoothing, class_weights, sample_weights, dataset, inputs, seed, rows: rows?.slice(0, 8) ?? null, entries: 24 }, { signal });
  const signs = /** @type {Record<string, string>} */ ({ pass: "✓ pass", suspicious: "? suspicious", fail: "✕ fail" });
  return el("div", { class: "check" },
    el("p", {}, found.passed ? "✓ Backpropagation and central differences agree." : "✕ They differ.", ` Largest relative error ${number(found.worst_relative_error, 2)}, ${found.method}, at the network's first weights (seed ${seed}), ${found.samples} sample${found.samples === 1 ? "" : "s"}.`),
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ["block", "checked", "kinks", "relative error", "worst: analytic", "numeric", "verdict"].map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, found.blocks.map((/** @type {any} */ block) => el("tr", {}, el("th", { scope: "row" }, written(block.name)), el("td", {}, block.checked), el("td", {}, block.kinks), el("td", {}, number(block.relative_error, 2)),
        el("td", {}, number(block.worst?.analytic, 7)), el("td", {}, number(block.worst?.numeric, 7)), el("td", {}, signs[block.verdict] ?? block.verdict)))))));
}

/** An array as a table. @param {Walk} walk @param {string} name @param {number} step */
export function tensorTable(walk, name, step) {
  if (!walk.has(name, step || walk.steps.length)) return el("p", { class: "note" }, `${written(name)} is not computed yet at this step.`);
  const { rows, columns } = walk.size(name);
  const array = walk.arrays.get(name);
  const matrix = rows > 1;
  const [tall, wide] = matrix ? [Math.min(rows, Math.max(1, Math.floor(TABLE_CELLS / Math.min(columns, 100)))), Math.min(columns, 100)] : [columns, 1];
  const cut = matrix && (tall < rows || wide < columns);
  const head = matrix ? el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "unit"), Array.from({ length: wide }, (_, k) => el("th", { scope: "col" }, k)))) : el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "unit"), el("th", { scope: "col" }, written(name))));
  const body = Array.from({ length: tall }, (_, j) => el("tr", {}, el("th", { scope: "row" }, j),
    Array.from({ length: wide }, (_, k) => { const value = array?.data[matrix ? j * columns + k : j] ?? NaN; return el("td", { class: Number.isFinite(value) ? "" : "odd" }, number(value, 6)); })));
  return el("div", {}, el("p", { class: "hint" }, `${written(name)}, ${array?.shape.join(" × ") || "one number"}${walk.equation(name) ? `: ${walk.equation(name)}` : ""}`, cut ? `. The first ${tall} rows and ${wide} columns; all are in the file.` : ""),
    el("div", { class: "scroll table-view", tabindex: "0", role: "region", "aria-label": `Table of ${written(name)}` }, el("table", {}, head, el("tbody", {}, body))));
}
