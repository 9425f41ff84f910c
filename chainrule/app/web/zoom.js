// @ts-check
/** The range of its charts that a page shows, as the address has it: `zoom=10..40`, the same for all along one axis. */

/** What a chart is told of it. @param {any} ctx of the page */
export function zoomOf(ctx) {
  const found = (ctx.query.get("zoom") ?? "").split("..").map(Number);
  const there = found.length === 2 && found.every(Number.isFinite) && found[0] < found[1];
  return { zoom: there ? found : null, onZoom: (/** @type {number[] | null} */ range) => ctx.setQuery({ zoom: range?.join("..") ?? null }) };
}
