// @ts-check
/** How the magnitudes of many numbers are spread, epoch by epoch: as a map, as percentile bands, or one behind the other. */

import { isDark } from "./cells.js";
import { figure, pixels, ridge, ticks } from "./charts.js";
import { announce, el, number, percent, svg } from "./dom.js";

/**
 * One epoch: `bins[j]` numbers with 2^(from+j) ≤ |x| < 2^(from+j+1), in the first and the last also all beyond.
 * @typedef {{bins: number[], zeros: number, nan: number, infinite: number, negative: number, total: number}} Spread
 */

const TRIMMED = 5e-4;
const LEAST_BINS = 6;
const RIDGES = 24;
const LEVELS = [0.01, 0.25, 0.5, 0.75, 0.99];
const RAMP = { light: [[255, 255, 255], [122, 184, 222], [0, 94, 158], [6, 30, 66]], dark: [[23, 29, 38], [24, 84, 138], [92, 174, 236], [236, 246, 255]] };
const ODD = [204, 121, 167];
const DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const LEFT = 46;

/** 2ᵏ. @param {number} k */
export const power = (k) => `2${k < 0 ? "⁻" : ""}${[...String(Math.abs(k))].map((digit) => DIGITS[Number(digit)]).join("")}`;

/**
 * Both sides of zero together, for each epoch of one quantity.
 * @param {any} rows as the API gives them @param {number[]} edges
 * @returns {{from: number, spreads: (Spread | null)[]}} from: the exponent of the first bin, which has all below it too
 */
export function folded(rows, edges) {
  const side = (edges.length - 1) / 2;
  const spreads = rows.counts.map((/** @type {number[] | null} */ counts, /** @type {number} */ i) => {
    if (counts === null) return null;
    const bins = Array.from({ length: side }, (_, j) => counts[side + j] + counts[side - 1 - j]);
    const negative = counts.slice(0, side).reduce((sum, n) => sum + n, 0);
    const infinite = rows.positive_infinite[i] + rows.negative_infinite[i];
    const [zeros, nan] = [rows.zeros[i], rows.nan[i]];
    return { bins, zeros, nan, infinite, negative, total: bins.reduce((sum, n) => sum + n, 0) + zeros + nan + infinite };
  });
  return { from: Math.round(Math.log2(edges[side + 1])) - 1, spreads };
}

/**
 * The exponents that hold nearly all of it: the same for all layers, so that these can be compared.
 * @param {{from: number, spreads: (Spread | null)[]}[]} all
 * @returns {[number, number]} of the first bin and of the last
 */
export function range(all) {
  /** @type {number[]} */
  const sums = [];
  for (const { spreads } of all) for (const one of spreads) one?.bins.forEach((n, j) => { sums[j] = (sums[j] ?? 0) + n; });
  const total = sums.reduce((sum, n) => sum + n, 0);
  if (!total) return [-10, 0];
  let first = 0;
  for (let below = sums[0]; below <= TRIMMED * total; below += sums[first]) first += 1;
  const last = sums.reduce((found, n, j) => n ? j : found, 0);
  first = Math.max(0, Math.min(first, last - LEAST_BINS + 1));
  return [all[0].from + first, all[0].from + last];
}

/** Cut to a range; what lies below it goes to the first bin. @param {Spread} spread @param {number} from @param {[number, number]} window */
function cut({ bins }, from, [first, last]) {
  const found = bins.slice(first - from, last - from + 1);
  found[0] += bins.slice(0, first - from).reduce((sum, n) => sum + n, 0);
  return found;
}

/**
 * log₂ of percentiles of |x|, of the numbers that are neither 0 nor without end; within a bin they are taken as even.
 * @param {Spread} spread @param {number} from @returns {number[] | null} null where there is no such number
 */
export function percentiles({ bins }, from, levels = LEVELS) {
  const total = bins.reduce((sum, n) => sum + n, 0);
  if (!total) return null;
  return levels.map((level) => {
    let below = 0, j = 0;
    while (j < bins.length - 1 && below + bins[j] < level * total) { below += bins[j]; j += 1; }
    return from + j + Math.max(0, Math.min(1, (level * total - below) / (bins[j] || 1)));
  });
}

/** What one epoch is in words. @param {Spread | null} spread @param {number} from */
export function told(spread, from) {
  if (!spread) return "no kept epoch before it to compare with";
  const found = percentiles(spread, from);
  const odd = spread.nan + spread.infinite;
  return [found ? `median ${number(2 ** found[2], 2)}, 98 % from ${number(2 ** found[0], 2)} to ${number(2 ** found[4], 2)}` : "no finite number but 0",
    spread.zeros ? `exactly 0: ${percent(spread.zeros / spread.total, 2)}` : "none exactly 0", odd ? `${number(spread.nan)} NaN, ${number(spread.infinite)} ∞` : ""].filter(Boolean).join(" · ");
}

