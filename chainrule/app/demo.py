"""The demonstration: a network learns handwritten digits through the API, and is looked into."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from chainrule.app import console
from chainrule.app.api.schemas.specs import DIGITS
from chainrule.app.client import Client, Resource

ROWS = [0, 1, 2]
PASS = ("Z1", "A1", "Z2", "A2", "dA2", "dZ2", "dW2", "db2", "dA1", "dZ1", "dW1", "db1")
START_S = 30.0
SHOWN_EPOCHS = 9


def run(folder: Path, *, keep_serving: bool) -> None:
    """Start the service with SQLite in `folder`, train, show what there is to see, and go on serving if asked."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGHUP):  # however it is ended, the service it started ends with it
        signal.signal(number, _stop)
    with _service(folder) as (process, url), Client(url) as client:
        say = console.output.print
        dataset = client.dataset("digits")
        say(f"Serving at [bold]{url}[/bold], with SQLite in {folder}/.")
        say(f"{dataset['samples']} handwritten digits of 8×8 pixels; a fifth is held out as the test set.\n")
        submitted = client.submit(DIGITS)
        say(f"POST /v1/runs → {submitted['id']}: {console.network(submitted['config'])}")
        ended = console.watch(client, submitted["id"])
        if ended["status"] != "succeeded":
            raise SystemExit(f"the run {ended['status']}: {ended['detail']}")
        _show(client, ended, folder)
        if keep_serving:
            say("\nServing until Ctrl-C.")
            _until_stopped(process)


def _show(client: Client, run: Resource, folder: Path) -> None:
    say = console.output.print
    columns = client.epochs(run["id"])
    last = run["progress"]["epochs_total"]
    shown = sorted({0, 1, *(round(last * n / (SHOWN_EPOCHS - 1)) for n in range(SHOWN_EPOCHS))})
    names = ("epoch", "cost", "error", "validation_cost", "validation_error")
    rows = [[columns[name][epoch].item() for name in names] for epoch in shown]
    say()
    headings = ("epoch", "cost", "error", "test cost", "test error")
    console.table("Cost and error", headings, rows, shares=("error", "test error"))
    say(f"\nTest-set classification error: [bold]{run['validation_error']:.2%}[/bold]\n")
    records = {(r["epoch"], r["gradient"]): r["norm"] for r in client.gradient_records(run["id"])}
    gradients = [f"{symbol}{layer}" for layer in (1, 2) for symbol in ("dW", "db")]
    norms = [(name, records[1, name], records[last, name]) for name in gradients]
    console.table("Gradient norms ‖∂C/∂X‖", ("gradient", "epoch 1", f"epoch {last}"), norms)
    _backpropagate(client, run)
    path = client.save_weights(run["id"], folder / f"{run['id']}.safetensors")
    say(f"\nWeights of epoch {last}, {path.stat().st_size:,} bytes, saved to\n{path}\n", soft_wrap=True)
    page = f"{client.url}/#/runs/{run['id']}"
    say("The dashboard, in a browser:")
    for what, address in (("runs", f"{client.url}/"), ("this run", page), ("inside", f"{page}/backprop?epoch=1")):
        say(f"{what:<9} {address}", soft_wrap=True)
    say("\nThe API (latest names the run submitted last):")
    base = f"{client.url}/v1/runs/latest"
    for what, address in (
        ("try it", f"{client.url}/docs"),
        ("run", base),
        ("epochs", f"{base}/epochs"),
        ("weights", f"{base}/checkpoints/1/weights?format=json"),
        ("gradients", f"{base}/gradients"),
    ):
        say(f"{what:<9} {address}", soft_wrap=True)


def _backpropagate(client: Client, run: Resource) -> None:
    """Show one pass forward and back, and compute one of its gradients once more, here."""
    found = client.explain_gradients(run["id"], epoch=1, rows=ROWS)["quantities"]
    rows = [(name, str(tuple(found[name]["shape"])), found[name]["norm"], found[name]["equation"]) for name in PASS]
    console.output.print()
    console.table("Backpropagation at epoch 1, for samples 0, 1 and 2", ("", "shape", "norm", "equation"), rows)
    g = client.gradients(run["id"], epoch=1, rows=ROWS, names=["dZ2", "A1", "dW2"])
    difference = np.abs(g["dZ2"].T @ g["A1"] / len(ROWS) - g["dW2"]).max()
    console.output.print(
        f"\ndW2 computed here from dZ2 and A1: largest difference from the service's {difference:.1g}."
    )


@contextmanager
def _service(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = os.environ | {
        "CHAINRULE_DATABASE_URL": f"sqlite:///{(folder / 'chainrule.sqlite3').resolve()}",
        "CHAINRULE_CACHE_DIR": str((folder / "cache").resolve()),
        "CHAINRULE_LOG_LEVEL": "WARNING",
    }
    with _started(environment) as (process, url):
        if url:
            yield process, url
            return
    # The port is taken: any other will do.
    with _started(environment | {"CHAINRULE_PORT": "0"}) as (process, url):
        if not url:
            raise SystemExit("the service did not start; its log is above")
        yield process, url


@contextmanager
def _started(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "chainrule", "serve"]
    # A group of its own: Ctrl-C is ours to pass on, once.
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, process_group=0)
    try:
        yield process, _address(process)
    finally:
        process.terminate()
        process.wait()


def _address(process: subprocess.Popen[str]) -> str:
    """Wait until a service says its address and is ready; give nothing if it ends before."""
    assert process.stdout is not None
    url = process.stdout.readline().strip().rpartition(" ")[2]
    if not url.startswith("http"):
        return ""
    deadline = time.monotonic() + START_S
    with Client(url) as client:
        while not client.ready() and time.monotonic() < deadline:
            time.sleep(0.05)
    return url


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _until_stopped(process: subprocess.Popen[str]) -> None:
    try:
        process.wait()
    except KeyboardInterrupt:
        console.output.print("\nEnding.")
