// @ts-check
// Small networks as nodes and edges: width is magnitude, colour and dashes are the sign.

import { colour, isDark } from "./cells.js";
import { el, number, svg } from "./dom.js";
import { written } from "./walk.js";

/** @typedef {import("./walk.js").Walk} Walk */

/** Up to how many units a layer is drawn; beyond, edges are a hairball. */
export const MOST_UNITS = 16;

/** @param {Walk} walk */
export function fits(walk) {
  return Math.max(walk.size("A0").columns, ...walk.layers.map((layer) => layer.units)) <= MOST_UNITS;
}

/**
 * Draw the network at a step: forward with W and A, backward with dW and dZ.
 * @param {Walk} walk @param {number} step
 * @param {{point: (cell: import("./walk.js").Cell | null, spoken: boolean) => void, pick: (cell: import("./walk.js").Cell) => void, backward: boolean, inputs: string[], classes: string[]}} options
 */
export function drawNetwork(walk, step, { point, pick, backward, inputs, classes }) {
  const sizes = [walk.size("A0").columns, ...walk.layers.map((layer) => layer.units)];
  const shown = step || walk.steps.length;
  const most = Math.max(...sizes);
  const [gap, apart, top] = [Math.max(34, Math.min(62, 420 / most)), Math.max(150, Math.min(260, 900 / sizes.length)), 46];
  const [width, height] = [apart * (sizes.length - 1) + 220, gap * most + top + 10];
  const dark = isDark();
  const place = (/** @type {number} */ l, /** @type {number} */ j) => ({ x: 110 + l * apart, y: top + (height - top - 10) / 2 + (j - (sizes[l] - 1) / 2) * gap });
  const [edges, nodes] = [svg("g", { class: "edges" }), svg("g", { class: "nodes" })];
  for (let l = 1; l < sizes.length; l += 1) {
    const name = `${backward ? "dW" : "W"}${l}`;
    if (!walk.has(name, shown)) continue;
    let limit = 0;
    for (const value of walk.arrays.get(name)?.data ?? []) if (Number.isFinite(value)) limit = Math.max(limit, Math.abs(value));
    for (let j = 0; j < sizes[l]; j += 1) {
      for (let k = 0; k < sizes[l - 1]; k += 1) {
        const value = walk.value(name, j, k);
        const [from, to] = [place(l - 1, k), place(l, j)];
        const share = value / (limit || 1);
        const cell = { name, index: [j, k] };
        const line = { x1: from.x, y1: from.y, x2: to.x, y2: to.y };
        edges.append(svg("line", { ...line, class: value < 0 ? "negative" : "positive", "stroke-width": Number.isFinite(share) ? (0.5 + 6 * Math.abs(share)).toFixed(2) : 3,
          "stroke-dasharray": value < 0 ? "7 4" : null }),
        svg("line", { ...line, class: "hit", onpointerenter: () => point(cell, false), onclick: () => pick(cell) }));
      }
    }
  }
  for (let l = 0; l < sizes.length; l += 1) {
    const wanted = backward ? (l === 0 ? "dA0" : `dZ${l}`) : `A${l}`;
    const there = walk.has(wanted, shown);
    const limit = there ? Math.max(...[...(walk.arrays.get(wanted)?.data ?? [])].map(Math.abs).filter(Number.isFinite), 0) : 0;
    nodes.append(svg("text", { x: place(l, 0).x, y: 20, "text-anchor": "middle", class: "title" }, l === 0 ? "input" : `layer ${l}`),
      svg("text", { x: place(l, 0).x, y: 36, "text-anchor": "middle", class: "name" }, written(wanted)));
    for (let j = 0; j < sizes[l]; j += 1) {
      const { x, y } = place(l, j);
      const value = there ? walk.value(wanted, j) : NaN;
      const fill = there ? colour(value / (limit || 1), dark) : null;
      const cell = { name: wanted, index: [j] };
      const bright = fill && 0.2126 * fill[0] + 0.7152 * fill[1] + 0.0722 * fill[2] > 128;
      const side = l === 0 ? inputs[j] : l === sizes.length - 1 ? classes[j] : "";
      nodes.append(svg("g", { class: there ? "node" : "node unknown", onpointerenter: () => there && point(cell, false), onclick: () => there && pick(cell) },
        svg("circle", { cx: x, cy: y, r: Math.min(22, gap * 0.44), style: fill ? { fill: `rgb(${fill[0]} ${fill[1]} ${fill[2]})` } : {} }),
        there ? svg("text", { x, y: y + 3.5, "text-anchor": "middle", style: { fill: bright ? "#10151c" : "#ffffff" } }, number(value, 2)) : null),
      side ? svg("text", { x: l === 0 ? x - 30 : x + 30, y: y + 4, "text-anchor": l === 0 ? "end" : "start", class: "side" }, side) : "");
    }
  }
  const what = backward ? "dW by width, dZ in the nodes" : "W by width, A in the nodes";
  return el("figure", { class: "network-drawing" },
    svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `The network ${sizes.join("–")}: ${what}; every number is in the tables below` }, edges, nodes),
    el("figcaption", {}, `${what}; solid red is positive, dashed blue negative`));
}