/** @param {number} share 0 to 1 @param {boolean} dark */
function shade(share, dark) {
  const stops = dark ? RAMP.dark : RAMP.light;
  const place = Math.sqrt(Math.max(0, Math.min(1, share))) * (stops.length - 1);
  const at = Math.min(stops.length - 2, Math.floor(place));
  return [...stops[at].map((value, i) => value + (stops[at + 1][i] - value) * (place - at)), 255];
}

/**
 * By epoch: `{label, caption, view: "map" | "bands", epochs, spreads, from, window, cursor, onCursor}`. Zeros and what is
 * not finite have lines of their own below. The cursor is moved by pointer and arrow keys.
 * @param {any} options @returns {any}
 */
export function overEpochs(options) {
  return figure("distribution", options, draw, (data) => ({
    head: ["epoch", ...LEVELS.map((level) => `${100 * level} %`), "exactly 0", "below 0", "NaN", "∞"],
    rows: data.epochs.map((/** @type {number} */ epoch, /** @type {number} */ i) => {
      const one = data.spreads[i];
      if (!one) return [number(epoch)];
      const found = percentiles(one, data.from);
      return [number(epoch), ...LEVELS.map((_, k) => found ? 2 ** found[k] : null), one.zeros, one.negative, one.nan, one.infinite];
    }),
    note: "Percentiles of |x|, of numbers that are finite and not 0.",
  }));
}

/** @param {any} body @param {any} data */
function draw(body, data) {
  const { epochs, spreads, from, window: [first, last] } = data;
  const width = Math.max(220, body.clientWidth), height = data.height ?? 236;
  const odd = spreads.some((/** @type {Spread | null} */ one) => one && one.nan + one.infinite > 0);
  const strips = odd ? 2 : 1, box = { left: LEFT, right: width - 8, top: 8, bottom: height - 22 - 15 * strips };
  const [low, high] = [epochs[0] ?? 0, epochs[epochs.length - 1] ?? 1];
  const span = Math.max(1, high - low), pad = span / Math.max(1, epochs.length - 1) / 2;
  const [start, end] = data.view === "map" ? [low - pad, high + pad] : [low, low + span];
  const x = (/** @type {number} */ epoch) => box.left + ((epoch - start) / (end - start)) * (box.right - box.left);
  const y = (/** @type {number} */ exponent) => box.bottom - ((exponent - first) / (last + 1 - first)) * (box.bottom - box.top);
  const nearest = (/** @type {number} */ px) => {
    const at = start + ((px - box.left) / (box.right - box.left)) * (end - start);
    return epochs.reduce((/** @type {number} */ best, /** @type {number} */ epoch, /** @type {number} */ i) => Math.abs(epoch - at) < Math.abs(epochs[best] - at) ? i : best, 0);
  };
  const focused = body.contains(document.activeElement);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, tabindex: "0", role: "slider", "aria-label": data.label, "aria-valuemin": low, "aria-valuemax": high });
  const every = Math.ceil((last + 1 - first) / 6);
  for (let k = Math.ceil(first / every) * every; k <= last + 1; k += every) {
    root.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(k), y2: y(k) }), ...(y(k) > box.bottom - 8 ? [] : [svg("text", { x: box.left - 6, y: y(k) + 4, "text-anchor": "end" }, power(k))]));
  }
  const columns = Math.max(1, Math.round(box.right - box.left)), dark = isDark();
  /** @type {number[]} */
  const of = Array.from({ length: columns }, (_, px) => nearest(box.left + px + 0.5));
  if (data.view === "map") root.append(...map(data, box, columns, of, dark));
  else root.append(...bands(data, x, y));
  const strip = (/** @type {number} */ line, /** @type {string} */ name, /** @type {(one: Spread) => number[]} */ colour) => {
    const top = box.bottom + 4 + 15 * line;
    const picture = pixels(columns, 1, (px) => { const one = spreads[of[px]]; return one ? colour(one) : [0, 0, 0, 0]; });
    root.append(svg("image", { href: picture.toDataURL(), x: box.left, y: top, width: columns, height: 10, preserveAspectRatio: "none" }),
      svg("rect", { class: "strip", x: box.left, y: top, width: columns, height: 10 }), svg("text", { x: box.left - 6, y: top + 9, "text-anchor": "end" }, name));
  };
  strip(0, "= 0", (one) => shade(one.zeros / (one.total || 1), dark));
  if (odd) strip(1, "NaN ∞", (one) => one.nan + one.infinite ? [...ODD, 255] : [0, 0, 0, 0]);
  for (const tick of ticks(low, high, width / 90, true)) root.append(svg("text", { x: x(tick), y: height - 6, "text-anchor": x(tick) > box.right - 14 ? "end" : "middle" }, number(tick)));
  root.append(svg("rect", { class: "frame", x: box.left, y: box.top, width: columns, height: box.bottom - box.top }));
  const line = svg("line", { class: "cursor", y1: box.top, y2: box.bottom + 15 * strips });
  const words = el("p", { class: "hint readout" });
  root.append(line);
  let index = -1;
  const point = (/** @type {number} */ to, tell = false) => {
    if (to < 0) return;
    index = to;
    line.setAttribute("x1", x(epochs[to]));
    line.setAttribute("x2", x(epochs[to]));
    words.textContent = `epoch ${epochs[to]}: ${told(spreads[to], from)}`;
    root.setAttribute("aria-valuenow", epochs[to]);
    root.setAttribute("aria-valuetext", words.textContent);
    if (tell) data.onCursor?.(epochs[to]);
  };
  const rest = () => point(epochs.length ? nearest(x(data.cursor ?? high)) : -1);
  const at = (/** @type {PointerEvent} */ event) => nearest(event.clientX - root.getBoundingClientRect().left);
  root.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => point(at(event), event.buttons === 1));
  root.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => point(at(event), true));
  root.addEventListener("pointerleave", rest);
  root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const by = /** @type {Record<string, number>} */ ({ ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageUp: 10, PageDown: -10, Home: -1e9, End: 1e9 })[event.key];
    if (!by) return;
    event.preventDefault();
    point(Math.max(0, Math.min(epochs.length - 1, index + by)), true);
    announce(words.textContent ?? "");
  });
  body.replaceChildren(root, words);
  rest();
  if (focused) root.focus({ preventScroll: true });
}

