// @ts-check
/** Files of the service, to be kept: links that show the key where there is one, which a plain link cannot. */

import { blob, href, keyed } from "./api.js";
import { announce, el } from "./dom.js";

const KEPT_MS = 60_000;

/** Keep content as a file. @param {Blob} content @param {string} name */
export function save(content, name) {
  const address = URL.createObjectURL(content);
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), KEPT_MS);
}

/**
 * A link to a file. Without a key the browser fetches it by itself, in pieces and however large it is.
 * @param {string} path @param {string} name of the file @param {any} text
 */
export function fileLink(path, name, text) {
  const link = el("a", { href: href(path), download: name, onclick: async (/** @type {Event} */ event) => {
    if (!keyed()) return;
    event.preventDefault();
    link.nextElementSibling?.matches(".download-failed") && link.nextElementSibling.remove();
    try {
      save(await blob(path), name);
    } catch (error) {
      const said = `cannot be fetched: ${/** @type {any} */ (error).detail ?? "the connection broke"}`;
      link.after(el("span", { class: "warn-text download-failed" }, ` ⚠ ${said}`));
      announce(`${name} ${said}`);
    }
  } }, text);
  return link;
}
