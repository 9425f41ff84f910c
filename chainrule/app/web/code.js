// @ts-check
/** A run's spec as a program would submit it. */

import { announce, el } from "./dom.js";

/** @param {any} spec */
export function asCurl(spec) {
  const body = JSON.stringify(spec, null, 2).replaceAll("'", "'\\''");
  return `curl -s ${location.origin}/v1/runs -H 'Content-Type: application/json' -d '${body}'`;
}

/** @param {any} spec */
export function asPython(spec) {
  return `from chainrule.app.client import Client\n\nwith Client("${location.origin}") as client:\n    run = client.submit(${python(spec, "    ")})\n    print(client.wait(run["id"])["status"])\n`;
}

/** A value as Python writes it. @param {any} value @param {string} indent @returns {string} */
function python(value, indent) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${indent}    `;
  const parts = Array.isArray(value) ? value.map((one) => python(one, inner)) : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python(one, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const line = `${open}${parts.join(", ")}${close}`;
  return line.length < 90 ? line : `${open}\n${parts.map((part) => `${inner}${part},\n`).join("")}${indent}${close}`;
}

/** A button that copies; where the browser does not let it, the text is selected. @param {string} text @param {() => string} content @param {HTMLElement} shown */
export function copyButton(text, content, shown) {
  const button = el("button", { type: "button", class: "small", onclick: async () => {
    shown.textContent = content();
    shown.hidden = false;
    try {
      await navigator.clipboard.writeText(content());
      announce("Copied");
      button.textContent = "✓ Copied";
      setTimeout(() => { button.textContent = text; }, 1500);
    } catch {
      getSelection()?.selectAllChildren(shown);
    }
  } }, text);
  return button;
}
