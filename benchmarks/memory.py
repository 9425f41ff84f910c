"""Peak memory of the real service while it trains on 60,000 × 784 samples, with one slot and with four.

`python -m benchmarks.memory`. Memory is the proportional set size of the service and all its processes: a page
that several share counts once. The dataset is 188 MB as float32; workers map one copy of it, and one of what is made
of it for the network.
"""

import io
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.report import keep, keeping
from benchmarks.workloads import mnist_like
from tests.service import serving

SAMPLES, EPOCHS, EVERY_S, SETTLED_S = 60_000, 5, 0.05, 1.5
MB = 1e6
RUN: dict[str, Any] = {
    "network": {"layers": [{"units": 128, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "cost": "cross_entropy",
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "epochs": EPOCHS,
    "batch_size": 64,
}
DATA: dict[str, dict[str, Any]] = {
    "as uploaded": {},
    "10 % held out, standardized": {"validation": {"fraction": 0.1}, "inputs": {"scaling": "standardize"}},
    "as uploaded, in float64": {"dtype": "float64"},
}
"""What is trained on, by name: the fields it is asked for with."""


def main() -> None:
    """Print and keep the table."""
    output = keeping(__doc__)
    pictures = _pictures()
    lines = [
        f"784-128-10, batch 64, Adam, {EPOCHS} epochs on {SAMPLES:,} × 784 float32 samples "
        f"({SAMPLES * 784 * 4 / MB:.0f} MB); proportional set size of all processes of the service, in MB.",
        "",
        "| data | runs at once | before any run | peak | more, for each run "
        "| epoch 2 | last epoch | largest resident |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
        *(_peak(pictures, data, slots) for data in DATA for slots in (1, 4)),
    ]
    print("\n".join(lines))
    if output:
        keep("Memory", "\n".join(lines), output)


def _pictures() -> bytes:
    data = mnist_like(SAMPLES)
    file = io.BytesIO()
    assert data.labels is not None
    np.savez(file, X=data.X, labels=data.labels)
    return file.getvalue()


def _peak(pictures: bytes, data: str, slots: int) -> str:
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(
            database_url=f"sqlite:///{folder}/memory.sqlite3", cache_dir=Path(folder) / "cache", slots=slots
        ) as service,
        service.client() as client,
    ):
        files = {"file": ("pictures.npz", pictures)}
        dataset = client.post("/v1/datasets", files=files, timeout=120).raise_for_status().json()["id"]
        spec = RUN | DATA[data] | {"dataset": dataset}
        time.sleep(SETTLED_S)
        before, _ = _memory(service.process.pid)
        _wait(client, [_submit(client, spec, 0)])  # what is made once is made
        ids = [_submit(client, spec, seed) for seed in range(slots)]
        peak, largest, of_epoch = before, 0.0, dict.fromkeys(range(EPOCHS + 1), 0.0)
        while (epochs := _epochs(client, ids)) is not None:
            now, most = _memory(service.process.pid)
            peak, largest = max(peak, now), max(largest, most)
            of_epoch[min(epochs)] = max(of_epoch[min(epochs)], now)
            time.sleep(EVERY_S)
    figures = (before, peak, (peak - before) / slots, of_epoch[1], of_epoch[EPOCHS - 1], largest)
    return f"| {data} | {slots} | " + " | ".join(f"{figure:.0f}" if figure else "" for figure in figures) + " |"


def _memory(pid: int) -> tuple[float, float]:
    """Sum the processes of a tree: proportional set size; and the largest resident set among them."""
    total = largest = 0.0
    service = psutil.Process(pid)
    for process in [service, *service.children(recursive=True)]:
        try:
            used = process.memory_full_info()
        except psutil.NoSuchProcess:  # it ended meanwhile
            continue
        total += used.pss / MB
        largest = max(largest, used.rss / MB)
    return total, largest


def _submit(client: httpx.Client, spec: dict[str, Any], seed: int) -> str:
    answer = client.post("/v1/runs", json=spec | {"seed": seed})
    run_id: str = answer.raise_for_status().json()["id"]
    return run_id


def _wait(client: httpx.Client, ids: list[str]) -> None:
    while _epochs(client, ids) is not None:
        time.sleep(EVERY_S)


def _epochs(client: httpx.Client, ids: list[str]) -> list[int] | None:
    """Tell how many epochs each run has done; None once all have ended."""
    found = [client.get(f"/v1/runs/{run_id}").raise_for_status().json() for run_id in ids]
    for run in found:
        if run["done"] and run["status"] != "succeeded":
            raise SystemExit(f"a run ended {run['status']}: {run['detail']}")
    return None if all(run["done"] for run in found) else [run["progress"]["epochs_done"] for run in found]


if __name__ == "__main__":
    main()
