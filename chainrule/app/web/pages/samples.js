// @ts-check
/** A run's samples: what is taken for what, the hardest and the surest ones, and how far their gradients agree. */

import { get, post } from "../api.js";
import { matrix, scatter, signedColour } from "../charts.js";
import { el, eq, number, panel, percent, problem } from "../dom.js";
import { epochControl, newest } from "../epochs.js";
import { follow } from "../follow.js";
import { checkpoints, epochOf } from "../kept.js";
import { card } from "../sample_cards.js";

const PAGE = 30;
const MOST_CELLS = 16;
const MOST_MEASURED = 1000;
const MOST_POINTS = 400;
const SORTS = {
  hardest: { name: "Hardest", query: "sort=cost" },
  mistakes: { name: "Surest mistakes", query: "sort=confidence&wrong=true", judged: true },
  surest: { name: "Surest", query: "sort=confidence", judged: true },
  unsure: { name: "Least sure", query: "sort=confidence&order=smallest", judged: true },
  gradient: { name: "Largest ‖g‖", query: "sort=gradient_norm" },
  order: { name: "In order", query: "sort=index" },
};
const MEASURES = {
  coherence: "Coherence", noise_scale: "Noise scale B", signal: "Signal |G|²", trace_sigma: "Noise tr Σ", mean_square_norm: "Mean ‖g⁽ⁱ⁾‖²",
  gradient_square_norm: "‖ḡ‖²", norm_test: "Norm test", inner_product_test: "Inner product test", orthogonality_test: "Orthogonality test",
};

export const title = () => "Samples";

