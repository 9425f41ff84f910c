// @ts-check
// A walk of the service (steps, operands, results), and what follows from it: which numbers a step knows already, and
// every number as its factors.

import { get } from "./api.js";
import { decoded } from "./cells.js";
import { readNpz } from "./npz.js";

/** @typedef {import("./npz.js").Tensor} Tensor */
/** @typedef {{name: string, equation: string}} Result */
/** @typedef {{number: number, phase: string, layer: number, operands: string[], results: Result[], function: string,
 *   note: string, follows: boolean}} Step */
/** @typedef {{units: number, activation: string, normalization?: string | null, dropout?: number}} Layer */
/** A number of an array; an index may be a letter in a general term. @typedef {{name: string, index: any[]}} Cell */
/** A piece of a line: words, a name of a cell, or a cell's value. @typedef {string | {name: Cell} | {value: number}} Piece */

const NPZ = "application/x-npz";
/** From how many parameters on large matrices come as pictures, and their numbers when they are pointed at. */
const LARGE = 20_000;
/** Beyond, several entries of a matrix share a cell of the picture. */
export const MOST = { columns: 196, rows: 128 };
const GREEK = /** @type {Record<string, string>} */ ({
  gamma: "γ", beta: "β", dgamma: "dγ", dbeta: "dβ", Zhat: "Ẑ", mean: "μ", var: "σ²", running_mean: "μ", running_var: "σ²",
});

/** One walk: its steps and every array they mention; samples reduced to one row, the sample's own or their mean. */
export class Walk {
  /**
   * @param {{m: number, reduced: boolean, steps: Step[], dtype: string}} told
   * @param {Map<string, Tensor>} arrays
   * @param {Layer[]} layers
   */
  constructor(told, arrays, layers) {
    this.steps = told.steps;
    this.m = told.m;
    this.mean = told.reduced && told.m > 1;
    this.dtype = told.dtype;
    this.arrays = arrays;
    this.layers = layers;
    this.depth = layers.length;
    /** @type {Map<string, number>} name to the number of the step it comes from; 0 of what is given */
    this.known = new Map([...arrays.keys()].map((name) => [name, 0]));
    for (const step of this.steps) for (const { name } of step.results) this.known.set(name, step.number);
  }

  /** Whether an array is there at a step. @param {string} name @param {number} step */
  has(name, step) {
    return this.arrays.has(name) && (this.known.get(name) ?? 0) <= step;
  }

  /** Rows and columns of an array as a matrix; a vector is one row. @param {string} name */
  size(name) {
    const shape = this.arrays.get(name)?.shape ?? [0];
    return shape.length === 2 ? { rows: shape[0], columns: shape[1] } : { rows: 1, columns: shape[0] ?? 1 };
  }

  /** @param {string} name @param {number[]} index of a unit, or of unit and unit below @returns {number} */
  value(name, ...index) {
    const array = this.arrays.get(name);
    if (!array) return NaN;
    return array.data[index.length === 2 ? index[0] * this.size(name).columns + index[1] : (index[0] ?? 0)];
  }

  /** The equation an array comes from. @param {string} name */
  equation(name) {
    return this.steps.flatMap((step) => step.results).find((result) => result.name === name)?.equation ?? "";
  }
}

/** Split a name: dW2 is dW of layer 2. @param {string} name */
export function parse(name) {
  const [, symbol, number] = /^(\D+?)(\d*)$/.exec(name) ?? ["", name, ""];
  return { symbol, layer: number === "" ? 0 : Number(number) };
}

/** Write a name as equations do. @param {string} name @param {any[]} [index] */
export function written(name, index = []) {
  const { symbol } = parse(name);
  const number = /\d+$/.exec(name)?.[0];
  return `${GREEK[symbol] ?? symbol}${number === undefined ? "" : `[${number}]`}${index.length ? `[${index.join(",")}]` : ""}`;
}

