// @ts-check
// Page 4: samples through the network and back, step by step, as the equation-shaped picture. All state is in the
// address: epoch, of (sample, batch, split), split, sample, rows, step, cell, table, view.

import { get } from "../api.js";
import { isDark } from "../cells.js";
import { announce, el, number, problem } from "../dom.js";
import { drawNetwork, fits } from "../network_drawing.js";
import { follow } from "../follow.js";
import { checkpoints } from "../kept.js";
import { explanation } from "../number_panels.js";
import { neighbourhood } from "../neighbourhood.js";
import { Picture } from "../picture.js";
import { findSamples, outcome, picker } from "../sample_picker.js";
import { drawRail, equations, numberLine, remarks, standing } from "../stage.js";
import { exactly, lacking, load, MOST, selection, written } from "../walk.js";
import { walkControls } from "../walk_controls.js";
import { walkTools } from "../walk_tools.js";
import { whatIf } from "../what_if.js";

/** @typedef {import("../walk.js").Walk} Walk */
/** @typedef {import("../walk.js").Cell} Cell */

const PLAY_MS = 1100;
/** From how many features on fewer samples are shown. */
const WIDE = 128;

/** @param {{id: string}} params */
export const title = ({ id }) => `Backpropagation · ${id}`;

/** @param {HTMLElement} main @param {any} ctx */
export async function render(main, ctx) {
  const { signal } = ctx;
  const run = await ctx.run;
  ctx.setTitle(`Backpropagation · ${run.name || run.id}`);
  const path = `/v1/runs/${run.id}`;
  const [dataset, kept] = await Promise.all([get(`/v1/datasets/${run.config.dataset}`, { signal }), checkpoints(run.id, signal).then((kept) => {
    // The samples to choose from take the longest: they are on their way while the page is laid out.
    const { epoch, of, split } = Object.fromEntries(ctx.query);
    if (kept.length && !of) some(run, kept.find((one) => String(one.epoch) === epoch)?.epoch ?? kept.at(-1).epoch, splitOf(run, "sample", split), signal).catch(() => null);
    return kept;
  })]);
  const theatre = new Theatre(main, ctx, run, dataset, kept);
  await theatre.open();
}

/** The samples to choose from. @param {any} run @param {number} epoch @param {string} split @param {AbortSignal} signal */
const some = (run, epoch, split, signal) => findSamples(run, epoch, split, signal, { limit: run.config.network.inputs > WIDE ? 16 : 24 });

/** The split that is shown: rows of another dataset have no numbers here. @param {any} run @param {string} of @param {string | null} [asked] */
function splitOf({ config: { validation } }, of, asked) {
  const other = validation && (of !== "sample" || !validation.dataset);
  return (asked ?? "validation") === "validation" && other ? "validation" : "training";
}

class Theatre {
  /** @param {HTMLElement} main @param {any} ctx @param {any} run @param {any} dataset @param {any[]} kept */
  constructor(main, ctx, run, dataset, kept) {
    this.main = main;
    this.ctx = ctx;
    this.run = run;
    this.dataset = dataset;
    this.kept = kept;
    this.root = el("div", { class: "theatre" });
    main.replaceChildren(this.root);
    this.path = `/v1/runs/${run.id}`;
    this.layers = run.config.network.layers;
    /** @type {Walk | null} */
    this.walk = null;
    this.drawn = { samples: "", epoch: -1 };
    this.told = new Map();
    this.busy = false;
    this.living = false;
    this.way = 0;
    this.ahead = "";
    this.wanted = "";
    this.failed = false;
    this.playing = 0;
    /** @type {Cell | null} */
    this.pointed = null;
    this.inPicture = false;
    this.explained = "";
    this.explaining = false;
    this.listed = "";
    /** @type {{key: string, done: Promise<void>} | null} */
    this.fetching = null;
  }

  // ---- what the address says ----

