// @ts-check
/** The router: the hash names a page and all it shows; each page is a module, loaded when it is first asked for. */

import { get, Problem } from "./api.js";
import { announce, el, problem } from "./dom.js";

/** Path, module, word in the navigation or the tabs of a run ("" for neither). */
const ROUTES = [
  { path: "", page: "runs", nav: "Runs" },
  { path: "new", page: "new", nav: "New run" },
  { path: "compare", page: "compare", nav: "Compare" },
  { path: "check", page: "check", nav: "Check gradients" },
  { path: "learn", page: "learn", nav: "Learn" },
  { path: "runs/:id", page: "run", tab: "Overview" },
  { path: "runs/:id/backprop", page: "backprop", tab: "Backpropagation" },
  { path: "runs/:id/dynamics", page: "dynamics", tab: "Dynamics" },
  { path: "runs/:id/samples", page: "samples", tab: "Samples" },
  { path: "runs/:id/steps", page: "steps", tab: "Steps" },
];
const THERE = new Set((document.querySelector("meta[name=pages]")?.getAttribute("content") ?? "").split(" "));
/** The modules each page is made of, so that none is asked for only when another one has been read. */
const PARTS = new Map((document.querySelector("meta[name=parts]")?.getAttribute("content") ?? "").split(";").map((one) => /** @type {[string, string]} */ (one.trim().split(":"))));
const KNOWN = ROUTES.filter((route) => THERE.has(route.page));
/** The browser ignores more changes of the address than about six a second. */
const ADDRESS_MS = 200;

const main = /** @type {HTMLElement} */ (document.getElementById("page"));
const tabs = /** @type {HTMLElement} */ (document.getElementById("tabs"));
const nav = /** @type {HTMLElement} */ (document.getElementById("nav"));

/** @type {{place: string, query: URLSearchParams, listeners: ((query: URLSearchParams) => void)[], leave: AbortController} | null} */
let current = null;
/** @type {number | undefined} */
let addressTimer;

