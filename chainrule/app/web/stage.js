// @ts-check
// Around the picture: the step's equation, the row of all steps, and the line of one number as its factors.

import { colour, isDark } from "./cells.js";
import { el, eq, number } from "./dom.js";
import { factors, parse, written } from "./walk.js";

/** @typedef {import("./walk.js").Walk} Walk */
/** @typedef {import("./walk.js").Cell} Cell */

const GENERAL = ["Z[l] = A[l-1]·W[l]ᵀ + b[l]", "A[l] = g(Z[l])", "dZ[l] = dA[l] ⊙ g′(Z[l])", "dW[l] = (1/m)·dZ[l]ᵀ·A[l-1]", "dA[l-1] = dZ[l]·W[l]"];

/** Where a walk stands, in words. @param {Walk} walk @param {number} step */
export function standing(walk, step) {
  const now = walk.steps[step - 1];
  return now ? `${step} of ${walk.steps.length} · ${now.phase} · layer ${now.layer}` : `all ${walk.steps.length} steps`;
}

/** The equations of a step; in general where none is chosen. @param {Walk} walk @param {number} step */
export function equations(walk, step) {
  return (walk.steps[step - 1]?.results.map((result) => result.equation) ?? GENERAL).map((text) => eq(text));
}

/** What else is to be said of a step. @param {Walk} walk @param {number} step */
export function remarks(walk, step) {
  const now = walk.steps[step - 1];
  if (!now) return "The whole way there and back. ▶ or → begins with the first step.";
  const means = now.follows ? "" : `A mean of products is no product of means: from means over ${walk.m.toLocaleString("en")} samples this step cannot be redone.`;
  return [now.function, now.note, means].filter(Boolean).join(" · ");
}

/** Show all steps as buttons, and where the walk stands. @param {HTMLElement} rail @param {Walk} walk @param {number} step @param {(step: number) => void} go */
export function drawRail(rail, walk, step, go) {
  if (rail.dataset.steps !== String(walk.steps.length)) {
    rail.dataset.steps = String(walk.steps.length);
    rail.replaceChildren(...walk.steps.map((each) => {
      const names = each.results.map(({ name }) => name);
      const { symbol, layer } = parse(names.find((name) => /^(Z\d|A|N|C|d[WAZNg])/.test(name)) ?? names[0]);
      const label = symbol === "C" ? "C" : symbol === "dgamma" ? "dγ" : symbol;
      return el("li", { class: each.phase }, el("button", {
        type: "button", title: each.results.map((result) => result.equation).join("; "), onclick: () => go(each.number),
        "aria-label": `Step ${each.number}: ${names.map((name) => written(name)).join(", ")}`,
      }, label === "C" ? "C" : [label, el("sup", {}, layer)]));
    }));
  }
  rail.childNodes.forEach((item, at) => {
    const button = /** @type {HTMLElement} */ (item.firstChild);
    button.className = step === 0 || at + 1 < step ? "done" : at + 1 === step ? "now" : "";
    if (at + 1 === step) button.setAttribute("aria-current", "step");
    else button.removeAttribute("aria-current");
  });
}

/**
 * A number as its factors, and the cells they are in; null where it is not known at this step.
 * @param {Walk} walk @param {number} step @param {Cell} cell @param {any} config of the run
 * @returns {{node: HTMLElement[], spoken: string, from: Cell[], whole: string[]} | null}
 */
export function numberLine(walk, step, { name, index }, config) {
  if (!walk.has(name, step || walk.steps.length) || (!index.length && walk.size(name).columns > 1)) return null;
  const found = factors(walk, name, index);
  const pieces = found.pieces.map((piece) => {
    if (typeof piece === "string") return { node: piece, text: piece };
    if ("name" in piece) return { node: reference(piece.name), text: written(piece.name.name, piece.name.index) };
    const text = number(piece.value);
    return { node: el("span", { class: Number.isFinite(piece.value) ? "value" : "value odd", "data-value": piece.value }, text), text };
  });
  let limit = 0;
  for (const value of walk.arrays.get(name)?.data ?? []) if (Number.isFinite(value)) limit = Math.max(limit, Math.abs(value));
  const line = el("span", { class: "factors", "data-cell": written(name, index), "data-value": found.value }, pieces.map((piece) => piece.node), consequence(walk, { name, index }, config));
  return { node: [line, scaleBar(limit)], spoken: pieces.map((piece) => piece.text).join(""), from: found.from, whole: found.whole };
}

/** What a gradient does to its weight; a step only where it is −η times the gradient. @param {Walk} walk @param {Cell} cell @param {any} config */
function consequence(walk, { name, index }, { optimizer, schedule, clip, regularization }) {
  const { symbol, layer } = parse(name);
  if (symbol !== "dW" && symbol !== "db") return [];
  const weight = `${symbol.slice(1)}${layer}`;
  const plain = optimizer.name === "sgd" && !optimizer.momentum && schedule.name === "constant" && !schedule.warmup_epochs && !clip && !regularization;
  return [" · ", reference({ name: weight, index }), " = ", number(walk.value(weight, ...index)),
    plain ? [" · step −η·", symbol, " = ", number(-optimizer.learning_rate * walk.value(name, ...index))] : []];
}

/** A cell's name, its layer raised and its index lowered. @param {Cell} cell */
function reference({ name, index }) {
  const [, symbol, layer] = /^([^[]*)(\[\d+\])?$/.exec(written(name)) ?? ["", written(name), ""];
  return el("b", { class: "ref" }, symbol, layer ? el("sup", {}, layer) : null, index.length && name !== "C" ? el("sub", {}, index.join(",")) : null);
}

/** The colours of an array's numbers, from −limit to limit. @param {number} limit */
function scaleBar(limit) {
  const dark = isDark();
  const stops = Array.from({ length: 17 }, (_, at) => `rgb(${[...colour((at - 8) / 8, dark)].join(" ")})`);
  return el("span", { class: "scale-bar", "aria-hidden": "true" }, el("span", {}, `−${number(limit, 3)}`), el("i", { style: { background: `linear-gradient(90deg, ${stops.join(", ")})` } }), el("span", {}, number(limit, 3)));
}
