// @ts-check
/** Check gradients: your own against those of a run's epoch, mistakes named; and those of a spec against differences. */

import { get, post } from "../api.js";
import { announce, el, eq, number, problem, shape } from "../dom.js";
import { EXAMPLES } from "../examples.js";
import { save } from "../files.js";
import { checkpoints, epochOf } from "../kept.js";
import { npz } from "../npz_writer.js";
import { ATTEMPTS, written } from "../wrong_gradients.js";

const LISTED = 50;
const ROWS = 32;
const ENTRIES = 40;
const SIGNS = { exact: ["succeeded", "✓ exact"], close: ["succeeded", "≈ close"], different: ["failed", "✕ different"], pass: ["succeeded", "✓ pass"], suspicious: ["warning", "⚠ suspicious"], fail: ["failed", "✕ fail"] };

export const title = () => "Check gradients";

/** @param {string} verdict */
function sign(verdict) {
  const [kind, text] = /** @type {Record<string, string[]>} */ (SIGNS)[verdict] ?? ["", verdict];
  return el("span", { class: `badge ${kind}` }, text);
}

/** Row numbers as they are written: "0-3,8". @param {string} text @returns {number[] | null} */
function rowNumbers(text) {
  if (!/^\s*\d+(\s*-\s*\d+)?(\s*,\s*\d+(\s*-\s*\d+)?)*\s*$/.test(text)) return null;
  return text.split(",").flatMap((part) => {
    const [from, to] = part.split("-").map(Number);
    return to === undefined ? [from] : Array.from({ length: Math.max(0, Math.min(to - from, 100_000) + 1) }, (_, i) => from + i);
  });
}

/** @param {HTMLElement} main @param {any} ctx */
export async function render(main, ctx) {
  const listed = (await get(`/v1/runs?limit=${LISTED}`, { signal: ctx.signal })).items;
  const numeric = numericCheck(ctx);
  main.append(el("div", { class: "head" }, el("h1", {}, "Check gradients")), await compare(ctx, listed, numeric.take), numeric.node);
}

