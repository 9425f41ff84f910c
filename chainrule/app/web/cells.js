// @ts-check
// Arrays as cells: pooled where they are wider than a screen, and drawn in colours of their signs.

/** @typedef {{rows: number, columns: number, values: Float64Array, source: Int32Array, limit: number, odd: number}} Cells */

/** Colours of −limit, 0 and +limit, and of what is no finite number. @typedef {{negative: number[], zero: number[], positive: number[], odd: number[]}} Palette */

/** Stops from the middle outwards. */
const LIGHT = { zero: [250, 250, 250], negative: [[158, 199, 228], [33, 102, 172]], positive: [[246, 172, 150], [178, 24, 43]] };
const DARK = { zero: [232, 235, 240], negative: [[134, 182, 222], [22, 92, 170]], positive: [[243, 158, 138], [190, 26, 46]] };
const INK = { light: [[255, 255, 255], [24, 36, 60]], dark: [[18, 24, 33], [238, 242, 247]] };
const ODD = [204, 121, 167];
const STEPS = 256;

/**
 * Pool a matrix: each cell is the entry of largest magnitude of a block, its sign kept; what is not finite wins.
 * @param {ArrayLike<number>} data row by row
 * @param {number} rows @param {number} columns
 * @param {number} down how many rows make a cell @param {number} across how many columns
 * @returns {Cells} `source` is the entry's place in the data, `odd` how many entries are not finite
 */
export function pool(data, rows, columns, down = 1, across = 1) {
  const [tall, wide] = [Math.ceil(rows / down), Math.ceil(columns / across)];
  const values = new Float64Array(tall * wide);
  const source = new Int32Array(tall * wide).fill(-1);
  let [limit, odd] = [0, 0];
  for (let row = 0; row < rows; row += 1) {
    const line = Math.floor(row / down) * wide;
    for (let column = 0; column < columns; column += 1) {
      const at = row * columns + column;
      const value = data[at];
      const cell = line + Math.floor(column / across);
      const size = Math.abs(value);
      if (Number.isFinite(value)) limit = Math.max(limit, size);
      else odd += 1;
      if (source[cell] < 0 || !(size <= Math.abs(values[cell])) && !Number.isNaN(values[cell])) {
        values[cell] = value;
        source[cell] = at;
      }
    }
  }
  return { rows: tall, columns: wide, values, source, limit, odd };
}

/**
 * Read a picture of the service, which has pooled in the same way: values to a 127th of the √ of the limit, and not
 * which entry of its block a cell shows. Code c is sign(c − 128)·((c − 128)/127)²·limit, 0 is not finite.
 * @param {Uint8Array} codes @param {number[]} shape of them @param {number} limit @param {number} odd
 * @returns {Cells}
 */
export function decoded(codes, [rows, columns], limit, odd) {
  const values = Float64Array.from(codes, (code) => code ? Math.sign(code - 128) * ((code - 128) / 127) ** 2 * limit : NaN);
  return { rows, columns, values, source: new Int32Array(values.length).fill(-1), limit, odd };
}

/** Whether the page is dark now. */
export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** @param {number[]} from @param {number[]} to @param {number} share */
const mix = (from, to, share) => from.map((value, at) => Math.round(value + (to[at] - value) * share));

/** @type {Map<string, Uint8ClampedArray>} */
const tables = new Map();

/** Colours for −1 … 1 or, of ink, 0 … 1. @param {boolean} dark @param {boolean} ink */
function table(dark, ink) {
  const key = `${dark} ${ink}`;
  const known = tables.get(key);
  if (known) return known;
  const colours = new Uint8ClampedArray(3 * (2 * STEPS + 1));
  const base = dark ? DARK : LIGHT;
  for (let at = -STEPS; at <= STEPS; at += 1) {
    const size = Math.abs(at) / STEPS;
    const stops = [base.zero, ...(at < 0 ? base.negative : base.positive)];
    const place = size * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    const [paper, pen] = dark ? INK.dark : INK.light;
    colours.set(ink ? mix(paper, pen, Math.max(0, at) / STEPS) : mix(stops[low], stops[low + 1], place - low), 3 * (at + STEPS));
  }
  tables.set(key, colours);
  return colours;
}

/** The colour of a share of the limit, −1 … 1; √ makes small numbers visible. @param {number} share @param {boolean} dark @param {boolean} [ink] */
export function colour(share, dark, ink = false) {
  if (!Number.isFinite(share)) return ODD;
  const scaled = ink ? Math.max(0, share) : Math.sign(share) * Math.sqrt(Math.abs(share));
  const at = 3 * (Math.round(Math.max(-1, Math.min(1, scaled)) * STEPS) + STEPS);
  return table(dark, ink).subarray(at, at + 3);
}

/**
 * Paint cells, a pixel each; the canvas is made larger by its style.
 * @param {HTMLCanvasElement} canvas @param {Cells} cells
 * @param {{ink?: boolean, text?: {width: number, height: number, write: (value: number) => string} | null}} [options]
 *   `ink` for a picture of numbers from 0 up; `text` writes each number into its cell
 */
export function paint(canvas, cells, { ink = false, text = null } = {}) {
  const dark = isDark();
  const scale = cells.limit || 1;
  if (text) return paintNumbers(canvas, cells, text, dark);
  if (canvas.width !== cells.columns || canvas.height !== cells.rows) [canvas.width, canvas.height] = [cells.columns, cells.rows];
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(cells.columns, cells.rows);
  for (let at = 0; at < cells.values.length; at += 1) {
    image.data.set(colour(cells.values[at] / scale, dark, ink), 4 * at);
    image.data[4 * at + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** @param {HTMLCanvasElement} canvas @param {Cells} cells @param {{width: number, height: number, write: (value: number) => string}} text @param {boolean} dark */
function paintNumbers(canvas, cells, { width, height, write }, dark) {
  const sharp = Math.max(1, window.devicePixelRatio || 1);
  const size = [Math.round(cells.columns * width * sharp), Math.round(cells.rows * height * sharp)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(sharp, 0, 0, sharp, 0, 0);
  context.font = `${Math.min(13, Math.round(height * 0.44))}px ${getComputedStyle(canvas).fontFamily || "sans-serif"}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let at = 0; at < cells.values.length; at += 1) {
    const [x, y] = [(at % cells.columns) * width, Math.floor(at / cells.columns) * height];
    const [r, g, b] = colour(cells.values[at] / (cells.limit || 1), dark);
    context.fillStyle = `rgb(${r} ${g} ${b})`;
    context.fillRect(x, y, width, height);
    context.fillStyle = 0.2126 * r + 0.7152 * g + 0.0722 * b > 128 ? "#10151c" : "#ffffff";
    context.fillText(write(cells.values[at]), x + width / 2, y + height / 2 + 0.5, width - 4);
  }
}
