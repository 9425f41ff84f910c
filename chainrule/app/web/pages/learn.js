// @ts-check
/** A short tutorial: what a network is, how errors travel back through it, and what goes wrong; each part live. */

import { get, post, wait } from "../api.js";
import { el, eq, number, problem } from "../dom.js";
import { EXAMPLES } from "../examples.js";
import * as lessons from "../lessons.js";

const POLL_MS = 300;
const HELD_MS = 5000;
const EQUATIONS = [
  ["Forward", ["Z[l] = A[l-1]·W[l]ᵀ + b[l]", "A[l] = g(Z[l])"], "(m, n_l)", "A sum over the layer below, then a bend."],
  ["1", ["dA[L] = ∂E/∂A[L]"], "(m, n_L)", "How the error changes with the output."],
  ["2", ["dZ[l] = dA[l] ⊙ g′(Z[l])"], "(m, n_l)", "Back through the bend: times its slope, unit by unit."],
  ["3", ["dW[l] = (1/m)·dZ[l]ᵀ·A[l-1]"], "as `W[l]`", "A weight's share: what came in, times what was wanted of what went out."],
  ["4", ["db[l] = (1/m)·Σᵢ dZ[l]⁽ⁱ⁾"], "as `b[l]`", "The same with 1 in place of what came in."],
  ["5", ["dA[l-1] = dZ[l]·W[l]"], "(m, n_{l-1})", "Back through the weights, to the layer below; there 2 begins anew."],
];

/** Words with equations between backticks. @param {string} text */
const rich = (text) => text.split("`").map((part, i) => i % 2 ? eq(part) : part);
/** @param {...any} words */
const p = (...words) => el("p", {}, words.map((one) => typeof one === "string" ? rich(one) : one));
/** A shape, its indices lowered: (m, n_l). @param {string} text */
const lowered = (text) => el("span", { class: "eq" }, text.split(/(_\{[^}]+\}|_\w)/).map((part) => part.startsWith("_") ? el("sub", {}, part.replace(/[_{}]/g, "")) : part));

