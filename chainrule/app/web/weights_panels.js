// @ts-check
/** The curves of the page of dynamics that follow from weights: how far they have come, their spectra, how the cost bends. */

import { answers, spread } from "./answers.js";
import { get } from "./api.js";
import { lineChart } from "./charts.js";
import { el, eq, number, problem } from "./dom.js";

const WAY = 200;
const SPECTRA = 10;
const BENT = 8;
const PRODUCTS = 40;
const PROBE = 512;

const LAMBDA = () => el("span", { class: "eq" }, el("var", {}, "λ"), el("sub", {}, "max"));

/** @param {string} label @param {any} caption @param {Record<string, any>} [more] */
const chart = (label, caption, more = {}) => {
  const node = lineChart({ label, caption: el("span", {}, caption), x: [], series: [], xLabel: "epoch", height: 210, ...more });
  node.classList.add("waiting");
  return node;
};

/** @param {any} node @param {any} data */
function plotted(node, data) {
  node.classList.remove("waiting");
  node.update(data);
}

/** @param {string} name @param {string} heading @param {any[]} charts @param {...any} rest */
const section = (name, heading, charts, ...rest) => el("section", { class: "panel", id: `panel-${name}` }, el("h2", {}, heading),
  el("div", { class: "grid" }, charts.map((one) => el("div", { class: charts.length === 2 ? "half" : "third" }, one))), ...rest);

/** By layer, of answers in order. @param {any[]} found @param {(layer: any) => any} of */
const byLayer = (found, of) => Object.keys(found[0].layers).map((l) => ({ name: `layer ${l}`, values: found.map((one) => of(one.layers[l])) }));

/**
 * @param {string} path of the run @param {any} run @param {any} ctx
 * @returns {{nodes: any[], charts: any[], show: (state: any) => void, jobs: {node: any, key: (state: any) => string, job: (state: any) => Promise<void>}[]}}
 */
