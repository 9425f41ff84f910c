// @ts-check
// Reads NPZ archives as NumPy writes them: ZIP, stored or deflated, of NPY arrays.

/** `picture`: what there is of a large matrix until its numbers are asked for; data is empty then.
 * @typedef {{shape: number[], data: Float32Array | Float64Array | Int32Array | Uint8Array, picture?: import("./cells.js").Cells}} Tensor */

const TYPES = /** @type {Record<string, any>} */ ({ f4: Float32Array, f8: Float64Array, i4: Int32Array, u1: Uint8Array });

/**
 * Read every array of an archive.
 * @param {ArrayBuffer} buffer
 * @returns {Promise<Map<string, Tensor>>} by name, in the order of the archive
 */
export async function readNpz(buffer) {
  const view = new DataView(buffer);
  let end = buffer.byteLength - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) throw new Error("This is no NPZ archive.");
  const arrays = new Map();
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left -= 1) {
    const [method, size] = [view.getUint16(at + 10, true), view.getUint32(at + 20, true)];
    const lengths = [28, 30, 32].map((place) => view.getUint16(at + place, true));
    const local = view.getUint32(at + 42, true);
    const name = new TextDecoder().decode(new Uint8Array(buffer, at + 46, lengths[0]));
    // What follows the local header begins where that header says, not the directory.
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const bytes = buffer.slice(start, start + size);
    arrays.set(name.replace(/\.npy$/, ""), readNpy(method === 0 ? bytes : await inflate(bytes)));
    at += 46 + lengths[0] + lengths[1] + lengths[2];
  }
  return arrays;
}

/**
 * Read one NPY array of little-endian numbers in C order.
 * @param {ArrayBuffer} buffer
 * @returns {Tensor}
 */
export function readNpy(buffer) {
  const view = new DataView(buffer);
  const long = view.getUint8(6) > 1;
  const start = (long ? 12 : 10) + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, 10, start - 10));
  const kind = /'descr': *'[<|]?(\w+)'/.exec(header)?.[1] ?? "";
  const shape = (/'shape': *\(([^)]*)\)/.exec(header)?.[1] ?? "").split(",").filter((part) => part.trim() !== "").map(Number);
  const type = TYPES[kind];
  if (!type || /'fortran_order': *True/.test(header)) throw new Error(`An array of ${kind} cannot be read here.`);
  return { shape, data: new type(buffer.slice(start)) };
}

/** @param {ArrayBuffer} bytes */
function inflate(bytes) {
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).arrayBuffer();
}