/** Gradients of your own, held against a run's. @param {any} ctx @param {any[]} listed @param {(run: any) => void} tell of the run */
async function compare(ctx, listed, tell) {
  const { signal } = ctx;
  /** @type {any} */
  let run = null, dataset = null, kept = [], walk = { key: "", arrays: null };
  const trouble = el("div"), facts = el("div"), result = el("div");
  const choice = el("select", { id: "run", onchange: () => ctx.setQuery({ run: choice.value, epoch: null, rows: null }, { replace: false }) });
  const epoch = el("input", { id: "epoch", type: "number", min: 0, onchange: () => ctx.setQuery({ epoch: epoch.value }) });
  const rows = el("input", { id: "rows", type: "text", spellcheck: "false", onchange: () => ctx.setQuery({ rows: rows.value }) });
  const file = el("input", { id: "file", type: "file", accept: ".npz", onchange: () => { if (file.files.length) attempt(fromFile); } });
  const text = el("textarea", { id: "json", rows: 14, spellcheck: "false", placeholder: "{\"dW1\": [[0.1, …], …], \"db1\": […], …}" });
  const example = el("select", { id: "example", onchange: () => attempt(fillIn) }, el("option", { value: "" }, "fill in …"), Object.entries(ATTEMPTS).map(([value, one]) => el("option", { value }, one.name)));
  const button = el("button", { type: "button", class: "primary", onclick: () => attempt(fromText) }, "Compare");
  const code = el("pre", { tabindex: "0", "aria-label": "How to begin, in Python" });
  const node = el("div", { class: "grid own-gradients" },
    el("section", { class: "panel half" }, el("h2", {}, "1 · Take weights and samples"), el("p", { class: "muted" }, "Choose a run, an epoch and rows of its dataset, and compute dW and db of the cost over these samples yourself."),
      el("div", { class: "given-fields" }, el("label", { for: "run" }, "Run"), choice, el("label", { for: "epoch" }, "Epoch"), epoch, el("label", { for: "rows" }, "Rows"), rows), facts,
      el("button", { type: "button", onclick: () => attempt(download) }, "Download X, Y, W and b (NPZ)"), code),
    el("section", { class: "panel half" }, el("h2", {}, "2 · Hand in your gradients"), el("p", { class: "muted" }, "An archive as ", el("code", {}, "np.savez"), " writes it, or JSON. Not all blocks need be there."),
      el("div", { class: "row" }, el("label", { for: "file" }, "NPZ file"), file),
      el("div", { class: "row" }, el("label", { for: "json" }, "or JSON"), el("span", { class: "row end" }, el("label", { for: "example" }, "none yet?"), example)), text, el("div", { class: "row" }, button)),
    trouble, result);
  if (!listed.length && !ctx.query.get("run")) {
    return el("p", { class: "note" }, "Nothing has been trained yet, so there are no weights to compute gradients at. ", el("a", { href: "#/" }, "Train an example"), ", or check a spec below.");
  }
  ctx.onQuery(() => attempt(draw));
  await attempt(draw);
  return node;

  /** @param {() => Promise<void>} work */
  async function attempt(work) {
    trouble.replaceChildren();
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      if (!signal.aborted) trouble.replaceChildren(problem(error));
    } finally {
      button.disabled = false;
    }
  }

  function where() {
    const most = Math.min(ROWS, dataset?.samples ?? ROWS);
    return { epoch: epochOf(kept, ctx.query.get("epoch")), rows: ctx.query.get("rows") || `0-${most - 1}` };
  }

  async function draw() {
    const id = ctx.query.get("run") || listed.find((one) => one.status === "succeeded")?.id || listed[0].id;
    if (run?.id !== id) {
      run = await get(`/v1/runs/${id}`, { signal });
      [dataset, kept] = await Promise.all([get(`/v1/datasets/${run.dataset}`, { signal }).catch(() => null), checkpoints(id, signal)]);
      tell(run);
    }
    const all = listed.some((one) => one.id === id) ? listed : [run, ...listed];
    choice.replaceChildren(...all.map((one) => el("option", { value: one.id, selected: one.id === id }, `${one.name || one.id} · ${shape(one.config)} · ${one.dataset}`)));
    const now = where();
    epoch.value = String(now.epoch);
    epoch.setAttribute("max", kept[kept.length - 1]?.epoch ?? 0);
    rows.value = now.rows;
    const numbers = rowNumbers(now.rows);
    rows.setAttribute("aria-invalid", String(!numbers));
    result.replaceChildren();
    const { cost, network, label_smoothing: smoothing } = run.config;
    facts.replaceChildren(el("p", { class: "hint" }, `${shape(run.config)}, ${network.layers.map((/** @type {any} */ layer) => layer.activation).join(", ")} · ${cost}${smoothing ? `, labels smoothed by ${smoothing}` : ""} · ${numbers ? `m = ${number(numbers.length)} samples` : "rows are written as 0-31 or 0,4,8"}. dW and db are means over them: `, eq("dW[l] = (1/m) · dZ[l]ᵀ · A[l-1]")));
    const names = network.layers.flatMap((/** @type {any} */ _, /** @type {number} */ i) => [`dW${i + 1}=dW${i + 1}`, `db${i + 1}=db${i + 1}`]);
    code.textContent = `import numpy as np\ngiven = np.load("${filename()}")\nX, Y = given["X"], given["Y"]   # samples are rows\nW1, b1 = given["W1"], given["b1"]   # (n_1, n_0), (n_1,)\n# … forward and back, your way …\nnp.savez("mine.npz", ${names.slice(0, 4).join(", ")}${names.length > 4 ? ", …" : ""})`;
  }

  function filename() {
    return `${(run.name || "run").replace(/[^\w]+/g, "-")}-epoch-${where().epoch}.npz`;
  }

  function at() {
    return `/v1/runs/${run.id}/checkpoints/${where().epoch}`;
  }

  /** Everything that goes in and comes out, a row for each sample. */
  async function walked() {
    const key = `${at()}/walk?rows=${encodeURIComponent(where().rows)}&reduce=none`;
    if (walk.key !== key) walk = { key, ...(await get(key, { signal })) };
    return /** @type {any} */ (walk);
  }

  async function download() {
    const { arrays, dtype } = await walked();
    const given = Object.fromEntries(Object.entries(arrays).filter(([name]) => /^(A0|Y|w|(W|b|gamma|beta|running_mean|running_var)\d+)$/.test(name)).map(([name, array]) => [name === "A0" ? "X" : name, array]));
    save(npz(given, dtype), filename());
    announce(`Downloaded ${Object.keys(given).join(", ")}`);
  }

  async function fillIn() {
    const chosen = /** @type {keyof typeof ATTEMPTS} */ (example.value);
    if (!chosen) return;
    const { arrays } = await walked();
    text.value = written(ATTEMPTS[chosen].make(arrays));
    await fromText();
  }

  async function fromText() {
    let gradients;
    try {
      gradients = JSON.parse(text.value);
    } catch (error) {
      text.setAttribute("aria-invalid", "true");
      text.focus();
      throw Object.assign(new Error(text.value.trim() ? `This is no JSON: ${/** @type {Error} */ (error).message}` : "Choose a file, or paste JSON, or fill in an example."), { title: "There is nothing to compare" });
    }
    text.removeAttribute("aria-invalid");
    const numbers = rowNumbers(where().rows);
    if (!numbers) throw Object.assign(new Error("Rows are written as 0-31 or 0,4,8."), { title: "Which samples?" });
    show(await post(`${at()}/gradient-comparisons`, { rows: numbers, gradients }, { signal }));
  }

  async function fromFile() {
    const body = await file.files[0].arrayBuffer();
    file.value = "";
    show(await post(`${at()}/gradient-comparisons?rows=${encodeURIComponent(where().rows)}`, body, { signal, headers: { "Content-Type": "application/x-npz" } }));
  }

  /** @param {any} found */
  function show(found) {
    const wrong = found.blocks.filter((/** @type {any} */ one) => one.verdict === "different").length;
    const summary = wrong ? `${wrong} of ${found.blocks.length} blocks differ.` : `All ${found.blocks.length} blocks are right.`;
    announce(summary);
    result.replaceChildren(el("section", { class: "panel" }, el("h2", {}, "3 · What came out"), el("p", {}, sign(found.verdict), ` ${summary} `, found.missing.length ? el("span", { class: "muted" }, `Not handed in: ${found.missing.join(", ")}.`) : null),
      el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ["Block", "Shape", "Verdict", "Relative error", "What it is, and the fix", "Worst entry", "Ours", "Yours"].map((head) => el("th", { scope: "col" }, head)))),
        el("tbody", {}, found.blocks.map((/** @type {any} */ one) => el("tr", {}, el("th", { scope: "row" }, eq(one.name)), el("td", {}, `(${one.shape.join(", ")})`), el("td", {}, sign(one.verdict)), el("td", {}, number(one.relative_error, 3)),
          el("td", { class: one.mistakes.length ? "mistake" : null }, one.sentence), el("td", {}, one.worst ? `[${one.worst.index.join(", ")}]` : "–"), el("td", {}, number(one.worst?.ours)), el("td", {}, number(one.worst?.theirs))))))),
      el("p", { class: "hint" }, `Of ${number(found.m)} samples, compared in float64: ‖ours − yours‖ / (‖ours‖ + ‖yours‖), close up to ${number(found.tolerance, 2)}.`)));
  }
}

