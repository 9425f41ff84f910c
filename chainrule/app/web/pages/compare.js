// @ts-check
/** Runs side by side: where their specs differ, their curves on one axis, their layers, verdicts, and equal weights. */

import { get, shown, wait } from "../api.js";
import { lineChart } from "../charts.js";
import { AXES, differences, history, overlay, recorded, sameWeights, unit } from "../comparison.js";
import { badge, duration, el, eq, number, panel, percent, problem, shape, svg } from "../dom.js";
import { checkpoints } from "../kept.js";
import { verdicts } from "../verdicts.js";
import { zoomOf } from "../zoom.js";

const MOST = 8;
const LISTED = 50;
const POLL_MS = 2000;
const MOST_LAYERS = 12;
const MEASURES = {
  norm: { name: "‖dW‖, norm", log: true },
  update_ratio: { name: "‖ΔW‖/‖W‖, update ratio", log: true },
  standard_deviation: { name: "standard deviation", log: true },
  zeros: { name: "share of zeros", log: false },
};

export const title = () => "Compare runs";

/** @param {HTMLElement} main @param {any} ctx */
export async function render(main, ctx) {
  const { signal } = ctx;
  /** @type {Map<string, {run: any, history: any, kept: any[], records: Map<string, any> | null}>} */
  const known = new Map();
  const { items: listed } = await get(`/v1/runs?limit=${LISTED}`, { signal });
  const choice = el("select", { id: "add", onchange: () => choose([...ids(), choice.value]) });
  const trouble = el("div");
  const overview = el("section", { class: "panel" });
  const spec = el("section", { class: "panel" });
  const axis = segments("Curves by", AXES, "x", "epochs");
  const split = segments("Measured on", { training: "training", validation: "validation" }, "split", "training");
  const cost = lineChart({ label: "Cost", caption: el("span", {}, "Cost ", eq("C"), el("span", { class: "hint" }, " log")), x: [], series: [], log: true, height: 280 });
  const error = lineChart({ label: "Classification error", x: [], series: [], height: 280 });
  const errors = el("section", { class: "panel half" }, error);
  const measure = el("select", { id: "measure", onchange: () => ctx.setQuery({ measure: measure.value }) }, Object.entries(MEASURES).map(([value, one]) => el("option", { value }, one.name)));
  const gradient = el("select", { id: "gradient", onchange: () => ctx.setQuery({ gradient: gradient.value }) }, ["dW", "db"].map((value) => el("option", { value }, value)));
  const charts = el("div", { class: "grid" });
  const layers = panel("Gradients, layer by layer", el("div", { class: "row" }, el("label", { for: "gradient" }, "Of"), gradient, el("label", { for: "measure" }, "the"), measure, el("span", { class: "hint" }, "at the end of each recorded epoch")), charts);
  const judged = el("section", { class: "panel" });
  const body = el("div", { class: "grid" }, overview, spec, el("div", { class: "row" }, axis.node, split.node), el("section", { class: "panel half" }, cost), errors, layers, judged);
  main.append(el("div", { class: "head" }, el("h1", {}, "Compare runs"), el("div", { class: "row end" }, el("label", { for: "add" }, "Add"), choice)), trouble, body);

  const ids = () => [...new Set((ctx.query.get("runs") ?? "").split(",").filter(Boolean))].slice(0, MOST);
  /** @param {string[]} chosen */
  const choose = (chosen) => ctx.setQuery({ runs: chosen.filter(Boolean).join(",") }, { replace: false });
  let wanted = "";
  ctx.onQuery(() => { if (ids().join() === wanted) draw(); else load(); });
  await load();
  follow();

  /** @param {string} id */
  async function look(id) {
    const run = await get(`/v1/runs/${id}`, { signal });
    const [past, kept, records] = await Promise.all([history(run, signal), checkpoints(id, signal), recorded(id, signal).catch(() => null)]);
    known.set(id, { run, history: past, kept, records });
  }

  async function load() {
    const asked = ids();
    wanted = asked.join();
    const failed = [];
    for (const id of asked) {
      if (known.has(id)) continue;
      try {
        await look(id);
      } catch (wrong) {
        if (signal.aborted) return;
        failed.push(problem(wrong));
      }
    }
    if (wanted !== ids().join()) return;
    trouble.replaceChildren(...failed);
    draw();
  }

  async function follow() {
    while (!signal.aborted) {
      await wait(POLL_MS, signal);
      await shown(signal);
      if (signal.aborted) return;
      const growing = chosen().filter(({ run }) => !run.done);
      try {
        for (const { run } of growing) await look(run.id);
        if (growing.length) draw();
      } catch (wrong) {
        if (!signal.aborted) trouble.replaceChildren(problem(wrong));
      }
    }
  }

  function chosen() {
    return /** @type {any[]} */ (ids().map((id) => known.get(id)).filter(Boolean));
  }

  function draw() {
    const all = chosen();
    const [x, on] = [/** @type {keyof typeof AXES} */ (axis.show()), split.show()];
    const names = naming(all.map(({ run }) => run));
    choice.replaceChildren(el("option", { value: "" }, all.length < MOST ? "a run…" : `no more than ${MOST}`), ...listed.filter((/** @type {any} */ run) => !ids().includes(run.id)).map((/** @type {any} */ run) => el("option", { value: run.id }, `${run.name || run.id} · ${shape(run.config)} · ${run.dataset}`)));
    choice.disabled = all.length >= MOST;
    body.hidden = !all.length;
    if (!all.length) {
      trouble.replaceChildren(...trouble.children, ...(trouble.children.length ? [] : [suggestions()]));
      return;
    }
    trouble.querySelector(".suggestions")?.remove();
    overview.replaceChildren(el("h2", {}, "Runs"), table(all, names));
    spec.replaceChildren(el("h2", {}, "Where their specs differ"), difference(all, names));
    const validated = all.some(({ history: past }) => past.validation_cost.some(Number.isFinite));
    split.node.hidden = !validated;
    const prefix = validated && on === "validation" ? "validation_" : "";
    const { label, scale } = unit(x, all.map(({ history: past }) => past));
    const places = (/** @type {any} */ past) => past.at[x].map((/** @type {number} */ place) => place * scale);
    const costs = overlay(all.map(({ history: past }) => ({ x: places(past), y: past[`${prefix}cost`] })));
    cost.update({ x: costs.x, series: names.map((name, i) => ({ name, values: costs.values[i] })), xLabel: label, ...zoomOf(ctx) });
    const shares = overlay(all.map(({ history: past }) => ({ x: places(past), y: past[`${prefix}error`] })));
    errors.hidden = !shares.values.flat().some(Number.isFinite);
    error.update({ x: shares.x, series: names.map((name, i) => ({ name, values: shares.values[i] })), xLabel: label, ...zoomOf(ctx) });
    drawLayers(all, names, places, label);
    judged.hidden = !all.some(({ run }) => run.diagnoses);
    judged.replaceChildren(el("h2", {}, "Verdicts"), el("div", { class: "cards" }, all.map(({ run }, i) => el("section", {}, el("h3", {}, swatch(i), names[i]), run.diagnoses ? verdicts(run) : el("p", { class: "muted" }, "Not looked for.")))));
  }

  function suggestions() {
    if (!listed.length) return el("p", { class: "note suggestions" }, "Nothing has been trained yet. Train two runs, and see here what makes the difference. ", el("a", { href: "#/" }, "To the runs"));
    const boxes = listed.slice(0, 12).map((/** @type {any} */ run) => el("li", {}, el("label", { class: "row" }, el("input", { type: "checkbox", value: run.id }), `${run.name || run.id} · ${shape(run.config)} · ${run.dataset}`, badge(run.status))));
    return el("form", { class: "panel suggestions", onsubmit: (/** @type {any} */ event) => {
      event.preventDefault();
      choose([...event.target.querySelectorAll("input:checked")].map((box) => box.value));
    } }, el("h2", {}, "Which runs?"), el("ul", { class: "plain" }, boxes), el("button", { class: "primary" }, "Compare them"));
  }

  /** @param {any[]} all @param {string[]} names */
  function table(all, names) {
    const heads = ["Run", "Network", "Status", "Epochs", "Cost", "Error", "Validation cost", "Validation error", "Trained", all.length > 1 ? `Weights as in ${names[0]}` : "", ""];
    return el("div", { class: "scroll" }, el("table", { class: "compared" }, el("thead", {}, el("tr", {}, heads.map((text) => text ? el("th", { scope: "col" }, text) : el("td")))),
      el("tbody", {}, all.map(({ run, kept }, i) => el("tr", {}, el("th", { scope: "row" }, swatch(i), ctx.has("run") ? el("a", { href: `#/runs/${run.id}` }, names[i]) : names[i]), el("td", {}, shape(run.config)), el("td", {}, badge(run.status)), el("td", {}, `${number(run.progress.epochs_done)}/${number(run.progress.epochs_total)}`),
        el("td", {}, number(run.cost)), el("td", {}, percent(run.error)), el("td", {}, number(run.validation_cost)), el("td", {}, percent(run.validation_error)), el("td", {}, duration(run.trained_s)),
        all.length > 1 ? el("td", {}, i ? equality(sameWeights(all[0].kept, kept)) : "–") : el("td"),
        el("td", {}, el("button", { type: "button", class: "quiet small", "aria-label": `Take ${names[i]} out`, onclick: () => choose(ids().filter((id) => id !== run.id)) }, "✕")))))));
  }

  /** @param {ReturnType<typeof sameWeights>} same */
  function equality(same) {
    if (!same.compared) return el("span", { class: "muted" }, "no epoch of both is kept");
    if (same.last === null) return el("span", { class: "badge" }, `differ from epoch ${same.differs} on`);
    const compared = same.differs === null ? `All ${number(same.compared)} epochs that both have kept are the same` : `They differ from epoch ${number(same.differs)} on`;
    return el("span", { class: "badge succeeded", title: `${compared}, told by the SHA-256 of the weights.` }, `✓ identical up to epoch ${number(same.last)}`);
  }

  /** @param {any[]} all @param {string[]} names */
  function difference(all, names) {
    if (all.length < 2) return el("p", { class: "muted" }, "Add a run to compare this one with.");
    const rows = differences(all.map(({ run }) => run.config));
    if (!rows.length) return el("p", {}, "Nowhere: they are the same but for their names.");
    const said = (/** @type {any} */ value) => value === undefined ? el("span", { class: "muted" }, "–") : typeof value === "number" ? number(value, 6) : value === null ? el("span", { class: "muted" }, "none") : typeof value === "string" ? value : JSON.stringify(value);
    return el("div", { class: "scroll" }, el("table", { class: "compared" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Field"), names.map((name, i) => el("th", { scope: "col" }, swatch(i), name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, el("th", { scope: "row" }, el("code", {}, row.name)), row.values.map((value) => el("td", {}, said(value))))))));
  }

  /** @param {any[]} all @param {string[]} names @param {(past: any) => number[]} places @param {string} label */
  function drawLayers(all, names, places, label) {
    const what = /** @type {keyof typeof MEASURES} */ (Object.keys(MEASURES).find((name) => name === ctx.query.get("measure")) ?? "norm");
    const of = ctx.query.get("gradient") === "db" ? "db" : "dW";
    [measure.value, gradient.value] = [what, of];
    const depth = Math.max(0, ...all.map(({ run }) => run.config.network.layers.length));
    layers.hidden = !all.some(({ records }) => records?.size);
    while (charts.children.length > Math.min(depth, MOST_LAYERS)) charts.lastChild?.remove();
    for (let l = 1; l <= Math.min(depth, MOST_LAYERS); l += 1) {
      const place = charts.children[l - 1] ?? charts.appendChild(el("div", { class: depth > 2 ? "third" : "half" }, lineChart({ label: `Layer ${l}`, x: [], series: [], height: 210 })));
      const curves = overlay(all.map(({ records, history: past }) => {
        const found = records?.get(`${of}${l}`);
        const along = places(past);
        const index = new Map(past.epoch.map((/** @type {number} */ epoch, /** @type {number} */ i) => [epoch, along[i]]));
        const there = (found?.records ?? []).filter((/** @type {any} */ one) => index.has(one.epoch));
        return { x: there.map((/** @type {any} */ one) => index.get(one.epoch)), y: there.map((/** @type {any} */ one) => one[what]) };
      }));
      /** @type {any} */ (place.firstChild).update({ x: curves.x, series: names.map((name, i) => ({ name, values: curves.values[i] })), log: MEASURES[what].log, xLabel: label, ...zoomOf(ctx) });
    }
  }

  /** Buttons of which one is pressed. @param {string} label @param {Record<string, string>} options @param {string} name @param {string} usual */
  function segments(label, options, name, usual) {
    const buttons = Object.keys(options).map((value) => el("button", { type: "button", class: "small", "data-value": value, onclick: () => ctx.setQuery({ [name]: value === usual ? null : value, ...(name === "x" ? { zoom: null } : {}) }) }, value));
    return {
      node: el("div", { class: "row" }, el("span", { class: "muted" }, label), el("div", { class: "segments", role: "group", "aria-label": label }, buttons)),
      show: () => {
        const now = Object.keys(options).find((value) => value === ctx.query.get(name)) ?? usual;
        for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.value === now));
        return now;
      },
    };
  }
}

/** A name for each, told apart where two are the same. @param {any[]} runs */
function naming(runs) {
  return runs.map((run) => runs.filter((one) => one.name === run.name).length > 1 || !run.name ? `${run.name || "run"} (…${run.id.slice(-5)})` : run.name);
}

/** The colour of a run's curves. @param {number} i */
const swatch = (i) => svg("svg", { class: "swatch", width: 12, height: 12, "aria-hidden": "true" }, svg("rect", { width: 12, height: 12, rx: 3, style: { fill: `var(--series-${i % MOST})` } }));
