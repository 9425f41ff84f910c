// @ts-check
/**
 * Five pictures: lineChart, bars, scatter, matrix, ridge. Each returns a figure with `update(data)`, which draws at
 * most ten times a second; each is named for those who do not see it, has a table behind it, and a cursor for arrow
 * keys where one of many values can be looked at. Numbers that are not finite are marked, and break nothing.
 */

import { announce, el, number, svg } from "./dom.js";

/** Okabe and Ito's colours, which people of any colour vision tell apart, as red, green, blue. */
export const SERIES = [[0, 114, 178], [213, 94, 0], [0, 158, 115], [204, 121, 167], [230, 159, 0], [86, 180, 233], [148, 128, 30], [110, 110, 110]];
const DASHES = ["", "6 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2", "1 2", "8 2 2 2"];
const REDRAW_MS = 100;
/** So many pixels make a drag of what else is a click. */
const DRAGGED = 6;
const SHAPES = ["M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0Z", "M-3.200-3.200h6.400v6.400h-6.400Z", "M0-4.200 4 3h-8Z",
  "M0-4.600 4.600 0 0 4.600-4.600 0Z", "M-1.300-4h2.600v2.700h2.700v2.600h-2.700v2.700h-2.600v-2.700h-2.700v-2.600h2.700Z",
  "M0 4.200-4-3h8Z", "M-4-1.600 0-4.400 4-1.600 2.400 3.600h-4.800Z", "M-4.200-1.500h8.400v3h-8.400Z"];
let last = 0;

/**
 * @param {string} kind
 * @param {{label: string, caption?: any, [key: string]: any}} options
 * @param {(body: any, data: any) => void} draw
 * @param {(data: any) => {head: string[], rows: any[][], note?: string}} table
 * @returns {any}
 */
export function figure(kind, options, draw, table) {
  const id = `chart-${last += 1}`;
  const body = el("div", { class: "chart-body" });
  const rows = el("div", { class: "chart-table", tabindex: "0", role: "region", "aria-label": `${options.label}: table`, hidden: true });
  const toggle = el("button", { type: "button", class: "quiet small", "aria-pressed": "false", "aria-label": `${options.label}: table`, onclick: () => {
    rows.hidden = !rows.hidden;
    body.hidden = !rows.hidden;
    toggle.setAttribute("aria-pressed", String(!rows.hidden));
    render();
  } }, "Table");
  const node = el("figure", { class: `chart ${kind}`, id }, el("figcaption", {}, el("span", {}, options.caption ?? options.label), toggle), body, rows);
  let data = options, drawn = 0, waiting = false;
  function render() {
    drawn = performance.now();
    if (rows.hidden) { draw(body, data); return; }
    const { head, rows: lines, note } = table(data);
    rows.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, lines.slice(0, 500).map((line) => el("tr", {}, line.map((cell, i) => el(i ? "td" : "th", i ? {} : { scope: "row" }, typeof cell === "number" ? number(cell) : cell ?? "–")))))),
    ...(note || lines.length > 500 ? [el("p", { class: "hint" }, note ?? `The first 500 of ${number(lines.length)}.`)] : []));
  }
  function soon() {
    if (waiting) return;
    waiting = true;
    setTimeout(() => requestAnimationFrame(() => { waiting = false; render(); }), Math.max(0, REDRAW_MS - (performance.now() - drawn)));
  }
  node.update = (/** @type {any} */ next) => {
    data = { ...data, ...next };
    if (performance.now() - drawn > REDRAW_MS && body.clientWidth) render();
    else soon();
  };
  let width = 0;
  new ResizeObserver(() => {
    if (body.clientWidth && body.clientWidth !== width) { width = body.clientWidth; render(); }
  }).observe(body);
  return node;
}

/** Finite ones only. @param {any[]} values */
const finite = (values) => values.filter((value) => Number.isFinite(value));

/** @param {any[]} values @returns {[number, number]} */
function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  return low > high ? [0, 1] : [low, high];
}

/** About so many round numbers between two. @param {number} low @param {number} high @param {number} count */
export function ticks(low, high, count, whole = false) {
  const rough = (high - low) / Math.max(1, count) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? rough;
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) found.push(Number((i * step).toPrecision(12)));
  return found;
}

