// @ts-check
/** Three runs to begin with, each trained by one click. */

import { svg } from "./dom.js";

const tanh = (/** @type {number} */ units) => ({ units, activation: "tanh" });

/** @param {...any} children */
const picture = (...children) => svg("svg", { viewBox: "0 0 240 120", "aria-hidden": "true", preserveAspectRatio: "xMidYMid meet" }, children);
/** @param {number} x @param {number} y @param {number} group @param {number} r */
const dot = (x, y, group, r) => svg("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r, style: { fill: `var(--series-${group})` } });

const DIGIT = ["..####..", ".##..##.", ".....##.", "...###..", ".....##.", ".##..##.", "..####.."];

export const EXAMPLES = [
  {
    title: "XOR",
    text: "Four points that no straight line can part. The smallest network whose every weight you can follow by hand.",
    spec: {
      name: "XOR", dataset: "xor", network: { layers: [tanh(4), { units: 1, activation: "sigmoid" }] },
      optimizer: { name: "adam", learning_rate: 0.05 }, epochs: 200, batch_size: 4, gradients: { every: 2 }, seed: 7,
    },
    picture: () => picture(dot(80, 30, 0, 13), dot(160, 90, 0, 13), dot(160, 30, 1, 13), dot(80, 90, 1, 13)),
  },
  {
    title: "spirals",
    text: "Three arms wound around each other: watch the boundary bend, epoch by epoch, and each layer's share in it.",
    spec: {
      name: "spirals", dataset: "spirals", validation: { fraction: 0.2, seed: 0 },
      network: { layers: [tanh(16), tanh(16), { units: 3, activation: "softmax" }] },
      optimizer: { name: "adam", learning_rate: 0.01 }, epochs: 300, batch_size: 32, gradients: { every: 3 }, seed: 3,
    },
    picture: () => picture(Array.from({ length: 72 }, (_, i) => {
      const [arm, t] = [i % 3, 0.05 + Math.floor(i / 3) / 26];
      const angle = 4 * t + arm * 2 * Math.PI / 3;
      return dot(120 + Math.cos(angle) * 100 * t, 60 + Math.sin(angle) * 52 * t, arm, 3.4);
    })),
  },
  {
    title: "digits",
    text: "1,797 handwritten digits of 8 × 8 pixels, in a second or two: see which pixels the error comes from.",
    spec: {
      name: "digits", dataset: "digits", validation: { fraction: 0.2, seed: 0 },
      network: { layers: [tanh(20), tanh(14), { units: 10, activation: "softmax" }] },
      optimizer: { name: "adam", learning_rate: 0.003 }, epochs: 40, batch_size: 32, gradients: { every: 1 }, seed: 1,
    },
    picture: () => picture(DIGIT.flatMap((line, y) => [...line].map((cell, x) => cell === "#"
      ? svg("rect", { x: 64 + x * 14, y: 11 + y * 14, width: 13, height: 13, rx: 2, style: { fill: "var(--series-0)" } }) : null))),
  },
];
