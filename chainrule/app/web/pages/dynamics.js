// @ts-check
/** How a run's numbers move over its epochs: how they are spread in each layer, and what becomes of their sizes. */

import { get } from "../api.js";
import { behind, folded, overEpochs, range } from "../distributions.js";
import { panels } from "../dynamics_panels.js";
import { el, eq, number, problem } from "../dom.js";
import { epochControl, newest } from "../epochs.js";
import { follow } from "../follow.js";
import { checkpoints, epochOf } from "../kept.js";
import { shownBy, SIGNS } from "../verdicts.js";

/** A few epochs come soon, all of them later; of a large network fewer, where the service refuses more. */
const FEW = 12;
const EPOCHS = [100, 30, 10, 3];
const TENSORS = { dW: "dW", W: "W", Z: "Z", A: "A", dZ: "dZ", update: "ΔW" };
const VIEWS = { map: "Heat map", ridge: "Ridgeline", bands: "Percentiles" };
export const title = () => "Dynamics";

/** @param {HTMLElement} main @param {any} ctx */
export async function render(main, ctx) {
  const { signal } = ctx;
  let run = await ctx.run;
  let kept = await checkpoints(run.id, signal);
  const path = `/v1/runs/${run.id}`;
  ctx.setTitle(`Dynamics of ${run.name || run.id}`);

  const control = epochControl({ set: (epoch) => ctx.setQuery({ epoch }), signal });
  const trouble = el("div"), verdicts = el("div"), layers = el("div", { class: "grid spreads" }), about = el("p", { class: "hint" });
  const choice = (/** @type {string} */ name, /** @type {string} */ label, /** @type {Record<string, string>} */ options) => {
    const node = el("div", { class: "segments", role: "group", "aria-label": label }, Object.entries(options).map(([value, text]) => el("button", { type: "button", class: "small", "data-value": value, onclick: () => ctx.setQuery({ [name]: value }) }, text)));
    return { node, show: (/** @type {string} */ value) => { for (const button of node.children) button.setAttribute("aria-pressed", String(button.dataset.value === value)); } };
  };
  const tensors = choice("tensor", "Distribution of", TENSORS), views = choice("view", "Shown as", VIEWS);
  const distributions = el("section", { class: "panel", id: "panel-distributions" },
    el("div", { class: "row" }, el("h2", {}, "Distribution by epoch"), tensors.node, views.node), about, layers);
  const more = panels(run, ctx);
  main.append(el("div", { class: "head dynamics-head" }, el("h1", {}, `Dynamics of ${run.name || run.id.slice(0, 12)}`), el("div", { class: "row end" }, control.node)),
    trouble, verdicts, el("div", { class: "grid", id: "dynamics" }, distributions, ...more.nodes));

  /** @type {Map<string, any>} */
  const counted = new Map();
  const soon = newest();
  const chosen = () => ({
    tensor: /** @type {keyof typeof TENSORS} */ (Object.keys(TENSORS).find((name) => name === ctx.query.get("tensor")) ?? "dW"),
    view: Object.keys(VIEWS).find((name) => name === ctx.query.get("view")) ?? "map",
    epoch: epochOf(kept, ctx.query.get("epoch")),
  });

  /** @param {string} tensor @param {number[]} sizes */
  async function histograms(tensor, sizes) {
    const key = `${tensor} ${kept.length} ${kept[kept.length - 1].epoch}`;
    if (counted.has(key)) return counted.get(key);
    for (const most of sizes) {
      try {
        const found = await get(`${path}/histograms?names=${tensor}&at_most=${most}`, { signal });
        if (sizes === EPOCHS) counted.set(key, found);
        return found;
      } catch (error) {
        if (/** @type {any} */ (error).code !== "limit_exceeded" || most === sizes[sizes.length - 1]) throw error;
      }
    }
  }

  /** @type {any[]} */
  let figures = [];
  let drawn = "";
  async function spread() {
    const { tensor } = chosen();
    const there = counted.size > 0;
    if (!there) about.textContent = "Counting …";
    if (!there && kept.length > FEW) plot(tensor, await histograms(tensor, [FEW, 3]));
    const found = await histograms(tensor, EPOCHS);
    if (tensor === chosen().tensor) plot(tensor, found);
  }

  /** @param {string} tensor @param {any} found */
  function plot(tensor, found) {
    const { epoch, view } = chosen();
    const all = Object.entries(found.histograms).map(([name, rows]) => ({ name, rows, ...folded(rows, found.edges) }));
    const window = range(all);
    const most = all.length === 1 ? "" : all.length === 2 || all.length === 4 ? "half" : "third";
    const data = all.map((one) => ({
      label: `${one.name} by epoch`, caption: el("span", {}, `Layer ${one.rows.layer} `, el("span", { class: "hint" }, eq(one.rows.equation))),
      view, epochs: found.epochs, spreads: one.spreads, from: one.from, window, cursor: epoch, onCursor: (/** @type {number} */ to) => ctx.setQuery({ epoch: to }),
    }));
    about.replaceChildren(...(view === "map" ? [el("span", { class: "ramp shares", "aria-hidden": "true" }), "0 to the layer's largest share of numbers in a bin, √ scale. "] : []), `${view === "ridge" ? "|x| to the right" : "|x| upwards"}, in bins of powers of two, the same for all layers${view === "bands" ? ": the median, the half around it, and 98 %" : ""}. ${
      found.samples ? `Over ${number(found.samples)} training samples. ` : ""}${found.sampled ? `${number(found.epochs.length)} of ${number(found.kept)} kept epochs, evenly spread.` : `All ${number(found.kept)} epochs whose weights are kept.`}`);
    const same = drawn === `${tensor} ${view} ${all.length}` && view !== "ridge";
    if (same) figures.forEach((figure, i) => figure.update(data[i]));
    else {
      figures = data.map((one) => view === "ridge" ? behind(one) : overEpochs(one));
      layers.replaceChildren(...figures.map((figure) => el("div", { class: most }, figure)));
    }
    drawn = `${tensor} ${view} ${all.length}`;
  }

  function draw() {
    control.node.hidden = !kept.length;
    main.querySelector("#dynamics")?.toggleAttribute("hidden", !kept.length);
    if (!kept.length) {
      trouble.replaceChildren(el("p", { class: "note" }, run.done ? "No weights of this run are kept, so there is nothing to look at." : "The first weights are not there yet; this page shows them as soon as they are."));
      return;
    }
    trouble.replaceChildren();
    const { tensor, view, epoch } = chosen();
    control.show(epoch, kept[kept.length - 1].epoch, ctx.query.get("epoch") === null);
    tensors.show(tensor);
    views.show(view);
    soon(() => attempt(spread));
    more.show(run, kept, epoch);
    reveal(ctx.query.get("panel"));
  }

  /** @param {() => Promise<void>} part */
  async function attempt(part) {
    try { await part(); } catch (error) { if (!signal.aborted) trouble.replaceChildren(problem(error)); }
  }

  let revealed = "";
  /** Bring a panel that a link names into view, once. @param {string | null} name */
  function reveal(name) {
    if ((name ?? "") === revealed) return;
    revealed = name ?? "";
    for (const node of main.querySelectorAll(".panel.named")) node.classList.remove("named");
    const node = name && document.getElementById(`panel-${name}`);
    if (!node) return;
    node.classList.add("named");
    requestAnimationFrame(() => node.scrollIntoView({ block: "center" }));
  }

  async function judge() {
    if (!run.diagnoses.length) { verdicts.replaceChildren(); return; }
    const { items } = await get(`${path}/diagnoses`, { signal });
    verdicts.replaceChildren(el("ul", { class: "verdicts dynamics-verdicts", "aria-label": "Diagnoses" }, items.map(verdict)));
  }

  /** @param {any} one */
  function verdict(one) {
    const to = shownBy(one);
    const sign = /** @type {Record<string, string>} */ (SIGNS)[one.severity] ?? "?";
    const text = `${sign} ${one.title}${one.layer ? ` · layer ${one.layer}` : ""} · ${one.active ? "since" : "over, from"} epoch ${one.first_epoch}`;
    const show = () => { revealed = ""; ctx.setQuery(Object.fromEntries(new URLSearchParams(to ?? ""))); reveal(ctx.query.get("panel")); };
    return el("li", { class: one.active ? one.severity : "over" }, to ? el("button", { type: "button", class: "quiet", onclick: show }, text) : el("a", { href: `#/runs/${run.id}` }, text), el("p", { class: "hint" }, one.sentence));
  }

  const redraw = () => { for (const figure of figures) figure.update?.({}); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal });
  const themes = new MutationObserver(redraw);
  themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  signal.addEventListener("abort", () => themes.disconnect());
  ctx.onQuery(draw);
  draw();
  attempt(judge);
  if (!run.done) follow(path, { run, signal, grown: (now) => attempt(async () => {
    kept = await checkpoints(run.id, signal);
    run = now;
    draw();
    await judge();
  }) }).catch((error) => { if (!signal.aborted) trouble.replaceChildren(problem(error)); });
}