/** Parts: key, title, words, and what is shown live of which example. @type {{key: string, title: string, words: () => any[], example?: string, live: (live: any) => any}[]} */
const PARTS = [
  { key: "functions", title: "A network is functions, one after the other", example: "xor", live: (live) => lessons.walked(live, "forward", () => 1),
    words: () => [
      p("Layer l takes the row `A[l-1]` of each sample, multiplies it by its weights, adds its biases and bends the result:"),
      el("p", { class: "displayed" }, eq("Z[l] = A[l-1]·W[l]ᵀ + b[l]"), eq("A[l] = g(Z[l])")),
      p("`A[0]` is the sample itself, `A[L]` is the answer. Without the bend `g` all layers together would be one matrix, and one matrix cannot do XOR: no straight line parts its classes. ", "In the picture a layer's input lies above its weights, because that is where the product puts it: each row of `W[l]` meets `A[l-1]` and becomes one number of `Z[l]` at its right end. Go through the steps."),
    ] },
  { key: "cost", title: "The cost says how wrong it is", example: "xor", live: lessons.cost,
    words: () => [
      p("Each sample has an error E of its own: for a network that answers with a probability a of the right class it is −log a, nothing for certainty in the right, without bound for certainty in the wrong. The cost is their mean,"),
      el("p", { class: "displayed" }, eq("C = (1/m) Σᵢ E⁽ⁱ⁾")), p("It is a function of every `W[l]` and `b[l]`. Learning means to look for weights at which it is small."),
    ] },
  { key: "equations", title: "Five equations carry the error back", example: "xor", live: (live) => lessons.walked(live, "back", (walk) => walk.steps.findIndex((/** @type {any} */ step) => step.phase === "backward") + 1),
    words: () => [
      p("To make C smaller one has to know how it changes with each weight. The chain rule gives all these slopes in one way back, layer by layer. `dX` stands for the gradient with respect to `X` and has its shape; rows are samples, and row i of `dA` and `dZ` is the gradient of sample i's own error."),
      el("div", { class: "scroll" }, el("table", { class: "equations" }, el("thead", {}, el("tr", {}, ["", "Equation", "Shape", "In words"].map((head) => head ? el("th", { scope: "col" }, head) : el("td")))),
        el("tbody", {}, EQUATIONS.map(([name, texts, shape, words]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, /** @type {string[]} */ (texts).map((text) => el("div", {}, eq(text)))), el("td", {}, String(shape).startsWith("as") ? rich(String(shape)) : lowered(String(shape))), el("td", {}, words)))))),
      p("Of a sigmoid or softmax output with cross-entropy, 1 and 2 together are ", eq("dZ[L] = A[L] − Y"), ": what it said minus what was true. In the picture `dZ[l]` stands at the right of `W[l]` and meets its columns on the way down to `dA[l-1]`; crossed with the row above it makes `dW[l]`."),
    ] },
  { key: "caches", title: "What a layer has to remember", example: "digits", live: lessons.caches,
    words: () => [
      p("Equation 2 needs `Z[l]`, equation 3 `A[l-1]`, equation 5 `W[l]`: all known from the way forward. So each layer keeps `W[l]`, `A[l-1]`, `b[l]`, `Z[l]` and `A[l]`, its cache, until the way back has passed. This is what training needs memory for: it grows with the batch, as the weights do not. Shapes are the best check of an implementation by hand: dX that has not the shape of X is wrong."),
    ] },
  { key: "mean", title: "m, and where 1/m enters", example: "xor", live: lessons.means,
    words: () => [
      p("C is a mean, so its gradient is the mean of the samples' gradients. The 1/m enters in equations 3 and 4, where samples are added up, and nowhere else. Forget it, and each step is m times too long; take it twice, and it is m times too short, while every direction is still right: a mistake that no plot shows."),
      p(el("a", { href: "#/check" }, "Check gradients"), " tells you if yours has it."),
    ] },
  { key: "error", title: "Classification error is not the cost", example: "digits", live: lessons.stairs,
    words: () => [
      p("The classification error is the share of samples got wrong. People want it small, but it cannot be descended: a weight moved a little moves no sample across the border, so its slope is 0 nearly everywhere. The cost has a slope at every point, and falls while the error stands still, as samples that are right become right with more certainty. Both belong on the page; gradients are those of the cost."),
    ] },
  { key: "loop", title: "Training is a loop", example: "xor", live: lessons.loop,
    words: () => [
      el("ol", {}, ["Begin with small random weights, of a size that keeps RMS(Z) about the same in all layers.", "Forward, for a batch of samples: caches, and the cost.", "Backward: `dW` and `db` of every layer.", "Step against the gradient, `W ← W − η·dW`, or as the optimizer shapes it.", "Repeat. Once through all samples is an epoch."].map((text) => el("li", {}, rich(text)))),
      p("Play the epochs, and see what the network answers everywhere in the plane."),
    ] },
  { key: "wrong", title: "What goes wrong", live: ({ ctx, host }) => lessons.trouble(ctx, host),
    words: () => [p("Three ways in which a network that is right in every equation does not learn. Each can be told from numbers of its layers, some of them before the first step:")] },
];

export const title = () => "Learn";

