// @ts-check
/** The live panels of the tutorial: each shows one idea on the numbers of an example run. */

import { get, post, wait } from "./api.js";
import { bars, lineChart, matrix } from "./charts.js";
import { announce, badge, el, eq, number, percent, problem } from "./dom.js";
import { epochControl, newest } from "./epochs.js";
import { outcome } from "./outcome.js";
import { Picture } from "./picture.js";
import { drawRail, equations, numberLine, remarks, standing } from "./stage.js";
import { load } from "./walk.js";

const POLL_MS = 400;
/** @typedef {{run: any, dataset: any, ctx: any, host: HTMLElement}} Live */

/** Steps of a walk in the equation-shaped picture; `name` is the step's in the address. @param {Live} live @param {string} name @param {(walk: any) => number} first */
export async function walked({ run, dataset, ctx, host }, name, first) {
  const { signal } = ctx;
  const epoch = Math.min(10, run.progress.epochs_done);
  const walk = await load(run, epoch, "rows=1", new Map(), signal);
  host.classList.add("theatre");
  const equation = el("div", { class: "step-equation" }), note = el("p", { class: "step-note" }), text = el("span", { class: "step-text" });
  const rail = el("ol", { class: "rail", "aria-label": "Steps" }), place = el("div", { class: "equation-picture", role: "group", "aria-label": "The equation-shaped picture" }), line = el("div", { class: "number-line" });
  const step = () => Math.max(1, Math.min(walk.steps.length, Number(ctx.query.get(name)) || first(walk)));
  const go = (/** @type {number} */ to) => ctx.setQuery({ [name]: Math.max(1, Math.min(walk.steps.length, to)) });
  const stepper = el("div", { class: "stepper" }, el("button", { type: "button", "aria-label": "Step back", onclick: () => go(step() - 1) }, "◀"), text, el("button", { type: "button", "aria-label": "Step on", onclick: () => go(step() + 1) }, "▶"));
  host.replaceChildren(
    el("div", { class: "theatre" }, el("div", { class: "stage-head" }, el("div", { class: "step-words" }, equation, note), stepper), rail, el("div", { class: "picture-scroll" }, place), line),
    more(ctx, `#/runs/${run.id}/backprop?epoch=${epoch}&sample=1`, `Sample 1 of “${run.name}” at epoch ${epoch}, on its own page`));
  const point = (/** @type {any} */ cell, /** @type {boolean} */ spoken) => {
    const found = cell && numberLine(walk, step(), cell, run.config);
    picture.mark(found ? cell : null, found?.from ?? [], found?.whole ?? []);
    line.replaceChildren(...(found?.node ?? [el("span", { class: "hint" }, "Point at a cell, or move with the arrow keys, to see its number as its factors. Hatched is not computed yet.")]));
    if (found && spoken) announce(found.spoken);
  };
  const picture = new Picture(place, { classes: dataset.classes, point, pick: (cell) => point(cell, true) });
  const draw = () => {
    picture.show(walk, step());
    equation.replaceChildren(...equations(walk, step()));
    note.textContent = remarks(walk, step());
    text.textContent = standing(walk, step());
    drawRail(rail, walk, step(), go);
    point(null, false);
  };
  let shown = step();
  ctx.onQuery(() => { if (step() !== shown) { shown = step(); draw(); } });
  const themes = new MutationObserver(draw), sizes = new ResizeObserver(draw);
  themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  sizes.observe(/** @type {HTMLElement} */ (place.parentElement));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal });
  signal.addEventListener("abort", () => { themes.disconnect(); sizes.disconnect(); });
  draw();
}

/** @param {any} ctx @param {string} place @param {string} words */
const more = (ctx, place, words) => ctx.has("backprop") ? el("p", { class: "hint" }, el("a", { href: place }, words)) : "";

