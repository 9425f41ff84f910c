// @ts-check
/** One run: its curves as they grow, and its layers and what it has learned at any epoch. */

import { get, post, stream } from "../api.js";
import { lineChart } from "../charts.js";
import { badge, duration, el, eq, number, panel, percent, problem, shape } from "../dom.js";
import { columns, epochControl, keptEpoch, newest } from "../epochs.js";
import { fileLink } from "../files.js";
import { layerTable } from "../layer_table.js";
import { outcome } from "../outcome.js";
import { verdictPanel } from "../verdicts.js";
import { zoomOf } from "../zoom.js";

const CURVE = 4000;
const LIVE_MS = 1000;
const LINKS = { live: "● live", waiting: "○ waiting for the service", polling: "◌ polling" };

/** @param {{id: string}} params */
export const title = (params) => params.id === "latest" ? "Latest run" : `Run ${params.id}`;

/** @param {HTMLElement} main @param {any} ctx */
export async function render(main, ctx) {
  let run = await ctx.run;
  const path = `/v1/runs/${run.id}`;
  const [dataset, first] = await Promise.all([
    get(`/v1/datasets/${run.dataset}`, { signal: ctx.signal }).catch(() => null),
    get(`${path}/epochs?at_most=${CURVE}`, { signal: ctx.signal }),
  ]);
  if (ctx.signal.aborted) return;
  ctx.setTitle(run.name || run.id);
  const data = columns();
  data.take(first.columns);

  const state = el("span", { class: "row" }), actions = el("div", { class: "row end" }), trouble = el("div"), link = el("span", { class: "hint" });
  const control = epochControl({ set: (epoch) => ctx.setQuery({ epoch }), signal: ctx.signal });
  const choose = (/** @type {number} */ epoch) => ctx.setQuery({ epoch });
  const cost = lineChart({ label: "Cost", caption: el("span", {}, "Cost ", eq("C"), el("span", { class: "hint" }, " log")), x: [], series: [], log: true, xLabel: "epoch", height: 230, onCursor: choose });
  const error = lineChart({ label: "Classification error", x: [], series: [], xLabel: "epoch", height: 230, onCursor: choose });
  const classifier = run.error !== null || (dataset?.classes ?? []).length > 0;
  const diagnoses = verdictPanel(path, ctx.signal, choose);
  const width = classifier ? "third" : "half";
  const layers = el("section", { class: "panel" }, el("h2", {}, "Layers"), el("p", { class: "muted" }, "Nothing recorded yet."));
  const learned = outcome(run, dataset);
  main.append(
    el("div", { class: "head" }, el("h1", {}, run.name || "Run"), state, link, actions), trouble,
    el("p", { class: "muted" }, summary(run, dataset?.name ?? run.dataset)), el("div", { class: "head" }, control.node),
    el("div", { class: "grid" },
      el("section", { class: `panel ${width}` }, cost), classifier ? el("section", { class: `panel ${width}` }, error) : null,
      el("section", { class: `panel ${width}` }, diagnoses.node),
      layers, el("div", { class: "half" }, learned.node), el("div", { class: "half" }, facts(run))));

  const layersJob = newest(), learnedJob = newest(), diagnosesJob = newest();
  /** @type {number | string} */
  let shownEpoch = -1;
  let lookedAt = 0, timer = 0;

  const last = () => data.epoch[data.epoch.length - 1] ?? -1;
  const following = () => !ctx.query.has("epoch");
  const chosen = () => following() ? last() : Math.max(0, Math.min(last(), Number(ctx.query.get("epoch")) || 0));

  function draw() {
    const epoch = chosen();
    if (last() < 0) return;
    control.show(epoch, last(), following());
    const domain = [0, run.done ? last() : Math.max(run.progress.epochs_total, 1)];
    const lines = (/** @type {string} */ what) => [
      { name: "training", values: data[what] }, ...(run.config.validation ? [{ name: "validation", values: data[`validation_${what}`] }] : []),
    ];
    cost.update({ x: data.epoch, series: lines("cost"), domain, cursor: epoch, ...zoomOf(ctx) });
    error.update({ x: data.epoch, series: lines("error"), domain, cursor: epoch, ...zoomOf(ctx) });
    look(epoch);
  }

  /** Look at the network of an epoch; while it follows the newest one, once a second. @param {number} epoch */
  function look(epoch) {
    const kept = keptEpoch(run, epoch, last());
    if (kept === shownEpoch) return;
    const pause = following() && !run.done ? LIVE_MS - (performance.now() - lookedAt) : 0;
    if (pause > 0) {
      timer ||= window.setTimeout(() => { timer = 0; if (!ctx.signal.aborted) look(chosen()); }, pause);
      return;
    }
    lookedAt = performance.now();
    shownEpoch = kept;
    layersJob(async () => {
      try {
        const [found, recorded] = await Promise.all([
          get(`${path}/checkpoints/${kept}/layers`, { signal: ctx.signal }),
          get(`${path}/gradients?after=${epoch - 1}&limit=1`, { signal: ctx.signal }),
        ]);
        const ratios = new Map(recorded.items.filter((/** @type {any} */ one) => one.gradient.startsWith("dW")).map((/** @type {any} */ one) => [one.layer, one.update_ratio]));
        const at = recorded.items[0]?.epoch;
        layers.replaceChildren(el("h2", {}, `Layers at epoch ${found.epoch}`, el("span", { class: "hint" }, `  over ${found.m} training samples${at !== undefined && at !== found.epoch ? `; update ratio of epoch ${at}` : ""}`)),
          layerTable(found, run.config.network.inputs, /** @type {any} */ (ratios)));
      } catch (wrong) {
        shownEpoch = -1;
        throw wrong;
      }
    });
    learnedJob(async () => {
      await learned.show(kept, ctx.signal);
    });
  }

  function status() {
    const { progress } = run;
    state.replaceChildren(badge(run.status), ...(run.done ? [] : [
      el("span", { class: "meter", role: "img", "aria-label": `${Math.round(progress.percent)} percent` }, el("span", { style: { width: `${progress.percent}%` } })),
      el("span", { class: "muted" }, `${number(progress.epochs_done)}/${number(progress.epochs_total)}`, progress.eta_s ? `, ${duration(progress.eta_s)} left` : ""),
    ]), run.reason && !["completed", "submitted", "claimed"].includes(run.reason) ? el("span", { class: "muted" }, run.detail || run.reason.replaceAll("_", " ")) : "");
    if (run.done) link.textContent = "";
    const act = (/** @type {string} */ text, /** @type {string} */ verb, disabled = false) => el("button", { type: "button", disabled, onclick: () => order(verb) }, text);
    actions.replaceChildren(...[
      !run.done && (run.status === "paused" ? act("Resume", "resume") : act("Pause", "pause", run.pause_requested)),
      !run.done && act("Cancel", "cancel", run.cancel_requested),
      ctx.has("new") && el("a", { class: "button", href: `#/new?from=${run.id}` }, "Clone"),
      exports(run), ctx.has("backprop") && el("a", { class: "button primary", href: `#/runs/${run.id}/backprop` }, "Look inside"),
    ].filter(Boolean));
    diagnosesJob(() => diagnoses.show(run));
  }

  /** @param {string} verb */
  async function order(verb) {
    trouble.replaceChildren();
    try {
      run = await post(`${path}/${verb}`, undefined, { signal: ctx.signal });
      status();
      if (verb === "resume") follow();
    } catch (wrong) {
      if (!ctx.signal.aborted) trouble.replaceChildren(problem(wrong));
    }
  }

  const renew = newest();
  async function again() {
    run = await get(path, { signal: ctx.signal });
    status();
  }
  let renewed = 0, ours = 0;
  function follow() {
    const mine = ours += 1;
    const there = (/** @type {(given: any) => void} */ fn) => (/** @type {any} */ given) => { if (mine === ours && !ctx.signal.aborted) fn(given); };
    stream(path, {
      after: last(), signal: ctx.signal,
      epochs: there((rows) => {
        data.add(rows);
        if (performance.now() - renewed > LIVE_MS) { renewed = performance.now(); renew(again); }
        draw();
      }),
      status: there(() => renew(again)), diagnosis: there(() => renew(again)),
      end: there((ended) => { run = { ...run, ...ended }; status(); draw(); }),
      connection: there((now) => { link.textContent = run.done ? "" : /** @type {any} */ (LINKS)[now]; }),
    }).catch(there((wrong) => trouble.replaceChildren(problem(wrong))));
  }

  ctx.onQuery(draw);
  ctx.signal.addEventListener("abort", () => clearTimeout(timer));
  status();
  draw();
  if (!run.done) follow();
}

