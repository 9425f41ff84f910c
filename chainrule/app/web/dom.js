// @ts-check
/** Elements, numbers, equations, and what is said to those who listen to the page. */

const SVG = "http://www.w3.org/2000/svg";
const MINUS = "\u2212";
const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/**
 * Make an element. `class`, `data-*`, `aria-*` and other attributes by name; `onclick` and the like take functions;
 * `style` takes an object; null, undefined and false leave an attribute out.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...any} children nodes, text, arrays of them; null and false are left out
 * @returns {any}
 */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for a part of a drawing. @param {string} tag @param {Record<string, any>} [props] @param {...any} children
 * @returns {any} */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** @param {any} node @param {Record<string, any>} props @param {any[]} children */
function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) node.style.setProperty(key, String(text));
    else if (["value", "checked", "selected", "disabled", "hidden", "indeterminate"].includes(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/**
 * A number for reading: so many significant digits, a true minus sign; a dash where there is none, which is not 0.
 * @param {number | null | undefined} x
 */
export function number(x, digits = 4) {
  if (x === null || x === undefined) return "–";
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : `${MINUS}∞`;
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (Number.isInteger(x) && size < 1e6) return size.toLocaleString("en").replace(/^/, x < 0 ? MINUS : "");
  let text = size >= 1e-3 && size < 10 ** Math.max(digits, 5) ? String(Number(size.toPrecision(digits))) : "";
  if (!text) {
    const [mantissa, exponent] = size.toExponential(digits - 1).split("e");
    const power = [...String(Math.abs(Number(exponent)))].map((digit) => SUPERSCRIPTS[Number(digit)]).join("");
    text = `${Number(mantissa) === 1 ? "" : `${Number(mantissa)}·`}10${Number(exponent) < 0 ? "⁻" : ""}${power}`;
  }
  return x < 0 ? MINUS + text : text;
}

/** A share as percent. @param {number | null | undefined} x */
export function percent(x, digits = 3) {
  return x === null || x === undefined ? "–" : `${number(x * 100, digits)} %`;
}

/** @param {number | null | undefined} x in bytes */
export function bytes(x) {
  if (x === null || x === undefined) return "–";
  const power = x < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(x) / 3));
  return `${number(x / 1000 ** power, 3)} ${["bytes", "kB", "MB", "GB", "TB"][power]}`;
}

/** @param {number | null | undefined} s in seconds */
export function duration(s) {
  if (s === null || s === undefined) return "–";
  if (s < 1) return `${number(s * 1000, 2)} ms`;
  if (s < 120) return `${number(s, 3)} s`;
  return s < 7200 ? `${Math.round(s / 60)} min` : `${number(s / 3600, 3)} h`;
}

/** A moment as seen from now, with the exact one in its title. @param {string | null} at */
export function ago(at) {
  if (!at) return el("span", {}, "–");
  const date = new Date(at);
  const s = (Date.now() - date.getTime()) / 1000;
  const text = s < 10 ? "just now" : s < 60 ? `${Math.round(s)} s ago` : s < 3600 ? `${Math.round(s / 60)} min ago`
    : s < 86400 ? `${Math.round(s / 3600)} h ago` : date.toLocaleDateString("en", { dateStyle: "medium" });
  return el("time", { datetime: at, title: date.toLocaleString("en") }, text);
}

/** A run's status: a word and a sign, never colour alone. @param {string} status */
export function badge(status) {
  const signs = { queued: "◌", running: "●", paused: "❙❙", succeeded: "✓", failed: "✕", cancelled: "–" };
  const sign = /** @type {Record<string, string>} */ (signs)[status] ?? "?";
  return el("span", { class: `badge ${status}` }, el("span", { class: "sign", "aria-hidden": "true" }, sign), status);
}

/** The shape of a run's network: 64–32–10, or 64–20×6–10. @param {any} config @param {number | null} [inputs] */
export function shape(config, inputs = config.network.inputs) {
  /** @type {[any, number][]} */
  const groups = [];
  for (const units of [inputs ?? "·", ...config.network.layers.map((/** @type {any} */ layer) => layer.units)]) {
    const last = groups[groups.length - 1];
    if (last?.[0] === units) last[1] += 1; else groups.push([units, 1]);
  }
  return groups.flatMap(([units, count]) => count > 2 ? [`${units}×${count}`] : Array(count).fill(units)).join("–");
}

/**
 * An equation: letters upright or italic as they are read, indices raised, the whole of it readable aloud.
 * `eq("dW[2] = (1/m) · dZ[2]ᵀ · A[1]")`
 * @param {string} text
 */
export function eq(text) {
  const all = text.split(/(\[[^\]]*\]|ᵀ|[A-Za-zẐα-ωΑ-Ω]+\d*)/u).filter(Boolean);
  const parts = all.map((part, i) => {
    if (part === "ᵀ") return el("sup", {}, "T");
    // The first bracket names a layer, the second one of its numbers.
    if (part.startsWith("[")) return all[i - 1]?.startsWith("[") ? el("sub", {}, part.slice(1, -1)) : el("sup", {}, part);
    const name = /^([dgαβγδεηθλμνρστ]?[A-Za-zẐα-ω]|[A-Za-z]{1,2})(\d*)$/u.exec(part);
    if (!name || ["of", "in", "is", "to"].includes(part)) return part;
    return name[2] ? [el("var", {}, name[1]), el("sup", {}, `[${name[2]}]`)] : el("var", {}, part);
  });
  return el("span", { class: "eq", role: "math", "aria-label": text }, parts);
}

/** Say something to those who listen to the page; one region, so nobody is interrupted. @param {string} text */
export function announce(text) {
  const live = document.getElementById("live");
  if (live && live.textContent !== text) live.textContent = text;
}

/** A panel with a heading. @param {string} title @param {...any} children */
export function panel(title, ...children) {
  return el("section", { class: "panel" }, el("h2", {}, title), ...children);
}

/** What went wrong, and what to do. @param {any} error */
export function problem(error) {
  const places = (error.errors ?? []).map((/** @type {any} */ e) => el("li", {}, el("code", {}, e.pointer || "/"), ` ${e.detail}`));
  return el("div", { class: "problem", role: "alert" }, el("strong", {}, error.title ?? "Something went wrong"),
    el("p", {}, error.detail ?? error.message ?? String(error)), places.length ? el("ul", {}, places) : null);
}