/** Backpropagation against central differences. @param {any} ctx */
function numericCheck(ctx) {
  const text = el("textarea", { id: "spec", rows: 12, spellcheck: "false" });
  const h = el("input", { id: "h", type: "number", value: 1e-5, step: "any", min: 1e-9, max: 1 });
  const entries = el("input", { id: "entries", type: "number", min: 1, placeholder: "all" });
  const result = el("div");
  const about = el("div", {}, el("p", { class: "muted" }, "Moves each entry of each W and b a little both ways, looks at the cost, and compares the slope with backpropagation, in float64, on a network at its beginning."), el("p", {}, eq("dC/dθ ≈ (C(θ+h) − C(θ−h)) / 2h")), el("p", { class: "muted" }, "The spec begins as that of the run above. A relative error below 10⁻⁶ means that backpropagation is right; one around 1 that it is not."));
  const button = el("button", { type: "button", class: "primary", onclick: check }, "Check the gradients of this spec");
  const node = el("section", { class: "panel" }, el("h2", {}, "Check a spec against central differences"), el("div", { class: "grid" },
    el("div", { class: "half" }, el("label", { for: "spec" }, "Network, cost and dataset (JSON)"), text, el("div", { class: "row" }, el("label", { for: "h" }, "h"), h, el("label", { for: "entries" }, "entries of each block"), entries, button)),
    el("div", { class: "half" }, about)), result);

  /** @param {any} spec */
  function take({ network, cost, dataset, inputs, label_smoothing, class_weights, seed }) {
    const layers = network.layers.map((/** @type {any} */ layer) => Object.fromEntries(Object.entries(layer).filter(([, value]) => value !== null && value !== 0)));
    const optional = Object.fromEntries(Object.entries({ cost, inputs, label_smoothing, class_weights }).filter(([, value]) => value));
    text.value = JSON.stringify({ dataset, network: { layers }, ...optional, seed }, null, 1).replace(/\{\s+("units"[^}]*?)\s+\}/g, (_, inner) => `{ ${inner.replace(/\s+/g, " ")} }`);
  }

  async function check() {
    button.disabled = true;
    try {
      const spec = JSON.parse(text.value);
      const found = await post("/v1/gradient-checks", { ...spec, h: Number(h.value), ...(entries.value ? { entries: Number(entries.value) } : {}) }, { signal: ctx.signal });
      announce(found.passed ? "Every block passes" : "Not every block passes");
      result.replaceChildren(el("p", {}, sign(found.passed ? "pass" : "fail"), ` The largest relative error is ${number(found.worst_relative_error, 3)}, over ${number(found.samples)} samples.`),
        el("div", { class: "scroll" }, el("table", { class: "compared" }, el("thead", {}, el("tr", {}, ["Block", "Shape", "Checked", "Kinks", "Relative error", "Verdict", "Worst entry", "Analytic", "Numeric"].map((head) => el("th", { scope: "col" }, head)))),
          el("tbody", {}, found.blocks.map((/** @type {any} */ one) => el("tr", {}, el("th", { scope: "row" }, eq(one.name)), el("td", {}, `(${one.shape.join(", ")})`), el("td", {}, number(one.checked)), el("td", {}, number(one.kinks)), el("td", {}, number(one.relative_error, 3)), el("td", {}, sign(one.verdict)),
            el("td", {}, one.worst ? `[${one.worst.index.join(", ")}]` : "–"), el("td", {}, number(one.worst?.analytic, 8)), el("td", {}, number(one.worst?.numeric, 8))))))),
        el("p", { class: "hint" }, eq(found.equation), `, h = ${number(found.h)}: pass up to 10⁻⁶, suspicious up to 10⁻⁴. Kinks are entries left out because an activation function bends within ±h.`));
    } catch (error) {
      if (!ctx.signal.aborted) result.replaceChildren(problem(error instanceof SyntaxError ? { title: "This is no JSON", detail: error.message } : error));
    } finally {
      button.disabled = false;
    }
  }

  take({ ...EXAMPLES[0].spec, cost: "cross_entropy" });
  return { node, /** @param {any} run */ take: (run) => { take(run.config); entries.value = run.parameters > 2000 ? String(ENTRIES) : ""; } };
}