/** Each sample's error, and the cost as their mean, at any epoch. @param {Live} live */
export async function cost({ run, ctx, host }) {
  const { columns } = await get(`/v1/runs/${run.id}/epochs?at_most=400`, { signal: ctx.signal });
  const choose = (/** @type {number} */ epoch) => ctx.setQuery({ epoch });
  const chart = lineChart({ label: "Cost", caption: el("span", {}, "Cost ", eq("C"), " by epoch, log"), x: columns.epoch, series: [{ name: "C", values: columns.cost }], log: true, xLabel: "epoch", height: 230, onCursor: choose });
  const table = el("div", { class: "scroll" });
  host.replaceChildren(el("div", { class: "grid" }, el("div", { class: "half" }, chart), el("div", { class: "half" }, table)));
  const soon = newest();
  const draw = () => soon(async () => {
    const epoch = at(ctx, run);
    chart.update({ cursor: epoch });
    const { items } = await get(`/v1/runs/${run.id}/checkpoints/${epoch}/samples?split=training&sort=index&features=true&limit=4`, { signal: ctx.signal });
    const mean = items.reduce((/** @type {number} */ sum, /** @type {any} */ one) => sum + one.cost, 0) / items.length;
    table.replaceChildren(el("table", {}, el("caption", { class: "hint" }, `At the end of epoch ${epoch}; point at the curve for another. The curve is a step behind: it has each sample under the weights that its step began with.`), el("thead", {}, el("tr", {}, ["x", "y", "a, given to y", "E = −log a"].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, items.map((/** @type {any} */ one) => el("tr", {}, el("th", { scope: "row" }, `(${one.features.map((/** @type {any} */ x) => number(x, 3)).join(", ")})`), el("td", {}, one.target), el("td", {}, number(one.target_probability), one.wrong ? el("span", { class: "warn-text" }, " ✕ wrong") : ""), el("td", {}, number(one.cost)))),
        el("tr", {}, el("th", { scope: "row" }, eq("C = (1/m) Σᵢ E⁽ⁱ⁾")), el("td"), el("td"), el("td", {}, el("b", {}, number(mean)))))));
  });
  ctx.onQuery(draw);
  draw();
}

/** The epoch that the address names. @param {any} ctx @param {any} run */
function at(ctx, run) {
  const last = run.progress.epochs_done;
  return ctx.query.get("epoch") === null ? last : Math.max(0, Math.min(last, Math.round(Number(ctx.query.get("epoch"))) || 0));
}

/** The shapes of what a layer keeps, for a batch of any size. @param {Live} live */
export async function caches({ run, ctx, host }) {
  const slider = el("input", { type: "range", id: "cached-samples", min: 1, max: 512, oninput: () => ctx.setQuery({ m: slider.value }) });
  const shown = el("output", { for: "cached-samples", class: "epoch-number" }), table = el("div", { class: "scroll" });
  host.replaceChildren(el("div", { class: "row" }, el("label", { for: "cached-samples" }, "Samples m"), slider, shown), table);
  const draw = () => {
    const m = Math.max(1, Math.min(512, Number(ctx.query.get("m")) || 32));
    slider.value = String(m);
    shown.textContent = `m = ${m}`;
    const widths = [run.config.network.inputs, ...run.config.network.layers.map((/** @type {any} */ layer) => layer.units)];
    const lines = widths.slice(1).map((n, i) => ({ l: i + 1, n, below: widths[i], kept: 2 * m * n + m * widths[i] }));
    const size = (/** @type {number} */ rows, /** @type {number} */ columns) => el("td", {}, `(${rows}, ${columns})`);
    table.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, ["Layer", "W[l]", "b[l]", "A[l-1]", "Z[l]", "A[l]", "dW[l]", "numbers cached"].map((head) => el("th", { scope: "col" }, head.includes("[") ? eq(head) : head)))),
      el("tbody", {}, lines.map(({ l, n, below, kept }) => el("tr", {}, el("th", { scope: "row" }, String(l)), size(n, below), el("td", {}, `(${n})`), size(m, below), size(m, n), size(m, n), size(n, below), el("td", {}, number(kept)))))));
  };
  ctx.onQuery(draw);
  draw();
}

