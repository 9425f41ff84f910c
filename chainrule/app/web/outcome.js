// @ts-check
/** What the network of an epoch makes of its samples: a decision surface of two features, a confusion matrix, or errors. */

import { get } from "./api.js";
import { scatter } from "./charts.js";
import { el, number, percent } from "./dom.js";
import { readNpz } from "./npz.js";

const GRID = 48;
const POINTS = 1000;
const KEPT = 150;

/**
 * Choose the picture that fits the run's data.
 * @param {any} run @param {any} dataset
 * @returns {{node: any, show: (epoch: number | string, signal: AbortSignal) => Promise<void>}}
 */
export function outcome(run, dataset) {
  const plane = dataset?.features === 2 && dataset.classes.length > 1 && dataset.report.columns.every((/** @type {any} */ one) => one.kind === "numeric");
  return plane ? surface(run, dataset) : measured(run);
}

/** @param {any} run @param {any} dataset */
function surface(run, dataset) {
  const node = el("section", { class: "panel" }, el("h2", {}, "What it has learned"));
  const path = `/v1/runs/${run.id}/checkpoints`;
  /** @type {Map<number | string, any>} */
  const surfaces = new Map();
  /** @type {any} */
  let chart = null;
  return {
    node,
    show: async (epoch, signal) => {
      const [ground, samples] = await Promise.all([
        surfaces.get(epoch) ?? get(`${path}/${epoch}/surface?n=${GRID}&format=npz`, { signal, accept: "application/x-npz" }).then(readNpz).then(judged),
        chart ? null : get(`${path}/${epoch}/samples?split=training&sort=index&features=true&limit=${POINTS}`, { signal }),
      ]);
      if (!chart) {
        const points = samples.items.map((/** @type {any} */ item) => [...item.features, dataset.classes.indexOf(item.target)]);
        const names = dataset.report.feature_names;
        chart = scatter({
          label: "Classes and decision surface", caption: el("span", { class: "hint" }, "Training samples; the ground has the colour of the class the network answers, stronger where it is surer"), points, groups: dataset.classes, height: 470, square: true,
          xLabel: names[0] ?? "first feature", yLabel: names[1] ?? "second feature",
        });
        node.append(chart);
      }
      surfaces.set(epoch, ground);
      if (surfaces.size > KEPT) surfaces.delete(surfaces.keys().next().value ?? 0);
      chart.update({ surface: ground });
    },
  };
}

/** A surface as it is drawn: cells around its points, rows from the top. @param {Map<string, import("./npz.js").Tensor>} arrays */
function judged(arrays) {
  const [x, y, outputs] = ["x", "y", "outputs"].map((name) => /** @type {import("./npz.js").Tensor} */ (arrays.get(name)));
  const [count, rows, columns] = outputs.shape;
  const ends = (/** @type {ArrayLike<number>} */ at) => { const half = (at[1] - at[0]) / 2; return [at[0] - half, at[at.length - 1] + half]; };
  const answers = Array.from({ length: rows * columns }, (_, i) => {
    const cell = (rows - 1 - Math.floor(i / columns)) * columns + (i % columns);
    return judge(Array.from({ length: count }, (_, k) => outputs.data[k * rows * columns + cell]));
  });
  return { x: ends(x.data), y: ends(y.data), columns, rows, group: answers.map(([group]) => group), share: answers.map(([, share]) => share) };
}

/** The class of an output, and how far it is from knowing nothing, 0 to 1. @param {number[]} output */
function judge(output) {
  const sure = (/** @type {number} */ share) => Number.isFinite(share) ? share : 0;
  if (output.length === 1) return [output[0] > 0.5 ? 1 : 0, sure(2 * Math.abs(output[0] - 0.5))];
  let best = 0;
  output.forEach((value, i) => { if (value > output[best] || Number.isNaN(output[best])) best = i; });
  return [best, sure((output[best] - 1 / output.length) / (1 - 1 / output.length))];
}

/** @param {any} run */
function measured(run) {
  const body = el("div", {}, el("p", { class: "muted" }, "Nothing recorded yet."));
  const split = run.config.validation ? "validation" : "training";
  const node = el("section", { class: "panel" }, el("h2", {}, run.error === null ? "How far off it is" : "Confusion matrix", el("span", { class: "hint" }, `  ${split} samples`)), body);
  return {
    node,
    show: async (epoch, signal) => {
      const found = await get(`/v1/runs/${run.id}/checkpoints/${epoch}/metrics`, { signal });
      body.replaceChildren(found.kind === "classification" ? confusion(found) : facts(found));
    },
  };
}

/** @param {any} found */
function confusion(found) {
  const names = found.classes.map((/** @type {any} */ one) => one.name);
  const most = Math.max(1, ...found.confusion_matrix.flat());
  return el("div", { class: "scroll" }, el("table", { class: "confusion" },
    el("caption", { class: "hint" }, "Rows: what they are. Columns: what the network answers. ", `Error ${percent(found.error)}.`),
    el("thead", {}, el("tr", {}, el("td"), names.map((/** @type {string} */ name) => el("th", { scope: "col" }, name)), el("th", { scope: "col" }, "recall"))),
    el("tbody", {}, found.confusion_matrix.map((/** @type {number[]} */ line, /** @type {number} */ i) => el("tr", {}, el("th", { scope: "row" }, names[i]),
      line.map((count, j) => el("td", { class: count ? i === j ? "right" : "wrong" : "none", style: { "--share": Math.sqrt(count / most) } }, count ? String(count) : "·")),
      el("td", { class: "recall" }, number(found.classes[i].recall, 3)))))));
}

/** @param {any} found */
function facts(found) {
  const shown = Object.entries({ RMSE: found.rmse, "mean absolute error": found.mae, "R²": found.r2, "share with a wrong label": found.error, "labels told wrong": found.label_error })
    .filter(([, value]) => value !== undefined);
  return el("dl", { class: "facts" }, shown.map(([name, value]) => [el("dt", {}, name), el("dd", {}, number(value))]));
}
