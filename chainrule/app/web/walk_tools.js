// @ts-check
// What can be taken from a walk, to be computed elsewhere: code, files, tables; and a check by differences.

import { blob, href } from "./api.js";
import { el, problem } from "./dom.js";
import { save } from "./files.js";
import { numericCheck, tensorTable } from "./number_panels.js";
import { numpyCode } from "./numpy_code.js";
import { oneStep } from "./one_step.js";
import { written } from "./walk.js";

/** @typedef {import("./walk.js").Walk} Walk */

/**
 * @param {any} run @param {AbortSignal} signal
 * @param {{now: () => {walk: Walk, step: number, epoch: number, samples: string, sample: number | null} | null, choose: (name: string | null) => void}} page
 *   `now` is what is shown, `choose` the array whose table is wanted
 * @returns {{node: HTMLElement, showTable: (walk: Walk, step: number, name: string) => void}}
 */
export function walkTools(run, signal, { now, choose }) {
  const result = el("div", { class: "tool-result", "aria-live": "polite" });
  const host = el("div", {});
  const field = el("select", { id: "table", onchange: () => choose(field.value || null) }, el("option", { value: "" }, "none"));
  const show = (/** @type {any[]} */ ...nodes) => result.replaceChildren(...nodes);
  const checkpoint = (/** @type {number} */ epoch) => `/v1/runs/${run.id}/checkpoints/${epoch}`;

  /** @param {string} text @param {(shown: NonNullable<ReturnType<typeof now>>) => Promise<void>} act */
  const button = (text, act) => el("button", { type: "button", onclick: () => {
    const shown = now();
    if (shown) act(shown).catch((error) => { if (!signal.aborted) show(problem(error)); });
  } }, text);

  /** @param {string} path @param {string} name */
  async function download(path, name) {
    save(await blob(path, { signal }), `${run.id}-${name}.npz`);
  }

  const node = el("div", {}, el("div", { class: "tools" },
    button("Copy as NumPy", async ({ walk, step, epoch, samples }) => {
      const code = numpyCode(walk, step, { address: new URL(href(checkpoint(epoch)), location.origin).href, samples, cost: run.config.cost });
      const copied = await navigator.clipboard?.writeText(code).then(() => true, () => false);
      show(el("p", { class: "hint" }, copied ? "Copied. It computes everything up to this step from downloaded weights:" : "Everything up to this step, computed from downloaded weights:"), el("pre", { class: "code", tabindex: "0" }, code));
    }),
    button("Check numerically", async ({ sample }) => {
      show(el("p", { class: "hint" }, "Moving weights one by one …"));
      show(await numericCheck(run, sample === null ? null : [sample], signal));
    }),
    button("Another learning rate", async ({ epoch, samples }) => show(oneStep(checkpoint(epoch), samples, run.config.optimizer.learning_rate, signal))),
    button("Weights (NPZ)", ({ epoch }) => download(`${checkpoint(epoch)}/weights?format=npz`, `epoch-${epoch}-weights`)),
    button("This walk (NPZ)", ({ epoch, samples }) => download(`${checkpoint(epoch)}/walk?${samples}&format=npz`, `epoch-${epoch}-walk`)),
    el("label", { class: "one-field" }, el("span", {}, "Table of"), field)), result, host);

  const showTable = (/** @type {Walk} */ walk, /** @type {number} */ step, /** @type {string} */ name) => {
    const names = [...walk.arrays.keys()];
    if (field.options.length !== names.length + 1) field.replaceChildren(el("option", { value: "" }, "none"), ...names.map((each) => el("option", { value: each }, written(each))));
    field.value = names.includes(name) ? name : "";
    host.replaceChildren(...(field.value ? [tensorTable(walk, name, step)] : []));
  };
  return { node, showTable };
}
