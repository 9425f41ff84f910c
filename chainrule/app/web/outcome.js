// @ts-check
/** What the network of an epoch makes of its samples: a decision surface of two features, a confusion matrix, or errors. */

import { get, post } from "./api.js";
import { scatter } from "./charts.js";
import { el, number, percent } from "./dom.js";

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
  let chart = null, frame = null;
  return {
    node,
    show: async (epoch, signal) => {
      if (!chart) {
        const { items } = await get(`${path}/${epoch}/samples?split=training&sort=index&features=true&limit=${POINTS}`, { signal });
        const points = items.map((/** @type {any} */ item) => [...item.features, dataset.classes.indexOf(item.target)]);
        frame = [0, 1].map((axis) => {
          const values = points.map((/** @type {any} */ point) => point[axis]);
          const [low, high] = [Math.min(...values), Math.max(...values)];
          return [low - 0.12 * (high - low || 1), high + 0.12 * (high - low || 1)];
        });
        const names = dataset.report.feature_names;
        chart = scatter({
          label: "Classes and decision surface", caption: el("span", { class: "hint" }, "Training samples; the ground has the colour of the class the network answers, stronger where it is surer"), points, groups: dataset.classes, height: 470, square: true,
          xLabel: names[0] ?? "first feature", yLabel: names[1] ?? "second feature",
        });
        node.append(chart);
      }
      if (!surfaces.has(epoch)) {
        const samples = [];
        for (let row = 0; row < GRID; row += 1) {
          for (let column = 0; column < GRID; column += 1) {
            samples.push([frame[0][0] + (column + 0.5) / GRID * (frame[0][1] - frame[0][0]), frame[1][1] - (row + 0.5) / GRID * (frame[1][1] - frame[1][0])]);
          }
        }
        const { outputs } = await post(`${path}/${epoch}/predict`, { samples }, { signal });
        const judged = outputs.map(judge);
        surfaces.set(epoch, { x: frame[0], y: frame[1], columns: GRID, rows: GRID, group: judged.map((/** @type {any} */ one) => one[0]), share: judged.map((/** @type {any} */ one) => one[1]) });
        if (surfaces.size > KEPT) surfaces.delete(surfaces.keys().next().value ?? 0);
      }
      chart.update({ surface: surfaces.get(epoch) });
    },
  };
}

/** The class of an output, and how far it is from knowing nothing, 0 to 1. @param {(number | null)[]} output */
function judge(output) {
  if (output.length === 1) return [(output[0] ?? 0) > 0.5 ? 1 : 0, 2 * Math.abs((output[0] ?? 0.5) - 0.5)];
  let best = 0;
  output.forEach((value, i) => { if ((value ?? -Infinity) > (output[best] ?? -Infinity)) best = i; });
  return [best, ((output[best] ?? 0) - 1 / output.length) / (1 - 1 / output.length)];
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