/** @param {HTMLElement} main @param {any} ctx */
export async function render(main, ctx) {
  const { signal } = ctx;
  const place = `/v1/runs/${ctx.params.id}`;
  let run = await ctx.run;
  let kept = await checkpoints(run.id, signal);
  /** Of numeric targets nothing is right or wrong, and there are no classes to compare. */
  const judged = run.error !== null;
  ctx.setTitle(`Samples of ${run.name || run.id}`);

  const control = epochControl({ set: (epoch) => ctx.setQuery({ epoch }), signal });
  const splits = run.config.validation ? ["validation", "training"] : ["training"];
  const split = el("select", { id: "split", onchange: () => ctx.setQuery({ split: split.value, class: null, predicted: null, offset: null }) }, splits.map((one) => el("option", { value: one }, one)));
  const trouble = el("div");
  const confusion = panel("What is taken for what");
  const gallery = panel("Samples");
  const agreement = panel("How far classes agree");
  const numbers = panel("Signal and noise of their gradients");
  const embedding = panel("The samples as the network sees them");
  main.append(el("div", { class: "head samples-head" }, el("h1", {}, `Samples of ${run.name || run.id.slice(0, 12)}`),
    el("div", { class: "row end" }, el("label", { for: "split", class: splits.length > 1 ? null : "visually-hidden" }, "Samples of the split"), split, control.node)),
  trouble, el("div", { class: "grid", id: "samples" }, el("div", { class: "half stack" }, confusion, judged ? agreement : numbers, embedding), el("div", { class: "half stack" }, gallery, judged ? numbers : null)));

  /** What is drawn: once per change of what it is made of. @type {Record<string, string>} */
  const drawn = {};
  const where = () => {
    const epoch = epochOf(kept, ctx.query.get("epoch"));
    return { epoch, split: splits.find((one) => one === ctx.query.get("split")) ?? splits[0], at: `${place}/checkpoints/${epoch}` };
  };
  const parts = [measure, list, weigh, embed].map((part) => ({ part, soon: newest() }));
  /** @param {() => Promise<void>} part */
  async function attempt(part) {
    try {
      await part();
    } catch (error) {
      if (!signal.aborted) trouble.replaceChildren(problem(error));
    }
  }
  function draw() {
    control.node.hidden = !kept.length;
    if (!kept.length) {
      trouble.replaceChildren(el("p", { class: "note" }, run.done ? "No weights of this run are kept, so there is nothing to look at." : "The first weights are not there yet; this page shows them as soon as they are."));
      main.querySelector("#samples")?.setAttribute("hidden", "");
      return;
    }
    main.querySelector("#samples")?.removeAttribute("hidden");
    trouble.replaceChildren();
    control.show(where().epoch, kept[kept.length - 1].epoch, ctx.query.get("epoch") === null);
    split.value = where().split;
    for (const { part, soon } of parts) soon(() => attempt(part));
  }
  ctx.onQuery(draw);
  draw();
  if (!run.done) follow(`/v1/runs/${run.id}`, { run, signal, grown: async (now) => {
    try {
      // Of a run that keeps only its newest weights older ones go: in the end it is asked for all.
      const more = await checkpoints(run.id, signal, now.done ? -1 : kept[kept.length - 1]?.epoch ?? -1);
      run = now;
      if (!more.length) return;
      kept = run.done ? more : [...kept, ...more];
      draw();
    } catch (error) {
      if (!signal.aborted) trouble.replaceChildren(problem(error));
    }
  } }).catch((error) => { if (!signal.aborted) trouble.replaceChildren(problem(error)); });

  async function measure() {
    const { at, split: of } = where();
    const cell = `${ctx.query.get("class")}|${ctx.query.get("predicted")}`;
    const key = `${at} ${of} ${cell}`;
    if (drawn.measure === key) return;
    const found = await get(`${at}/metrics?split=${of}`, { signal });
    drawn.measure = key;
    const focus = document.activeElement?.id;
    confusion.replaceChildren(el("h2", {}, found.kind === "classification" ? "What is taken for what" : "How close they come"), ...(
      found.kind === "classification" ? classes(found) : scores(found)));
    if (focus && !document.getElementById(focus)?.matches(":focus")) document.getElementById(focus)?.focus({ preventScroll: true });
  }

  /** @param {any} found */
  function classes(found) {
    const names = found.classes.map((/** @type {any} */ one) => one.name);
    const [mine, taken] = [names.indexOf(ctx.query.get("class") ?? ""), names.indexOf(ctx.query.get("predicted") ?? "")];
    const pick = (/** @type {number} */ j, /** @type {number} */ k) => ctx.setQuery(j === mine && k === taken ? { class: null, predicted: null, offset: null } : { class: names[j], predicted: names[k], offset: null }, { replace: false });
    const wrong = Math.round(found.error * found.samples);
    const summary = el("p", { class: "muted" }, `${number(wrong)} of ${number(found.samples)} wrong, error ${percent(found.error)} · mean precision ${number(found.macro.precision, 3)}, recall ${number(found.macro.recall, 3)}, F1 ${number(found.macro.f1, 3)}`);
    if (names.length > MOST_CELLS) {
      return [summary, matrix({ label: "Confusion matrix", caption: "Actual class down, predicted across", values: found.confusion_matrix, signed: false, cell: Math.max(2, Math.floor(520 / names.length)),
        selected: mine >= 0 && taken >= 0 ? [mine, taken] : undefined, rowName: (/** @type {number} */ i) => `a ${names[i]}`, columnName: (/** @type {number} */ i) => `taken for ${names[i]}`, onPick: pick })];
    }
    const shade = (/** @type {number} */ n, /** @type {number} */ j, /** @type {number} */ k) => {
      const share = Math.sqrt(n / Math.max(1, found.classes[j].support));
      return n ? { background: `color-mix(in srgb, var(${j === k ? "--series-0" : "--series-1"}) ${Math.round((j === k ? 12 : 18) + 24 * share)}%, var(--panel))` } : {};
    };
    const line = (/** @type {any} */ one, /** @type {number} */ j) => el("tr", {}, el("th", { scope: "row" }, one.name), found.confusion_matrix[j].map((/** @type {number} */ n, /** @type {number} */ k) => el("td", {},
      n ? el("button", { type: "button", id: `cell-${j}-${k}`, style: shade(n, j, k), "aria-pressed": String(j === mine && k === taken), onclick: () => pick(j, k), "aria-label": `${n} of ${one.name} taken for ${names[k]}`, title: `${n} of ${one.name} taken for ${names[k]}` }, number(n)) : null)),
    el("td", { class: "score" }, percent(one.recall, 2)));
    return [summary, el("p", { class: "hint" }, "Rows are actual classes, columns what they are taken for. Choose a cell to see its samples."), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" }, el("table", { class: "crossing" },
      el("thead", {}, el("tr", {}, el("td"), names.map((/** @type {string} */ name) => el("th", { scope: "col" }, name)), el("th", { scope: "col", class: "score" }, "recall"))),
      el("tbody", {}, found.classes.map(line),
        el("tr", {}, el("th", { scope: "row", class: "score" }, "precision"), found.classes.map((/** @type {any} */ one) => el("td", { class: "score" }, percent(one.precision, 2))), el("td")))))];
  }

  /** @param {any} found */
  function scores(found) {
    const lines = found.labels ?? found.targets;
    const columns = found.labels ? ["error", "precision", "recall", "f1"] : ["rmse", "mae", "r2"];
    const written = { rmse: "RMSE", mae: "MAE", r2: "R²", f1: "F1" };
    const head = (/** @type {string} */ name) => /** @type {Record<string, string>} */ (written)[name] ?? name;
    return [el("p", { class: "muted" }, found.labels ? `${percent(found.error)} of ${number(found.samples)} samples have a label told wrong` : columns.map((name) => `${head(name)} ${number(found[name])}`).join(" · ")),
      el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ["", ...columns.map(head)].map((text) => text ? el("th", { scope: "col" }, text) : el("td")))),
        el("tbody", {}, lines.map((/** @type {any} */ one) => el("tr", {}, el("th", { scope: "row" }, one.name), columns.map((name) => el("td", {}, number(one[name]))))))))];
  }

  async function list() {
    const { at, epoch, split: of } = where();
    const sorts = Object.entries(SORTS).filter(([, one]) => judged || !("judged" in one));
    const sort = /** @type {keyof typeof SORTS} */ (sorts.find(([name]) => name === ctx.query.get("sort"))?.[0] ?? "hardest");
    const [mine, taken] = [ctx.query.get("class"), ctx.query.get("predicted")];
    const offset = Math.max(0, Math.floor(Number(ctx.query.get("offset"))) || 0);
    const query = new URLSearchParams(`${SORTS[sort].query}&split=${of}&features=true&limit=${PAGE}&offset=${offset}`);
    if (mine !== null) query.set("class", mine);
    if (taken !== null) query.set("predicted", taken);
    const key = `${at}/samples?${query}`;
    if (drawn.list === key) return;
    const found = await get(key, { signal });
    drawn.list = key;
    const focus = document.activeElement?.id;
    const link = (/** @type {any} */ one) => ctx.has("backprop") ? `#/runs/${run.id}/backprop?epoch=${epoch}&split=${of}&sample=${one.row}` : null;
    gallery.replaceChildren(el("h2", {}, "Samples"),
      el("div", { class: "segments wrap", role: "group", "aria-label": "Which samples first" }, sorts.map(([name, one]) => el("button", { type: "button", class: "small", id: `sort-${name}`, "aria-pressed": String(name === sort), onclick: () => ctx.setQuery({ sort: name, offset: null }) }, one.name))),
      el("div", { class: "row" }, el("p", { class: "muted" }, matching(found)),
        mine !== null || taken !== null ? el("button", { type: "button", class: "small", onclick: () => ctx.setQuery({ class: null, predicted: null, offset: null }, { replace: false }) }, `${mine ?? "any"} → ${taken ?? "any"} only  ✕`) : null,
        el("span", { class: "row end" },
          el("button", { type: "button", class: "small", id: "before", disabled: offset === 0, "aria-label": "Samples before these", onclick: () => ctx.setQuery({ offset: Math.max(0, offset - PAGE) || null }) }, "◀"),
          el("button", { type: "button", class: "small", id: "behind", disabled: offset + PAGE >= found.matching, "aria-label": "Samples after these", onclick: () => ctx.setQuery({ offset: offset + PAGE }) }, "▶"))),
      el("ul", { class: "gallery" }, found.items.map((/** @type {any} */ one) => card(one, found.feature_names, link(one)))),
      el("p", { class: "hint" }, "Actual → predicted; p is how sure the network is, E the sample's own error, ‖g‖ the norm of its own gradient."));
    if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
  }

  /** @param {any} found */
  function matching(found) {
    if (!found.matching) return "No sample is like that.";
    const to = found.offset + found.items.length;
    return found.items.length ? `${number(found.offset + 1)} to ${number(to)} of ${number(found.matching)}` : `There are ${number(found.matching)} only.`;
  }

  async function weigh() {
    const { at, split: of } = where();
    if (drawn.weigh === `${at} ${of}`) return;
    const rows = await measured(at, of);
    const answer = await post(`${at}/coherence`, { ...(rows ? { rows } : { split: of }), classes: true, top: 0 }, { signal });
    drawn.weigh = `${at} ${of}`;
    const some = rows ? `The first ${number(rows.length)} samples of the split.` : `All ${number(answer.m)} samples of the split.`;
    numbers.replaceChildren(el("h2", {}, "Signal and noise of their gradients"), el("p", { class: "hint" }, `g⁽ⁱ⁾ is sample i's own gradient of all parameters, ḡ their mean. ${some}`),
      el("dl", { class: "measures" }, Object.entries(MEASURES).map(([name, text]) => {
        const one = answer.quantities[name];
        return one ? [el("dt", {}, text, el("span", { class: "hint" }, eq(one.equation))), el("dd", {}, number(one.value), one.reason ? el("span", { class: "hint" }, one.reason) : null)] : null;
      })));
    const names = await classNames();
    const between = answer.pairs?.classes;
    agreement.replaceChildren(el("h2", {}, "How far classes agree"), ...(between && names ? [
      el("p", { class: "hint" }, "Mean cosine between the gradients of a sample of one class and of another: red pulls the weights the same way, blue against each other."),
      names.length <= MOST_CELLS ? cosines(between, names) : matrix({ label: "Mean cosine of gradients", values: between, limit: 1, cell: Math.max(4, Math.min(44, Math.floor(330 / names.length))), rowName: (/** @type {number} */ i) => names[i], columnName: (/** @type {number} */ i) => names[i] }),
      agreeing(between, names)] : [el("p", { class: "muted" }, "Only samples that have a class each can be compared class by class.")]));
  }

  /** @param {number[][]} between @param {string[]} names */
  function cosines(between, names) {
    const shade = (/** @type {number} */ value) => {
      if (!Number.isFinite(value)) return {};
      const [r, g, b] = signedColour(value);
      return { background: `rgb(${Math.round(r)} ${Math.round(g)} ${Math.round(b)})`, color: 0.2126 * (r / 255) ** 2.2 + 0.7152 * (g / 255) ** 2.2 + 0.0722 * (b / 255) ** 2.2 > 0.18 ? "#000" : "#fff" };
    };
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Mean cosine of gradients" }, el("table", { class: "crossing" },
      el("thead", {}, el("tr", {}, el("td"), names.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, names.map((name, i) => el("tr", {}, el("th", { scope: "row" }, name), between[i].map((value) => el("td", { class: "cosine", style: shade(value), title: number(value) }, Number.isFinite(value) ? (Math.round(100 * value) / 100 || 0).toFixed(2).replace("-", "−") : "–")))))));
  }

  /** @param {number[][]} between @param {string[]} names */
  function agreeing(between, names) {
    const pairs = between.flatMap((line, i) => line.slice(i + 1).map((value, k) => ({ value, name: `${names[i]} and ${names[i + 1 + k]}` }))).filter((one) => Number.isFinite(one.value)).sort((a, b) => a.value - b.value);
    if (pairs.length < 2) return "";
    const [least, most] = [pairs[0], pairs[pairs.length - 1]];
    return el("p", {}, `Two classes most alike: ${most.name}, ${number(most.value, 3)}; most opposed: ${least.name}, ${number(least.value, 3)}.`);
  }

  /** Which rows to measure; null for the whole split, where it is small. @param {string} at @param {string} of */
  async function measured(at, of) {
    const first = await get(`${at}/samples?sort=index&split=${of}&limit=1`, { signal });
    if (first.m <= MOST_MEASURED) return null;
    const found = await get(`${at}/samples?sort=index&split=${of}&limit=${MOST_MEASURED}`, { signal });
    return found.items.map((/** @type {any} */ one) => one.row);
  }

  async function classNames() {
    const metrics = await get(`${where().at}/metrics?split=${where().split}`, { signal });
    return metrics.classes?.map((/** @type {any} */ one) => one.name) ?? null;
  }

  async function embed() {
    const { at, split: of, epoch } = where();
    const layers = run.config.network.layers.length;
    const layer = Math.max(0, Math.min(layers, Number(ctx.query.get("layer") ?? Math.max(1, layers - 1)) || 0));
    if (drawn.embed === `${at} ${of} ${layer}`) return;
    const [found, classes] = await Promise.all([get(`${at}/embedding?layer=${layer}&split=${of}&limit=${MOST_POINTS}`, { signal }), classNames()]);
    drawn.embed = `${at} ${of} ${layer}`;
    const items = found.items;
    const [one, other] = found.explained_variance;
    const focus = document.activeElement?.id;
    const choice = el("select", { id: "layer", onchange: () => ctx.setQuery({ layer: choice.value }) }, Array.from({ length: layers + 1 }, (_, l) => el("option", { value: l, selected: l === layer }, l ? `layer ${l}, A[${l}]` : "the input, A[0]")));
    embedding.replaceChildren(el("h2", {}, "The samples as the network sees them"), el("div", { class: "row" }, el("label", { for: "layer" }, "After"), choice),
      scatter({ label: `Activations of ${layer ? `layer ${layer}` : "the input"}`, height: 330, points: items.map((/** @type {any} */ item) => [item.x, item.y, Math.max(0, classes?.indexOf(item.label) ?? 0)]), groups: classes ?? undefined, xLabel: "first component", yLabel: "second component", about: (/** @type {number} */ i) => `row ${items[i].row}`,
        onPick: ctx.has("backprop") ? (/** @type {number} */ i) => ctx.go(`#/runs/${run.id}/backprop?epoch=${epoch}&split=${of}&sample=${items[i].row}`) : undefined }),
      el("p", { class: "hint" }, `${number(items.length)} samples in the plane in which they spread most after epoch ${number(found.basis_epoch)}, the same plane for all epochs. It has ${percent((one ?? 0) + (other ?? 0))} of their variance here.`));
    if (focus === "layer") choice.focus({ preventScroll: true });
  }
}
