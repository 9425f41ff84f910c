// @ts-check
/** Samples as cards: a picture where the features are a square, what the network makes of it, and a link inside. */

import { signedColour, sizeColour } from "./charts.js";
import { el, number } from "./dom.js";

const LEAST_SIDE = 4;

/** The side of a square picture that so many features make; 0 if they make none. @param {number} features */
export function sideOf(features) {
  const side = Math.round(Math.sqrt(features));
  return side >= LEAST_SIDE && side * side === features ? side : 0;
}

/**
 * A square picture, light where a feature is 0; in two colours where features have signs.
 * @param {any[]} features @param {string} label
 */
export function thumbnail(features, label) {
  const side = sideOf(features.length);
  const canvas = el("canvas", { width: side, height: side, class: "thumbnail", role: "img", "aria-label": label });
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  const sizes = features.map((value) => Math.abs(Number(value))).filter(Number.isFinite);
  const most = Math.max(...sizes) || 1;
  const signed = features.some((value) => value < 0);
  features.forEach((value, i) => {
    const share = Number(value) / most;
    image.data.set(!Number.isFinite(share) ? [255, 0, 255, 255] : signed ? signedColour(share) : sizeColour(share), 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

/** A target or an output in words. @param {any} value */
const said = (value) => Array.isArray(value) ? value.map((one) => number(one, 3)).join(", ") : String(value);

/**
 * One sample of `…/samples`.
 * @param {any} one @param {string[] | null} names of its features @param {string | null} href of the page that takes it apart
 */
export function card(one, names, href) {
  const who = `row ${number(one.row)}`;
  const features = one.features ?? [];
  const picture = sideOf(features.length)
    ? thumbnail(features, `${who}, a ${said(one.target)}`)
    : el("dl", { class: "features" }, features.slice(0, 4).map((/** @type {any} */ value, /** @type {number} */ i) => [
      el("dt", {}, names?.[i] ?? `x${i + 1}`), el("dd", {}, typeof value === "number" ? number(value, 3) : String(value ?? "–"))]),
    features.length > 4 ? [el("dt", {}, "…"), el("dd", {}, `${number(features.length)} features`)] : null);
  const verdict = one.wrong === null
    ? el("span", { class: "verdict numeric" }, `${said(one.target)} → ${said(one.prediction)}`)
    : el("span", { class: one.wrong ? "verdict wrong" : "verdict" }, el("span", { "aria-hidden": "true" }, one.wrong ? "✕ " : "✓ "),
      el("span", { class: "visually-hidden" }, one.wrong ? "wrong: " : "right: "), `${said(one.target)} → ${said(one.prediction)}`);
  const facts = el("span", { class: "sample-facts" },
    one.probability === null ? null : el("span", { title: "How sure the network is of its prediction" }, `p ${number(one.probability, 2)}`),
    el("span", { title: "E, this sample's own error" }, `E ${number(one.cost, 3)}`),
    el("span", { title: "‖g‖, the norm of this sample's own gradient" }, `‖g‖ ${number(one.gradient_norm, 3)}`));
  const inside = [picture, verdict, facts, el("span", { class: "hint" }, who)];
  return el("li", {}, href ? el("a", { class: "sample-card", href }, inside) : el("div", { class: "sample-card" }, inside));
}