/** Write names inside a text as equations do: dZ2[0,4] is dZ[2][0,4]. @param {string} text */
export function pretty(text) {
  return text.replace(/([A-Za-z_]+)(\d+)\[/g, (_, symbol, layer) => `${GREEK[symbol] ?? symbol}[${layer}][`);
}

/**
 * Which samples, as a query of the service.
 * @param {{of: string, split: string, sample: number, rows: string}} chosen
 */
export function selection({ of, split, sample, rows }) {
  if (of === "split") return `split=${split}`;
  return of === "batch" ? `rows=${encodeURIComponent(rows)}&reduce=mean` : `rows=${sample}`;
}

/**
 * Load a walk. Its steps depend on the network alone, so they are asked for once. Of a large network matrices come as
 * pictures, see `exactly`; but dW of one sample is multiplied here: it is the outer product of two vectors.
 * @param {{id: string, parameters: number, config: {network: {layers: Layer[]}}}} run
 * @param {number} epoch @param {string} samples a query, see `selection`
 * @param {Map<string, any>} told what is known of steps, by kind of question
 * @param {AbortSignal} signal
 */
export async function load(run, epoch, samples, told, signal) {
  const path = `/v1/runs/${run.id}/checkpoints/${epoch}/walk?${samples}`;
  const one = /^rows=\d+$/.test(samples);
  const kind = one ? "one" : samples;
  const pictures = run.parameters > LARGE ? `&pictures=${MOST.rows},${MOST.columns}` : "";
  const [found, answer] = await Promise.all([get(`${path}&format=npz${pictures}`, { signal, accept: NPZ }), told.get(kind) ?? get(`${path}&values=false`, { signal })]);
  told.set(kind, answer);
  const arrays = pictured(await readNpz(found));
  for (const [name, { picture }] of arrays) {
    const { symbol, layer } = parse(name);
    const [dZ, A] = [arrays.get(`dZ${layer}`), arrays.get(`A${layer - 1}`)];
    if (picture && one && symbol === "dW" && dZ && A) arrays.set(name, outer(dZ, A));
  }
  return new Walk(answer, arrays, run.config.network.layers);
}

/** Put pictures and what they are read by together. @param {Map<string, Tensor>} arrays */
function pictured(arrays) {
  for (const [name, { data }] of [...arrays].filter(([name]) => name.endsWith(".picture"))) {
    const of = name.replace(".picture", "");
    const codes = /** @type {Tensor} */ (arrays.get(of));
    const [rows, columns, , , limit, odd] = data;
    arrays.set(of, { shape: [rows, columns], data: new Float32Array(0), picture: decoded(/** @type {Uint8Array} */ (codes.data), codes.shape, limit, odd) });
    arrays.delete(name);
  }
  return arrays;
}

/** Those arrays of which only a picture is there, and whose numbers the line of a cell takes. @param {Walk} walk @param {string} name */
export function lacking(walk, name) {
  const { symbol, layer } = parse(name);
  const takes = symbol === "W" || symbol === "dW" ? [`W${layer}`, `dW${layer}`] : symbol === "Z" ? [`W${layer}`] : symbol === "dA" ? [`W${layer + 1}`] : [];
  return takes.filter((each) => walk.arrays.get(each)?.picture);
}

/**
 * Fetch the numbers of arrays that are pictures; weights are the same for all samples, and so is their address.
 * @param {{id: string}} run @param {Walk} walk @param {string[]} names @param {number} epoch @param {string} samples @param {AbortSignal} signal
 */
export async function exactly(run, walk, names, epoch, samples, signal) {
  await Promise.all(names.map(async (name) => {
    const path = `/v1/runs/${run.id}/checkpoints/${epoch}/walk?${name.startsWith("W") ? "rows=0" : samples}&format=npz&names=${name}`;
    const array = (await readNpz(await get(path, { signal, accept: NPZ }))).get(name);
    if (array) walk.arrays.set(name, array);
  }));
}

/** dW of one sample: dZᵀ·A, in the type of both. @param {Tensor} column @param {Tensor} row @returns {Tensor} */
function outer({ data: column }, { data: row }) {
  const data = column instanceof Float32Array ? new Float32Array(column.length * row.length) : new Float64Array(column.length * row.length);
  column.forEach((/** @type {number} */ value, /** @type {number} */ j) => {
    for (let k = 0; k < row.length; k += 1) data[j * row.length + k] = value * row[k];
  });
  return { shape: [column.length, row.length], data };
}

/**
 * What a number is made of, to be read from left to right: its name, its equation with the cells it takes, their
 * values, its own.
 * @param {Walk} walk @param {string} name @param {number[]} index
 * @returns {{pieces: Piece[], value: number, from: Cell[], whole: string[]}} `from` are the cells it follows from,
 *   `whole` whole rows or columns: "row W2 4"
 */
export function factors(walk, name, index) {
  const { symbol, layer } = parse(name);
  const [j, k] = index;
  const value = walk.value(name, ...index);
  const self = { name, index };
  /** @param {string} other @param {number[]} at @returns {Cell} */
  const cell = (other, ...at) => ({ name: other, index: at });
  /** @param {Cell[]} cells @param {Piece[]} between @param {string[]} [whole] */
  const product = (cells, between = [" · "], whole = []) => {
    /** @type {Piece[]} */
    const pieces = [{ name: self }, " = "];
    cells.forEach((each, i) => pieces.push(...(i ? between : []), { name: each }));
    if (!walk.mean) {
      pieces.push(" = ");
      cells.forEach((each, i) => pieces.push(...(i ? [String(between[0]).replace("·", "×")] : []), { value: walk.value(each.name, ...each.index) }));
    }
    pieces.push(" = ", { value });
    return { pieces, value, from: cells, whole };
  };
  const normal = symbol.startsWith("d") ? walk.layers[layer - 1]?.normalization : null;
  const before = walk.arrays.has(`N${layer}`) ? `N${layer}` : `Z${layer}`;

  if (symbol === "dW" || symbol === "db") {
    const cells = symbol === "dW" ? [cell(`dZ${layer}`, j), cell(`A${layer - 1}`, k)] : [cell(`dZ${layer}`, j)];
    if (!walk.mean) return product(cells);
    return { pieces: [{ name: self }, ` = (1/${walk.m}) Σᵢ `, { name: cells[0] }, ...(cells[1] ? [" · ", { name: cells[1] }] : []),
      " over ", `${walk.m} samples = `, { value }], value, from: cells, whole: [] };
  }
  if (symbol === "Z") return sum(walk, self, value, Array.from({ length: walk.size(`A${layer - 1}`).columns }, (_, at) => (
    [cell(`A${layer - 1}`, at), cell(`W${layer}`, j, at)])), [cell(`b${layer}`, j)], [`strip A${layer - 1}`, `row W${layer} ${j}`]);
  if (symbol === "dA" && layer < walk.depth) {
    const units = walk.size(`W${layer + 1}`).rows;
    return sum(walk, self, value, Array.from({ length: units }, (_, at) => [cell(`dZ${layer + 1}`, at), cell(`W${layer + 1}`, at, j)]),
      [], [`strip dZ${layer + 1}`, `column W${layer + 1} ${j}`]);
  }
  if (symbol === "A" && layer > 0) {
    const g = walk.layers[layer - 1].activation;
    const softmax = g === "softmax";
    /** @type {Piece[]} */
    const shown = softmax ? [` = softmax(`, { name: cell(before, j) }, ` among all ${walk.size(name).columns})`] : [" = g(", { name: cell(before, j) }, ")"];
    const middle = softmax || walk.mean ? [] : [` = ${g.replace("_", " ")}(`, { value: walk.value(before, j) }, ")"];
    return { pieces: [{ name: self }, ...shown, ...middle, " = ", { value }], value, from: [cell(before, j)], whole: softmax ? [`strip ${before}`] : [] };
  }
  if ((symbol === "dZ" && !normal) || symbol === "dN") {
    const equation = walk.equation(name);
    const step = walk.steps.find((each) => each.results.some((result) => result.name === name));
    if (step?.operands.includes("Y")) {
      const scaled = step.operands.includes("w") ? [{ name: cell("w", 0) }, " · ("] : [];
      const end = scaled.length ? [")"] : [];
      const numbers = walk.mean ? [] : [" = ", ...(scaled.length ? [{ value: walk.value("w", 0) }, " × ("] : []),
        { value: walk.value(`A${layer}`, j) }, " − ", { value: walk.value("Y", j) }, ...end];
      return { pieces: [{ name: self }, " = ", ...scaled, { name: cell(`A${layer}`, j) }, " − ", { name: cell("Y", j) }, ...end, ...numbers, " = ", { value }],
        value, from: [cell(`A${layer}`, j), cell("Y", j)], whole: [] };
    }
    const slope = derivative(walk.layers[layer - 1].activation, walk.value(before, j), walk.value(`A${layer}`, j));
    if (slope === null) return { pieces: [{ name: self }, " = ", { value }, ` · ${equation}`], value, from: [cell(`A${layer}`, j), cell(`dA${layer}`, j)], whole: [] };
    const numbers = walk.mean ? [] : [" = ", { value: walk.value(`dA${layer}`, j) }, " × ", { value: slope }];
    return { pieces: [{ name: self }, " = ", { name: cell(`dA${layer}`, j) }, " · g′(", { name: cell(before, j) }, ")", ...numbers, " = ", { value }],
      value, from: [cell(`dA${layer}`, j), cell(before, j)], whole: [] };
  }
  if (symbol === "N") {
    const [gamma, hat, beta] = [`gamma${layer}`, `Zhat${layer}`, `beta${layer}`].map((other) => cell(other, j));
    const numbers = walk.mean ? [] : [" = ", { value: walk.value(gamma.name, j) }, " × ", { value: walk.value(hat.name, j) }, " + ", { value: walk.value(beta.name, j) }];
    return { pieces: [{ name: self }, " = ", { name: gamma }, " · ", { name: hat }, " + ", { name: beta }, ...numbers, " = ", { value }], value, from: [gamma, hat, beta], whole: [] };
  }
  if (symbol === "W") {
    const gradient = cell(`dW${layer}`, j, k);
    return { pieces: [{ name: self }, " = ", { value }, " carries ", { name: cell(`A${layer - 1}`, k) }, " to ", { name: cell(`Z${layer}`, j) }, ", and ",
      { name: cell(`dZ${layer}`, j) }, " back to ", { name: cell(`dA${layer - 1}`, k) }], value,
    from: [cell(`A${layer - 1}`, k), cell(`Z${layer}`, j), cell(`dZ${layer}`, j), cell(`dA${layer - 1}`, k), gradient], whole: [] };
  }
  const equation = walk.equation(name);
  const origin = name === "A0" ? "what goes in" : name === "Y" ? "what should come out" : equation;
  return { pieces: [{ name: self }, " = ", { value }, origin ? ` · ${origin}` : ""], value, from: [], whole: [] };
}

/** @param {Walk} walk @param {Cell} self @param {number} value @param {Cell[][]} terms @param {Cell[]} plus @param {string[]} whole */
function sum(walk, self, value, terms, plus, whole) {
  const { symbol } = parse(self.name);
  const letter = symbol === "Z" ? "k" : "j";
  const [a, b] = terms[0].map((each, at) => ({ name: each.name, index: each.index.map((i, place) => (at === 0 || place === (symbol === "Z" ? 1 : 0) ? letter : i)) }));
  /** @type {Piece[]} */
  const pieces = [{ name: self }, ` = Σ${letter === "k" ? "ₖ" : "ⱼ"} `, { name: a }, " · ", { name: b }];
  if (plus.length) pieces.push(" + ", { name: plus[0] });
  if (walk.mean) return { pieces: [...pieces, " = ", { value }], value, from: plus, whole };
  const sizes = terms.map(([a, b]) => walk.value(a.name, ...a.index) * walk.value(b.name, ...b.index));
  let most = 0;
  sizes.forEach((size, at) => { if (Math.abs(size) > Math.abs(sizes[most])) most = at; });
  const few = terms.length <= 4;
  const shown = few ? terms : [terms[most]];
  pieces.push(" = ");
  shown.forEach(([left, right], at) => pieces.push(at ? " + " : "", { value: walk.value(left.name, ...left.index) }, " × ", { value: walk.value(right.name, ...right.index) }));
  if (!few) pieces.push(` (largest of ${terms.length})`, ...added(sizes.reduce((total, size, at) => (at === most ? total : total + size), 0)), " (all others)");
  if (plus.length) pieces.push(...added(walk.value(plus[0].name, ...plus[0].index)));
  pieces.push(" = ", { value });
  return { pieces, value, from: [...(few ? [] : shown[0]), ...plus], whole };
}

/** Plus a number, or minus its magnitude. @param {number} value @returns {Piece[]} */
function added(value) {
  return value < 0 ? [" − ", { value: -value }] : [" + ", { value }];
}

/** g′ of an activation; null of softmax, whose derivative mixes units. @param {string} g @param {number} z @param {number} a */
export function derivative(g, z, a) {
  const σ = 1 / (1 + Math.exp(-z));
  switch (g) {
    case "sigmoid": return a * (1 - a);
    case "tanh": return 1 - a * a;
    case "relu": return z > 0 ? 1 : 0;
    case "leaky_relu": return z > 0 ? 1 : 0.01;
    case "elu": return z > 0 ? 1 : a + 1;
    case "softplus": return σ;
    case "silu": return σ + a * (1 - σ);
    case "linear": return 1;
    case "gelu": {
      const [slope, cubic] = [Math.sqrt(2 / Math.PI), 0.044715];
      const t = Math.tanh(slope * (z + cubic * z ** 3));
      return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * slope * (1 + 3 * cubic * z * z);
    }
    default: return null;
  }
}
