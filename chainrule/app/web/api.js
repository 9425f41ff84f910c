// @ts-check
/** The public API, as the dashboard calls it: answers, problems, one stream; nothing else is asked of the service. */

const BASE = new URL("../../", import.meta.url).pathname.replace(/\/$/, "");
const KEY = "chainrule-key";
const KEPT = 128;
/** After so many polls a stream is tried once more. */
const TRIED_AGAIN = 8;
/** Answers that never change, the one used last at the end. @type {Map<string, any>} */
const kept = new Map();
/** Questions on their way: the same one of the same page is not asked twice. @type {Map<string, {signal?: AbortSignal, answer: Promise<any>}>} */
const asked = new Map();
/** @type {Promise<void> | null} */
let asking = null;

/** A refusal (RFC 9457), or that the service cannot be reached (status 0). */
export class Problem extends Error {
  /** @param {{status: number, code: string, title?: string, detail: string, errors?: {pointer: string, detail: string}[]}} body */
  constructor(body) {
    super(body.detail);
    this.status = body.status;
    this.code = body.code;
    this.title = body.title ?? "The service cannot be reached";
    this.detail = body.detail;
    this.errors = body.errors ?? [];
  }
}

/** The address of something, as a link may name it. @param {string} path */
export const href = (path) => BASE + path;

/**
 * GET. JSON is parsed, all else is an ArrayBuffer. What is immutable is asked for once.
 * @param {string} path from /v1
 * @param {{signal?: AbortSignal, accept?: string}} [options]
 * @returns {Promise<any>}
 */
export function get(path, { signal, accept = "application/json" } = {}) {
  const place = `${accept} ${path}`;
  const known = asked.get(place);
  if (known && known.signal === signal) return known.answer;
  const answer = fetched(path, place, accept, signal).finally(() => { if (asked.get(place)?.answer === answer) asked.delete(place); });
  asked.set(place, { signal, answer });
  return answer;
}

/** @param {string} path @param {string} place @param {string} accept @param {AbortSignal} [signal] */
async function fetched(path, place, accept, signal) {
  if (kept.has(place)) {
    const found = kept.get(place);
    kept.delete(place);
    kept.set(place, found);
    return found;
  }
  const response = await ask(path, { signal, headers: { Accept: accept } });
  const body = await read(response);
  if (response.headers.get("Cache-Control")?.includes("immutable")) {
    kept.set(place, body);
    if (kept.size > KEPT) kept.delete(kept.keys().next().value ?? "");
  }
  return body;
}

/** Whether a key is kept, which links cannot show. */
export const keyed = () => sessionStorage.getItem(KEY) !== null;

/** GET as a file. @param {string} path @param {{signal?: AbortSignal}} [options] @returns {Promise<Blob>} */
export async function blob(path, { signal } = {}) {
  return (await ask(path, { signal, headers: { Accept: "*/*" } })).blob();
}

/**
 * GET what is looked at again and again: null where it has not changed since.
 * @returns {(path: string, options?: {signal?: AbortSignal}) => Promise<any>}
 */
export function poller() {
  let etag = "", last = "";
  return async (path, { signal } = {}) => {
    const known = path === last && etag;
    const response = await ask(path, { signal, headers: known ? { "If-None-Match": etag } : {} });
    if (response.status === 304) return null;
    [etag, last] = [response.headers.get("ETag") ?? "", path];
    return read(response);
  };
}

/**
 * POST. A body that is an object is sent as JSON.
 * @param {string} path @param {any} [body]
 * @param {{signal?: AbortSignal, accept?: string, headers?: Record<string, string>, method?: string}} [options]
 * @returns {Promise<any>}
 */
export async function post(path, body, { signal, accept = "application/json", headers = {}, method = "POST" } = {}) {
  const plain = body === undefined || body instanceof ArrayBuffer || body instanceof Blob || body instanceof FormData;
  const kind = plain ? {} : { "Content-Type": "application/json" };
  const sent = plain ? body : JSON.stringify(body);
  return read(await ask(path, { method, signal, body: sent, headers: { Accept: accept, ...kind, ...headers } }));
}

/** @param {Response} response */
async function read(response) {
  if (response.status === 204) return null;
  return response.headers.get("Content-Type")?.includes("json") ? response.json() : response.arrayBuffer();
}

/** @param {string} path @param {RequestInit} options @returns {Promise<Response>} */
async function ask(path, options) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(BASE + path, { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Problem({ status: 0, code: "unreachable", detail: "No answer from the service; is it running?" });
  }
  if (response.ok || response.status === 304) return response;
  if (response.status === 401) {
    asking ??= askForKey(key !== null).finally(() => { asking = null; });
    await asking;
    return ask(path, options);
  }
  const body = await response.json().catch(() => null);
  throw new Problem(body?.code ? body : {
    status: response.status, code: "unknown", title: `Status ${response.status}`, detail: response.statusText || "No more is known.",
  });
}

