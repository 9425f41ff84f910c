// @ts-check
// The equation-shaped picture: every array of a walk where the matrix product puts it. In each layer A[l-1] is a row on
// top of W[l], which turns it into the column Z[l] on its right; back again the column dZ[l] meets W[l] from the right
// and becomes the row dA[l-1] below it, and the outer product of that column and that row is dW[l].

import { isDark, paint, pool } from "./cells.js";
import { el, number } from "./dom.js";
import { MOST, parse, written } from "./walk.js";

/** @typedef {import("./walk.js").Walk} Walk */
/** @typedef {import("./walk.js").Cell} Cell */
/** @typedef {import("./cells.js").Cells} Cells */
/** @typedef {"matrix" | "row" | "column" | "image"} Form */
/** @typedef {{width: number, height: number, down: number, across: number}} Grid of a layer: a cell's size, and what it pools */

/**
 * One array on the screen.
 * @typedef {{name: string, form: Form, grid: Grid, figure: HTMLElement, canvas: HTMLCanvasElement, caption: HTMLElement,
 *   marks: HTMLElement, cells: Cells | null, array: import("./npz.js").Tensor | undefined}} View
 */

const COLUMN = 19;
const GAP = 6;
const FORWARD = ["b", "Z", "mean", "var", "running_mean", "running_var", "Zhat", "gamma", "beta", "N", "A"];
const BACKWARD = ["dA", "dN", "dZ"];
const UNDER = ["db", "dgamma", "dbeta"];

export class Picture {
  /**
   * @param {HTMLElement} host
   * @param {{classes: string[], point: (cell: Cell | null, spoken: boolean) => void, pick: (cell: Cell) => void, exact: (names: string[]) => Promise<void>}} options
   *   `point` is called with the cell under the pointer or the arrow keys, `pick` with one that is clicked; `exact` puts
   *   numbers in the place of pictures, and has them shown
   */
  constructor(host, { classes, point, pick, exact }) {
    this.host = host;
    this.classes = classes;
    this.point = point;
    this.pick = pick;
    this.exact = exact;
    /** @type {View[]} */
    this.views = [];
    this.plan = "";
    this.step = -1;
    this.numbers = false;
    /** @type {Walk | null} */
    this.walk = null;
    host.addEventListener("pointerleave", () => this.point(null, false));
  }

  /**
   * Show a walk at a step; the arrays of later steps are empty frames, as they are not known yet.
   * @param {Walk} walk @param {number} step
   */
  show(walk, step) {
    this.walk = walk;
    const sizes = [...walk.arrays].map(([name, array]) => `${name}:${array.shape}`).join(" ");
    const plan = `${this.room} ${isDark()} ${sizes}`;
    if (plan !== this.plan) {
      this.plan = plan;
      this.build(walk);
    }
    this.target(walk);
    this.follow(walk, step);
    const [now, shown] = [walk.steps[step - 1], step || walk.steps.length];
    for (const view of this.views) {
      const array = walk.has(view.name, shown) ? walk.arrays.get(view.name) : undefined;
      const operand = now?.operands.includes(view.name) ?? false;
      const result = now?.results.some(({ name }) => name === view.name) ?? false;
      const kind = `tensor form-${view.form}${array ? "" : " unknown"}${operand ? " operand" : ""}${result ? " result" : ""}${this.numbers ? " numbers" : ""}`;
      if (view.figure.className !== kind) view.figure.className = kind;
      this.draw(walk, view, array, operand ? "operand of this step" : result ? "result of this step" : "");
    }
  }

  /** Bring the result of a step into view, where the picture is wider than its frame. @param {Walk} walk @param {number} step */
  follow(walk, step) {
    if (step === this.step) return;
    this.step = step;
    const names = walk.steps[step - 1]?.results.map(({ name }) => name) ?? [];
    const figure = this.views.find((view) => names.includes(view.name))?.figure;
    const frame = this.host.parentElement;
    if (!figure || !frame) return;
    const [box, seen] = [figure.getBoundingClientRect(), frame.getBoundingClientRect()];
    if (box.left < seen.left || box.right > seen.right) frame.scrollLeft += box.left + box.width / 2 - seen.left - seen.width / 2;
  }

  /** The width there is, in pixels. */
  get room() {
    return Math.max(480, (this.host.parentElement?.clientWidth ?? 0) - 8);
  }