/** @param {number} low @param {number} high both above 0 */
function decades(low, high) {
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const every = Math.ceil((to - from) / 6);
  const steps = to - from <= 1 ? [1, 2, 3, 5] : to - from <= 3 ? [1, 3] : [1];
  const found = [];
  for (let e = from; e <= to; e += every) for (const n of steps) found.push(Number(`${n}e${e}`));
  const inside = found.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  return inside.length > 1 ? inside : ticks(low, high, 4);
}

/** From values to pixels. @param {[number, number]} domain @param {[number, number]} range @param {boolean} log */
function scale([low, high], [from, to], log) {
  const f = log ? Math.log10 : (/** @type {number} */ x) => x;
  const span = f(high) - f(low) || 1;
  return (/** @type {number} */ value) => from + ((f(value) - f(low)) / span) * (to - from);
}

/** @param {number} i */
export const colour = (i) => `var(--series-${i % SERIES.length})`;

/** The shape of a group's points; with the ninth group colours begin anew, with other shapes. @param {number} i */
const mark = (i) => SHAPES[(i + Math.floor(i / SERIES.length)) % SHAPES.length];

/** @param {any[]} series */
const legend = (series) => el("div", { class: "legend" }, series.map((one, i) => el("span", {}, svg("svg", { width: 26, height: 10, "aria-hidden": "true" },
  svg("line", { x1: 1, x2: 25, y1: 5, y2: 5, "stroke-dasharray": DASHES[i % DASHES.length], style: { stroke: colour(i) } })), `${one.name} `, el("b", { class: "value" }))));

/** The axes of a picture. @param {any} root @param {any} box @param {any} x @param {any} y @param {number[]} xs @param {number[]} ys @param {any} data */
function axes(root, box, x, y, xs, ys, data) {
  for (const tick of ys) root.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }), svg("text", { x: box.left - 6, y: y(tick) + 4, "text-anchor": "end" }, number(tick, 2)));
  for (const tick of xs) root.append(svg("text", { x: x(tick), y: box.bottom + 15, "text-anchor": x(tick) > box.right - 14 ? "end" : "middle" }, number(tick)));
  root.append(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  if (data.xLabel) root.append(svg("text", { class: "axis-label", x: (box.left + box.right) / 2, y: box.bottom + 29, "text-anchor": "middle" }, data.xLabel));
  if (data.yLabel) root.append(svg("text", { class: "axis-label", x: box.left, y: 10 }, data.yLabel));
}

/**
 * Curves over a common x: `{label, x, series: [{name, values}], log, domain?: [x0, x1], range?: [y0, y1], guides?:
 * [{value, name}], band?: [low, high], cursor?: x, onCursor?: (x) => void, zoom?: [x0, x1] | null, onZoom?: (range) =>
 * void, xLabel, yLabel, height}`. The cursor is moved by pointer and arrow keys (Home, End; Page for ten) and tells its
 * values in the legend. A range that is dragged over is shown alone, as with + and −; Escape and a button lead back.
 * @param {any} options @returns {any}
 */
