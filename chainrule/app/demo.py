"""The demonstration: a network learns handwritten digits through the API, and is looked into."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chainrule.app import console
from chainrule.app.client import Client, Resource

DIGITS: dict[str, Any] = {
    "name": "digits",
    "dataset": "digits",
    "validation": {"fraction": 0.2, "seed": 0},
    "network": {"layers": [{"units": 32, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "cost": "cross_entropy",
    "optimizer": {"name": "adam", "learning_rate": 0.002},
    "epochs": 40,
    "batch_size": 32,
    "seed": 1,
}
START_S = 30.0
SHOWN_EPOCHS = 9


def run(folder: Path, *, keep_serving: bool) -> None:
    """Start the service with SQLite in `folder`, train, show what there is to see, and go on serving if asked."""
    folder.mkdir(parents=True, exist_ok=True)
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
    rows = [_percent([columns[name][epoch].item() for name in names]) for epoch in shown]
    say()
    console.table("Cost and error", ("epoch", "cost", "error", "test cost", "test error"), rows)
    say(f"\nTest-set classification error: [bold]{run['validation_error']:.2%}[/bold]\n")
    records = {(r["epoch"], r["gradient"]): r["norm"] for r in client.gradient_records(run["id"])}
    gradients = [f"{symbol}{layer}" for layer in (1, 2) for symbol in ("dW", "db")]
    norms = [(name, records[1, name], records[last, name]) for name in gradients]
    console.table("Gradient norms ‖∂C/∂X‖", ("gradient", "epoch 1", f"epoch {last}"), norms)
    path = client.save_weights(run["id"], folder / f"{run['id']}.safetensors")
    say(f"\nWeights of epoch {last} saved to {path} ({path.stat().st_size:,} bytes, safetensors).\n")
    base = f"{client.url}/v1/runs/{run['id']}"
    for what, address in (
        ("interactive API", f"{client.url}/docs"),
        ("this run", base),
        ("every epoch", f"{base}/epochs"),
        ("weights of any epoch", f"{base}/checkpoints/1/weights?format=json"),
        ("gradient statistics", f"{base}/gradients"),
    ):
        console.output.print(f"  {what:<22}{address}", soft_wrap=True)


def _percent(row: list[Any]) -> list[Any]:
    epoch, cost, error, test_cost, test_error = row
    return [epoch, cost, f"{error:.1%}", test_cost, f"{test_error:.1%}"]


@contextmanager
def _service(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = os.environ | {
        "CHAINRULE_DATABASE_URL": f"sqlite:///{(folder / 'chainrule.sqlite3').resolve()}",
        "CHAINRULE_CACHE_DIR": str((folder / "cache").resolve()),
        "CHAINRULE_LOG_LEVEL": "WARNING",
    }
    process, url = _start(environment)
    if not url:  # the port is taken: any other will do
        process, url = _start(environment | {"CHAINRULE_PORT": "0"})
    if not url:
        raise SystemExit("the service did not start; its log is above")
    try:
        yield process, url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _start(environment: dict[str, str]) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "chainrule", "serve"]
    # A group of its own: Ctrl-C is ours to pass on, once.
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, process_group=0)
    assert process.stdout is not None
    line = process.stdout.readline()
    url = line.strip().rpartition(" ")[2]
    if not url.startswith("http"):
        process.wait()
        return process, ""
    deadline = time.monotonic() + START_S
    with Client(url) as client:
        while not client.ready() and time.monotonic() < deadline:
            time.sleep(0.05)
    return process, url


def _until_stopped(process: subprocess.Popen[str]) -> None:
    ended = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        process.wait()
    except KeyboardInterrupt:
        console.output.print("\nEnding.")
    finally:
        signal.signal(signal.SIGTERM, ended)
