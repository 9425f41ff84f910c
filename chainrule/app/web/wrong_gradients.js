// @ts-check
/** Gradients as a first attempt would have them: right, or with one of the mistakes that are often made. */

/** @typedef {Record<string, {shape: number[], values: any}>} Arrays of a walk, with a row for each sample */

const MOST_NUMBERS = 6000;

/** @param {(name: string, values: any, walk: Arrays) => any} change */
const changed = (change) => (/** @type {Arrays} */ walk) => Object.fromEntries(blocks(walk).map((name) => [name, change(name, walk[name].values, walk)]));
/** @param {any} values @param {number} factor @returns {any} */
const times = (values, factor) => Array.isArray(values) ? values.map((one) => times(one, factor)) : values * factor;
/** @param {number[][]} M */
const transposed = (M) => M[0].map((_, k) => M.map((row) => row[k]));
/** @param {number[][]} rows */
const mean = (rows) => rows[0].map((_, j) => rows.reduce((sum, row) => sum + row[j], 0) / rows.length);

/** What to try, by name: how it is called, and how it is made from a walk. */
export const ATTEMPTS = {
  right: { name: "Right ones", make: changed((_, values) => values) },
  summed: { name: "Summed, the 1/m forgotten", make: changed((_, values, { A0 }) => times(values, A0.shape[0])) },
  flipped: { name: "With the sign flipped", make: changed((_, values) => times(values, -1)) },
  transposed: { name: "With dW[1] transposed", make: changed((name, values) => name === "dW1" ? transposed(values) : values) },
  slope: { name: "With g′ forgotten in layer 1", make: (/** @type {Arrays} */ walk) => ({ ...ATTEMPTS.right.make(walk), ...withoutSlope(walk) }) },
  entry: { name: "With one entry off", make: changed((name, values) => name === "db1" ? [values[0] + 0.1, ...values.slice(1)] : values) },
};

/** dW[1] = (1/m) · dA[1]ᵀ · A[0], as if dZ were dA. @param {Arrays} walk */
function withoutSlope(walk) {
  const [dA, A] = [walk.dA1.values, walk.A0.values];
  const dW1 = transposed(dA).map((column) => transposed(A).map((below) => column.reduce((/** @type {number} */ sum, /** @type {number} */ value, /** @type {number} */ i) => sum + value * below[i], 0) / dA.length));
  return { dW1, db1: mean(dA) };
}

/** The gradients of a walk's parameters, layer by layer, as far as they can be shown. @param {Arrays} walk */
function blocks(walk) {
  let count = 0;
  return Object.keys(walk).filter((name) => /^d(W|b|gamma|beta)\d+$/.test(name)).sort((a, b) => a.replace(/\D+/, "").localeCompare(b.replace(/\D+/, ""), "en", { numeric: true }) || (a < b ? -1 : 1))
    .filter((name) => (count += walk[name].shape.reduce((product, n) => product * n, 1)) <= MOST_NUMBERS);
}

/** Gradients to read and to change: a row of a matrix on a line. @param {Record<string, any>} gradients */
export function written(gradients) {
  const parts = Object.entries(gradients).map(([name, values]) => `  "${name}": ${Array.isArray(values[0]) ? `[\n${values.map((row) => `    ${JSON.stringify(row)}`).join(",\n")}\n  ]` : JSON.stringify(values)}`);
  return `{\n${parts.join(",\n")}\n}`;
}
