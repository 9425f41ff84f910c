// @ts-check
/** A form made from a JSON schema: whatever the API takes can be given, and what it refuses is said at the place. */

import { el } from "./dom.js";

/**
 * Follow a reference, and take "or null" apart. @param {any} root the OpenAPI document @param {any} schema
 * @returns {{schema: any, optional: boolean}}
 */
function resolved(root, schema) {
  let optional = false, now = schema;
  for (;;) {
    if (now.$ref) {
      const target = now.$ref.split("/").slice(1).reduce((/** @type {any} */ at, /** @type {string} */ name) => at[name], root);
      now = { ...target, ...now, description: now.description ?? target.description, $ref: undefined };
    } else if (now.anyOf) {
      const kinds = now.anyOf.filter((/** @type {any} */ kind) => kind.type !== "null");
      optional ||= kinds.length < now.anyOf.length;
      if (kinds.length > 1) return { schema: { ...now, type: "any" }, optional };
      now = { ...kinds[0], description: now.description ?? kinds[0].description, default: now.default };
    } else return { schema: now, optional };
  }
}

/**
 * What was given without what is so by default, for reading. @param {any} root @param {any} given @param {any} value
 * @returns {any}
 */
export function lean(root, given, value) {
  const { schema } = resolved(root, given);
  if (Array.isArray(value)) return value.map((one) => lean(root, schema.items ?? {}, one));
  if (value === null || typeof value !== "object" || !schema.properties) return value;
  return Object.fromEntries(Object.entries(value).flatMap(([name, part]) => {
    const kept = lean(root, schema.properties[name] ?? {}, part);
    const usual = resolved(root, schema.properties[name] ?? {}).schema.default ?? null;
    const required = schema.required?.includes(name);
    return !required && (kept === null || JSON.stringify(kept) === JSON.stringify(usual)) ? [] : [[name, kept]];
  }));
}

