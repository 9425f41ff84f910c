// @ts-check
/** Principal components: the plane in which many points of many dimensions spread most. */

const TURNS = 200;
const SMALL = 1e-9;

/**
 * Project points to the plane of their largest variance. Of one or two dimensions they stay as they are.
 *
 *     C = (1/m) Σᵢ (a⁽ⁱ⁾ − ā)(a⁽ⁱ⁾ − ā)ᵀ        largest eigenvectors by power iteration
 *
 * @param {number[][]} rows (m, n); what is not finite counts as the mean
 * @returns {{points: [number, number][], shares: [number, number] | null, names: [string, string]}} shares of the variance
 */
export function planes(rows) {
  const n = rows[0]?.length ?? 0;
  if (n <= 2) {
    return { points: rows.map((row) => [row[0] ?? 0, row[1] ?? 0]), shares: null, names: ["unit 0", n > 1 ? "unit 1" : ""] };
  }
  const mean = Array.from({ length: n }, (_, j) => average(rows.map((row) => row[j])));
  const X = rows.map((row) => row.map((value, j) => Number.isFinite(value) ? value - mean[j] : 0));
  const total = X.reduce((sum, row) => sum + dot(row, row), 0);
  /** @type {number[][]} */
  const found = [];
  for (let k = 0; k < 2; k += 1) {
    let axis = Array.from({ length: n }, (_, j) => Math.sin(1 + j * (k + 1.7)));
    for (let turn = 0; turn < TURNS; turn += 1) {
      const next = new Array(n).fill(0);
      for (const row of X) {
        const along = dot(row, axis);
        for (let j = 0; j < n; j += 1) next[j] += along * row[j];
      }
      for (const known of found) {
        const along = dot(next, known);
        for (let j = 0; j < n; j += 1) next[j] -= along * known[j];
      }
      const length = Math.sqrt(dot(next, next));
      if (!(length > SMALL * (total || 1))) { axis = new Array(n).fill(0); break; }
      const unit = next.map((value) => value / length);
      const turned = 1 - Math.abs(dot(unit, axis));
      axis = unit;
      if (turned < SMALL) break;
    }
    // An eigenvector has two signs; a fixed one keeps pictures of neighbouring epochs alike.
    const largest = axis.reduce((best, value) => Math.abs(value) > Math.abs(best) ? value : best, 0);
    found.push(axis.map((value) => largest < 0 ? -value : value));
  }
  const points = X.map((row) => /** @type {[number, number]} */ ([dot(row, found[0]), dot(row, found[1])]));
  const shares = [0, 1].map((k) => points.reduce((sum, point) => sum + point[k] ** 2, 0) / (total || 1));
  return { points, shares: /** @type {[number, number]} */ (shares), names: ["first component", "second component"] };
}

/** @param {number[]} a @param {number[]} b */
const dot = (a, b) => a.reduce((sum, value, j) => sum + value * b[j], 0);

/** @param {number[]} values */
function average(values) {
  const known = values.filter((value) => Number.isFinite(value));
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : 0;
}