export function lineChart(options) {
  /** @type {any} */
  let state = null;
  /** Where a drag began, as x, and in pixels. @type {{from: number, px: number} | null} */
  let drag = null;
  /** @param {number} index @param {any} data */
  const describe = (index, data) => `${data.xLabel ?? "x"} ${number(data.x[index])}: ${data.series.map((/** @type {any} */ s) => `${s.name} ${number(s.values[index])}`).join(", ")}`;
  /** @param {number | null} index @param {boolean} [tell] */
  function point(index, tell) {
    if (!state) return;
    const { data, x, line, values, root, seen } = state;
    const there = index !== null && index >= 0 && index < data.x.length;
    line.setAttribute("visibility", there && index >= seen[0] && index <= seen[1] ? "visible" : "hidden");
    values.forEach((/** @type {any} */ node, /** @type {number} */ i) => { node.textContent = there ? number(data.series[i].values[index]) : ""; });
    if (!there) return;
    line.setAttribute("x1", x(data.x[index]));
    line.setAttribute("x2", x(data.x[index]));
    root.setAttribute("aria-valuenow", data.x[index]);
    root.setAttribute("aria-valuetext", describe(index, data));
    state.index = index;
    if (tell) data.onCursor?.(data.x[index]);
  }
  /** The index nearest to an x. @param {any[]} all @param {number} value */
  function nearest(all, value) {
    let [low, high] = [0, all.length - 1];
    while (low < high) { const middle = (low + high) >> 1; if (all[middle] < value) low = middle + 1; else high = middle; }
    return low > 0 && value - all[low - 1] < all[low] - value ? low - 1 : low;
  }
  const resting = (/** @type {any} */ data) => data.cursor === undefined || data.cursor === null ? data.x.length - 1 : nearest(data.x, data.cursor);
  /** The first and the last point of a range. @param {any} data @returns {[number, number]} */
  function within({ x, zoom }) {
    if (!zoom) return [0, x.length - 1];
    let [first, end] = [nearest(x, zoom[0]), nearest(x, zoom[1])];
    if (x[first] < zoom[0]) first += 1;
    if (x[end] > zoom[1]) end -= 1;
    return first < end ? [first, end] : [0, x.length - 1];
  }
  /** Show what lies between two points alone; all where these are the first and the last. @param {any} data @param {number} first @param {number} end */
  function zoom(data, first, end) {
    if (end - first < 1) return;
    const range = first <= 0 && end >= data.x.length - 1 ? null : [data.x[Math.max(0, first)], data.x[Math.min(data.x.length - 1, end)]];
    if (data.onZoom) data.onZoom(range); else node.update({ zoom: range });
    announce(range ? `${data.label}: ${data.xLabel ?? "x"} ${number(range[0])} to ${number(range[1])}` : `${data.label}: the whole range`);
  }
  const back = el("button", { type: "button", class: "quiet small whole-range", hidden: true, "aria-label": `${options.label}: whole range`, onclick: () => {
    zoom(state.data, 0, state.data.x.length - 1);
    node.querySelector("svg[tabindex]")?.focus({ preventScroll: true });
  } }, "⤢ Whole range");
  const node = figure("line-chart", options, (body, data) => {
    const width = Math.max(220, body.clientWidth), height = data.height ?? 200;
    const box = { left: 52, right: width - 14, top: 16, bottom: height - 34 };
    const seen = within(data), all = seen[0] === 0 && seen[1] === data.x.length - 1;
    // A curve goes on beyond the edges of what is seen.
    const cut = (/** @type {any[]} */ list) => all ? list : list.slice(Math.max(0, seen[0] - 1), seen[1] + 2);
    const values = data.series.flatMap((/** @type {any} */ s) => all ? s.values : s.values.slice(seen[0], seen[1] + 1)).concat(data.guides?.map((/** @type {any} */ g) => g.value) ?? []);
    const log = Boolean(data.log) && finite(values).some((value) => value > 0);
    let [low, high] = data.range ?? extent(log ? values.filter((/** @type {any} */ v) => v > 0) : values);
    if (log) [low, high] = low === high ? [low / 2, high * 2] : [low / 1.1, high * 1.1];
    else if (!data.range) [low, high] = [low - (high - low || 1) * 0.04, high + (high - low || 1) * 0.06];
    const domain = all ? data.domain ?? extent(data.x) : [data.x[seen[0]], data.x[seen[1]]];
    const x = scale(domain[0] === domain[1] ? [domain[0], domain[0] + 1] : domain, [box.left, box.right], false);
    const y = scale([low, high], [box.bottom, box.top], log);
    const focused = body.contains(document.activeElement);
    const moved = data.x.length ? { tabindex: "0", role: "slider", "aria-valuemin": domain[0], "aria-valuemax": domain[1], "aria-keyshortcuts": "+ - Escape" } : { role: "img" };
    const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-label": data.label, ...moved });
    const whole = all || data.x.every(Number.isInteger);
    axes(root, box, x, y, ticks(domain[0], domain[1], width / 90, whole), log ? decades(low, high) : ticks(low, high, 4), data);
    if (data.band) root.append(svg("rect", { class: "band", x: box.left, width: box.right - box.left, y: y(Math.min(high, data.band[1])), height: Math.max(0, y(Math.max(low, data.band[0])) - y(Math.min(high, data.band[1]))) }));
    for (const guide of data.guides ?? []) root.append(svg("line", { class: "guide", x1: box.left, x2: box.right, y1: y(guide.value), y2: y(guide.value) }), svg("text", { x: box.right - 2, y: y(guide.value) - 4, "text-anchor": "end" }, guide.name));
    const frame = `${node?.id ?? "chart"}-frame`;
    const curves = svg("g", all ? {} : { "clip-path": `url(#${frame})` }, data.series.map((/** @type {any} */ one, /** @type {number} */ i) => trace(cut(one.values), cut(data.x), x, y, box, log, i)));
    const brush = svg("rect", { class: "brush", y: box.top, height: box.bottom - box.top, visibility: "hidden" });
    const line = svg("line", { class: "cursor", y1: box.top, y2: box.bottom });
    root.append(...(all ? [] : [svg("clipPath", { id: frame }, svg("rect", { x: box.left, y: box.top - 8, width: box.right - box.left, height: box.bottom - box.top + 12 }))]), curves, brush, line);
    const names = legend(data.series);
    back.hidden = all;
    body.replaceChildren(root, names);
    state = { data, x, line, root, seen, values: [...names.querySelectorAll(".value")], index: 0 };
    point(data.x.length ? resting(data) : null);
    if (focused) root.focus({ preventScroll: true });
    const at = (/** @type {PointerEvent} */ event) => {
      const share = (event.clientX - root.getBoundingClientRect().left - box.left) / (box.right - box.left);
      return Math.max(seen[0], Math.min(seen[1], nearest(data.x, domain[0] + share * (domain[1] - domain[0]))));
    };
    const dragged = (/** @type {PointerEvent} */ event) => drag !== null && Math.abs(event.clientX - drag.px) >= DRAGGED;
    root.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
      if (!data.x.length) return;
      point(at(event), false);
      if (!event.buttons) drag = null;
      brush.setAttribute("visibility", dragged(event) ? "visible" : "hidden");
      if (!drag) return;
      const [from, to] = [x(drag.from), x(data.x[at(event)])];
      brush.setAttribute("x", Math.min(from, to));
      brush.setAttribute("width", Math.abs(to - from));
    });
    root.addEventListener("pointerleave", () => data.x.length && point(resting(data)));
    root.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
      if (!data.x.length || event.button) return;
      drag = { from: data.x[at(event)], px: event.clientX };
      root.setPointerCapture(event.pointerId);
    });
    root.addEventListener("pointercancel", () => { drag = null; brush.setAttribute("visibility", "hidden"); });
    root.addEventListener("pointerup", (/** @type {PointerEvent} */ event) => {
      if (!drag) return;
      const [over, from] = [dragged(event), nearest(data.x, drag.from)];
      drag = null;
      brush.setAttribute("visibility", "hidden");
      if (over) zoom(data, Math.min(from, at(event)), Math.max(from, at(event))); else point(at(event), true);
    });
    root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      const moves = /** @type {Record<string, number>} */ ({ ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity });
      const by = /** @type {Record<string, number>} */ ({ "+": 0.5, "=": 0.5, "-": 2, Escape: Infinity })[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey || !data.x.length || !(event.key in moves || (by && (by < 1 || !all)))) return;
      event.preventDefault();
      const inside = Math.max(seen[0], Math.min(seen[1], state.index));
      if (!by) return point(Math.max(seen[0], Math.min(seen[1], state.index + moves[event.key])), true);
      const wide = Math.max(2, Math.min(data.x.length - 1, Math.round((seen[1] - seen[0]) * by)));
      const first = Math.max(0, Math.min(data.x.length - 1 - wide, inside - Math.round(wide * (inside - seen[0]) / Math.max(1, seen[1] - seen[0]))));
      zoom(data, first, first + wide);
    });
  }, (data) => ({ head: [data.xLabel ?? "x", ...data.series.map((/** @type {any} */ s) => s.name)], rows: data.x.map((/** @type {any} */ at, /** @type {number} */ i) => [at, ...data.series.map((/** @type {any} */ s) => s.values[i])]) }));
  node.querySelector("figcaption").lastElementChild.before(back);
  return node;
}

