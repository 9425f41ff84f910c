// @ts-check
// What the backpropagation page is asked to show: one sample, the mean of a batch or a whole split.

import { el } from "./dom.js";

const CHOICES = [["sample", "One sample"], ["batch", "Mean of a batch"], ["split", "Whole split"]];

/**
 * @param {any} run @param {any} dataset
 * @param {(changes: Record<string, string | null>) => void} set
 * @returns {{node: HTMLElement, chips: HTMLElement, strip: HTMLElement, sync: (state: any) => void}} `chips` and `strip`
 *   are filled by others; `sync` shows a state
 */
export function walkControls(run, dataset, set) {
  const radios = CHOICES.map(([value]) => el("input", { type: "radio", name: "of", value, onchange: () => set({ of: value === "sample" ? null : value }) }));
  const split = el("select", { id: "split", onchange: () => set({ split: split.value }) },
    ["training", ...(run.config.validation ? ["validation"] : [])].map((value) => el("option", { value }, value)));
  const sample = el("input", { id: "sample", type: "number", min: 0, max: dataset.samples - 1, onchange: () => set({ sample: sample.value }) });
  const rows = el("input", { id: "rows", type: "text", pattern: "[0-9,\\s\\-]+", onchange: () => set({ rows: rows.value }) });
  const [splitField, sampleField, rowsField] = [["Split", split], ["Row", sample], ["Rows", rows]].map(([text, field]) => el("label", { class: "one-field" }, el("span", {}, text), field));
  const [chips, strip] = [el("div", { class: "chips" }), el("div", { class: "strip-host" })];
  const node = el("section", { class: "panel controls", "aria-label": "What is shown" }, el("div", { class: "control-row" },
    el("fieldset", { class: "segmented" }, el("legend", { class: "visually-hidden" }, "Which samples"), CHOICES.map(([, text], at) => el("label", {}, radios[at], el("span", {}, text)))),
    splitField, sampleField, rowsField, chips), strip);
  const sync = (/** @type {any} */ state) => {
    for (const radio of radios) radio.checked = radio.value === state.of;
    [split.value, sample.value, rows.value] = [state.split, state.sample, state.rows];
    [splitField.hidden, sampleField.hidden, rowsField.hidden, strip.hidden] = [state.of === "batch", state.of !== "sample", state.of !== "batch", state.of !== "sample"];
    strip.querySelector(".samples-strip")?.choose(state.sample);
  };
  return { node, chips, strip, sync };
}