/** @param {boolean} refused @returns {Promise<void>} */
function askForKey(refused) {
  return new Promise((resolve) => {
    document.dispatchEvent(new CustomEvent("chainrule:key", {
      detail: { refused, give: (/** @type {string} */ key) => { sessionStorage.setItem(KEY, key); resolve(); } },
    }));
  });
}

/**
 * Follow a run by ONE stream of server-sent events, from behind the epoch `after`: each epoch once and in order,
 * whatever is killed or cut meanwhile. Closed while the page is hidden, over at `end` or by `signal`. Read by fetch,
 * as a browser's EventSource can show no key. Where no stream gets through it is polled every 2 s.
 * @param {string} path of the run, /v1/runs/ID
 * @param {{after?: number, signal: AbortSignal, epochs?: (rows: any[]) => void, status?: (data: any) => void,
 *   diagnosis?: (data: any) => void, end?: (run: any) => void, connection?: (state: "live" | "polling" | "waiting") => void}} handlers
 */
export async function stream(path, { after = -1, signal, epochs, status, diagnosis, end, connection }) {
  let pause = 250, unheard = 0, polls = 0;
  /** @param {any[]} rows */
  const take = (rows) => {
    const fresh = rows.filter((row) => row.epoch > after);
    if (!fresh.length) return;
    after = fresh[fresh.length - 1].epoch;
    epochs?.(fresh);
  };
  while (!signal.aborted) {
    await shown(signal);
    const hidden = new AbortController();
    const hide = () => document.hidden && hidden.abort();
    document.addEventListener("visibilitychange", hide);
    let heard = false;
    const patience = setTimeout(() => heard || hidden.abort(), 8000);
    try {
      if (unheard >= 2) {
        const page = await get(`${path}/epochs?after=${after}`, { signal });
        connection?.("polling");
        const { epoch, ...columns } = page.columns;
        take(epoch.map((/** @type {number} */ e, /** @type {number} */ i) => (
          { epoch: e, ...Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, column[i]])) })));
        status?.({ status: page.status });
        if (page.done && page.next_after === null) return end?.(await get(path, { signal }));
        await wait(page.next_after === null ? 2000 : 0, signal);
        polls += 1;
        if (polls % TRIED_AGAIN === 0) unheard = 0;
        continue;
      }
      const response = await ask(`${path}/events?after=${after}`, { signal: AbortSignal.any([signal, hidden.signal]) });
      for await (const batch of events(response)) {
        if (!heard) connection?.("live");
        heard = true;
        [unheard, pause] = [0, 250];
        take(batch.filter((event) => event.name === "epoch").map((event) => event.data));
        for (const event of batch) {
          if (event.name === "status") status?.(event.data);
          if (event.name === "diagnosis") diagnosis?.(event.data);
          if (event.name === "end") return end?.(event.data);
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500) throw error;
      // What nothing comes through is a stream that is held back, unless a poll does not come through either.
      if (!document.hidden && !heard) unheard = unheard >= 2 ? 0 : unheard + 1;
    } finally {
      clearTimeout(patience);
      document.removeEventListener("visibilitychange", hide);
    }
    if (document.hidden) continue;
    connection?.("waiting");
    await wait(pause, signal);
    pause = Math.min(2 * pause, 4000);
  }
}

/** Take what arrives apart into events, all of a chunk at once. @param {Response} response
 * @returns {AsyncGenerator<{name: string, data: any}[]>} */
async function* events(response) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (text + decoder.decode(value, { stream: true })).split("\n\n");
    text = parts.pop() ?? "";
    yield parts.map((part) => {
      const lines = part.split("\n");
      const field = (/** @type {string} */ name) => lines.filter((line) => line.startsWith(`${name}:`))
        .map((line) => line.slice(name.length + 1).replace(/^ /, "")).join("\n");
      const data = field("data");
      return { name: field("event"), data: data ? JSON.parse(data) : null };
    });
  }
}

/** Wait until the page is looked at. @param {AbortSignal} signal @returns {Promise<void>} */
export function shown(signal) {
  return new Promise((resolve) => {
    if (!document.hidden || signal.aborted) return resolve();
    const over = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", over);
      resolve();
    };
    document.addEventListener("visibilitychange", over);
    signal.addEventListener("abort", over, { once: true });
  });
}

/** @param {number} ms @param {AbortSignal} signal @returns {Promise<void>} */
export function wait(ms, signal) {
  return new Promise((resolve) => {
    const over = () => { clearTimeout(timer); signal.removeEventListener("abort", over); resolve(); };
    const timer = setTimeout(over, ms);
    signal.addEventListener("abort", over);
  });
}
