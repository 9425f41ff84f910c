// @ts-check
/** The data of a new run: what a dataset holds, its first samples, and a file of one's own. */

import { get, post } from "./api.js";
import { el, number, problem } from "./dom.js";

const ROWS = 5, COLUMNS = 6;
/** Fields of an upload that are sent when they are filled in, with the words for them. @type {[string, string, string][]} */
const FIELDS = [
  ["label_column", "Column of labels", "the last, if its values are words or few"],
  ["target_columns", "Columns of numeric targets", "none"],
];

/**
 * @param {{signal: AbortSignal, sent: (dataset: any) => void}} options sent: told of a dataset that has been uploaded.
 * @returns {{node: HTMLElement, show: (id: string) => Promise<void>}} show: say what this dataset holds.
 */
export function dataPanel({ signal, sent }) {
  const about = el("div"), said = el("div", { role: "status" });
  const file = el("input", { type: "file", id: "data-file", required: true, accept: ".csv,.npy,.npz,.gz,.idx,.json,.txt" });
  const labels = el("input", { type: "file", id: "data-labels" });
  const fields = FIELDS.map(([name, words, usual]) => ({ name, words, input: el("input", { type: "text", id: `data-${name}`, placeholder: usual }) }));
  const send = el("button", { type: "submit" }, "Send");
  const form = el("form", { class: "data-form" },
    [{ words: "File", input: file }, ...fields, { words: "Labels of an IDX file", input: labels }]
      .map(({ words, input }) => el("p", {}, el("label", { for: input.id }, words), input)),
    el("p", { class: "hint" }, "CSV, NPY, NPZ or IDX, gzipped or not. Words become categories; what was inferred is said."), send, said);
  form.addEventListener("submit", upload);
  let shown = "";

  /** @param {Event} event */
  async function upload(event) {
    event.preventDefault();
    const body = new FormData();
    body.append("file", file.files[0]);
    if (labels.files[0]) body.append("labels_file", labels.files[0]);
    for (const { name, input } of fields) if (input.value.trim()) body.append(name, input.value.trim());
    send.disabled = true;
    said.replaceChildren(el("p", { class: "muted" }, "Sending …"));
    try {
      const dataset = await post("/v1/datasets", body, { signal });
      said.replaceChildren(el("p", {}, `✓ “${dataset.name}” is there.`), el("ul", { class: "hint" }, (dataset.report.notes ?? []).map((/** @type {string} */ note) => el("li", {}, note))));
      sent(dataset);
    } catch (wrong) {
      if (!signal.aborted) said.replaceChildren(problem(/** @type {any} */ (wrong)));
    } finally {
      send.disabled = false;
    }
  }

  /** @param {string} id */
  async function show(id) {
    if (id === shown) return;
    shown = id;
    try {
      const place = `/v1/datasets/${encodeURIComponent(id)}`;
      const [dataset, preview] = await Promise.all([get(place, { signal }), get(`${place}/preview?limit=${ROWS}`, { signal })]);
      if (shown === id) about.replaceChildren(el("p", {}, words(dataset)), table(preview));
    } catch (wrong) {
      if (shown !== id || signal.aborted) return;
      shown = "";
      about.replaceChildren(el("p", { class: "muted" }, "No dataset of this name is there."));
    }
  }

  const node = el("div", {}, about, el("details", {}, el("summary", {}, "Send a file of your own"), form));
  return { node, show };
}

/** @param {any} dataset */
function words(dataset) {
  const { classes } = dataset;
  const task = classes.length ? `${classes.length} classes: ${classes.slice(0, 6).join(", ")}${classes.length > 6 ? ", …" : ""}` : `${dataset.targets} numeric ${dataset.targets === 1 ? "target" : "targets"}`;
  return `${number(dataset.samples)} samples of ${number(dataset.features)} features · ${task}`;
}

/** @param {any} preview */
function table({ feature_names: names, rows, labels, targets }) {
  const cut = names.length > COLUMNS ? ["…"] : [];
  const value = (/** @type {any} */ one) => (typeof one === "number" ? number(one, 3) : String(one));
  const answer = (/** @type {number} */ i) => (labels ? labels[i] : targets[i].map(value).join(", "));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The first samples" }, el("table", {},
    el("thead", {}, el("tr", {}, [...names.slice(0, COLUMNS), ...cut, labels ? "class" : "target"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((/** @type {any[]} */ row, /** @type {number} */ i) => el("tr", {}, [...row.slice(0, COLUMNS).map(value), ...cut, answer(i)].map((text) => el("td", {}, text)))))));
}
