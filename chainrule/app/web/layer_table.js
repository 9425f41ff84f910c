// @ts-check
/** The layers of a network at one epoch, in numbers: how large, how strong, how fast, how alive. */

import { el, eq, number, percent } from "./dom.js";

const HEADS = [
  ["Layer", ""], ["Shape", ""], ["‖W‖", "W_norm"], ["‖dW‖", "dW_norm"], ["RMS(A)", "A_rms"], ["RMS(dZ)", "dZ_rms"],
  ["Update ratio", ""], ["Saturated", "saturated"], ["Dead", "dead"],
];
const RATIO = "‖ΔW‖/‖W‖ of the epoch's last step; often about 10⁻³ while it learns fast. Marked above 0.3";

/**
 * @param {{layers: any[], equations: Record<string, string>}} found of …/layers or of an initialization preview
 * @param {number} inputs n_0
 * @param {Map<number, number | null> | null} ratios update ratio of W by layer; null to leave the column out
 */
export function layerTable(found, inputs, ratios) {
  const sizes = found.layers.map((layer) => layer.dZ_rms).filter((value) => value > 0);
  const [low, high] = [Math.min(...sizes) / 3, Math.max(...sizes)];
  const heads = HEADS.filter(([name]) => ratios || name !== "Update ratio");
  return el("div", { class: "scroll" }, el("table", { class: "layers" },
    el("thead", {}, el("tr", {}, heads.map(([name, key]) => el("th", { scope: "col", title: key ? found.equations[key] : name === "Update ratio" ? RATIO : null }, name.includes("(") || name.includes("‖") ? eq(name) : name)))),
    el("tbody", {}, found.layers.map((layer, i) => {
      const before = i ? found.layers[i - 1].units : inputs;
      const share = layer.dZ_rms > 0 ? Math.max(0.02, Math.log(layer.dZ_rms / low) / Math.log(high / low || 2)) : 0;
      const ratio = ratios?.get(layer.layer) ?? null;
      return el("tr", {}, el("th", { scope: "row" }, String(layer.layer)), el("td", {}, `${before} → ${layer.units} ${layer.activation}`),
        el("td", {}, size(layer.W_norm, 4)), el("td", {}, size(layer.dW_norm)), el("td", {}, size(layer.A_rms)),
        el("td", {}, el("span", { class: "track" }, el("span", { class: "bar", style: { width: `${100 * share}%` } })), size(layer.dZ_rms)),
        ratios ? el("td", { class: (ratio ?? 0) > 0.3 ? "warn-text" : null }, number(ratio, 3), (ratio ?? 0) > 0.3 ? " ⚠" : "") : null,
        alarm(layer.saturated, 0.5), alarm(layer.dead, 0.4));
    }))));
}

/** A size; null is one that JSON has no number for. @param {number | null} value */
const size = (value, digits = 3) => value === null ? el("span", { class: "warn-text" }, "✕ not finite") : number(value, digits);

/** @param {number | null} share @param {number} limit */
function alarm(share, limit) {
  const much = share !== null && share > limit;
  return el("td", { class: much ? "warn-text" : null }, share === null ? el("span", { class: "muted" }, "–") : percent(share), much ? " ⚠" : "");
}
