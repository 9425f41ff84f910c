// @ts-check
// What if one step of training were taken with another learning rate: the cost before, and after both.

import { post } from "./api.js";
import { el, eq, number, problem } from "./dom.js";
import { posted } from "./what_if.js";

const TIMES = [0.1, 0.3, 1, 3, 10];

/**
 * One step over the samples shown, with the run's own η and with others; nothing is stored.
 * @param {string} checkpoint path @param {string} samples @param {number} own the run's learning rate @param {AbortSignal} signal
 */
export function oneStep(checkpoint, samples, own, signal) {
  const answer = el("div", { "aria-live": "polite" });
  /** @type {Map<number, any>} */
  const found = new Map();
  const ask = async (/** @type {number} */ rate) => {
    const { before, after, note } = await post(`${checkpoint}/what-if`, { ...posted(samples), learning_rate: rate, step: true }, { signal });
    found.set(before.step.learning_rate, { ...before.step, from: before.cost, own: true });
    if (rate !== before.step.learning_rate) found.set(rate, { ...after.step, from: after.cost });
    return note;
  };
  const field = el("input", { type: "number", step: "any", min: 0, value: String(own), id: "what-if-rate", onchange: () => { if (field.valueAsNumber > 0) take([field.valueAsNumber]); } });

  /** @param {number[]} rates */
  async function take(rates) {
    try {
      let note = "";
      for (const rate of rates) note = await ask(rate);
      answer.replaceChildren(el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ["η", "‖Δθ‖", "C before", "C after", "change"].map((text) => el("th", { scope: "col" }, text)))),
        el("tbody", {}, [...found].sort(([a], [b]) => a - b).map(([rate, one]) => row(rate, one))))), el("p", { class: "hint" }, note));
    } catch (error) {
      if (!signal.aborted) answer.replaceChildren(problem(error));
    }
  }

  /** @param {number} rate @param {any} one */
  function row(rate, one) {
    const change = one.state.cost === null ? null : one.state.cost - one.from;
    return el("tr", {}, el("th", { scope: "row" }, number(rate), one.own ? el("span", { class: "hint" }, " the run's own") : null), el("td", {}, number(one.update_norm)), el("td", {}, number(one.from)),
      el("td", {}, number(one.state.cost)), el("td", { class: change === null || change > 0 ? "warn-text" : null }, change === null ? "not finite ⚠" : `${change > 0 ? "+" : ""}${number(change, 3)}${change > 0 ? " ⚠ higher" : ""}`));
  }

  return el("section", { class: "what-if", "aria-label": "One step with another learning rate" },
    el("p", {}, "One step of the run's training over the samples shown, from the weights of this epoch, with another ", eq("η"), ". Nothing is stored."),
    el("div", { class: "row" }, el("label", { for: "what-if-rate" }, "Learning rate η"), field,
      el("button", { type: "button", class: "small", onclick: () => field.valueAsNumber > 0 && take([field.valueAsNumber]) }, "Take the step"),
      el("button", { type: "button", class: "small", onclick: () => take(TIMES.map((times) => Number((own * times).toPrecision(12)))) }, "From η/10 to 10η")), answer);
}
