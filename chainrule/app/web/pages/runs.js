// @ts-check
/** The runs there are, newest first: where each stands, and one click to look inside, stop it or compare two. */

import { poller, post, shown, wait } from "../api.js";
import { ago, badge, el, number, percent, problem, shape, svg } from "../dom.js";
import { EXAMPLES } from "../examples.js";
import { faults } from "../verdicts.js";

const POLL_MS = 2000;
const PAGE = 25;
const STATUSES = ["queued", "running", "paused", "succeeded", "failed", "cancelled"];
const FILTERS = ["status", "dataset", "search"];

export const title = () => "Chainrule";

/** @param {HTMLElement} main @param {any} ctx */
export async function render(main, ctx) {
  const poll = poller();
  const chosen = new Set((ctx.query.get("compare") ?? "").split(",").filter(Boolean));
  const status = el("select", { id: "status", onchange: () => filter({ status: status.value }) },
    el("option", { value: "" }, "any status"), STATUSES.map((one) => el("option", { value: one }, one)));
  const search = el("input", { id: "search", type: "search", placeholder: "name or dataset", "aria-label": "Search by name or dataset", oninput: () => filter({ search: search.value.trim() }) });
  const compare = el("a", { class: "button", href: "#/compare", role: "link" }, "Compare");
  const tools = el("div", { class: "row end" }, search, el("label", { for: "status", class: "visually-hidden" }, "Status"), status, compare, ctx.has("new") ? el("a", { class: "button primary", href: "#/new" }, "New run") : null);
  const trouble = el("div");
  const list = el("div");
  const paging = el("div", { class: "row" });
  main.append(el("div", { class: "head" }, el("h1", {}, "Runs"), tools), trouble, list, paging);

  /** @param {Record<string, string>} changes */
  const filter = (changes) => ctx.setQuery({ ...changes, cursor: null });
  let look = new AbortController();
  ctx.onQuery(() => look.abort());

  const place = () => {
    const query = new URLSearchParams({ limit: String(PAGE), costs: "32" });
    for (const name of [...FILTERS, "cursor"]) if (ctx.query.get(name)) query.set(name, ctx.query.get(name));
    return `/v1/runs?${query}`;
  };
  await refresh();
  keepUp();

  async function keepUp() {
    while (!ctx.signal.aborted) {
      await wait(POLL_MS, AbortSignal.any([ctx.signal, look.signal]));
      await shown(ctx.signal);
      if (!ctx.signal.aborted) await refresh();
    }
  }

  async function refresh() {
    look = new AbortController();
    const signal = AbortSignal.any([ctx.signal, look.signal]);
    try {
      const page = await poll(place(), { signal });
      trouble.replaceChildren();
      if (page) show(page);
    } catch (error) {
      if (!signal.aborted) trouble.replaceChildren(problem(error));
    }
  }

  /** @param {any} page */
  function show(page) {
    status.value = ctx.query.get("status") ?? "";
    if (document.activeElement !== search) search.value = ctx.query.get("search") ?? "";
    const filtered = [...FILTERS, "cursor"].some((name) => ctx.query.get(name));
    tools.hidden = !page.items.length && !filtered;
    list.replaceChildren(page.items.length ? table(page.items) : filtered ? el("p", { class: "panel" }, "No run is like that.") : examples());
    paging.replaceChildren(...[
      ctx.query.get("cursor") ? el("button", { type: "button", onclick: () => ctx.setQuery({ cursor: null }, { replace: false }) }, "Newest") : null,
      page.next_cursor ? el("button", { type: "button", onclick: () => ctx.setQuery({ cursor: page.next_cursor }, { replace: false }) }, "Older runs") : null,
    ].filter(Boolean));
    comparing();
  }

  function examples() {
    return el("div", {}, el("p", {}, "Nothing has been trained yet. One click trains one of these, and shows what happens inside:"),
      el("div", { class: "cards" }, EXAMPLES.map((example) => el("section", { class: "panel example" }, example.picture(), el("h2", {}, example.title), el("p", { class: "muted" }, example.text),
        el("button", { type: "button", class: "primary", onclick: (/** @type {any} */ event) => train(event.target, example.spec) }, `Train ${example.title}`)))));
  }

  /** @param {HTMLButtonElement} button @param {any} spec */
  async function train(button, spec) {
    button.disabled = true;
    try {
      const run = await post("/v1/runs", spec);
      if (ctx.has("run")) ctx.go(`#/runs/${run.id}`);
      else look.abort();
    } catch (error) {
      button.disabled = false;
      trouble.replaceChildren(problem(error));
    }
  }

  /** @param {any[]} runs */
  function table(runs) {
    const heads = ["Name", "Network", "Dataset", "Status", "Epoch", "Cost", "", "Error", "Verdicts", "Submitted", ""];
    const focus = document.activeElement?.id;
    const node = el("div", { class: "panel scroll" }, el("table", { class: "runs" },
      el("thead", {}, el("tr", {}, el("td", {}, el("span", { class: "visually-hidden" }, "Compare")), heads.map((text) => text ? el("th", { scope: "col", class: ["Cost", "Error"].includes(text) ? "number" : null }, text) : el("td")))),
      el("tbody", {}, runs.map(line))));
    if (focus) queueMicrotask(() => document.getElementById(focus)?.focus({ preventScroll: true }));
    return node;
  }

  /** @param {any} run */
  function line(run) {
    const name = run.name || run.id.slice(0, 12);
    const error = run.validation_error ?? run.error;
    return el("tr", {},
      el("td", {}, el("input", { type: "checkbox", id: `compare-${run.id}`, "aria-label": `Compare ${name}`, checked: chosen.has(run.id), onchange: (/** @type {any} */ event) => choose(run.id, event.target.checked) })),
      el("th", { scope: "row" }, el("a", { href: `#/runs/${run.id}`, id: `run-${run.id}`, title: run.id }, name)),
      el("td", {}, shape(run.config)), el("td", {}, run.dataset), el("td", {}, badge(run.status)),
      el("td", {}, run.done ? null : el("span", { class: "meter", role: "img", "aria-label": `${Math.round(run.progress.percent)} percent` }, el("span", { style: { width: `${run.progress.percent}%` } })), ` ${number(run.progress.epochs_done)}/${number(run.progress.epochs_total)}`),
      el("td", { class: "number" }, number(run.cost, 3)), el("td", {}, spark(run)), el("td", { class: "number" }, percent(error)),
      el("td", {}, verdicts(run)), el("td", {}, ago(run.created_at)),
      el("td", {}, run.done ? null : el("button", { type: "button", class: "small", id: `cancel-${run.id}`, "aria-label": `Cancel ${name}`, disabled: run.cancel_requested, onclick: () => cancel(run.id) }, "Cancel")));
  }

  /** @param {any} run */
  function verdicts(run) {
    const count = faults(run);
    return count ? el("span", { class: "badge warning", title: run.diagnoses.map((/** @type {any} */ one) => one.title).join(", ") }, `⚠ ${count}`) : "–";
  }

  /** The cost so far, log. @param {any} run */
  function spark(run) {
    const box = svg("svg", { class: "spark", width: 92, height: 24, role: "img", "aria-label": "Cost by epoch" });
    draw(box, run.costs ?? []);
    return box;
  }

  /** @param {any} box @param {number[]} values */
  function draw(box, values) {
    const logs = values.map((value) => Math.log(Math.max(value, 1e-12)));
    const [low, high] = [Math.min(...logs), Math.max(...logs)];
    const points = logs.map((value, i) => `${(i / Math.max(1, logs.length - 1) * 90 + 1).toFixed(1)} ${(22 - (value - low) / (high - low || 1) * 20).toFixed(1)}`);
    box.replaceChildren(...(points.length > 1 ? [svg("path", { d: `M${points.join("L")}` })] : []));
  }

  /** @param {string} id @param {boolean} on */
  function choose(id, on) {
    if (on) chosen.add(id); else chosen.delete(id);
    ctx.setQuery({ compare: [...chosen].join(",") });
    comparing();
  }

  function comparing() {
    compare.textContent = `Compare (${chosen.size})`;
    compare.hidden = chosen.size < 2 || !ctx.has("compare");
    compare.setAttribute("href", `#/compare?runs=${[...chosen].join(",")}`);
  }

  /** @param {string} id */
  async function cancel(id) {
    try {
      await post(`/v1/runs/${id}/cancel`);
    } catch (error) {
      trouble.replaceChildren(problem(error));
    }
    look.abort();
  }
}