export function weightPanels(path, run, ctx) {
  const { signal } = ctx;
  const onCursor = (/** @type {number} */ epoch) => ctx.setQuery({ epoch });
  const hint = (/** @type {string} */ text) => el("span", { class: "hint" }, ` ${text}`);

  const way = chart("Distance and path", ["Distance and path", hint("of all weights and biases")], { onCursor });
  const layers = chart("Distance by layer", [eq("‖θ[l] − θ[l] at first‖"), hint("by layer")], { onCursor });
  const turns = chart("Turns", ["Turns", hint("cosine of successive moves")], { onCursor, range: [-1, 1], guides: [{ value: 0, name: "right angle" }] });
  const distance = section("distance", "How far the weights have come", [way, layers, turns], el("p", { class: "hint" }, "A path much longer than the distance has gone to and fro; a cosine of 1 is straight ahead, −1 back again."));

  const largest = chart("Largest singular value", [eq("σ₁ = ‖W‖₂"), hint("how much W lengthens, at most")], { onCursor });
  const rank = chart("Stable rank", ["Stable rank ", eq("Σσ²/σ₁²"), hint("how many count")], { onCursor });
  const values = chart("Singular values", ["Singular values", hint("of the epoch, log")], { xLabel: "i", log: true });
  const spectra = section("spectrum", "Spectra of W", [largest, rank, values], el("p", { class: "hint" }));

  const bend = chart("Largest eigenvalue of the Hessian", [LAMBDA(), hint("where the cost bends most, log; 2/η is the edge")], { onCursor, log: true });
  const trace = chart("Trace of the Hessian", [eq("tr H"), hint("how much it bends in all")], { onCursor });
  const told = el("p", { class: "hint" });
  const start = el("button", { type: "button", onclick: () => measure() }, "Measure the curvature");
  const result = el("div", { class: "grid", hidden: true }, el("div", { class: "half" }, bend), el("div", { class: "half" }, trace));
  const curvature = el("section", { class: "panel", id: "panel-curvature" }, el("h2", {}, "Curvature and the edge of stability"), result, el("div", { class: "row" }, start, told));
  /** @type {any} */
  let now = null;

  function price() {
    const some = Math.min(BENT, now.kept.length), samples = `min(${PROBE}, m)`;
    told.textContent = `At ${some} kept epochs, up to ${PRODUCTS} products H·v of about two gradients each: at most ${number(some * PRODUCTS * 2)} gradients over ${samples} samples and ${number(run.parameters)} parameters, in float64. Nothing is kept of it.`;
  }

  async function measure() {
    start.disabled = true;
    told.textContent = "Measuring …";
    result.hidden = false;
    try {
      const some = spread(now.kept, BENT).map((one) => one.epoch);
      const found = await answers(some, (epoch) => get(`${path}/checkpoints/${epoch}/curvature?products=${PRODUCTS / 2}&probes=${PRODUCTS / 2}`, { signal }), bent, signal);
      told.textContent = `${number(found.reduce((sum, one) => sum + one.products, 0))} products in all, ${number(found.reduce((sum, one) => sum + one.operations, 0), 3)} multiplications, over ${number(found[0].m)} samples${
        found.every((one) => one.largest.converged) ? "" : "; where it has not converged λ_max is a lower bound"}. ${found[0].note}`;
      start.hidden = true;
    } catch (error) {
      if (signal.aborted) return;
      result.hidden = true;
      start.disabled = false;
      told.replaceChildren(problem(error));
    }
  }

  /** @param {any[]} found */
  function bent(found) {
    const x = found.map((one) => one.epoch);
    plotted(bend, { x, cursor: now.epoch, series: [{ name: "λ max", values: found.map((one) => one.largest.value) }, { name: "2/η", values: found.map((one) => one.edge) }] });
    plotted(trace, { x, cursor: now.epoch, series: [{ name: "tr H", values: found.map((one) => one.trace?.value ?? null) }] });
  }

  return {
    nodes: [distance, spectra, curvature],
    /** @param {any} state */
    show: (state) => {
      now = state;
      if (!start.disabled && !start.hidden && !told.querySelector(".problem")) price();
    },
    charts: [way, layers, turns, largest, rank, bend, trace],
    jobs: [
      { node: distance, key: () => "", job: async ({ epoch }) => {
        const found = await get(`${path}/distance?at_most=${WAY}`, { signal });
        const common = { x: found.epochs, cursor: epoch };
        plotted(way, { ...common, series: [{ name: "distance", values: found.distance }, { name: "path", values: found.path }] });
        plotted(layers, { ...common, series: Object.entries(found.layers).map(([l, column]) => ({ name: `layer ${l}`, values: column })) });
        plotted(turns, { ...common, series: [{ name: "cosine", values: found.cosine }] });
      } },
      { node: spectra, key: () => "", job: async ({ kept }) => {
        await answers(spread(kept, SPECTRA).map((one) => one.epoch), (at) => get(`${path}/checkpoints/${at}/spectrum`, { signal }), (found) => {
          const common = { x: found.map((one) => one.epoch), cursor: now.epoch };
          plotted(largest, { ...common, series: byLayer(found, (one) => one.norm) });
          plotted(rank, { ...common, series: byLayer(found, (one) => one.stable_rank) });
        }, signal);
      } },
      { node: spectra, key: (state) => String(state.epoch), job: async ({ epoch }) => {
        const found = await get(`${path}/checkpoints/${epoch}/spectrum`, { signal });
        const all = Object.entries(found.layers);
        const most = Math.max(...all.map(([, one]) => one.singular_values.length));
        plotted(values, { x: Array.from({ length: most }, (_, i) => i + 1), cursor: 1, series: all.map(([l, one]) => ({ name: `layer ${l}`, values: Array.from({ length: most }, (_, i) => one.singular_values[i] ?? null) })) });
        const odd = all.filter(([, one]) => one.condition !== null).map(([l, one]) => `${number(one.condition, 3)} in layer ${l}`);
        spectra.lastChild.replaceChildren(eq(found.equation), `. Condition σ₁/σ_min at epoch ${found.epoch}: ${odd.join(", ") || "undefined, as σ_min is 0"}.`);
      } },
    ],
  };
}