/** @param {any} run */
function exports(run) {
  const link = (/** @type {string} */ text, /** @type {string} */ place) => fileLink(`/v1/runs/${run.id}${place}`, `${run.id}-${text}`, text);
  return el("details", { class: "menu" }, el("summary", { class: "button" }, "Export"), el("div", { class: "panel" },
    link("weights.safetensors", "/checkpoints/final/weights"), link("weights.npz", "/checkpoints/final/weights?format=npz"), link("weights.json", "/checkpoints/final/weights?format=json"),
    link("torch.safetensors", "/checkpoints/final/weights?format=torch"), link("epochs.csv", "/epochs?format=csv&limit=10000"), link("run.json", "")));
}

/** @param {any} run @param {string} dataset */
function summary({ config, parameters }, dataset) {
  const functions = [...new Set(config.network.layers.map((/** @type {any} */ layer) => layer.activation))].join(", ");
  return `${shape(config)} (${functions}) on ${dataset} · ${config.cost?.replaceAll("_", " ")} · ${config.optimizer.name}, η ${number(config.optimizer.learning_rate)} · batch ${config.batch_size ?? "of all"} · ${number(parameters)} parameters`;
}

/** @param {any} run */
function facts(run) {
  const rows = Object.entries({
    Run: run.id, Submitted: new Date(run.created_at).toLocaleString("en"), "Trained for": duration(run.trained_s), Worker: run.worker ?? "–", Seed: String(run.config.seed),
    Precision: run.config.dtype, Validation: run.config.validation?.dataset ?? (run.config.validation ? percent(run.config.validation.fraction) : "none"), "Cloned from": run.cloned_from ?? "–", Extends: run.extends ?? "–",
  }).filter(([, value]) => value !== "–");
  return panel("About", el("dl", { class: "facts" }, rows.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    el("details", {}, el("summary", {}, "Config as JSON"), el("pre", { tabindex: "0" }, JSON.stringify(run.config, null, 2))));
}
