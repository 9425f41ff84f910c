// @ts-check
/** The curves of the page of dynamics: signals, update ratios, norms, signal and noise of gradients, by epoch. */

import { answers, spread } from "./answers.js";
import { get } from "./api.js";
import { lineChart } from "./charts.js";
import { el, eq, number, problem } from "./dom.js";
import { weightPanels } from "./weights_panels.js";
import { zoomOf } from "./zoom.js";

const RECORDED = 1000;
const PAGES = 4;
const MEASURED = 24;
const NOISE = 10;
const ROWS = 256;
const SIGNALS = {
  dZ_rms: { name: "RMS(dZ)", log: true }, A_rms: { name: "RMS(A)", log: true }, Z_rms: { name: "RMS(Z)", log: true }, W_norm: { name: "‖W‖", log: true },
  zeros: { name: "zeros of A", log: false }, saturated: { name: "saturated", log: false }, dead: { name: "dead", log: false },
};

/** @param {string} name @param {string} width @param {string} heading @param {...any} children */
function section(name, width, heading, ...children) {
  return el("section", { class: `panel ${width}`, id: `panel-${name}` }, el("h2", {}, heading), ...children);
}

/**
 * @param {any} first the run
 * @param {any} ctx
 * @returns {{nodes: any[], show: (run: any, kept: any[], epoch: number) => void}}
 */