/** One curve, with a gap and a mark where a value is not finite; of many points in one column the extremes. */
function trace(/** @type {any[]} */ values, /** @type {any[]} */ xs, /** @type {any} */ x, /** @type {any} */ y, /** @type {any} */ box, /** @type {boolean} */ log, /** @type {number} */ i) {
  let path = "", open = false, column = NaN, low = 0, high = 0;
  const marks = [];
  const dense = xs.length > 2 * (box.right - box.left);
  for (let n = 0; n < xs.length; n += 1) {
    const value = values[n], px = x(xs[n]);
    if (!Number.isFinite(value) || (log && value <= 0)) {
      open = false;
      if (value !== null && value !== undefined && !Number.isFinite(value)) marks.push(svg("text", { class: "nonfinite", x: px, y: box.top + 8, "text-anchor": "middle" }, "✕"));
      continue;
    }
    const py = Math.max(box.top - 6, Math.min(box.bottom + 2, y(value)));
    if (dense && open && Math.round(px) === column) {
      if (py < low || py > high) path += `V${py.toFixed(1)}`;
      [low, high] = [Math.min(low, py), Math.max(high, py)];
      continue;
    }
    path += `${open ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`;
    [open, column, low, high] = [true, Math.round(px), py, py];
  }
  const style = { stroke: colour(i) };
  const alone = path.match(/M[\d. -]+(?=M|$)/g) ?? [];
  return [svg("path", { class: "curve", d: path, "stroke-dasharray": DASHES[i % DASHES.length], style }),
    ...(alone.length ? [svg("path", { class: "lone", d: alone.map((point) => `${point}h.01`).join(""), style })] : []), ...marks];
}

