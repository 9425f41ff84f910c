// @ts-check
// The cells around a chosen one, each by itself, of a matrix that is pooled in the picture.

import { paint, pool } from "./cells.js";
import { el, number } from "./dom.js";
import { written } from "./walk.js";

/** @typedef {import("./walk.js").Walk} Walk */
/** @typedef {import("./walk.js").Cell} Cell */

const [TALL, WIDE] = [17, 33];
const SIZE = 13;

/**
 * @param {Walk} walk @param {Cell} cell @param {{rows: number, columns: number}} most beyond which the picture pools
 * @param {{point: (cell: Cell, spoken: boolean) => void, pick: (cell: Cell) => void}} on
 * @returns {HTMLElement | null} null where the picture shows each cell anyway
 */
export function neighbourhood(walk, { name, index }, most, { point, pick }) {
  const { rows, columns } = walk.size(name);
  const data = walk.arrays.get(name)?.data;
  if (!data || index.length !== 2 || (rows <= most.rows && columns <= most.columns)) return null;
  const [tall, wide] = [Math.min(TALL, rows), Math.min(WIDE, columns)];
  const [top, left] = [start(index[0], tall, rows), start(index[1], wide, columns)];
  const cells = pool(Array.from({ length: tall * wide }, (_, at) => data[(top + Math.floor(at / wide)) * columns + left + (at % wide)]), tall, wide);
  const mark = el("i", { class: "mark self" });
  const canvas = el("canvas", { role: "img", tabindex: "0", style: { width: `${wide * SIZE}px`, height: `${tall * SIZE}px` },
    "aria-label": `${written(name)}, units ${top} to ${top + tall - 1}, from ${left} to ${left + wide - 1}, each cell by itself; colours to ±${number(cells.limit, 3)}. Arrow keys move over its cells.` });
  let [row, column] = [index[0] - top, index[1] - left];
  const here = () => ({ name, index: [top + row, left + column] });
  const place = () => {
    mark.style.left = `${(100 * column) / wide}%`;
    mark.style.top = `${(100 * row) / tall}%`;
    mark.style.width = `${100 / wide}%`;
    mark.style.height = `${100 / tall}%`;
  };
  const move = (/** @type {number} */ to, /** @type {number} */ over, /** @type {boolean} */ spoken) => {
    [row, column] = [Math.max(0, Math.min(tall - 1, to)), Math.max(0, Math.min(wide - 1, over))];
    place();
    point(here(), spoken);
  };
  canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    const box = canvas.getBoundingClientRect();
    move(Math.floor(((event.clientY - box.top) / box.height) * tall), Math.floor(((event.clientX - box.left) / box.width) * wide), false);
  });
  canvas.addEventListener("click", () => pick(here()));
  canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const by = /** @type {Record<string, number[]>} */ ({ ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] })[event.key];
    if (event.key === "Enter") pick(here());
    else if (by) move(row + by[0], column + by[1], true);
    else return;
    event.preventDefault();
  });
  paint(canvas, cells);
  place();
  return el("figure", { class: "tensor neighbourhood" },
    el("figcaption", {}, el("span", { class: "name" }, "around it"), el("span", { class: "limit" }, `each cell by itself: rows ${top}–${top + tall - 1}, columns ${left}–${left + wide - 1} · ±${number(cells.limit, 3)}`)),
    el("div", { class: "frame" }, canvas, el("div", { class: "marks", "aria-hidden": "true" }, mark)));
}

/** Where a window of so many begins, so that a place is in its middle. @param {number} at @param {number} length @param {number} all */
function start(at, length, all) {
  return Math.max(0, Math.min(all - length, at - Math.floor(length / 2)));
}
