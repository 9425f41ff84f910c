// @ts-check
/** The samples of one step's batch, as the network saw them at that step. */

import { get } from "./api.js";
import { el, eq, number } from "./dom.js";
import { sideOf, thumbnail } from "./sample_cards.js";

const MOST = 24;
const FEATURES = 4;

/**
 * @param {any} run @param {any} replay @param {string} there of the step @param {number[]} rows of its batch @param {any} ctx
 * @returns {Promise<any[]>}
 */
export async function batch(run, replay, there, rows, { signal, has }) {
  const { layers } = run.config.network;
  const top = layers.length;
  const [found, dataset] = await Promise.all([
    get(`${there}/gradients?names=A0,A${top},dZ${top}`, { signal }),
    get(`/v1/datasets/${run.dataset}`, { signal }).catch(() => null),
  ]);
  const [X, A, dZ] = ["A0", `A${top}`, `dZ${top}`].map((name) => found.quantities[name].values);
  const pull = dZ.map((/** @type {number[]} */ row) => Math.sqrt(row.reduce((sum, value) => sum + value * value, 0)));
  const order = pull.map((_, /** @type {number} */ i) => i).sort((/** @type {number} */ a, /** @type {number} */ b) => pull[b] - pull[a]).slice(0, MOST);
  const asked = order.map((/** @type {number} */ i) => found.rows[i]);
  const given = await get(`/v1/runs/${run.id}/checkpoints/${replay.begins_at}/walk?rows=${asked.join(",")}&names=Y`, { signal }).catch(() => null);
  const classes = dataset?.classes?.length > 1 ? dataset.classes : null;
  const said = (/** @type {any[] | null | undefined} */ output) => {
    if (!output || output.some((value) => value === null)) return "–";
    if (!classes) return output.slice(0, 3).map((value) => number(value, 3)).join(", ");
    if (output.length === 1) return classes[output[0] > 0.5 ? 1 : 0];
    return classes[output.indexOf(Math.max(...output))];
  };
  const card = (/** @type {number} */ i, /** @type {number} */ place) => {
    const who = `row ${number(found.rows[i])}`;
    const [target, answer] = [said(given?.arrays.Y.values[place]), said(A[i])];
    const wrong = classes !== null && target !== answer;
    const picture = sideOf(X[i].length) ? thumbnail(X[i], `${who}, a ${target}`)
      : el("dl", { class: "features" }, X[i].slice(0, FEATURES).map((/** @type {number} */ value, /** @type {number} */ j) => [el("dt", {}, dataset?.report?.feature_names?.[j] ?? `x${j + 1}`), el("dd", {}, number(value, 3))]));
    const inside = [picture, el("span", { class: wrong ? "verdict wrong" : "verdict" }, classes ? el("span", { class: "visually-hidden" }, wrong ? "wrong: " : "right: ") : null, classes ? el("span", { "aria-hidden": "true" }, wrong ? "✕ " : "✓ ") : null, `${target} → ${answer}`),
      el("span", { class: "sample-facts", title: "‖dZ[L]‖, how hard it pulls at the output" }, `‖dZ‖ ${number(pull[i], 2)}`), el("span", { class: "hint" }, who)];
    return el("li", {}, has("backprop") ? el("a", { class: "sample-card", href: `#/runs/${run.id}/backprop?epoch=${replay.begins_at}&sample=${found.rows[i]}` }, inside) : el("div", { class: "sample-card" }, inside));
  };
  const some = order.length < found.m ? `${number(order.length)} of its ${number(found.m)} samples` : `Its ${number(found.m)} samples`;
  return [el("p", { class: "muted" }, `${some}, what pulls hardest first: actual → answered at that step.`),
    el("ul", { class: "gallery" }, order.map(card)),
    el("p", { class: "hint" }, "As the network got them, after preprocessing; ", eq(found.quantities[`dZ${top}`].equation), `. C of the batch is ${number(found.cost)}.`)];
}