  /** Mark cells, and whole rows and columns. @param {Cell | null} self @param {Cell[]} cells @param {string[]} whole */
  mark(self, cells, whole) {
    for (const view of this.views) {
      view.marks.replaceChildren();
      for (const cell of [...cells, ...(self ? [self] : [])]) {
        if (cell.name !== view.name) continue;
        const place = this.placeOf(view, cell.index);
        if (place) view.marks.append(this.frame(view, place.row, place.column, 1, 1, cell === self ? "self" : ""));
      }
      for (const text of whole) {
        const [kind, name, at] = text.split(" ");
        if (name !== view.name || !view.cells) continue;
        const { rows, columns } = view.cells;
        if (kind === "row") view.marks.append(this.frame(view, Math.floor(Number(at) / view.grid.down), 0, 1, columns, ""));
        else if (kind === "column") view.marks.append(this.frame(view, 0, Math.floor(Number(at) / view.grid.across), rows, 1, ""));
        else view.marks.append(this.frame(view, 0, 0, rows, columns, ""));
      }
    }
  }

  /** @param {Walk} walk @param {View} view */
  shapeOf(walk, view) {
    const { rows, columns } = walk.size(view.name);
    const length = rows * columns;
    if (view.form === "image") return { rows: Math.sqrt(length), columns: Math.sqrt(length) };
    if (view.form === "column") return { rows: length, columns: 1 };
    return view.form === "row" ? { rows: 1, columns: length } : { rows, columns };
  }

  /** Where the cell of an index is drawn. @param {View} view @param {number[]} index */
  placeOf(view, index) {
    if (!view.cells) return null;
    const { down, across } = view.grid;
    if (view.form === "matrix") return { row: Math.floor(index[0] / down), column: Math.floor(index[1] / across) };
    if (view.form === "column") return { row: Math.floor(index[0] / down), column: 0 };
    if (view.form === "row") return { row: 0, column: Math.floor(index[0] / across) };
    return { row: Math.floor(index[0] / view.cells.columns), column: index[0] % view.cells.columns };
  }

  /** The index of the entry a cell shows. @param {Walk} walk @param {View} view @param {number} row @param {number} column */
  indexOf(walk, view, row, column) {
    const cells = /** @type {Cells} */ (view.cells);
    const at = cells.source[row * cells.columns + column];
    if (view.form !== "matrix") return [at];
    const { columns } = walk.size(view.name);
    return [Math.floor(at / columns), at % columns];
  }

  /** @param {View} view @param {number} row @param {number} column @param {number} tall @param {number} wide @param {string} kind */
  frame(view, row, column, tall, wide, kind) {
    const { rows, columns } = /** @type {Cells} */ (view.cells);
    return el("i", { class: `mark ${kind}`, style: {
      left: `${(100 * column) / columns}%`, top: `${(100 * row) / rows}%`, width: `${(100 * wide) / columns}%`, height: `${(100 * tall) / rows}%`,
    } });
  }

  /** @param {Walk} walk @param {View} view @param {import("./npz.js").Tensor | undefined} array @param {string} role */
  draw(walk, view, array, role) {
    const { canvas, form, grid, name } = view;
    const { rows, columns } = this.shapeOf(walk, view);
    const what = `${written(name)}, ${form === "matrix" ? `${rows} × ${columns}` : `${rows * columns} numbers`}`;
    view.marks.replaceChildren();
    if (!array) {
      [view.array, view.cells] = [undefined, null];
      canvas.setAttribute("aria-label", `${what}: not computed yet at this step`);
      canvas.tabIndex = -1;
      caption(view, "");
      return;
    }
    if (view.array !== array || !view.cells) {
      const down = form === "matrix" || form === "column" ? grid.down : 1;
      const across = form === "matrix" || form === "row" ? grid.across : 1;
      [view.array, view.cells] = [array, array.picture ?? pool(array.data, rows, columns, down, across)];
      const text = this.numbers && form !== "image" ? { width: grid.width, height: grid.height, write: (/** @type {number} */ x) => number(x, 3) } : null;
      paint(canvas, view.cells, { ink: form === "image" && name === "A0" && view.cells.values.every((value) => !(value < 0)), text });
    }
    const { limit, odd, values } = view.cells;
    const pooled = rows * columns !== values.length;
    canvas.toggleAttribute("data-pictured", Boolean(array.picture));
    canvas.tabIndex = 0;
    canvas.setAttribute("aria-label", `${what}, colours to ±${number(limit, 3)}${odd ? `, ${odd} not finite` : ""}${pooled ? ", pooled by largest magnitude" : ""}${role ? `; ${role}` : ""}. Arrow keys move over its cells.`);
    const wide = columns * grid.width >= 84 || form !== "matrix";
    const block = pooled && form === "matrix" ? ` · cell: max |·| of ${grid.down} × ${grid.across}` : "";
    caption(view, form === "column" ? (odd ? `⚠${odd}` : "") : `${wide ? `±${number(limit, 3)}` : ""}${block}${odd ? ` · ⚠ ${odd} not finite` : ""}`);
  }

