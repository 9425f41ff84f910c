// @ts-check
/** An epoch trained once more, step by step: what each step cost, how far it went, and whether that was too far. */

import { get } from "../api.js";
import { lineChart } from "../charts.js";
import { announce, duration, el, eq, number, panel, problem } from "../dom.js";
import { newest } from "../epochs.js";
import { fileLink } from "../files.js";
import { follow } from "../follow.js";
import { batch } from "../step_batch.js";
import { zoomOf } from "../zoom.js";

const MOST = 4000;
const NEAR = 0.1;

export const title = () => "Steps";

/** @param {HTMLElement} main @param {any} ctx */
export async function render(main, ctx) {
  const { signal } = ctx;
  let run = await ctx.run;
  const path = `/v1/runs/${run.id}`;
  const last = () => run.progress.epochs_done + (run.reason === "diverged" ? 1 : 0);
  ctx.setTitle(`Steps of ${run.name || run.id}`);

  const go = (/** @type {number} */ epoch) => ctx.setQuery({ epoch: Math.max(1, Math.min(last(), epoch)), step: null }, { replace: false });
  const field = el("input", { type: "number", id: "epoch", min: 1, step: 1, class: "epoch-field", onchange: () => go(Math.round(Number(field.value)) || 1) });
  const of = el("span", { class: "muted" });
  const before = el("button", { type: "button", class: "small", "aria-label": "Epoch before", onclick: () => go(where().epoch - 1) }, "◀");
  const behind = el("button", { type: "button", class: "small", "aria-label": "Epoch after", onclick: () => go(where().epoch + 1) }, "▶");
  const newestButton = el("button", { type: "button", class: "small", title: "Follow the run", onclick: () => ctx.setQuery({ epoch: null, step: null }, { replace: false }) }, "Newest");
  const state = el("div", { class: "row steps-state" }), trouble = el("div");
  /** A step that is looked at stays, though the run goes on. @param {number} step */
  const pick = (step) => ctx.setQuery({ epoch: replay?.epoch, step });
  const chart = (/** @type {any} */ options) => lineChart({ x: [], series: [], xLabel: "step", height: 210, onCursor: pick, ...options });
  const caption = (/** @type {any} */ text, hint = "") => el("span", {}, text, el("span", { class: "hint" }, ` ${hint}`));
  const cost = chart({ label: "Cost of each step", caption: caption(["Cost ", eq("C")], "over the step's own batch, before its update") });
  const ratios = chart({ label: "Update ratio of each step", caption: caption(eq("‖ΔW‖/‖W‖"), "log"), log: true, guides: [{ value: 1e-3, name: "10⁻³" }] });
  const updates = chart({ label: "Length of each step", caption: caption(eq("‖ΔW‖"), "log"), log: true });
  const gradients = chart({ label: "Gradient norm of each step", caption: caption("Gradient norm", "of all parameters, before penalties and clip, log"), log: true });
  const stepHead = el("div", { class: "row step-head" }), along = panel("Cost along this step"), numbers = panel("This step in numbers"), samples = panel("The batch of this step");
  const body = el("div", { class: "grid", id: "steps" }, [cost, ratios, updates, gradients].map((one) => el("section", { class: "panel half" }, one)), stepHead,
    el("div", { class: "half stack" }, along, numbers), el("div", { class: "half stack" }, samples));
  main.append(el("div", { class: "head" }, el("h1", {}, `Steps of ${run.name || run.id.slice(0, 12)}`), el("div", { class: "row end" }, el("label", { for: "epoch" }, "Epoch"), before, field, behind, of, newestButton)),
    state, trouble, body);

  function where() {
    const asked = Number(ctx.query.get("epoch"));
    const epoch = ctx.query.has("epoch") && Number.isFinite(asked) ? Math.max(1, Math.min(last(), Math.round(asked))) : last();
    return { epoch, step: Number(ctx.query.get("step")) || 0 };
  }

  /** @type {any} */
  let replay = null;
  let looked = "";
  const replayJob = newest(), alongJob = newest(), batchJob = newest();

  async function train() {
    const { epoch } = where();
    if (replay?.epoch === epoch) return;
    state.replaceChildren(el("span", { class: "badge running" }, el("span", { class: "sign", "aria-hidden": "true" }, "●"), `training epoch ${epoch} once more …`));
    const began = performance.now();
    replay = await get(`${path}/epochs/${epoch}/steps?limit=${MOST}&rows=true`, { signal });
    looked = "";
    said((performance.now() - began) / 1000);
  }

  /** @param {number} seconds */
  function said(seconds) {
    const mark = (/** @type {string} */ kind, /** @type {string} */ sign, /** @type {string} */ text) => el("span", { class: `badge ${kind}` }, el("span", { class: "sign", "aria-hidden": "true" }, sign), text);
    const verdict = replay.verified ? mark("succeeded", "✓", "replayed bit-exactly: hash equal") : replay.verified === null
      ? mark("warning", "?", replay.diverged ? "this is the epoch in which the run diverged" : "replayed; cannot be compared") : mark("failed", "✕", "replayed, but the weights differ");
    announce(verdict.textContent);
    const from = replay.begins_at === replay.epoch - 1 ? `from the end of epoch ${replay.begins_at}` : `trained up to from the end of epoch ${replay.begins_at}`;
    state.replaceChildren(verdict, replay.sha256 ? el("code", { title: `SHA-256 of the weights it ended with: ${replay.sha256}` }, replay.sha256.slice(0, 12)) : "",
      el("span", { class: "muted" }, `${number(replay.steps)} ${replay.steps === 1 ? "step" : "steps"}, ${from}, in ${duration(seconds)}`),
      ...[replay.reason, replay.remembers, replay.next_after !== null ? `The first ${number(MOST)} steps are shown.` : "", replay.nonfinite_step ? `Step ${replay.nonfinite_step} is the first with a number that is not finite${replay.nonfinite ? `: ${replay.nonfinite}` : ""}.` : ""]
        .filter((text) => text && !(replay.diverged && text === replay.reason)).map((text) => el("span", { class: "hint" }, text)));
  }

  /** The step that is looked at: one that is named, else the first that is not finite, else the longest. */
  function chosen() {
    const { columns } = replay;
    const { step } = where();
    if (columns.step.includes(step)) return step;
    if (replay.nonfinite_step) return replay.nonfinite_step;
    return longest();
  }

  function longest() {
    const { step, update_norm: sizes } = replay.columns;
    return step[sizes.reduce((/** @type {number} */ best, /** @type {any} */ size, /** @type {number} */ i) => (size ?? 0) > (sizes[best] ?? 0) ? i : best, 0)];
  }

  function plot() {
    const { columns, blocks } = replay;
    const step = chosen();
    const layers = Object.entries(blocks).filter(([name]) => /^W\d+$/.test(name));
    const lines = (/** @type {string} */ what) => layers.map(([, one]) => ({ name: `layer ${one.layer}`, values: one[what] }));
    const common = { x: columns.step, cursor: step, ...zoomOf(ctx) };
    cost.update({ ...common, series: [{ name: "C", values: columns.cost }], log: columns.cost.some((/** @type {number} */ value) => value > 1e6) });
    ratios.update({ ...common, series: lines("update_ratio") });
    updates.update({ ...common, series: lines("update_norm") });
    gradients.update({ ...common, series: [{ name: "‖(dW, db, …)‖", values: columns.gradient_norm }] });
    const at = columns.step.indexOf(step);
    stepHead.replaceChildren(el("h2", {}, `Step ${step} of ${replay.steps}`),
      el("span", { class: "segments" }, el("button", { type: "button", class: "small", "aria-label": "Step before", disabled: at <= 0, onclick: () => pick(columns.step[at - 1]) }, "◀"),
        el("button", { type: "button", class: "small", "aria-label": "Step after", disabled: at >= columns.step.length - 1, onclick: () => pick(columns.step[at + 1]) }, "▶")),
      el("button", { type: "button", class: "small", onclick: () => pick(longest()) }, "The longest step"),
      el("span", { class: "muted" }, `m = ${number(columns.samples[at])} · η = ${number(columns.learning_rate[at])} · C = ${number(columns.cost[at])} · `, eq("‖Δθ‖/‖θ‖"), ` = ${number(columns.update_ratio[at], 3)}`),
      el("span", { class: "hint" }, "Click a spike above, or use arrow keys there."));
    tell(step, at);
  }

  /** @param {number} step @param {number} at */
  function tell(step, at) {
    if (looked === `${replay.epoch} ${step}`) return;
    looked = `${replay.epoch} ${step}`;
    const there = `${path}/epochs/${replay.epoch}/steps/${step}`;
    const link = (/** @type {string} */ text, /** @type {string} */ query, /** @type {string} */ kind) => fileLink(`${there}/gradients${query}`, `${run.id}-epoch-${replay.epoch}-step-${step}${kind}`, text);
    numbers.replaceChildren(el("h2", {}, "This step in numbers"), el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, [el("td"), ...["‖dX‖", "‖ΔX‖", "‖ΔX‖/‖X‖"].map((text) => el("th", { scope: "col" }, eq(text)))])),
      el("tbody", {}, Object.entries(replay.blocks).map(([name, one]) => el("tr", {}, el("th", { scope: "row" }, eq(name)), [one.gradient_norm[at], one.update_norm[at], one.update_ratio[at]].map((value) => el("td", {}, number(value)))))))),
    el("p", {}, "All of its backpropagation, Z, A, dA, dZ, dW, db, at the weights before its update: ", link("as NPZ", "?format=npz", ".npz"), ", ", link("shapes and norms", "?values=false", ".json"), "."));
    alongJob(() => attempt(along, "Cost along this step", () => walk(there, step)));
    batchJob(() => attempt(samples, "The batch of this step", async () => {
      const found = await batch(run, replay, there, replay.rows?.[at] ?? [], ctx);
      if (looked === `${replay.epoch} ${step}`) samples.replaceChildren(el("h2", {}, "The batch of this step"), ...found);
    }));
  }

  /** @param {any} host @param {string} heading @param {() => Promise<void>} part */
  async function attempt(host, heading, part) {
    try { await part(); } catch (error) { if (!signal.aborted) host.replaceChildren(el("h2", {}, heading), problem(error)); }
  }

  /** @param {string} there @param {number} step */
  async function walk(there, step) {
    const found = await get(`${there}/cost-along`, { signal });
    if (looked !== `${replay.epoch} ${step}`) return;
    const { c0, c1, c2 } = found.parabola;
    const at = (/** @type {number} */ s) => found.costs[found.s.indexOf(s)];
    const chord = found.s.map((/** @type {number} */ s) => s < 0 || s > 1 || at(0) === undefined ? null : at(0) + s * (at(1) - at(0)));
    const fitted = c2 === null ? [] : [{ name: "parabola", values: found.s.map((/** @type {number} */ s) => c0 + c1 * s + c2 * s * s) }];
    const [word, sentence, kind] = judged(found);
    along.replaceChildren(el("h2", {}, "Cost along this step"),
      el("p", { class: "row" }, el("span", { class: `badge ${kind}` }, word), el("strong", {}, found.alpha === null ? "" : `α = ${number(found.alpha, 3)}`), el("span", { class: "muted" }, sentence)),
      lineChart({ label: "Cost along the step", caption: caption(eq("C(θ + s·Δ)"), "the step went from s = 0 to s = 1"), x: found.s, series: [{ name: "C", values: found.costs }, ...fitted, { name: "this step", values: chord }], cursor: 1, xLabel: "s", height: 230 }),
      el("p", { class: "hint" }, `Slope ${number(found.slope_before, 3)} where it began, ${number(found.slope_after, 3)} where it ended; `, eq(found.equations.alpha), found.weighted ? "; the parabola is fitted to costs and slopes weighed by how sure the batch is of them" : "", "."));
  }

  function draw() {
    const none = last() < 1;
    body.hidden = none;
    if (none) {
      trouble.replaceChildren(el("p", { class: "note" }, run.done ? "This run has no epoch that could be replayed." : "The first epoch is not there yet; this page shows it as soon as it is."));
      return;
    }
    const { epoch } = where();
    field.value = String(epoch);
    field.setAttribute("max", String(last()));
    of.textContent = `of ${last()}`;
    before.disabled = epoch <= 1;
    behind.disabled = epoch >= last();
    newestButton.hidden = !ctx.query.has("epoch");
    if (replay?.epoch === epoch) { plot(); return; }
    replayJob(async () => {
      try {
        await train();
        trouble.replaceChildren();
        body.hidden = false;
        plot();
      } catch (error) {
        if (signal.aborted) return;
        [replay, body.hidden] = [null, true];
        state.replaceChildren();
        trouble.replaceChildren(problem(error));
      }
    });
  }
  ctx.onQuery(draw);
  draw();
  if (!run.done) follow(path, { run, signal, grown: (now) => {
    if (last() < 1) trouble.replaceChildren();
    run = now;
    draw();
  } }).catch((error) => { if (!signal.aborted) trouble.replaceChildren(problem(error)); });
}

/** @param {any} found @returns {[string, string, string]} a word, what it means, a kind of badge */
function judged({ alpha, reason }) {
  if (alpha === null) return ["undefined", reason, "warning"];
  if (alpha <= -1) return ["no minimum ahead", "The cost bends down along this step.", "warning"];
  if (alpha < -NEAR) return ["short", "It fell short of the minimum along its way: a longer step would have gone lower.", "running"];
  if (alpha <= NEAR) return ["at the minimum", "It led to the minimum along its way.", "succeeded"];
  return ["overshoots", alpha > 1 ? "It went so far beyond the minimum that the cost is higher than where it began." : "It went beyond the minimum along its way: a shorter step would have gone lower.", alpha > 1 ? "failed" : "warning"];
}
