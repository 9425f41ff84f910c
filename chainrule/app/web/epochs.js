// @ts-check
/** The epochs of a run: their columns as they grow, and a control that walks through them. */

import { el } from "./dom.js";

export const COLUMNS = ["epoch", "cost", "error", "validation_cost", "validation_error"];
const PLAYED = 120;
const PLAY_MS = 110;

/** Columns that rows can be added to. */
export function columns() {
  /** @type {Record<string, any[]>} */
  const found = Object.fromEntries(COLUMNS.map((name) => [name, []]));
  return Object.assign(found, {
    /** @param {Record<string, any[]>} page */
    take: (page) => { for (const name of COLUMNS) found[name].push(...page[name]); },
    /** @param {Record<string, any>[]} rows */
    add: (rows) => { for (const name of COLUMNS) for (const row of rows) found[name].push(row[name]); },
  });
}

/**
 * The epoch whose weights are kept that lies nearest below the one asked for, by number or name.
 * @param {any} run @param {number} epoch @param {number} last
 * @returns {number | string}
 */
export function keptEpoch(run, epoch, last) {
  const { every } = run.config.checkpoints;
  if (run.thinned_at) return "final";
  if (epoch === last && run.done) return run.status === "succeeded" ? epoch : "last";
  if (epoch <= 1) return epoch;
  return epoch % every === 0 ? epoch : epoch < every ? 1 : epoch - epoch % every;
}

/**
 * One job at a time, and of those that wait only the newest: what is asked for while scrubbing.
 * @returns {(job: () => Promise<void>) => void}
 */
export function newest() {
  let busy = false;
  /** @type {(() => Promise<void>) | null} */
  let next = null;
  return async (job) => {
    next = job;
    if (busy) return;
    busy = true;
    while (next) {
      const now = next;
      next = null;
      try { await now(); } catch (error) { if (/** @type {any} */ (error).name !== "AbortError") console.warn(error); }
    }
    busy = false;
  };
}

/**
 * A slider over the epochs, a button that plays them, one back to the newest.
 * @param {{set: (epoch: number | null) => void, signal: AbortSignal}} options
 */
export function epochControl({ set, signal }) {
  let last = 0, now = 0;
  /** @type {number | undefined} */
  let timer;
  const slider = el("input", { type: "range", id: "epoch", min: 0, max: 0, step: 1, value: 0, oninput: () => { stop(); set(Number(slider.value)); } });
  const shown = el("output", { for: "epoch", class: "epoch-number" }, "0");
  const play = el("button", { type: "button", class: "small", onclick: () => timer ? stop() : start() }, "▶ Play");
  const newestButton = el("button", { type: "button", class: "small", onclick: () => { stop(); set(null); } }, "Newest");
  play.hidden = matchMedia("(prefers-reduced-motion: reduce)").matches;
  signal.addEventListener("abort", stop);

  function start() {
    if (now >= last) set(0);
    play.textContent = "❙❙ Pause";
    timer = setInterval(() => {
      const next = now + Math.max(1, Math.round(last / PLAYED));
      if (next >= last) { stop(); set(last); } else set(next);
    }, PLAY_MS);
  }

  function stop() {
    clearInterval(timer);
    timer = undefined;
    play.textContent = "▶ Play";
  }

  const node = el("div", { class: "row epoch-control" }, el("label", { for: "epoch" }, "Epoch"), slider, shown, play, newestButton);
  return {
    node,
    /** @param {number} epoch @param {number} newestEpoch @param {boolean} following */
    show: (epoch, newestEpoch, following) => {
      [now, last] = [epoch, newestEpoch];
      slider.setAttribute("max", String(last));
      slider.value = String(epoch);
      shown.textContent = `${epoch} of ${last}`;
      newestButton.hidden = following;
    },
  };
}