  /** @param {Walk} walk */
  build(walk) {
    const grids = this.grids(walk);
    this.views = [];
    const side = walk.size("A0").columns;
    const square = Number.isInteger(Math.sqrt(side)) && side >= 16;
    const columns = [];
    if (square) {
      const cell = Math.max(2, Math.floor(116 / Math.sqrt(side)));
      const grid = { width: cell, height: cell, down: 1, across: 1 };
      columns.push(el("section", { class: "layer-picture input" }, el("h3", {}, "input"),
        this.view("A0", "image", grid, walk), this.view("dA0", "image", grid, walk)));
    }
    walk.layers.forEach((layer, at) => columns.push(this.layer(walk, at + 1, layer, grids[at])));
    this.host.replaceChildren(...columns);
  }

  /** @param {Walk} walk @param {number} l @param {import("./walk.js").Layer} layer @param {Grid} grid */
  layer(walk, l, layer, grid) {
    const there = (/** @type {string} */ symbol) => walk.arrays.has(`${symbol}${l}`);
    const last = l === walk.depth;
    const forward = FORWARD.filter(there).map((symbol) => `${symbol}${l}`);
    if (last && walk.arrays.has("Y")) forward.push("Y");
    const backward = BACKWARD.filter(there).map((symbol) => `${symbol}${l}`);
    const wide = this.numbers ? grid.width : COLUMN;
    const upright = { ...grid, width: wide };
    const flat = { ...grid, height: this.numbers ? grid.height : 18 };
    const box = el("div", { class: "shape" });
    /** @param {HTMLElement} figure @param {number} row @param {number} column */
    const place = (figure, row, column) => {
      figure.style.gridRow = String(row);
      figure.style.gridColumn = String(column);
      box.append(figure);
    };
    place(this.view(`A${l - 1}`, "row", flat, walk), 1, 1);
    place(this.view(`W${l}`, "matrix", grid, walk), 2, 1);
    [...forward, ...backward].forEach((name, at) => {
      const figure = this.view(name, "column", upright, walk);
      if (at === forward.length) figure.style.marginLeft = "8px";
      place(figure, 2, at + 2);
    });
    if (last && this.classes.length === layer.units && grid.down === 1 && grid.height >= 9) {
      place(this.names(grid.height), 2, forward.length + backward.length + 2);
    }
    place(this.view(`dA${l - 1}`, "row", flat, walk), 3, 1);
    place(this.view(`dW${l}`, "matrix", grid, walk), 4, 1);
    UNDER.filter(there).forEach((symbol, at) => place(this.view(`${symbol}${l}`, "column", upright, walk), 4, at + 2));
    const before = walk.size(`W${l}`).columns;
    return el("section", { class: "layer-picture" },
      el("h3", {}, `layer ${l}`, el("span", {}, `${before} → ${layer.units} · ${layer.activation.replace("_", " ")}`)), box);
  }

  /** Names of the classes beside the rows of the last layer. @param {number} height */
  names(height) {
    return el("ol", { class: "class-names" }, this.classes.map((name) => el("li", { style: { height: `${height}px` } }, name)));
  }

  /** Say which class the sample is of. @param {Walk} walk */
  target(walk) {
    const wanted = this.classes.map((_, at) => walk.value("Y", at));
    const target = walk.mean ? -1 : wanted.indexOf(Math.max(...wanted));
    this.host.querySelectorAll(".class-names li").forEach((item, at) => {
      item.className = at === target ? "target" : "";
      if (at === target) item.setAttribute("title", "the sample's class");
      else item.removeAttribute("title");
    });
  }

  /** @param {string} name @param {Form} form @param {Grid} grid @param {Walk} walk @returns {HTMLElement} */
  view(name, form, grid, walk) {
    const canvas = el("canvas", { role: "img", width: 1, height: 1 });
    const marks = el("div", { class: "marks", "aria-hidden": "true" });
    const { symbol } = parse(name);
    const narrow = form === "column";
    const label = el("figcaption", {}, narrow ? el("span", { class: "name" }, written(symbol)) : el("span", { class: "name" }, written(symbol), el("sup", {}, `[${parse(name).layer}]`)), el("span", { class: "limit" }));
    const figure = el("figure", { class: "tensor", "data-name": name }, label, el("div", { class: "frame" }, canvas, marks));
    /** @type {View} */
    const view = { name, form, grid, figure, canvas, caption: label, marks, cells: null, array: undefined };
    const { rows, columns } = this.shapeOf(walk, view);
    const tall = form === "row" || form === "image" ? rows : Math.ceil(rows / grid.down);
    const wide = form === "column" || form === "image" ? columns : Math.ceil(columns / grid.across);
    const [w, h] = [wide * grid.width, tall * grid.height];
    canvas.style.width = `${w}px`;
    canvas.style.height = `${h}px`;
    if (narrow) figure.style.width = `${w}px`;
    else if (form === "matrix") label.style.width = `${w}px`;
    this.listen(view, () => /** @type {Walk} */ (this.walk));
    this.views.push(view);
    return figure;
  }

