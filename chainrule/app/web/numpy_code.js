// @ts-check
// A step as NumPy code: from the weights of the service and the samples, through all steps up to this one, to numbers
// that are compared with the service's own.

import { parse } from "./walk.js";

const G = /** @type {Record<string, string>} */ ({
  sigmoid: "1 / (1 + np.exp(-Z))", tanh: "np.tanh(Z)", relu: "np.maximum(Z, 0)", leaky_relu: "np.maximum(Z, 0.01 * Z)",
  elu: "np.where(Z > 0, Z, np.expm1(np.minimum(Z, 0)))", softplus: "np.logaddexp(0, Z)", silu: "Z / (1 + np.exp(-Z))",
  gelu: "0.5 * Z * (1 + np.tanh(np.sqrt(2 / np.pi) * (Z + 0.044715 * Z**3)))", linear: "Z",
  softmax: "np.exp(Z - Z.max(axis=1, keepdims=True)) / np.exp(Z - Z.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)",
});
const SLOPE = /** @type {Record<string, string>} */ ({
  sigmoid: "A * (1 - A)", tanh: "(1 - A**2)", relu: "(Z > 0)", leaky_relu: "np.where(Z > 0, 1, 0.01)", elu: "np.minimum(A + 1, 1)",
  softplus: "1 / (1 + np.exp(-Z))", silu: "(A + (1 - A) / (1 + np.exp(-Z)))", linear: "1",
  gelu: "(0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (Z + 0.044715 * Z**3))) + 0.5 * Z * (1 - np.tanh(np.sqrt(2 / np.pi) * (Z + 0.044715 * Z**3))**2)"
    + " * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * Z**2))",
});
const ERROR = /** @type {Record<string, string>} */ ({
  mse: "0.5 * ((A - Y)**2).sum(axis=1)", mae: "np.abs(A - Y).sum(axis=1)",
  huber: "np.where(np.abs(A - Y) <= 1, 0.5 * (A - Y)**2, np.abs(A - Y) - 0.5).sum(axis=1)",
  softmax: "-(Y * np.log(A)).sum(axis=1)", sigmoid: "-(Y * np.log(A) + (1 - Y) * np.log(1 - A)).sum(axis=1)",
});
const BEGINNING = /** @type {Record<string, string>} */ ({
  mse: "A - Y", mae: "np.sign(A - Y)", huber: "np.clip(A - Y, -1, 1)", softmax: "-Y / A", sigmoid: "-(Y / A - (1 - Y) / (1 - A))",
});

/**
 * @param {import("./walk.js").Walk} walk
 * @param {number} step up to which
 * @param {{address: string, samples: string, cost: string}} from `address` of the checkpoint, `samples` as a query
 * @returns {string}
 */
export function numpyCode(walk, step, { address, samples, cost }) {
  const all = samples.includes("reduce=") ? samples.replace("reduce=mean", "reduce=none") : `${samples}&reduce=none`;
  const lines = ["import io, urllib.request", "import numpy as np", "", `checkpoint = ${JSON.stringify(address)}`,
    "def fetch(path):", "    return np.load(io.BytesIO(urllib.request.urlopen(checkpoint + path).read()))", "",
    `w = fetch("/weights?format=npz")`, `theirs = fetch("/walk?${samples}&format=npz")`,
    `given = fetch("/walk?${all}&format=npz")  # of it only what goes in`,
    `A0, Y = given["A0"], given["Y"]`, "m = len(A0)"];
  if (walk.arrays.has("w")) lines.push(`weight = given["w"].reshape(-1, 1)`);
  lines.push("");
  const upto = walk.steps.slice(0, step || walk.steps.length);
  for (const each of upto) {
    const results = each.results.map(({ name }) => name);
    for (const name of results) lines.push(line(walk, each, name, cost));
  }
  const last = (step ? upto.slice(-1) : upto).flatMap((each) => each.results.map(({ name }) => name)).filter((name) => step || /^(C|dW|db|dA0)/.test(name));
  lines.push("", `for name, mine in (${last.map((name) => `("${name}", ${name})`).join(", ")},):`,
    "    there = theirs[name]",
    "    if np.shape(mine) != there.shape:", "        mine = np.mean(mine, axis=0)  # the mean over the samples",
    `    print(name, "largest difference", np.abs(mine - there).max())`, "");
  return lines.join("\n");
}

/** @param {import("./walk.js").Walk} walk @param {import("./walk.js").Step} step @param {string} name @param {string} cost */
function line(walk, step, name, cost) {
  const { symbol, layer } = parse(name);
  const own = walk.layers[layer - 1];
  const normalized = Boolean(own?.normalization);
  const L = walk.depth;
  const output = walk.layers[L - 1].activation;
  const kind = cost.includes("cross_entropy") ? output : cost;
  /** @param {string} code @param {number} at */
  const of = (code, at) => code.replace(/\b([ZA])\b/g, (_, letter) => (letter === "Z" ? (walk.layers[at - 1].normalization ? `N${at}` : `Z${at}`) : `A${at}`));
  const weighted = walk.arrays.has("w");
  const taken = `${name} = given["${name}"]  # as the service has it: ${walk.equation(name)}`;
  switch (symbol) {
    case "Z": return `${name} = A${layer - 1} @ w["W${layer}"].T + w["b${layer}"]`;
    case "N": return `${name} = w["gamma${layer}"] * Zhat${layer} + w["beta${layer}"]`;
    case "A": return `${name} = ${of(G[own.activation], layer)}`;
    case "E": return `E = ${of(ERROR[kind], L)}`;
    case "C": return weighted ? "C = (weight[:, 0] * E).mean()" : "C = E.mean()";
    case "dW": return `${name} = dZ${layer}.T @ A${layer - 1} / m`;
    case "db": return normalized ? taken : `${name} = dZ${layer}.sum(axis=0) / m`;
    case "dbeta": return `${name} = dN${layer}.sum(axis=0) / m`;
    case "dgamma": return `${name} = (dN${layer} * Zhat${layer}).sum(axis=0) / m`;
    case "dA": return layer === L ? `${name} = ${weighted ? `weight * (${of(BEGINNING[kind], L)})` : of(BEGINNING[kind], L)}` : `${name} = dZ${layer + 1} @ w["W${layer + 1}"]`;
    default: break;
  }
  if (symbol === "dN" || (symbol === "dZ" && !normalized)) {
    if (step.operands.includes("Y")) return `${name} = ${weighted ? `weight * (A${layer} - Y)` : `A${layer} - Y`}`;
    if (own.activation === "softmax") return `${name} = A${layer} * (dA${layer} - (dA${layer} * A${layer}).sum(axis=1, keepdims=True))`;
    return `${name} = dA${layer} * ${of(SLOPE[own.activation], layer)}`;
  }
  return taken;
}
