// @ts-check
/** A new run: a form made from the API's own schema, checked while it is filled in, and what the network begins with. */

import { get, post } from "../api.js";
import { bars } from "../charts.js";
import { asCurl, asPython, copyButton } from "../code.js";
import { dataPanel } from "../data_panel.js";
import { bytes, el, number, panel, problem, shape } from "../dom.js";
import { EXAMPLES } from "../examples.js";
import { lean, specForm } from "../spec_form.js";

const CHECK_MS = 350;
const VANISHING = 0.01;
/** @type {[string, string[]][]} */
const GROUPS = [["Data", ["name", "dataset", "validation"]], ["Network", ["network", "cost"]], ["Training", ["optimizer", "epochs", "batch_size", "seed", "schedule", "early_stopping"]]];

export const title = () => "New run";

/** @param {HTMLElement} main @param {any} ctx */
export async function render(main, ctx) {
  const from = ctx.query.get("from");
  const [root, datasets, origin] = await Promise.all([
    get("/openapi.json", { signal: ctx.signal }), get("/v1/datasets?limit=200", { signal: ctx.signal }), from ? get(`/v1/runs/${from}`, { signal: ctx.signal }) : null,
  ]);
  if (ctx.signal.aborted) return;
  const schema = root.components.schemas.RunSpec;
  let spec = origin ? lean(root, schema, origin.config) : structuredClone(EXAMPLES[2].spec);
  if (origin && spec.network.inputs) delete spec.network.inputs;

  const body = el("div"), summary = el("div"), begin = el("div"), help = el("div", { class: "hint", "aria-live": "off" });
  const json = el("textarea", { rows: 26, spellcheck: "false", "aria-label": "Spec as JSON", oninput: typed });
  const toggle = el("button", { type: "button", "aria-pressed": "false", onclick: swap }, "JSON");
  const train = el("button", { type: "button", class: "primary", onclick: submit }, "Train");
  const code = el("pre", { hidden: true, tabindex: "0", "aria-label": "Code" });
  const data = dataPanel({ signal: ctx.signal, sent: use });
  /** @type {ReturnType<typeof specForm> | null} */
  let form = null;
  let timer = 0, check = new AbortController();

  main.append(el("div", { class: "head" }, el("h1", {}, "New run"), origin ? el("span", { class: "muted" }, "as ", el("a", { href: `#/runs/${origin.id}` }, origin.name || origin.id)) : null, el("span", { class: "row end" }, examples(), toggle)),
    el("div", { class: "grid" }, el("div", { class: "two-thirds" }, body),
      el("div", { class: "third beside" }, panel("What it takes", summary, el("p", { class: "row" }, train)), panel("At the beginning", begin), panel("The data", data.node),
        panel("As code", el("div", { class: "row" }, copyButton("Copy as curl", () => asCurl(spec), code), copyButton("Copy as Python", () => asPython(spec), code)), code), help)));

  function build() {
    const names = datasets.items.map((/** @type {any} */ one) => one.id);
    form = specForm({ root, schema, value: spec, changed, groups: GROUPS, choices: { dataset: names }, explain: (name, text) => help.replaceChildren(el("strong", {}, name), el("p", {}, text)) });
    body.replaceChildren(form.node);
  }

  function examples() {
    return el("span", { class: "row" }, el("span", { class: "muted" }, "Begin with"), EXAMPLES.map((example) => el("button", { type: "button", class: "small", onclick: () => { spec = structuredClone(example.spec); renew(); } }, example.title)));
  }

  /** Train on what was sent: the outputs become its classes, or its targets. @param {any} dataset */
  function use(dataset) {
    if (!datasets.items.some((/** @type {any} */ one) => one.id === dataset.id)) datasets.items.push(dataset);
    spec.dataset = dataset.id;
    const last = spec.network?.layers?.at(-1);
    if (last) Object.assign(last, dataset.classes.length ? { units: dataset.classes.length, activation: "softmax" } : { units: dataset.targets, activation: "linear" });
    delete spec.cost;
    delete spec.inputs;
    delete spec.network?.inputs;
    renew();
  }

  function renew() {
    if (toggle.getAttribute("aria-pressed") === "true") json.value = JSON.stringify(spec, null, 2);
    else build();
    changed();
  }

  function swap() {
    const written = toggle.getAttribute("aria-pressed") !== "true";
    toggle.setAttribute("aria-pressed", String(written));
    if (written) {
      form = null;
      json.value = JSON.stringify(spec, null, 2);
      body.replaceChildren(el("section", { class: "panel" }, json));
    } else build();
    changed();
  }

  function typed() {
    try {
      const read = JSON.parse(json.value);
      if (read === null || typeof read !== "object" || Array.isArray(read)) throw new Error("a spec is an object, in { and }");
      spec = read;
      json.removeAttribute("aria-invalid");
      changed();
    } catch (wrong) {
      check.abort();
      clearTimeout(timer);
      json.setAttribute("aria-invalid", "true");
      refused({ title: "This is no JSON", detail: /** @type {Error} */ (wrong).message, errors: [] });
    }
  }

  function changed() {
    clearTimeout(timer);
    check.abort();
    code.hidden = true;
    timer = window.setTimeout(validate, CHECK_MS);
  }

  async function validate() {
    check = new AbortController();
    const signal = AbortSignal.any([ctx.signal, check.signal]);
    if (datasets.items.some((/** @type {any} */ one) => one.id === spec.dataset)) data.show(spec.dataset);
    try {
      const { estimate, config } = await post("/v1/runs?validate_only=true", spec, { signal });
      form?.refuse([]);
      data.show(spec.dataset);
      train.disabled = false;
      summary.replaceChildren(el("p", {}, shape(config)), el("dl", { class: "facts" }, [["Parameters", number(estimate.parameters)], ["Steps", number(estimate.steps)], ["Memory", bytes(estimate.memory_bytes)], ["Storage", bytes(estimate.storage_bytes)]]
        .map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
      preview(await post("/v1/initialization-previews", spec, { signal }));
    } catch (wrong) {
      if (signal.aborted) return;
      refused(wrong);
    }
  }

  /** @param {any} wrong */
  function refused(wrong) {
    train.disabled = true;
    const rest = form ? form.refuse(wrong.errors ?? []) : wrong.errors ?? [];
    const placed = form && wrong.errors?.length && !rest.length;
    summary.replaceChildren(placed ? el("p", { class: "warn-text", role: "status" }, "⚠ Something is not right yet; it is said beside its field.") : problem({ ...wrong, title: wrong.title, detail: wrong.detail, errors: rest }));
    begin.replaceChildren(el("p", { class: "muted" }, "–"));
  }

  /** @param {any} found */
  function preview(found) {
    const { layers } = found, top = layers[layers.length - 1].dZ_rms;
    const weak = layers.filter((/** @type {any} */ one) => one.dZ_rms < VANISHING * top);
    const sure = found.cost_at_chance !== null && found.cost > 3 * found.cost_at_chance;
    const items = (/** @type {string} */ name) => layers.map((/** @type {any} */ one) => ({ name: `layer ${one.layer}`, value: one[name], warn: name === "dZ_rms" && weak.includes(one) }));
    begin.replaceChildren(...[
      el("dl", { class: "facts" }, el("dt", {}, "Cost"), el("dd", { class: sure ? "warn-text" : null }, number(found.cost), sure ? " ⚠ far above chance" : ""), el("dt", {}, "Cost at chance"), el("dd", {}, number(found.cost_at_chance))),
      bars({ label: "RMS(Z)", items: items("Z_rms"), log: true }), bars({ label: "RMS(dZ)", items: items("dZ_rms"), log: true }),
      weak.length ? el("p", { class: "warn-text" }, `⚠ RMS(dZ[1]) is ${number(layers[0].dZ_rms / top, 2)} of RMS(dZ[${layers.length}]): the first layers will hardly learn. Try another activation, initializer, or fewer layers.`) : null,
      el("p", { class: "hint" }, `Over ${found.m} samples, with the weights of this seed.`),
    ].filter(Boolean));
  }

  async function submit() {
    train.disabled = true;
    try {
      const run = await post("/v1/runs", spec, { signal: ctx.signal });
      ctx.go(`#/runs/${run.id}`);
    } catch (wrong) {
      if (!ctx.signal.aborted) refused(wrong);
    }
  }

  ctx.signal.addEventListener("abort", () => clearTimeout(timer));
  build();
  validate();
}