  /** @param {View} view @param {() => Walk} walk */
  listen(view, walk) {
    const { canvas } = view;
    /** @type {{row: number, column: number} | null} */
    let at = null;
    const under = (/** @type {PointerEvent | MouseEvent} */ event) => {
      if (!view.cells) return null;
      const box = canvas.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      return { row: Math.max(0, Math.min(view.cells.rows - 1, Math.floor(y * view.cells.rows))), column: Math.max(0, Math.min(view.cells.columns - 1, Math.floor(x * view.cells.columns))) };
    };
    const here = () => at && view.cells ? { name: view.name, index: this.indexOf(walk(), view, at.row, at.column) } : null;
    /** Of a picture it is not known which entry a cell shows until its numbers are there. @param {() => void} then */
    const known = (then) => {
      if (!view.array?.picture) return then();
      this.point({ name: view.name, index: [] }, false);
      this.exact([view.name]).then(() => { if (!view.array?.picture) then(); }, () => null);
    };
    const tell = (/** @type {boolean} */ spoken) => known(() => { const cell = here(); if (cell) this.point(cell, spoken); });
    const pick = () => known(() => { const cell = here(); if (cell) this.pick(cell); });
    canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
      const now = under(event);
      if (!now) return this.point({ name: view.name, index: [] }, false);
      if (at && now.row === at.row && now.column === at.column) return;
      at = now;
      tell(false);
    });
    canvas.addEventListener("pointerleave", () => { at = null; });
    canvas.addEventListener("click", (/** @type {MouseEvent} */ event) => { at = under(event); pick(); });
    canvas.addEventListener("focus", () => {
      if (!canvas.matches(":focus-visible")) return;
      at ??= { row: 0, column: 0 };
      tell(true);
    });
    canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      const moves = /** @type {Record<string, number[]>} */ ({ ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] });
      const move = moves[event.key];
      if (event.key === "Enter" || event.key === " ") pick();
      else if (!move || !view.cells) return;
      else {
        at ??= { row: 0, column: 0 };
        at = { row: Math.max(0, Math.min(view.cells.rows - 1, at.row + move[0])), column: Math.max(0, Math.min(view.cells.columns - 1, at.column + move[1])) };
        tell(true);
      }
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /** How large a cell of each layer is, and what it pools, so that all layers fit beside each other. @param {Walk} walk */
  grids(walk) {
    const sizes = [walk.size("A0").columns, ...walk.layers.map((layer) => layer.units)];
    const room = this.room - (sizes[0] >= 16 && Number.isInteger(Math.sqrt(sizes[0])) ? 150 : 0);
    const vectors = walk.layers.map((_, at) => [...FORWARD, ...BACKWARD, ...(at + 1 === walk.depth ? ["Y", "names"] : [])]
      .filter((symbol) => symbol === "Y" || symbol === "names" || walk.arrays.has(`${symbol}${at + 1}`)).length);
    /** @param {(at: number) => number} cell width of a cell of W @param {number} vector width of a column */
    const total = (cell, vector) => walk.layers.reduce((sum, _, at) => (
      sum + Math.ceil(sizes[at] / Math.ceil(sizes[at] / MOST.columns)) * cell(at) + vectors[at] * (vector + GAP) + 34), 0);
    this.numbers = false;
    if (Math.max(...sizes) <= 8) {
      for (const width of [74, 68, 62, 56, 50, 44]) {
        if (total(() => width, width) > room && width > 44) continue;
        if (total(() => width, width) > 1.6 * room) break;
        this.numbers = true;
        return walk.layers.map(() => ({ width, height: 34, down: 1, across: 1 }));
      }
    }
    const one = (/** @type {number} */ at, /** @type {number} */ scale) => {
      const wide = Math.ceil(sizes[at] / Math.ceil(sizes[at] / MOST.columns));
      return Math.max(2, Math.floor(Math.min(15, Math.max(380 / wide, 2)) * scale), Math.min(15, Math.ceil(48 / wide)));
    };
    let scale = 1.6;
    while (scale > 0.5 && total((at) => one(at, scale), COLUMN) > room) scale -= 0.05;
    // What cannot be made to fit is scrolled, and may as well be large.
    if (total((at) => one(at, scale), COLUMN) > 1.15 * room) scale = 1;
    return walk.layers.map((layer, at) => {
      const [across, down] = [Math.ceil(sizes[at] / MOST.columns), Math.ceil(layer.units / MOST.rows)];
      const tall = Math.ceil(layer.units / down);
      return { width: one(at, scale), height: Math.max(2, Math.min(15, Math.floor(228 / tall))), down, across };
    });
  }
}

/** @param {View} view @param {string} text */
function caption(view, text) {
  const limit = view.caption.querySelector(".limit");
  if (limit && limit.textContent !== text) limit.textContent = text;
}