/** Each sample's own dW, and their mean. @param {Live} live */
export async function means({ run, ctx, host }) {
  const epoch = Math.min(5, run.progress.epochs_done);
  const ask = (/** @type {boolean} */ alone) => post(`/v1/runs/${run.id}/checkpoints/${epoch}/gradients`, { rows: [0, 1, 2, 3], names: ["dW1"], per_sample: alone }, { signal: ctx.signal });
  const [each, mean] = await Promise.all([ask(true), ask(false)]);
  const all = each.quantities.dW1.values;
  const limit = Math.max(...all.flat(2).map((/** @type {any} */ value) => Math.abs(value) || 0));
  const one = (/** @type {number[][]} */ values, /** @type {string} */ label, /** @type {any} */ caption) => matrix({ label, caption, values, limit, cell: 34, legend: false, rowName: (/** @type {number} */ i) => `unit ${i}`, columnName: (/** @type {number} */ i) => `input ${i}` });
  host.replaceChildren(el("div", { class: "gradients-row" }, all.map((/** @type {any} */ values, /** @type {number} */ i) => [i ? el("span", { class: "sign", "aria-hidden": "true" }, "+") : el("span", { class: "sign" }, "¼ · ("), one(values, `dW[1] of sample ${i}`, `sample ${i}`)]),
    el("span", { class: "sign" }, ") ="), one(mean.quantities.dW1.values, "dW[1], their mean", "the mean")),
  el("p", { class: "hint" }, `dW[1] of each of the four samples at epoch ${epoch}, in the same colours from −${number(limit, 3)} (blue) to ${number(limit, 3)} (red). Their norms are ${all.map((/** @type {any} */ values) => number(Math.hypot(...values.flat()), 3)).join(", ")}; that of the mean is ${number(mean.quantities.dW1.norm, 3)}, for where samples pull against each other their pulls cancel.`));
}

/** Cost and classification error with one cursor. @param {Live} live */
export async function stairs({ run, ctx, host }) {
  const { columns } = await get(`/v1/runs/${run.id}/epochs?at_most=400`, { signal: ctx.signal });
  const choose = (/** @type {number} */ epoch) => ctx.setQuery({ epoch });
  const series = (/** @type {string} */ name) => [{ name: "training", values: columns[name] }, ...(columns[`validation_${name}`].some(Number.isFinite) ? [{ name: "validation", values: columns[`validation_${name}`] }] : [])];
  const charts = [lineChart({ label: "Cost", caption: "Cost: smooth, and what is minimised", x: columns.epoch, series: series("cost"), log: true, xLabel: "epoch", height: 230, onCursor: choose }),
    lineChart({ label: "Classification error", caption: "Error: stairs, and what people ask for", x: columns.epoch, series: series("error"), xLabel: "epoch", height: 230, onCursor: choose })];
  host.replaceChildren(el("div", { class: "grid" }, charts.map((chart) => el("div", { class: "half" }, chart))));
  const draw = () => charts.forEach((chart) => chart.update({ cursor: at(ctx, run) }));
  ctx.onQuery(draw);
  draw();
}

/** What the network answers everywhere in the plane, epoch by epoch. @param {Live} live */
export async function loop({ run, dataset, ctx, host }) {
  const picture = outcome(run, dataset);
  const control = epochControl({ set: (epoch) => ctx.setQuery({ epoch }), signal: ctx.signal });
  host.replaceChildren(control.node, picture.node);
  picture.node.classList.add("bare");
  const soon = newest();
  const draw = () => {
    control.show(at(ctx, run), run.progress.epochs_done, ctx.query.get("epoch") === null);
    soon(() => picture.show(at(ctx, run), ctx.signal));
  };
  ctx.onQuery(draw);
  draw();
}

const network = (/** @type {string} */ activation, /** @type {number} */ hidden) => ({ layers: [...Array.from({ length: hidden }, () => ({ units: 20, activation })), { units: 10, activation: "softmax" }] });
const spec = (/** @type {string} */ name, /** @type {any} */ shape, /** @type {number} */ rate, /** @type {number} */ epochs) => ({ name, dataset: "digits", validation: { fraction: 0.2, seed: 0 }, network: shape, optimizer: { name: "sgd", learning_rate: rate }, epochs, batch_size: 32, seed: 1 });

export const TROUBLES = {
  vanishing: { name: "Vanishing", wrong: spec("vanishing", network("sigmoid", 6), 0.3, 8), right: spec("not vanishing", network("tanh", 6), 0.1, 8), words: ["six sigmoid layers, η 0.3", "six tanh layers, η 0.1"],
    text: "A sigmoid's slope is a quarter at most, so each layer on the way back shrinks the gradient, and after six of them the first layer gets a ten-thousandth of what the last one does. Before anything is trained RMS(dZ) tells: its bars fall from layer to layer. tanh, ReLU, or normalization keep them level." },
  dead: { name: "Dead", wrong: spec("dead", network("relu", 3), 2.5, 4), right: spec("alive", network("relu", 3), 0.1, 4), words: ["ReLU, η 2.5", "ReLU, η 0.1"],
    text: "A ReLU whose Z is below 0 for every sample answers 0 to all of them, and as its slope there is 0 too, no gradient will ever wake it. At the beginning hardly any unit is dead; one step that is far too long kills whole layers. A smaller learning rate prevents it, leaky ReLU makes it curable." },
  saturated: { name: "Saturated", wrong: spec("saturated", network("tanh", 2), 8, 4), right: spec("not saturated", network("tanh", 2), 0.3, 4), words: ["tanh, η 8", "tanh, η 0.3"],
    text: "Where |Z| is large, tanh and sigmoid are flat: A hardly depends on Z, g′ is almost 0, and the layers below stop learning although the cost is high. Long steps drive units there, and so do weights that begin too large or features that were not scaled." },
};