  /** @returns {{epoch: number, of: string, split: string, sample: number, rows: string, step: number, cell: string, table: string, view: string}} */
  get state() {
    const query = this.ctx.query;
    const epochs = this.kept.map((one) => one.epoch);
    const asked = query.get("epoch");
    const of = ["batch", "split"].includes(query.get("of")) ? query.get("of") : "sample";
    const given = asked === null || asked === "" ? NaN : Number(asked);
    return {
      epoch: epochs.includes(given) ? given : epochs.at(-1),
      of,
      split: splitOf(this.run, of, query.get("split")),
      sample: Math.max(0, Math.min(this.dataset.samples - 1, Math.floor(Number(query.get("sample") ?? 0)) || 0)),
      rows: /^[\d,\s-]+$/.test(query.get("rows") ?? "") ? query.get("rows") : `0-${Math.min(this.dataset.samples, this.run.config.batch_size) - 1}`,
      step: Math.floor(Number(query.get("step") ?? 0)) || 0,
      cell: query.get("cell") ?? "", table: query.get("table") ?? "", view: query.get("view") ?? "picture",
    };
  }

  get samples() {
    return selection(this.state);
  }

  /** The step shown, 0 for all of them. @param {Walk} walk */
  stepOf(walk) {
    return Math.max(0, Math.min(walk.steps.length, this.state.step));
  }

  // ---- the page ----