/**
 * Bars: `{label, items: [{name, value, note?, warn?}], log, unit}`; with `log` lengths are by decades of what is shown.
 * @param {any} options @returns {any}
 */
export function bars(options) {
  return figure("bars", options, (body, data) => {
    const sizes = data.items.map((/** @type {any} */ item) => Math.abs(item.value)).filter((/** @type {number} */ v) => Number.isFinite(v) && v > 0);
    const [low, high] = sizes.length ? extent(sizes) : [1, 1];
    const floor = data.log ? Math.min(low / 1.5, high / 10) : 0;
    const share = (/** @type {number} */ value) => data.log ? Math.max(0, Math.log(Math.abs(value) / floor) / Math.log(high / floor)) : Math.abs(value) / high;
    body.replaceChildren(el("ul", {}, data.items.map((/** @type {any} */ item) => {
      const bar = Number.isFinite(item.value) && item.value !== 0 ? share(item.value) : 0;
      return el("li", { class: item.warn ? "warn" : null }, el("span", { class: "name" }, item.name),
        el("span", { class: "track" }, el("span", { class: item.value < 0 ? "bar below" : "bar", style: { width: `${Math.max(0.5, bar * 100)}%`, visibility: bar ? "visible" : "hidden" } })),
        el("span", { class: "value" }, number(item.value, 3), data.unit ? ` ${data.unit}` : "", item.note ? ` ${item.note}` : "", item.warn ? " ⚠" : ""));
    })));
  }, (data) => ({ head: ["", data.unit ?? "value"], rows: data.items.map((/** @type {any} */ item) => [item.name, item.value]) }));
}

/**
 * Points: `{label, points: [[x, y, group]], groups: [name], surface?: {x: [x0, x1], y: [y0, y1], columns, rows, group:
 * number[], share: number[]}, onPick?: (index) => void, xLabel, yLabel, height, square}`. A surface lies below them:
 * in each cell, rows from the top, the colour of a group, as strong as its share. Arrow keys go from point to point, to
 * the nearest that way; Enter picks.
 * @param {any} options @returns {any}
 */