/** Words for a name of the schema. @param {string} name */
const words = (name) => (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll("_", " ");

/**
 * @param {{root: any, schema: any, value: any, changed: () => void, explain: (name: string, text: string) => void,
 *   groups: [string, string[]][], choices?: Record<string, string[]>}} options
 *   root: the OpenAPI document; schema: of the whole; value: changed in place; groups: heading and names of properties,
 *   the last group takes all others, folded away; choices: suggestions for text, by name.
 */
export function specForm({ root, schema, value, changed, explain, groups, choices = {} }) {
  /** @type {Map<string, {field: any, message: any}>} */
  const places = new Map();
  const headings = new Set(groups.map(([heading]) => heading));
  let count = 0;

  /** One property of an object, whatever it is. @param {string} name @param {any} given @param {any} owner @param {string} at @param {boolean} required @returns {any} */
  function property(name, given, owner, at, required) {
    const pointer = `${at}/${name}`;
    const { schema: own, optional } = resolved(root, given);
    if (own.properties) return optional ? choice(name, own, owner, pointer) : part(name, own, owner, pointer);
    if (own.type === "array" && resolved(root, own.items).schema.properties) return list(name, own, owner, pointer);
    return scalar(name, own, owner, pointer, required);
  }

  /** @param {any} own @param {any} object @param {string} at */
  const properties = (own, object, at) => Object.entries(own.properties)
    .map(([name, given]) => property(name, given, object, at, own.required?.includes(name)));

  /** An object that is always there. @param {string} name @param {any} own @param {any} owner @param {string} pointer */
  function part(name, own, owner, pointer) {
    const object = owner[name] ?? {};
    const attach = () => { if (Object.keys(object).length) owner[name] = object; else if (!(own.required ?? []).length) delete owner[name]; };
    const box = el("fieldset", { class: headings.has(words(name)) ? "bare" : null }, el("legend", {}, words(name)), el("div", { class: "fields" }, properties(own, object, pointer)));
    box.addEventListener("change", attach, true);
    box.addEventListener("input", attach, true);
    if (own.required?.length) owner[name] = object;
    return place(pointer, box, box);
  }

  /** An object that may be absent. @param {string} name @param {any} own @param {any} owner @param {string} pointer */
  function choice(name, own, owner, pointer) {
    const body = el("div", { class: "fields" });
    const fill = () => body.replaceChildren(...(owner[name] ? properties(own, owner[name], pointer) : []));
    const box = el("input", { type: "checkbox", id: `field-${count += 1}`, checked: Boolean(owner[name]), onchange: () => {
      if (box.checked) owner[name] = first(name); else delete owner[name];
      fill();
      changed();
    } });
    fill();
    const node = el("fieldset", { class: "optional" }, el("legend", {}, box, " ", el("label", { for: box.id }, words(name))), body);
    node.addEventListener("focusin", () => explain(words(name), own.description ?? ""));
    return place(pointer, node, node);
  }

  /** What an optional object begins with, so that it is not refused at once. @param {string} name */
  const first = (name) => ({ validation: { fraction: 0.2 }, clip: { norm: 1 }, regularization: { l2: 0.0001 } })[name] ?? {};

  /** A list of objects. @param {string} name @param {any} own @param {any} owner @param {string} pointer */
  function list(name, own, owner, pointer) {
    const item = resolved(root, own.items).schema;
    owner[name] ??= [];
    const rows = el("ol", { class: "layers-form" });
    const redraw = () => { draw(); changed(); };
    /** @param {number} i @param {number} by */
    const move = (i, by) => { owner[name].splice(i + by, 0, ...owner[name].splice(i, 1)); redraw(); };
    function draw() {
      for (const known of [...places.keys()]) if (known.startsWith(`${pointer}/`)) places.delete(known);
      rows.replaceChildren(...owner[name].map((/** @type {any} */ one, /** @type {number} */ i) => {
        const all = Object.entries(item.properties).map(([key, given]) => [item.required?.includes(key), property(key, given, one, `${pointer}/${i}`, item.required?.includes(key))]);
        const button = (/** @type {string} */ sign, /** @type {string} */ label, /** @type {() => void} */ act, disabled = false) => el("button", { type: "button", class: "quiet small", "aria-label": `${label} layer ${i + 1}`, title: label, disabled, onclick: act }, sign);
        const more = el("details", {}, el("summary", { class: "hint" }, "more"), el("div", { class: "fields" }, all.filter(([required]) => !required).map(([, node]) => node)));
        more.open = Object.keys(one).some((key) => !item.required?.includes(key));
        return place(`${pointer}/${i}`, el("li", {}, el("span", { class: "row" }, el("b", {}, String(i + 1)), all.filter(([required]) => required).map(([, node]) => node),
          el("span", { class: "end" }, button("↑", "Move up", () => move(i, -1), i === 0), button("↓", "Move down", () => move(i, 1), i === owner[name].length - 1),
            button("✕", "Remove", () => { owner[name].splice(i, 1); redraw(); }, owner[name].length === 1))), more), null);
      }));
    }
    draw();
    const add = el("button", { type: "button", class: "small", onclick: () => { owner[name].splice(Math.max(0, owner[name].length - 1), 0, { units: 16, activation: "tanh" }); redraw(); } }, "+ Add a hidden layer");
    return place(pointer, el("div", { class: "list" }, rows, add), null);
  }

  /** A number, a word, a choice, yes or no. @param {string} name @param {any} own @param {any} owner @param {string} pointer @param {boolean} required */
  function scalar(name, own, owner, pointer, required) {
    const id = `field-${count += 1}`;
    const now = owner[name];
    /** @param {any} found */
    const set = (found) => { if (found === undefined) delete owner[name]; else owner[name] = found; };
    let field;
    if (own.enum) {
      const usual = own.default ?? null;
      field = el("select", { id, onchange: () => { set(field.value || undefined); changed(); } },
        required ? null : el("option", { value: "" }, usual === null ? "by default" : `${usual} (default)`), own.enum.map((/** @type {string} */ one) => el("option", { value: one }, one.replaceAll("_", " "))));
      field.value = now ?? (required ? own.enum[0] : "");
    } else if (own.type === "boolean") {
      field = el("input", { type: "checkbox", id, checked: now ?? own.default ?? false, onchange: () => { set(field.checked === (own.default ?? false) ? undefined : field.checked); changed(); } });
    } else {
      const text = now === undefined || now === null ? "" : typeof now === "object" ? JSON.stringify(now) : String(now);
      const usual = own.default === undefined || own.default === null || own.default === "" ? "" : String(own.default);
      field = el("input", { id, type: "text", value: text, placeholder: usual || null, autocomplete: "off", spellcheck: "false", list: choices[name] ? `${id}-list` : null, inputmode: ["integer", "number"].includes(own.type) ? "decimal" : null,
        class: ["integer", "number"].includes(own.type) ? "short" : null, oninput: () => { set(read(own, field.value)); changed(); } });
    }
    field.addEventListener("focus", () => explain(words(name), own.description ?? ""));
    const label = el("label", { for: id }, words(name));
    const suggestions = choices[name] && !own.enum ? el("datalist", { id: `${id}-list` }, choices[name].map((one) => el("option", { value: one }))) : null;
    return place(pointer, el("div", { class: own.type === "boolean" ? "field check" : "field" }, label, field, suggestions), field);
  }

  /** Remember where a pointer leads. @param {string} pointer @param {any} node @param {any} field */
  function place(pointer, node, field) {
    const message = el("p", { class: "error-text", id: `error-${count += 1}`, hidden: true });
    node.append(message);
    places.set(pointer, { field, message });
    return node;
  }

  const listed = new Set(groups.flatMap(([, names]) => names));
  const required = new Set(schema.required ?? []);
  const make = (/** @type {string} */ name) => property(name, schema.properties[name], value, "", required.has(name));
  const others = Object.keys(schema.properties).filter((name) => !listed.has(name));
  const node = el("form", { class: "spec", autocomplete: "off", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
    groups.map(([heading, names]) => el("section", { class: "panel" }, el("h2", {}, heading), el("div", { class: "fields" }, names.filter((name) => schema.properties[name]).map(make)))),
    el("details", { class: "panel" }, el("summary", {}, "More: ", el("span", { class: "muted" }, others.slice(0, 5).map((name) => words(name).toLowerCase()).join(", "), ", …")), el("div", { class: "fields" }, others.map(make))));

  return {
    node,
    /** Say what is wrong at its place; give back what has none here. @param {{pointer: string, detail: string}[]} errors */
    refuse(errors) {
      for (const { field, message } of places.values()) {
        message.hidden = true;
        if (field?.matches("input, select")) { field.removeAttribute("aria-invalid"); field.removeAttribute("aria-describedby"); }
      }
      return errors.filter(({ pointer, detail }) => {
        let at = pointer;
        while (at && !places.has(at)) at = at.slice(0, at.lastIndexOf("/"));
        const found = places.get(at);
        if (!found) return true;
        found.message.textContent = found.message.hidden ? detail : `${found.message.textContent} ${detail}`;
        found.message.hidden = false;
        for (let fold = found.message.closest("details"); fold; fold = fold.parentElement?.closest("details") ?? null) fold.open = true;
        if (found.field?.matches("input, select")) { found.field.setAttribute("aria-invalid", "true"); found.field.setAttribute("aria-describedby", found.message.id); }
        return false;
      });
    },
  };
}

/** What a text means; what is no number stays text, for the API to refuse. @param {any} own @param {string} text */
function read(own, text) {
  const trimmed = text.trim();
  if (!trimmed) return undefined;
  if (["integer", "number"].includes(own.type)) return Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed;
  if (own.type !== "any") return text;
  try { return JSON.parse(trimmed); } catch { return trimmed; }
}