export function panels(first, ctx) {
  const { signal } = ctx;
  const path = `/v1/runs/${first.id}`;
  const numbers = first.config.network.layers.map((/** @type {any} */ _, /** @type {number} */ i) => i + 1);
  const onCursor = (/** @type {number} */ epoch) => ctx.setQuery({ epoch });
  const chart = (/** @type {any} */ options) => {
    const node = lineChart({ x: [], series: [], xLabel: "epoch", height: 220, onCursor, ...options });
    node.classList.add("waiting");
    return node;
  };
  /** @param {any} node @param {any} data */
  const plotted = (node, data) => {
    node.classList.remove("waiting");
    node.update({ ...data, cursor: state.epoch, domain: [state.kept[0].epoch, Math.max(1, state.kept[state.kept.length - 1].epoch)] });
  };
  const named = (/** @type {string} */ text, hint = "") => el("span", {}, eq(text), el("span", { class: "hint" }, hint));

  const choice = el("select", { id: "signal", onchange: () => ctx.setQuery({ of: choice.value }) }, Object.entries(SIGNALS).map(([value, one]) => el("option", { value }, one.name)));
  const strength = chart({ label: "Signals by layer", caption: el("span", { class: "row" }, el("label", { for: "signal" }, "Signal"), choice), yLabel: "" });
  const signalHint = el("p", { class: "hint" });
  const ratios = chart({ label: "Update ratio by layer", caption: named("‖ΔW‖/‖W‖", " of an epoch's last step, log"), log: true, guides: [{ value: 1e-3, name: "10⁻³" }] });
  const norms = chart({ label: "Norm of dW by layer", caption: named("‖dW‖", " of the mean gradient, log"), log: true });
  const noise = chart({ label: "Noise scale", caption: el("span", {}, "Noise scale ", eq("B = tr Σ/|G|²"), el("span", { class: "hint" }, " log; a gap where no signal shows")), log: true });
  const coherence = chart({ label: "Coherence", caption: el("span", {}, "Coherence ", el("span", { class: "hint" }, "log; 1: samples' gradients are orthogonal, m: they are the same")), log: true });
  const noiseHint = el("p", { class: "hint" });
  const nodes = [
    section("signals", "third", "Strength of signals", strength, signalHint), section("ratios", "third", "How large steps are", ratios, el("p", { class: "hint" }, "10⁻³ is a rough rule: far above it a step overturns what was learned, far below nothing moves.")),
    section("norms", "third", "Gradient norms", norms),
    section("noise", "", "Signal and noise of gradients", el("div", { class: "grid" }, el("div", { class: "half" }, noise), el("div", { class: "half" }, coherence)), noiseHint),
  ];

  /** @type {any} */
  let state = null;
  const weights = weightPanels(path, first, ctx);
  const [signals, steps, , noises] = nodes;
  const jobs = [
    { node: steps, key: () => "", job: recorded }, { node: signals, key: () => ctx.query.get("of"), job: layers }, ...weights.jobs, { node: noises, key: () => "", job: measure },
  ].map((one) => ({ ...one, done: "" }));

  async function layers() {
    const some = spread(state.kept, MEASURED).map((one) => one.epoch);
    const quantity = /** @type {keyof typeof SIGNALS} */ (Object.keys(SIGNALS).find((name) => name === ctx.query.get("of")) ?? "dZ_rms");
    choice.value = quantity;
    const plot = (/** @type {any[]} */ found) => {
      plotted(strength, {
        x: found.map((one) => one.epoch), log: SIGNALS[quantity].log, range: SIGNALS[quantity].log ? undefined : [0, 1],
        series: numbers.map((/** @type {number} */ l) => ({ name: `layer ${l}`, values: found.map((one) => one.layers[l - 1][quantity]) })),
      });
      const equation = found[0].equations[quantity];
      signalHint.replaceChildren(equation.startsWith("share") ? equation : eq(equation), ` over ${number(found[0].m)} training samples, at ${number(found.length)} of ${number(state.kept.length)} kept epochs`);
    };
    await answers(some, (epoch) => get(`${path}/checkpoints/${epoch}/layers`, { signal }), plot, signal);
  }

  async function recorded() {
    /** @type {any[]} */
    const items = [];
    let after = -1;
    for (let page = 0; page < PAGES && after !== null; page += 1) {
      const found = await get(`${path}/gradients?after=${after}&limit=${RECORDED}`, { signal });
      items.push(...found.items);
      after = found.next_after;
    }
    const epochs = [...new Set(items.map((one) => one.epoch))];
    const at = new Map(epochs.map((epoch, i) => [epoch, i]));
    const lines = (/** @type {string} */ what) => {
      const series = numbers.map((/** @type {number} */ l) => ({ name: `layer ${l}`, values: new Array(epochs.length).fill(null) }));
      for (const one of items) if (one.gradient === `dW${one.layer}`) series[one.layer - 1].values[/** @type {number} */ (at.get(one.epoch))] = one[what];
      return series;
    };
    plotted(ratios, { x: epochs, series: lines("update_ratio") });
    plotted(norms, { x: epochs, series: lines("norm") });
  }

  async function measure() {
    const some = spread(state.kept, NOISE).map((one) => one.epoch);
    const split = await get(`${path}/checkpoints/${some[0]}/samples?sort=index&split=training&limit=${ROWS}`, { signal });
    const rows = split.items.map((/** @type {any} */ one) => one.row);
    if (rows.length < 2) { noiseHint.textContent = "One sample alone has neither."; return; }
    const ask = (/** @type {number} */ epoch) => get(`${path}/checkpoints/${epoch}/coherence?rows=${ranges(rows)}&top=0`, { signal });
    await answers(some, ask, (found) => {
      const x = found.map((one) => one.epoch);
      const values = (/** @type {string} */ name) => found.map((one) => one.quantities[name]?.value ?? null);
      const size = state.run.config.batch_size;
      plotted(noise, { x, series: [{ name: "B", values: values("noise_scale") }], guides: size ? [{ value: size, name: `batch of ${size}` }] : [] });
      plotted(coherence, { x, series: [{ name: "coherence", values: values("coherence") }] });
      const reason = found.map((one) => one.quantities.noise_scale?.reason).find(Boolean);
      noiseHint.textContent = `Over the first ${number(rows.length)} training samples, at ${number(found.length)} kept epochs. ${reason ?? ""}`;
    }, signal);
  }

  let queue = Promise.resolve();
  /** Only what is seen is asked for. @type {Set<any>} */
  const seen = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) { seen.add(target); observer.unobserve(target); }
    if (state) show(state);
  }, { rootMargin: "200px" });
  for (const { node } of jobs) observer.observe(node);
  signal.addEventListener("abort", () => observer.disconnect());
  return { nodes: [...nodes, ...weights.nodes], show: (run, kept, epoch) => show({ run, kept, epoch }) };

  /** @param {any} next */
  function show(next) {
    state = next;
    const { run, kept, epoch } = state;
    weights.show(state);
    for (const one of [strength, ratios, norms, noise, coherence, ...weights.charts]) one.update({ cursor: epoch, ...zoomOf(ctx) });
    for (const one of jobs) {
      const key = `${kept.length} ${run.progress.epochs_done} ${one.key(state)}`;
      if (one.done === key || !seen.has(one.node)) continue;
      one.done = key;
      // One after the other: the service has others to answer too. What was passed by meanwhile is left out.
      queue = queue.then(async () => {
        if (one.done !== key || signal.aborted) return;
        one.node.querySelector(".problem")?.remove();
        try { await one.job(state); } catch (error) {
          if (!signal.aborted) one.node.append(problem(error));
        }
      });
    }
  }
}

/** Rows as ranges, 0-5,9. @param {number[]} rows */
function ranges(rows) {
  /** @type {number[][]} */
  const found = [];
  for (const row of rows) {
    const last = found[found.length - 1];
    if (last && row === last[1] + 1) last[1] = row;
    else found.push([row, row]);
  }
  return found.map(([from, to]) => from === to ? from : `${from}-${to}`).join(",");
}