export function scatter(options) {
  let chosen = -1;
  return figure("scatter", options, (body, data) => {
    const width = Math.max(160, data.square ? Math.min(body.clientWidth, data.height ?? 320) : body.clientWidth), height = data.height ?? 320;
    const box = { left: 40, right: width - 8, top: 14, bottom: height - 32 };
    const pad = ([low, high] = /** @type {[number, number]} */ ([0, 1])) => /** @type {[number, number]} */ ([low - (high - low || 1) * 0.06, high + (high - low || 1) * 0.06]);
    const dx = data.surface?.x ?? pad(extent(data.points.map((/** @type {any} */ p) => p[0])));
    const dy = data.surface?.y ?? pad(extent(data.points.map((/** @type {any} */ p) => p[1])));
    const x = scale(dx, [box.left, box.right], false), y = scale(dy, [box.bottom, box.top], false);
    const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: data.points.length ? "0" : null, "aria-label": `${data.label}: ${number(data.points.length)} points${data.groups ? ` of ${data.groups.join(", ")}` : ""}` });
    const focused = body.contains(document.activeElement);
    const ring = svg("circle", { class: "ring", r: 8, visibility: "hidden" });
    /** @type {[number, number, number][]} */
    const places = [];
    if (data.surface) {
      const { columns, rows, group, share } = data.surface;
      const picture = pixels(columns, rows, (i) => [.../** @type {number[]} */ (SERIES[group[i] % SERIES.length]), Math.round(40 + 150 * Math.max(0, Math.min(1, share[i])))]);
      root.append(svg("image", { href: picture.toDataURL(), x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top, preserveAspectRatio: "none" }));
    }
    axes(root, box, x, y, ticks(dx[0], dx[1], width / 80), ticks(dy[0], dy[1], height / 70), data);
    data.points.forEach((/** @type {any} */ [px, py, group = 0], /** @type {number} */ i) => {
      if (!Number.isFinite(px) || !Number.isFinite(py)) return;
      places.push([x(px), y(py), i]);
      root.append(svg("path", { class: "point", d: mark(group), transform: `translate(${x(px).toFixed(1)} ${y(py).toFixed(1)})`, style: { fill: colour(group) }, onclick: data.onPick ? () => data.onPick(i) : null }));
    });
    const names = (data.groups ?? []).map((/** @type {string} */ name, /** @type {number} */ i) => el("span", {}, svg("svg", { width: 12, height: 12, "aria-hidden": "true" }, svg("path", { class: "point", d: mark(i), transform: "translate(6 6)", style: { fill: colour(i) } })), name));
    const readout = el("p", { class: "hint readout", hidden: true });
    const show = (/** @type {boolean} */ tell) => {
      const place = places.find(([, , i]) => i === chosen);
      ring.setAttribute("visibility", place ? "visible" : "hidden");
      readout.hidden = !place;
      if (!place) return;
      [["cx", place[0]], ["cy", place[1]]].forEach(([name, value]) => ring.setAttribute(String(name), String(value)));
      const [px, py, group] = data.points[chosen];
      readout.textContent = `${data.xLabel ?? "x"} ${number(px)}, ${data.yLabel ?? "y"} ${number(py)}${data.groups ? `: ${data.groups[group]}` : ""}${data.about ? `, ${data.about(chosen)}` : ""}`;
      if (tell) announce(readout.textContent);
    };
    root.append(ring);
    root.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      const way = /** @type {Record<string, number[]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] })[event.key];
      if (event.key === "Enter" && chosen >= 0) data.onPick?.(chosen);
      if (!way || !places.length) return;
      event.preventDefault();
      const from = places.find(([, , i]) => i === chosen) ?? [(box.left + box.right) / 2, (box.top + box.bottom) / 2, -1];
      // Sideways counts double, so that one stays on the way; what is left over is behind.
      const found = places.map(([px, py, i]) => {
        const along = (px - from[0]) * way[0] + (py - from[1]) * way[1], aside = Math.abs((px - from[0]) * way[1]) + Math.abs((py - from[1]) * way[0]);
        return { i, far: i === chosen || along < 0 || (along === 0 && i < chosen) || aside > 2 * along + 1 ? Infinity : along + 2 * aside };
      }).reduce((best, one) => one.far < best.far ? one : best, { i: -1, far: Infinity });
      if (found.i >= 0) chosen = found.i;
      show(true);
    });
    body.replaceChildren(root, readout, ...(names.length ? [el("div", { class: "legend" }, names)] : []));
    show(false);
    if (focused) root.focus({ preventScroll: true });
  }, (data) => ({ head: [data.xLabel ?? "x", data.yLabel ?? "y", ...(data.groups ? ["class"] : [])], rows: data.points.map((/** @type {any} */ [px, py, group]) => [number(px), py, ...(data.groups ? [data.groups[group]] : [])]) }));
}

/** A canvas of one pixel a cell. @param {number} columns @param {number} rows @param {(i: number) => number[]} of
 * @returns {HTMLCanvasElement} */
