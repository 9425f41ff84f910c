// @ts-check
/** What the rules say of a run: what is wrong, where and when, the numbers it follows from, and what helps. */

import { get } from "./api.js";
import { el, number } from "./dom.js";

export const SIGNS = { error: "✕", warning: "⚠", info: "ℹ" };

/** Which panel of the page of dynamics shows what a rule looks at, and the signal there; of others none does. @type {Record<string, string>} */
const SHOWN_IN = {
  vanishing: "panel=signals&of=dZ_rms", exploding: "panel=signals&of=dZ_rms", dead_relu: "panel=signals&of=dead", saturated: "panel=signals&of=saturated",
  lr_high: "panel=ratios", lr_low: "panel=ratios", update_ratio: "panel=ratios", no_signal: "panel=noise", batch_small: "panel=noise", batch_large: "panel=noise",
  symmetric: "panel=distributions&tensor=W", nonfinite: "panel=distributions",
};

/** The query of the page of dynamics that shows it, or null. @param {{rule: string}} verdict */
export const shownBy = ({ rule }) => SHOWN_IN[rule] ?? null;

/** How many verdicts hold that are faults. @param {any} run */
export const faults = (run) => (run.diagnoses ?? []).filter((/** @type {any} */ one) => one.active && one.severity !== "info").length;

/** In short: of a run among others. @param {any} run */
export function verdicts(run) {
  if (!run.diagnoses.length) return [el("p", { class: "muted" }, "✓ Nothing to remark.")];
  return [el("ul", { class: "verdicts" }, run.diagnoses.map((/** @type {any} */ one) => el("li", { class: one.active ? one.severity : "over" },
    el("strong", {}, `${/** @type {Record<string, string>} */ (SIGNS)[one.severity] ?? "?"} `, one.title, one.layer ? ` · layer ${one.layer}` : ""),
    el("span", { class: "hint" }, `  ${one.active ? "since" : "over, from"} epoch ${one.first_epoch}`))))];
}

/**
 * A panel that follows the run's diagnoses.
 * @param {string} path of the run @param {AbortSignal} signal @param {(epoch: number) => void} choose
 */
export function verdictPanel(path, signal, choose) {
  const body = el("div", { class: "verdict-body", tabindex: "0", role: "region", "aria-label": "Diagnoses" }), node = [el("h2", {}, "Diagnoses"), body];
  let shown = "";
  return {
    node,
    /** @param {any} run */
    async show(run) {
      const now = JSON.stringify(run.diagnoses) + run.done;
      if (now === shown) return;
      shown = now;
      const [found, rules] = await Promise.all([run.diagnoses.length ? get(`${path}/diagnoses`, { signal }) : { items: [] }, get("/v1/diagnoses", { signal })]);
      if (now !== shown) return;
      const judged = found.items.filter((/** @type {any} */ one) => one.active || one.severity !== "info");
      body.replaceChildren(
        judged.length ? el("ul", { class: "verdicts" }, judged.map(verdict)) : el("p", {}, run.done ? "✓ Nothing to remark." : "✓ Nothing to remark so far."),
        el("details", {}, el("summary", { class: "hint" }, `${rules.items.length} rules looked for`), el("dl", { class: "rules" }, rules.items.map((/** @type {any} */ rule) => [el("dt", {}, rule.title), el("dd", { class: "hint" }, rule.quantity)]))));
    },
  };

  /** @param {any} one */
  function verdict(one) {
    const sign = /** @type {Record<string, string>} */ (SIGNS)[one.severity] ?? "?";
    const epochs = one.first_epoch === one.last_epoch ? `epoch ${one.first_epoch}` : `epochs ${one.first_epoch}–${one.last_epoch}`;
    return el("li", { class: one.active ? one.severity : "over" },
      el("strong", {}, el("span", { "aria-hidden": "true" }, `${sign} `), el("span", { class: "visually-hidden" }, `${one.severity}: `), one.title, one.layer ? ` · layer ${one.layer}` : ""),
      " ", el("button", { type: "button", class: "quiet small", onclick: () => choose(one.first_epoch) }, epochs), one.active ? "" : el("span", { class: "hint" }, "over "),
      shownBy(one) ? el("a", { class: "hint", href: `#/${path.replace("/v1/", "")}/dynamics?${shownBy(one)}` }, "Show it") : null,
      el("p", {}, one.sentence), el("p", { class: "hint" }, el("b", {}, "Fix: "), one.fix),
      el("details", {}, el("summary", { class: "hint" }, "Evidence"), el("p", { class: "hint" }, `${one.quantity} was ${number(one.value)}, at worst ${number(one.worst)}; a finding ${one.side} ${number(one.threshold)}. ${one.evidence}`)));
  }
}