/** @param {HTMLElement} main @param {any} ctx */
export async function render(main, ctx) {
  const { signal } = ctx;
  /** @type {Record<string, {run: any, dataset: any} | null>} */
  const found = { xor: null, digits: null };
  const hosts = PARTS.map((part) => ({ part, host: el("div", { class: "live panel" }), begun: "" }));
  const contents = el("nav", { class: "contents", "aria-label": "Parts" }, el("ol", {}, PARTS.map((part) => el("li", {}, el("button", { type: "button", class: "quiet small", onclick: () => ctx.setQuery({ part: part.key }, { replace: false }) }, part.title)))));
  main.append(el("div", { class: "head" }, el("h1", {}, "Backpropagation, seen from inside")), el("div", { class: "learn" }, contents, el("div", { class: "parts" },
    p("Everything below is computed by this service, from the weights of two small networks that it trains while you watch: one for exclusive or, one for handwritten digits. ", "Notation is the same throughout: layers l = 1…L, m samples as rows, `W[l]` of shape ", lowered("(n_l, n_{l-1})"), "."),
    hosts.map(({ part, host }, i) => el("section", { id: `part-${part.key}`, class: "part" }, el("h2", {}, `${i + 1} · ${part.title}`), el("div", { class: "words" }, part.words()), host)))));

  await Promise.all(Object.keys(found).map(seek));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); show(/** @type {any} */ (hosts.find(({ host }) => host === entry.target))); }
  }, { rootMargin: "400px" });
  for (const { host } of hosts) seen.observe(host);
  signal.addEventListener("abort", () => seen.disconnect());
  let part = "";
  const jump = () => {
    const wanted = ctx.query.get("part") ?? "";
    if (wanted !== part) hold(main.querySelector(`#part-${CSS.escape(wanted)}`));
    part = wanted;
    contents.querySelectorAll("button").forEach((/** @type {HTMLElement} */ button, /** @type {number} */ i) => {
      if (PARTS[i].key === part) button.setAttribute("aria-current", "true"); else button.removeAttribute("aria-current");
    });
  };
  ctx.onQuery(jump);
  requestAnimationFrame(jump);

  /** Go to a part, and stay there while the parts above it are filled, until the reader moves. @param {Element | null} place */
  function hold(place) {
    if (!place) return;
    const scroll = () => place.scrollIntoView({ block: "start" });
    const held = new ResizeObserver(scroll);
    const over = AbortSignal.any([signal, AbortSignal.timeout(HELD_MS)]);
    const leave = () => held.disconnect();
    over.addEventListener("abort", leave);
    for (const name of ["wheel", "touchstart", "pointerdown", "keydown"]) addEventListener(name, leave, { signal: over, passive: true });
    held.observe(/** @type {Element} */ (place.parentElement));
    scroll();
  }

  /** Look for a run of an example: the one the address names, or any that has been trained. @param {string} name */
  async function seek(name) {
    try {
      const id = ctx.query.get(name);
      const run = id ? await get(`/v1/runs/${id}`, { signal }) : (await get(`/v1/runs?dataset=${name}&status=succeeded&limit=20`, { signal })).items.find(plain);
      if (run?.done) found[name] = { run, dataset: await get(`/v1/datasets/${run.dataset}`, { signal }) };
    } catch (error) {
      if (!signal.aborted) console.warn(error);
    }
  }

  /** @param {typeof hosts[number]} one */
  async function show(one) {
    const { part, host } = one;
    const example = part.example ? found[part.example] : null;
    const key = part.example ? example?.run.id ?? "none" : "own";
    if (one.begun === key) return;
    one.begun = key;
    if (part.example && !example) { host.replaceChildren(invitation(part.example)); return; }
    try {
      await part.live({ ...example, ctx, host });
    } catch (error) {
      if (!signal.aborted) host.replaceChildren(problem(error));
    }
  }

  /** @param {string} name */
  function invitation(name) {
    const example = /** @type {any} */ (EXAMPLES.find(({ spec }) => spec.dataset === name));
    const state = el("span", { class: "muted", role: "status" });
    const button = el("button", { type: "button", class: "primary", onclick: async () => {
      button.disabled = true;
      try {
        let run = await post("/v1/runs", example.spec);
        for (; !run.done && !signal.aborted; run = await get(`/v1/runs/${run.id}`, { signal })) {
          state.textContent = `${run.status}, ${number(run.progress.percent, 2)} %`;
          await wait(POLL_MS, signal);
        }
        if (signal.aborted) return;
        ctx.setQuery({ [name]: run.id });
        await seek(name);
        for (const one of hosts) if (one.part.example === name && one.begun) show(one);
      } catch (error) {
        if (!signal.aborted) state.replaceChildren(problem(error));
      } finally {
        button.disabled = false;
      }
    } }, `Train ${example.title}`);
    return el("div", { class: "invitation" }, el("p", {}, `Seen live on a network that learns ${example.title}; one click trains it, in a second or two.`), el("div", { class: "row" }, button, state));
  }
}

/** Whether a run is small and simple enough to learn from. @param {any} run */
function plain(run) {
  const { layers } = run.config.network;
  return layers.length >= 2 && layers.length <= 4 && run.parameters < 20_000 && layers.every((/** @type {any} */ layer) => !layer.normalization && !layer.dropout) && run.config.cost === "cross_entropy"
    && run.progress.epochs_done >= 5 && run.config.checkpoints.every === 1 && !run.config.checkpoints.keep && !run.thinned_at;
}