export function pixels(columns, rows, of) {
  const canvas = el("canvas", { width: Math.max(1, columns), height: Math.max(1, rows) });
  const context = canvas.getContext("2d");
  const image = context.createImageData(Math.max(1, columns), Math.max(1, rows));
  for (let i = 0; i < columns * rows; i += 1) image.data.set(of(i), 4 * i);
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Blue, white, red for −1, 0, 1, by the root so that small values show. @param {number} t @returns {number[]} */
export function signedColour(t) {
  const s = Math.sqrt(Math.min(1, Math.abs(t)));
  const [r, g, b] = t < 0 ? [33, 102, 172] : [178, 24, 43];
  return [250 + (r - 250) * s, 250 + (g - 250) * s, 250 + (b - 250) * s, 255];
}

/** White to dark blue for 0 to 1. @param {number} t @returns {number[]} */
export function sizeColour(t) {
  const s = Math.max(0, Math.min(1, t));
  return [250 - 232 * s, 250 - 196 * s, 252 - 142 * s, 255];
}
const NONFINITE = [255, 0, 255, 255];

/**
 * Cells: `{label, values: number[][], signed = true, limit?, cell?: px, rowName?, columnName?: (i) => string, selected?:
 * [row, column], onHover?: (row, column, value) => void, onPick?: the same, legend = true}`. Signed: blue, white, red by
 * √ up to ±limit, by default the largest magnitude; else one hue by decades. Arrow keys move a cursor.
 * @param {any} options @returns {any}
 */
export function matrix(options) {
  let row = 0, column = 0;
  /** @type {any} */
  let shown = null;
  const spot = el("span", { class: "spot", hidden: true });
  const naming = (/** @type {any} */ data) => `${data.rowName?.(row) ?? `row ${row}`}, ${data.columnName?.(column) ?? `column ${column}`}: ${number(data.values[row]?.[column])}`;
  /** @param {any} data @param {boolean} tell */
  function place(data, tell) {
    const rows = data.values.length, columns = data.values[0]?.length ?? 0;
    spot.hidden = false;
    for (const [name, value] of Object.entries({ left: column / columns, top: row / rows, width: 1 / columns, height: 1 / rows })) spot.style.setProperty(name, `${100 * value}%`);
    data.onHover?.(row, column, data.values[row][column]);
    if (tell) announce(naming(data));
    shown?.setAttribute("title", naming(data));
  }
  return figure("matrix", options, (body, data) => {
    const rows = data.values.length, columns = data.values[0]?.length ?? 0;
    const flat = data.values.flat();
    const sizes = finite(flat).map(Math.abs);
    const limit = data.limit ?? sizes.reduce((most, value) => Math.max(most, value), 0);
    const least = sizes.reduce((low, value) => value > 0 ? Math.min(low, value) : low, limit || 1);
    const signed = data.signed ?? true;
    const log = (/** @type {number} */ v) => v === 0 ? 0 : 0.08 + 0.92 * (least < limit ? Math.log(Math.abs(v) / least) / Math.log(limit / least) : 1);
    const canvas = pixels(columns, rows, (i) => !Number.isFinite(flat[i]) ? NONFINITE : signed ? signedColour(flat[i] / (limit || 1)) : sizeColour(log(flat[i])));
    const odd = flat.length - sizes.length;
    const focused = body.contains(document.activeElement);
    shown = canvas;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("tabindex", "0");
    canvas.setAttribute("aria-label", `${data.label}: ${rows} rows, ${columns} columns, ${signed ? "from −" : "up to "}${number(limit, 3)}${signed ? ` to ${number(limit, 3)}` : ""}${odd ? `, ${odd} not finite` : ""}`);
    const cell = data.cell ?? Math.max(1, Math.min(18, Math.floor(body.clientWidth / Math.max(1, columns))));
    canvas.style.setProperty("width", `${columns * cell}px`);
    canvas.style.setProperty("height", `${rows * cell}px`);
    if (data.selected) [row, column] = data.selected;
    row = Math.min(row, Math.max(0, rows - 1));
    column = Math.min(column, Math.max(0, columns - 1));
    spot.hidden = !data.selected && !focused;
    const at = (/** @type {PointerEvent} */ event) => {
      const area = canvas.getBoundingClientRect();
      row = Math.max(0, Math.min(rows - 1, Math.floor((event.clientY - area.top) / area.height * rows)));
      column = Math.max(0, Math.min(columns - 1, Math.floor((event.clientX - area.left) / area.width * columns)));
      place(data, false);
    };
    canvas.addEventListener("pointermove", at);
    canvas.addEventListener("click", (event) => { at(/** @type {PointerEvent} */ (event)); data.onPick?.(row, column, data.values[row][column]); });
    canvas.addEventListener("keydown", (event) => {
      const move = /** @type {Record<string, number[]>} */ ({ ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] })[event.key];
      if (event.key === "Enter") data.onPick?.(row, column, data.values[row][column]);
      if (!move) return;
      event.preventDefault();
      row = Math.max(0, Math.min(rows - 1, row + move[0]));
      column = Math.max(0, Math.min(columns - 1, column + move[1]));
      place(data, true);
    });
    const scaleText = signed ? `−${number(limit, 3)} … ${number(limit, 3)}, √ scale` : `${number(least, 2)} … ${number(limit, 3)}, log scale`;
    body.replaceChildren(el("div", { class: "cells" }, canvas, spot), ...(data.legend ?? true ? [el("p", { class: "hint" }, el("span", { class: signed ? "ramp signed" : "ramp", "aria-hidden": "true" }), scaleText, odd ? ` · ${odd} not finite (magenta)` : "")] : []));
    if (data.selected) place({ ...data, onHover: null }, false);
    if (focused) canvas.focus({ preventScroll: true });
  }, (data) => {
    const columns = data.values[0]?.length ?? 0, most = Math.min(40, columns);
    return { head: ["", ...Array.from({ length: most }, (_, i) => data.columnName?.(i) ?? String(i))], rows: data.values.map((/** @type {any[]} */ line, /** @type {number} */ i) => [data.rowName?.(i) ?? String(i), ...line.slice(0, most)]), note: columns > most ? `The first ${most} of ${number(columns)} columns.` : undefined };
  });
}