/** Two networks, one in trouble and one not: before training, and after it if one asks. @param {any} ctx @param {HTMLElement} host */
export function trouble(ctx, host) {
  const which = () => /** @type {keyof typeof TROUBLES} */ (Object.keys(TROUBLES).find((name) => name === ctx.query.get("trouble")) ?? "vanishing");
  const tabs = Object.entries(TROUBLES).map(([name, one]) => el("button", { type: "button", "data-value": name, onclick: () => ctx.setQuery({ trouble: name, wrong: null }) }, one.name));
  const text = el("p"), body = el("div", { class: "grid" }), soon = newest();
  const train = el("button", { type: "button", class: "primary", onclick: start }, "Train both");
  host.replaceChildren(el("div", { class: "row" }, el("div", { class: "segments", role: "group", "aria-label": "What goes wrong" }, tabs), train), text, body);
  let drawn = "";
  const draw = () => soon(async () => {
    const key = `${which()} ${ctx.query.get("wrong")}`;
    if (key === drawn) return;
    drawn = key;
    for (const tab of tabs) tab.setAttribute("aria-pressed", String(tab.dataset.value === which()));
    const one = TROUBLES[which()];
    text.textContent = one.text;
    const ids = (ctx.query.get("wrong") ?? "").split(",").filter(Boolean);
    try {
      const shown = await Promise.all([one.wrong, one.right].map((begun, i) => ids[i] ? trained(ids[i]) : untrained(begun)));
      if (key === `${which()} ${ctx.query.get("wrong")}`) body.replaceChildren(...shown.map((node, i) => el("div", { class: "half" }, el("h3", {}, i ? "✓ " : "⚠ ", one.words[i]), node)));
    } catch (error) {
      if (!ctx.signal.aborted) body.replaceChildren(problem(error));
    }
  });
  ctx.onQuery(draw);
  draw();

  /** @param {any} begun */
  async function untrained(begun) {
    const found = await post("/v1/initialization-previews", begun, { signal: ctx.signal });
    return el("div", {}, el("p", { class: "hint" }, `Before training: C = ${number(found.cost)}; knowing nothing would be ${number(found.cost_at_chance)}.`), short(found));
  }

  /** @param {string} id */
  async function trained(id) {
    let run = await get(`/v1/runs/${id}`, { signal: ctx.signal });
    for (; !run.done && !ctx.signal.aborted; run = await get(`/v1/runs/${id}`, { signal: ctx.signal })) await wait(POLL_MS, ctx.signal);
    const found = await get(`/v1/runs/${id}/checkpoints/last/layers`, { signal: ctx.signal });
    return el("div", {}, el("p", { class: "hint" }, badge(run.status), ` after ${run.progress.epochs_done} epochs: C = ${number(run.cost)}, error ${percent(run.error)} `, ctx.has("run") ? el("a", { href: `#/runs/${id}` }, "the run") : ""), short(found));
  }

  /** @param {any} found */
  function short(found) {
    const items = found.layers.map((/** @type {any} */ layer) => {
      const share = layer.dead ?? layer.saturated;
      return { name: `layer ${layer.layer}, ${layer.activation}`, value: layer.dZ_rms, note: share === null ? "" : `· ${percent(share, 2)} ${layer.dead === null ? "saturated" : "dead"}`, warn: share > 0.4 || layer.dZ_rms < 1e-3 };
    });
    return bars({ label: "RMS(dZ[l]) by layer", caption: el("span", {}, eq("RMS(dZ[l])"), ", log"), items, log: true });
  }

  async function start() {
    train.disabled = true;
    try {
      const one = TROUBLES[which()];
      const runs = [await post("/v1/runs", one.wrong), await post("/v1/runs", one.right)];
      ctx.setQuery({ wrong: runs.map((run) => run.id).join(",") });
    } catch (error) {
      body.replaceChildren(problem(error));
    } finally {
      train.disabled = false;
    }
  }
}