/** @param {any} data @param {any} box @param {number} columns @param {number[]} of @param {boolean} dark */
function map({ spreads, from, window }, box, columns, of, dark) {
  const rows = window[1] - window[0] + 1;
  const shares = spreads.map((/** @type {Spread | null} */ one) => one && cut(one, from, window).map((n) => n / (one.total || 1)));
  const most = Math.max(1e-9, ...shares.flatMap((/** @type {number[] | null} */ one) => one ?? []));
  const picture = pixels(columns, rows, (i) => {
    const one = shares[of[i % columns]];
    const share = one ? one[rows - 1 - Math.floor(i / columns)] : 0;
    return share ? shade(0.02 + 0.98 * share / most, dark) : [0, 0, 0, 0];
  });
  return [svg("image", { class: "crisp", href: picture.toDataURL(), x: box.left, y: box.top, width: columns, height: box.bottom - box.top, preserveAspectRatio: "none" })];
}

/** @param {any} data @param {(epoch: number) => number} x @param {(exponent: number) => number} y */
function bands({ epochs, spreads, from, window }, x, y) {
  const inside = (/** @type {number} */ value) => Math.max(window[0], Math.min(window[1] + 1, value));
  const found = epochs.map((/** @type {number} */ epoch, /** @type {number} */ i) => ({ epoch, at: spreads[i] && percentiles(spreads[i], from) })).filter((/** @type {any} */ one) => one.at);
  const path = (/** @type {number} */ k, rows = found) => rows.map((/** @type {any} */ { epoch, at }) => `${x(epoch).toFixed(1)} ${y(inside(at[k])).toFixed(1)}`).join("L");
  if (!found.length) return [];
  const area = (/** @type {number} */ low, /** @type {number} */ high, /** @type {string} */ name) => svg("path", { class: name, d: `M${path(high)}L${path(low, [...found].reverse())}Z` });
  return [area(0, 4, "band-wide"), area(1, 3, "band-narrow"), svg("path", { class: "band-middle", d: `M${path(2)}` })];
}

/** The epochs one behind the other, of many some evenly spread. @param {any} data as of `overEpochs` @returns {any} */
export function behind(data) {
  const there = data.epochs.map((/** @type {number} */ epoch, /** @type {number} */ i) => ({ epoch, one: data.spreads[i] })).filter((/** @type {any} */ row) => row.one);
  const some = there.filter((/** @type {any} */ _, /** @type {number} */ i) => there.length <= RIDGES || i === there.length - 1 || Math.floor(i * (RIDGES - 1) / there.length) !== Math.floor((i - 1) * (RIDGES - 1) / there.length));
  const edges = Array.from({ length: data.window[1] - data.window[0] + 2 }, (_, j) => 2 ** (data.window[0] + j));
  const chosen = some.reduce((/** @type {number} */ best, /** @type {any} */ row, /** @type {number} */ i) => Math.abs(row.epoch - data.cursor) < Math.abs(some[best].epoch - data.cursor) ? i : best, 0);
  const rows = some.map((/** @type {any} */ { epoch, one }) => ({ name: String(epoch), counts: cut(one, data.from, data.window).map((n) => n / (one.total || 1)) }));
  const shown = some[chosen];
  const node = ridge({ label: data.label, caption: data.caption, edges, log: true, rows, selected: chosen, xLabel: "|x|, a curve for each epoch", height: 290 });
  return el("div", {}, node, el("p", { class: "hint readout" }, shown ? `epoch ${shown.epoch}: ${told(shown.one, data.from)}` : "No epoch to be shown."));
}