/**
 * Histograms, one behind the other: `{label, edges: number[], rows: [{name, counts}], log?: of x, selected?: row, xLabel,
 * height}`; the first row is farthest away. Each is scaled by the largest count of all.
 * @param {any} options @returns {any}
 */
export function ridge(options) {
  return figure("ridge", options, (body, data) => {
    const width = Math.max(220, body.clientWidth), height = data.height ?? 260, count = data.rows.length;
    const box = { left: 44, right: width - 10, top: 46, bottom: height - 32 };
    const x = scale([data.edges[0], data.edges[data.edges.length - 1]], [box.left, box.right], Boolean(data.log));
    const most = extent(data.rows.flatMap((/** @type {any} */ one) => one.counts))[1] || 1;
    const step = count > 1 ? (box.bottom - box.top) / (count - 1) : 0, tall = Math.max(30, Math.min(70, 3 * step));
    const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${data.label}: ${count} histograms` });
    const named = Math.ceil(count / 8);
    data.rows.forEach((/** @type {any} */ one, /** @type {number} */ i) => {
      const base = count > 1 ? box.top + i * step : box.bottom;
      const points = one.counts.map((/** @type {number} */ n, /** @type {number} */ j) => `${((x(data.edges[j]) + x(data.edges[j + 1])) / 2).toFixed(1)} ${(base - (Number.isFinite(n) ? n / most : 0) * tall).toFixed(1)}`);
      root.append(svg("path", { class: i === data.selected ? "ridge-line selected" : "ridge-line", d: `M${box.left} ${base.toFixed(1)}L${points.join("L")}L${box.right} ${base.toFixed(1)}` }));
      if ((i % named === 0 && 2 * (count - 1 - i) >= named) || i === count - 1) root.append(svg("text", { x: box.left - 6, y: base + 4, "text-anchor": "end" }, one.name));
    });
    axes(root, box, x, (/** @type {number} */ v) => v, data.log ? decades(data.edges[0], data.edges[data.edges.length - 1]) : ticks(data.edges[0], data.edges[data.edges.length - 1], width / 90), [], data);
    body.replaceChildren(root);
  }, (data) => ({ head: ["", ...data.edges.slice(0, -1).map((/** @type {number} */ edge) => number(edge, 2))], rows: data.rows.map((/** @type {any} */ one) => [one.name, ...one.counts]) }));
}