/** @param {string} hash */
function parse(hash) {
  const [place, query = ""] = hash.replace(/^#?\/?/, "").split("?");
  const parts = place.split("/").filter(Boolean).map(decodeURIComponent);
  for (const route of KNOWN) {
    const names = route.path.split("/").filter(Boolean);
    if (names.length !== parts.length) continue;
    /** @type {Record<string, string>} */
    const params = {};
    const fits = names.every((name, i) => name.startsWith(":") ? (params[name.slice(1)] = parts[i]) : name === parts[i]);
    if (fits) return { route, params, query: new URLSearchParams(query), place: parts.join("/") };
  }
  return { route: null, params: {}, query: new URLSearchParams(query), place: parts.join("/") };
}

async function navigate() {
  const { route, params, query, place } = parse(location.hash);
  clearTimeout(addressTimer);
  if (current?.place === place && route) {
    current.query = query;
    for (const listener of current.listeners) listener(query);
    return;
  }
  const first = current === null;
  current?.leave.abort();
  const here = current = { place, query, listeners: [], leave: new AbortController() };
  mark(route, params);
  main.replaceChildren();
  main.setAttribute("aria-busy", "true");
  try {
    if (!route) throw new Problem({ status: 404, code: "not_found", title: "There is no such page", detail: "The address names none that is here." });
    const ctx = context(here, params);
    ahead(route.page);
    const page = await import(`./pages/${route.page}.js`).catch((error) => {
      console.warn(error);
      throw new Problem({ status: 0, code: "outdated", title: "The page could not be loaded", detail: "The service is gone, or has been updated: load this page anew." });
    });
    if (here.leave.signal.aborted) return;
    titled(page.title(params));
    await page.render(main, ctx);
  } catch (error) {
    if (here.leave.signal.aborted) return;
    if (!(error instanceof Problem)) console.error(error);
    const heading = main.querySelector("h1") ? null : el("h1", {}, "This cannot be shown");
    main.prepend(...[heading, problem(error)].filter(Boolean));
  } finally {
    if (current === here) {
      main.removeAttribute("aria-busy");
      if (!first) { main.focus({ preventScroll: true }); scrollTo(0, 0); }
      announce(document.title);
    }
  }
}

/** Have all of a page's modules fetched at once. @param {string} page */
function ahead(page) {
  for (const name of PARTS.get(page)?.split(" ").filter(Boolean) ?? []) {
    const href = new URL(name, import.meta.url).href;
    if (!document.head.querySelector(`link[href="${href}"]`)) document.head.append(el("link", { rel: "modulepreload", href }));
  }
}

/** @param {string} text */
function titled(text) {
  document.title = text === "Chainrule" ? text : `${text} · Chainrule`;
}

/**
 * What a page is given.
 * @param {NonNullable<typeof current>} here
 * @param {Record<string, string>} params
 */
function context(here, params) {
  const run = params.id ? get(`/v1/runs/${params.id}`, { signal: here.leave.signal }) : null;
  run?.catch(() => null);
  return {
    params,
    /** The run the page is about, asked for while its modules are still on their way. @type {Promise<any> | null} */
    run,
    /** Whether there is a page of that name to link to. @param {string} page */
    has: (page) => THERE.has(page),
    get query() { return here.query; },
    signal: here.leave.signal,
    /** @param {(query: URLSearchParams) => void} fn */
    onQuery: (fn) => { here.listeners.push(fn); },
    /** @param {string} hash */
    go: (hash) => { location.hash = hash; },
    /** @param {string} text */
    setTitle: (text) => { if (current === here) titled(text); },
    /**
     * Change the query; null takes a name out. Listeners are told at once, the address follows.
     * @param {Record<string, any>} changes @param {{replace?: boolean}} [options]
     */
    setQuery: (changes, { replace = true } = {}) => {
      if (current !== here) return;
      const query = new URLSearchParams(here.query);
      for (const [name, value] of Object.entries(changes)) {
        if (value === null || value === undefined || value === "") query.delete(name);
        else query.set(name, String(value));
      }
      if (query.toString() === here.query.toString()) return;
      here.query = query;
      for (const listener of here.listeners) listener(query);
      const write = () => {
        const hash = `#/${here.place}${query.size ? `?${query}` : ""}`;
        history[replace ? "replaceState" : "pushState"](null, "", hash);
      };
      clearTimeout(addressTimer);
      if (replace) addressTimer = setTimeout(() => current === here && write(), ADDRESS_MS);
      else write();
    },
  };
}

/** Show where we are. @param {any} route @param {Record<string, string>} params */
function mark(route, params) {
  nav.replaceChildren(...KNOWN.filter((one) => one.nav).map((one) => el("a", {
    href: `#/${one.path}`,
    "aria-current": one === route ? "page" : one.page === "runs" && route?.tab ? "true" : null,
  }, one.nav)));
  tabs.hidden = !route?.tab;
  tabs.replaceChildren(...(route?.tab ? KNOWN.filter((one) => one.tab) : []).map((one) => el("a", {
    href: `#/${one.path.replace(":id", params.id)}`, "aria-current": one === route ? "page" : null,
  }, one.tab)));
}

function theme() {
  const button = /** @type {HTMLElement} */ (document.getElementById("theme"));
  const root = document.documentElement;
  const stored = localStorage.getItem("chainrule-theme");
  if (stored) root.dataset.theme = stored;
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const say = () => {
    button.textContent = dark() ? "☀" : "☾";
    button.setAttribute("aria-label", dark() ? "Light colours" : "Dark colours");
    button.title = dark() ? "Light colours" : "Dark colours";
  };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    localStorage.setItem("chainrule-theme", root.dataset.theme);
    say();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", say);
  say();
}

/** The service asks for a key: it is kept for as long as this tab is open. */
document.addEventListener("chainrule:key", (event) => {
  const { refused, give } = /** @type {CustomEvent} */ (event).detail;
  const field = el("input", { type: "password", id: "key", autocomplete: "off", required: true, spellcheck: "false" });
  const dialog = el("dialog", { class: "panel", "aria-labelledby": "key-title" }, el("form", {
    onsubmit: (/** @type {Event} */ submitted) => { submitted.preventDefault(); give(field.value.trim()); dialog.remove(); },
  }, el("h2", { id: "key-title" }, "A key, please"), el("p", {}, refused ? "The service does not know that key." : "This service asks for a key."),
  el("label", { for: "key" }, "Key"), field, el("p", { class: "hint" }, "Kept until this tab is closed. ", el("code", {}, "chainrule keys create"), " makes one."),
  el("button", { class: "primary" }, "Use it")));
  dialog.addEventListener("cancel", (/** @type {Event} */ cancelled) => cancelled.preventDefault());
  document.body.append(dialog);
  dialog.showModal();
});

document.getElementById("skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
theme();
addEventListener("hashchange", navigate);
navigate();
