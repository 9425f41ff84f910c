// @ts-check
/** A run that trains, followed by a page that asks much of it: by the one stream, but no more often than it can draw. */

import { get, stream, wait } from "./api.js";

const REST_MS = 1500;

/**
 * Tell of the run when it has grown, and once more when it has ended; over by `signal`.
 * @param {string} path of the run
 * @param {{run: any, signal: AbortSignal, grown: (run: any) => void | Promise<void>}} options
 */
export async function follow(path, { run, signal, grown }) {
  let news = false, busy = false;
  async function tell() {
    news = true;
    if (busy) return;
    busy = true;
    try {
      while (news && !signal.aborted) {
        news = false;
        const now = await get(path, { signal }).catch(() => null);
        if (now && !signal.aborted) await grown(now);
        if (!now?.done) await wait(REST_MS, signal);
      }
    } finally {
      busy = false;
    }
  }
  await stream(path, { after: run.progress.epochs_done, signal, epochs: tell, status: tell, diagnosis: tell, end: tell });
}
