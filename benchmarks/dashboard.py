"""How long a reader of the dashboard waits, in a real Chromium: the first page, a picture of a large run, a scrub.

`python -m benchmarks.dashboard` serves one slot on SQLite. A page is loaded in a browser context of its own, with an
empty cache; it is ready when what is looked for stands in the page and has been painted. Bytes are those transferred,
headers and compression included.
"""

import io
import shutil
import statistics
import struct
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.report import keep, keeping
from benchmarks.workloads import mnist_like
from tests.service import serving

SAMPLES, LOADS, PATIENCE_MS = 60_000, 9, 60_000
FIRST = "main table.runs tbody tr, main .example"
PICTURE = "main[data-epoch] .tensor"
READY = """(selector) => {
  const look = () => {
    if (!document.querySelector(selector)) return;
    observer.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => { window.ready = performance.now(); }));
  };
  const observer = new MutationObserver(look);
  observer.observe(document, { childList: true, subtree: true, attributes: true });
}"""
PAINTED = """async () => {
  while (!window.ready) await new Promise((next) => { requestAnimationFrame(next); });
  return window.ready;
}"""
SCRUB = """async ([at, epoch]) => {
  const [slider, main] = [document.querySelector("#epoch"), document.querySelector("main")];
  const began = performance.now();
  slider.value = at;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  while (main.dataset.epoch !== String(epoch)) await new Promise((next) => { requestAnimationFrame(next); });
  return performance.now() - began;
}"""
NETWORK: dict[str, Any] = {"layers": [{"units": 32, "activation": "relu"}, {"units": 10, "activation": "softmax"}]}
DIGITS: dict[str, Any] = {"dataset": "digits", "network": NETWORK, "epochs": 60}
LARGE: dict[str, Any] = {
    "network": {"layers": [{"units": 128, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "epochs": 3,
    "batch_size": 64,
}


def main() -> None:
    """Print the table, and keep it if asked to."""
    output = keeping(__doc__)
    rows = [
        "| what | ms, median | (least to most) | kB | requests |",
        "|---|--:|--:|--:|--:|",
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(database_url=f"sqlite:///{folder}/runs.sqlite3", cache_dir=Path(folder) / "cache", slots=1) as service,
        service.client() as client,
        sync_playwright() as playwright,
    ):
        path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        rows.append(_loads(browser, service.url, "first page, no run yet", "", FIRST))
        small = _trained(client, DIGITS)
        rows.append(_loads(browser, service.url, "first page, one run", "", FIRST))
        rows.append(_loads(browser, service.url, "backpropagation, digits", f"#/runs/{small}/backprop", PICTURE))
        rows.append(_scrubs(browser, service.url, "one epoch further, digits", small, 60))
        large = _trained(client, LARGE | {"dataset": _uploaded(client)})
        name = f"784-128-10, {SAMPLES:,} samples"
        rows.append(_loads(browser, service.url, f"backpropagation, {name}", f"#/runs/{large}/backprop", PICTURE))
        rows.append(_scrubs(browser, service.url, f"another epoch, {name}", large, 3))
        rows.append(f"\nChromium {browser.version}, {LOADS} loads of each page.")
        browser.close()
    print("\n".join(rows))
    if output:
        keep("The dashboard", "\n".join(rows), output)


def _trained(client: httpx.Client, spec: dict[str, Any]) -> str:
    run = client.post("/v1/runs", json=spec).raise_for_status().json()
    while not run["done"]:
        time.sleep(0.1)
        run = client.get(f"/v1/runs/{run['id']}").raise_for_status().json()
    if run["status"] != "succeeded":
        raise SystemExit(f"a run ended {run['status']}: {run['detail']}")
    found: str = run["id"]
    return found


def _uploaded(client: httpx.Client) -> str:
    """Upload pictures of MNIST's size as two IDX files."""
    data = mnist_like(SAMPLES)
    assert data.labels is not None
    pictures = np.rint(255 * data.X).astype(np.uint8).reshape(SAMPLES, 28, 28)
    began = time.perf_counter()
    files = {"file": ("images.idx3-ubyte", _idx(pictures)), "labels_file": ("labels.idx1-ubyte", _idx(data.labels))}
    answer = client.post("/v1/datasets", files=files, timeout=120).raise_for_status().json()
    print(f"{pictures.nbytes / 1e6:.0f} MB of pictures uploaded and read in {time.perf_counter() - began:.2f} s")
    found: str = answer["id"]
    return found


def _idx(array: NDArray[Any]) -> io.BytesIO:
    """Write unsigned bytes as IDX: two zeros, the type 8, the number of axes, their lengths, the values."""
    lengths = struct.pack(f">{array.ndim}I", *array.shape)
    return io.BytesIO(bytes((0, 0, 8, array.ndim)) + lengths + array.astype(np.uint8).tobytes())


def _loads(browser: Browser, url: str, what: str, place: str, selector: str) -> str:
    times, sizes = [], []
    for _ in range(LOADS):
        page, received = _opened(browser)
        page.add_init_script(f"({READY})({selector!r})")
        page.goto(f"{url}/{place}")
        page.locator(selector).first.wait_for(state="attached")
        times.append(page.evaluate(PAINTED))
        page.wait_for_load_state("networkidle")
        sizes.append((sum(received), len(received)))
        page.context.close()
    kilobytes, requests = max(sizes)
    return f"| {what} | {_spread(times)} | {kilobytes / 1e3:.1f} | {requests} |"


def _scrubs(browser: Browser, url: str, what: str, run: str, epochs: int) -> str:
    """Move the slider through all epochs, one after another, and time each until it is drawn."""
    page, received = _opened(browser)
    page.goto(f"{url}/#/runs/{run}/backprop?epoch=0")
    page.locator(PICTURE).first.wait_for(state="attached")
    page.wait_for_load_state("networkidle")
    received.clear()
    kept = page.locator("#epoch").get_attribute("max")
    assert kept == str(epochs)
    times = [page.evaluate(SCRUB, [at, at]) for at in range(1, epochs + 1)]
    page.wait_for_load_state("networkidle")
    page.context.close()
    return f"| {what} | {_spread(times)} | {sum(received) / 1e3 / epochs:.1f} | {len(received) / epochs:.1f} |"


def _opened(browser: Browser) -> tuple[Page, list[int]]:
    """Open a page with an empty cache, and a list that the size of each answer is added to."""
    context = browser.new_context(viewport={"width": 1366, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    received: list[int] = []
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    network.on("Network.loadingFinished", lambda event: received.append(int(event["encodedDataLength"])))
    return page, received


def _spread(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.0f} | {min(times):.0f} to {max(times):.0f}"


if __name__ == "__main__":
    main()
