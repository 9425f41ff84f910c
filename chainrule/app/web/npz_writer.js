// @ts-check
/** Writes NPZ archives as NumPy reads them: ZIP, stored, of NPY arrays of little-endian floats. */

const TYPES = { float32: { kind: "<f4", array: Float32Array }, float64: { kind: "<f8", array: Float64Array } };
const SIGNATURE = { local: 0x04034b50, central: 0x02014b50, end: 0x06054b50 };
/** A date is needed, and the same arrays are to be the same bytes: 1 January 1980. */
const DATE = 0x21;

/**
 * @param {Record<string, {shape: number[], values: any}>} arrays nested or flat lists; null is NaN
 * @param {"float32" | "float64"} dtype
 * @returns {Blob}
 */
export function npz(arrays, dtype) {
  /** @type {Uint8Array[]} */
  const parts = [], directory = [];
  let at = 0;
  for (const [name, array] of Object.entries(arrays)) {
    const bytes = npy(array.shape, [array.values].flat(Infinity), dtype);
    const file = new TextEncoder().encode(`${name}.npy`);
    const common = [[2, 20], [2, 0], [2, 0], [2, 0], [2, DATE], [4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, file.length], [2, 0]];
    const local = record([[4, SIGNATURE.local], ...common], file);
    directory.push(record([[4, SIGNATURE.central], [2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, at]], file));
    parts.push(local, bytes);
    at += local.length + bytes.length;
  }
  const size = directory.reduce((sum, one) => sum + one.length, 0);
  const end = record([[4, SIGNATURE.end], [2, 0], [2, 0], [2, directory.length], [2, directory.length], [4, size], [4, at], [2, 0]]);
  return new Blob(/** @type {BlobPart[]} */ ([...parts, ...directory, end]), { type: "application/x-npz" });
}

/** @param {number[]} shape @param {(number | null)[]} values @param {"float32" | "float64"} dtype */
function npy(shape, values, dtype) {
  const { kind, array } = TYPES[dtype];
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const text = `{'descr': '${kind}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const head = new TextEncoder().encode(text.padEnd(Math.ceil((10 + text.length + 1) / 64) * 64 - 11) + "\n");
  const numbers = new Uint8Array(array.from(values, (value) => value ?? NaN).buffer);
  const bytes = new Uint8Array(10 + head.length + numbers.length);
  bytes.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, head.length & 255, head.length >> 8]);
  bytes.set(head, 10);
  bytes.set(numbers, 10 + head.length);
  return bytes;
}

/** Little-endian fields of so many bytes, and what follows them. @param {number[][]} fields @param {Uint8Array} [rest] */
function record(fields, rest = new Uint8Array()) {
  const size = fields.reduce((sum, [width]) => sum + width, 0);
  const bytes = new Uint8Array(size + rest.length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [width, value] of fields) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  bytes.set(rest, size);
  return bytes;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** @param {Uint8Array} bytes */
function crc32(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = TABLE[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}