  async open() {
    const name = this.run.name || this.run.id;
    const heading = el("div", { class: "page-head" }, el("h1", {}, "Backpropagation"), el("p", {}, el("a", { href: `#/runs/${this.run.id}` }, name),
      ` · ${[this.run.config.network.inputs, ...this.layers.map((/** @type {any} */ layer) => layer.units)].join("–")} · ${this.run.config.cost.replace("_", " ")}`));
    if (!this.kept.length) {
      this.root.replaceChildren(heading, el("p", { class: "panel note" }, this.run.done ? "No epoch's weights are kept of this run, so there is nothing to look into." : "No epoch's weights are kept yet; this page begins with the first."));
      this.live();
      return;
    }
    const epochs = this.kept.map((one) => one.epoch);
    this.slider = el("input", { type: "range", id: "epoch", min: 0, max: epochs.length - 1, step: 1, value: epochs.indexOf(this.state.epoch),
      oninput: () => this.ctx.setQuery({ epoch: this.kept[Number(this.slider.value)].epoch }, { replace: true }) });
    this.epochText = el("output", { for: "epoch", class: "epoch-text" });
    this.controls = walkControls(this.run, this.dataset, (changes) => this.ctx.setQuery(changes, { replace: false }));
    this.tools = walkTools(this.run, this.ctx.signal, { now: () => this.now(), choose: (name) => this.ctx.setQuery({ table: name }, { replace: true }) });
    this.equation = el("div", { class: "step-equation" });
    this.stepText = el("span", { class: "step-text" });
    this.rail = el("ol", { class: "rail", "aria-label": "Steps" });
    this.note = el("p", { class: "step-note" });
    const pictureHost = el("div", { class: "equation-picture", role: "group", "aria-label": "The equation-shaped picture" });
    this.pictureHost = pictureHost;
    this.drawingHost = el("div", { class: "drawing-host", hidden: true });
    this.line = el("div", { class: "number-line" });
    this.explainHost = el("div", { class: "explain-host" });
    heading.append(el("div", { class: "epoch-slider" }, el("label", { for: "epoch" }, "Epoch"), this.slider, this.epochText));
    this.root.replaceChildren(heading, this.controls.node,
      el("section", { class: "panel stage", "aria-labelledby": "stage-title" }, el("h2", { id: "stage-title", class: "visually-hidden" }, "One walk through the network"), this.stageHead(), this.rail, el("div", { class: "picture-scroll" }, pictureHost), this.drawingHost, this.line),
      el("div", { class: "below" }, el("section", { class: "panel" }, el("h2", {}, "One number"), this.explainHost), el("section", { class: "panel" }, el("h2", {}, "Check it yourself"), this.tools.node)));
    this.picture = new Picture(pictureHost, { classes: this.dataset.classes, point: (cell, spoken) => this.over(cell, spoken), pick: (cell) => this.pick(cell), exact: (names) => this.exact(names) });
    document.addEventListener("keydown", (event) => this.key(event), { signal: this.ctx.signal });
    const redraw = () => this.draw();
    const recolour = () => {
      this.draw();
      if (this.state.of === "sample") this.list().catch(() => null);
    };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour, { signal: this.ctx.signal });
    const themes = new MutationObserver(recolour);
    themes.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    const sizes = new ResizeObserver(redraw);
    sizes.observe(/** @type {HTMLElement} */ (pictureHost.parentElement));
    this.ctx.signal.addEventListener("abort", () => { themes.disconnect(); sizes.disconnect(); clearInterval(this.playing); });
    this.point(null, false);
    if (this.ctx.query.get("sample") === null && this.state.of === "sample") await this.suggest();
    this.ctx.onQuery(() => this.refresh());
    await this.refresh();
    this.live();
  }

  /** Begin with a sample that is worth looking at. */
  async suggest() {
    const found = await this.list().catch(() => []);
    if (found.length && this.ctx.query.get("sample") === null) this.ctx.setQuery({ sample: found[0].row }, { replace: true });
  }

  stageHead() {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.playButton = el("button", { type: "button", "aria-pressed": "false", "aria-label": "Play the steps", disabled: still, title: still ? "Motion is reduced, as your system asks; step by hand" : "Play", onclick: () => this.play() }, "▶ play");
    const by = (/** @type {number} */ move, /** @type {string} */ text, /** @type {string} */ label) => el("button", { type: "button", "aria-label": label, title: label, onclick: () => this.move(move) }, text);
    this.viewButton = el("button", { type: "button", class: "quiet", hidden: true, onclick: () => this.ctx.setQuery({ view: this.state.view === "edges" ? null : "edges" }, { replace: false }) });
    return el("div", { class: "stage-head" }, el("div", { class: "step-words" }, this.equation, this.note),
      el("div", { class: "stepper" }, this.viewButton, by(-1, "◀", "Step back (←)"), this.stepText, by(1, "▶", "Next step (→)"), this.playButton));
  }

  /** What is shown, for those who take it elsewhere. */
  now() {
    const { walk, drawn } = this;
    return walk && { walk, step: this.stepOf(walk), ...drawn, sample: this.state.of === "sample" ? this.state.sample : null };
  }

  // ---- loading: one request at a time, the newest wish next, the rest forgotten ----

  async refresh() {
    if (!this.picture || !this.controls) return;
    const { epoch, of } = this.state;
    const at = this.kept.findIndex((one) => one.epoch === epoch);
    this.slider.value = at;
    this.slider.setAttribute("aria-valuetext", `epoch ${epoch}`);
    const cost = this.kept[at];
    this.epochText.replaceChildren(el("b", {}, epoch), ` of ${this.kept.at(-1).epoch} · `, el("var", {}, "C"), ` ${number(cost.cost, 3)}`);
    this.controls.sync(this.state);
    await this.fetch();
    if (of === "sample") this.list().catch(() => null);
  }

  async fetch() {
    const { epoch } = this.state;
    const samples = this.samples;
    if (this.drawn.epoch === epoch && this.drawn.samples === samples) return this.draw();
    this.wanted = `${epoch} ${samples}`;
    if (this.busy) return;
    this.busy = true;
    try {
      const walk = await load(this.run, epoch, samples, this.told, this.ctx.signal);
      if (samples === this.samples) {
        if (this.drawn.samples === samples) this.way = Math.sign(epoch - this.drawn.epoch);
        [this.walk, this.drawn] = [walk, { epoch, samples }];
        this.draw();
        if (this.failed) this.point(this.pointed, false);
        this.failed = false;
      }
    } catch (error) {
      if (this.ctx.signal.aborted) return;
      this.told.delete(samples);
      if (`${this.state.epoch} ${this.samples}` === `${epoch} ${samples}`) {
        this.wanted = "";
        this.line.replaceChildren(problem(error));
        this.failed = true;
      }
    } finally {
      this.busy = false;
    }
    await this.next();
  }

  /** What is wished by now; else what will be next if epochs are walked through further, so that it is there already. */
  async next() {
    const { epoch, samples } = this.drawn;
    if (this.wanted && `${epoch} ${samples}` !== `${this.state.epoch} ${this.samples}`) return this.fetch();
    const ahead = this.way ? this.kept[this.kept.findIndex((one) => one.epoch === epoch) + this.way] : null;
    if (!ahead || this.ahead === `${ahead.epoch} ${samples}`) return;
    this.ahead = `${ahead.epoch} ${samples}`;
    this.busy = true;
    await load(this.run, ahead.epoch, samples, this.told, this.ctx.signal).catch(() => null);
    this.busy = false;
    if (!this.ctx.signal.aborted) await this.next();
  }

  /** The samples to choose from, those of the epoch the page was opened at; drawn once for a split. */
  async list() {
    const { split } = this.state;
    const key = `${split} ${isDark()}`;
    if (this.listed === key) return this.found ?? [];
    this.listed = key;
    const epoch = this.state.epoch;
    this.found = await some(this.run, epoch, split, this.ctx.signal);
    this.controls?.strip.replaceChildren(picker(this.found, this.state.sample, (row) => this.ctx.setQuery({ of: null, sample: row }, { replace: false })));
    return this.found;
  }

  /** Show newer weights while it trains; followed once, however often the page is opened. */
  live() {
    if (this.run.done || this.living) return;
    this.living = true;
    follow(this.path, { run: this.run, signal: this.ctx.signal, grown: async (run) => {
      const more = await checkpoints(run.id, this.ctx.signal, this.kept.at(-1)?.epoch).catch(() => []);
      this.run = run;
      if (!more.length) return;
      const first = !this.kept.length;
      this.kept = [...this.kept, ...more];
      if (first) return this.open();
      this.slider.max = this.kept.length - 1;
      this.refresh();
    } }).catch((error) => { if (!this.ctx.signal.aborted) this.line?.replaceChildren(problem(error)); });
  }

  // ---- drawing ----

  draw() {
    const { walk, picture, controls, tools } = this;
    if (!walk || !picture || !controls || !tools) return;
    const step = this.stepOf(walk);
    const edges = this.state.view === "edges" && fits(walk);
    this.viewButton.hidden = !fits(walk);
    this.viewButton.textContent = edges ? "▦ cells" : "◦–◦ edges";
    this.pictureHost.parentElement.hidden = edges;
    this.drawingHost.hidden = !edges;
    if (edges) this.drawingHost.replaceChildren(drawNetwork(walk, step, { point: (cell, spoken) => this.point(cell, spoken), pick: (cell) => this.pick(cell),
      backward: step > 0 && walk.steps[step - 1].phase === "backward", inputs: this.dataset.report?.feature_names ?? [], classes: walk.size("Y").columns === this.dataset.classes.length ? this.dataset.classes : [] }));
    else picture.show(walk, step);
    this.drawStep(walk, step);
    controls.chips.replaceChildren(...outcome(walk, this.dataset.classes));
    const { table } = this.state;
    if (walk.arrays.get(table)?.picture) this.exact([table]).catch(() => null);
    else tools.showTable(walk, step, table);
    this.explain();
    if (this.pointed) this.point(this.pointed, false);
    this.main.dataset.epoch = String(this.drawn.epoch);
    this.main.dataset.samples = this.drawn.samples;
  }

  /** @param {Walk} walk @param {number} step */
  drawStep(walk, step) {
    this.stepText.textContent = standing(walk, step);
    this.equation.className = `step-equation${step ? "" : " all"}`;
    this.equation.replaceChildren(...equations(walk, step));
    this.note.textContent = remarks(walk, step);
    drawRail(this.rail, walk, step, (chosen) => this.go(chosen));
  }

  /** Where the pointer is in the picture; that it leaves, by scrolling too, takes nothing away that was chosen elsewhere. @param {Cell | null} cell @param {boolean} spoken */
  over(cell, spoken) {
    if (!cell && !this.inPicture) return;
    this.inPicture = cell !== null;
    this.point(cell, spoken);
  }

  /** The line of the number under the pointer: its factors. @param {Cell | null} cell @param {boolean} spoken */
  point(cell, spoken) {
    const { walk } = this;
    this.pointed = cell;
    const missing = walk && cell && walk.has(cell.name, this.stepOf(walk) || walk.steps.length) ? lacking(walk, cell.name) : [];
    if (walk && cell && missing.length) {
      this.line.replaceChildren(el("span", { class: "hint" }, `Fetching ${missing.map((name) => written(name)).join(" and ")}, number by number …`));
      if (cell.index.length) this.exact(missing).then(() => { if (this.pointed === cell && !lacking(walk, cell.name).length) this.point(cell, spoken); }, () => null);
      return;
    }
    const line = walk && cell && walk.arrays.has(cell.name) ? numberLine(walk, this.stepOf(walk), cell, this.run.config) : null;
    this.picture?.mark(line ? cell : null, line?.from ?? [], line?.whole ?? []);
    if (line) {
      this.line.replaceChildren(...line.node);
      if (spoken) announce(line.spoken);
      return;
    }
    const text = walk && cell ? `${written(cell.name)} is not computed yet: it comes with step ${walk.known.get(cell.name)}. Absent is not 0.`
      : "Point at a cell, or move over cells with the arrow keys: its number as its factors. Click: its terms.";
    this.line.replaceChildren(el("span", { class: "hint" }, text));
  }

  /** Put numbers in the place of pictures, of what is shown now. @param {string[]} names @returns {Promise<void>} */
  async exact(names) {
    const { walk, drawn: { epoch, samples } } = this;
    const wanted = names.filter((name) => walk?.arrays.get(name)?.picture);
    if (!walk || !wanted.length) return;
    const key = `${epoch} ${samples} ${wanted}`;
    if (this.fetching?.key !== key) this.fetching = { key, done: exactly(this.run, walk, wanted, epoch, samples, this.ctx.signal).then(() => { if (this.walk === walk) this.draw(); }) };
    try {
      await this.fetching.done;
    } catch (error) {
      if (!this.ctx.signal.aborted) this.line.replaceChildren(problem(error));
      throw error;
    } finally {
      if (this.fetching?.key === key) this.fetching = null;
    }
  }

  // ---- what is done ----

  /** @param {number} step */
  go(step) {
    this.ctx.setQuery({ step: step || null }, { replace: true });
    const text = this.walk?.steps[step - 1]?.results.map((result) => result.equation).join("; ");
    if (text) announce(`Step ${step}: ${text}`);
  }

  /** @param {number} by */
  move(by) {
    if (!this.walk) return;
    const total = this.walk.steps.length;
    this.go((this.stepOf(this.walk) + by + total + 1) % (total + 1));
  }

  play() {
    const on = !this.playing;
    clearInterval(this.playing);
    this.playing = 0;
    this.playButton.setAttribute("aria-pressed", String(on));
    this.playButton.textContent = on ? "❚❚ pause" : "▶ play";
    if (!on || !this.walk) return;
    if (this.stepOf(this.walk) === this.walk.steps.length) this.go(0);
    const tick = () => {
      if (document.hidden || !this.walk) return;
      this.move(1);
      if (this.stepOf(this.walk) === this.walk.steps.length && this.playing) this.play();
    };
    this.playing = window.setInterval(tick, PLAY_MS);
    tick();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || target.closest("input, select, textarea, canvas, [role=region], dialog")) return;
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      event.preventDefault();
      this.move(event.key === "ArrowRight" ? 1 : -1);
    }
  }

  /** @param {Cell} cell */
  pick(cell) {
    this.ctx.setQuery({ cell: `${cell.name}:${cell.index.join(",")}` }, { replace: true });
  }

  /** The terms of the chosen number; one question at a time, the last one wins. */
  async explain() {
    const { walk, drawn: { epoch, samples } } = this;
    const { cell } = this.state;
    const [name, index = ""] = cell.split(":");
    const asked = walk?.arrays.has(name) ? `${cell} ${epoch} ${samples}` : "";
    if (!walk || !asked) {
      this.explained = "";
      this.explainHost.replaceChildren(el("p", { class: "hint" }, "Click a cell of the picture: the samples or units that make up its number, the largest first."));
      return;
    }
    if (asked === this.explained || this.explaining) return;
    this.explained = asked;
    this.explaining = true;
    const { signal } = this.ctx;
    const [checkpoint, chosen] = [`${this.path}/checkpoints/${epoch}`, { name, index: index.split(",").filter(Boolean).map(Number) }];
    try {
      await this.exact(lacking(walk, name));
      const found = await explanation(checkpoint, samples, walk, chosen, { signal, choose: (row) => this.ctx.setQuery({ of: null, sample: row }, { replace: false }) });
      const around = neighbourhood(walk, chosen, MOST, { point: (one, spoken) => { this.inPicture = false; this.point(one, spoken); }, pick: (one) => this.pick(one) });
      this.explainHost.replaceChildren(found, around ?? "", whatIf(checkpoint, samples, walk, chosen, this.run, signal) ?? "");
    } catch (error) {
      if (!signal.aborted) this.explainHost.replaceChildren(problem(error));
    } finally {
      this.explaining = false;
    }
    if (!signal.aborted) this.explain();
  }
}
