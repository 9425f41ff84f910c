"""Peak memory of the real service while it trains on 60,000 × 784 samples, with one slot and with four.

`python -m benchmarks.memory`. Memory is the proportional set size of the service and all its processes: a page
that several share counts once. The dataset is 188 MB as float32; workers map one copy of it.
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

SAMPLES, EPOCHS, EVERY_S = 60_000, 3, 0.05
MB = 1e6
RUN: dict[str, Any] = {
    "network": {"layers": [{"units": 128, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "cost": "cross_entropy",
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "epochs": EPOCHS,
    "batch_size": 64,
}


def main() -> None:
    """Print and keep the table."""
    output = keeping(__doc__)
    pictures = _pictures()
    lines = [
        f"784-128-10, batch 64, Adam, {EPOCHS} epochs on {SAMPLES:,} × 784 float32 samples "
        f"({SAMPLES * 784 * 4 / MB:.0f} MB); proportional set size of all processes of the service, in MB.",
        "",
        "| runs at once | between runs | peak | more, for each run | largest process, resident |",
        "|--:|--:|--:|--:|--:|",
        *(_peak(pictures, slots) for slots in (1, 4)),
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


def _peak(pictures: bytes, slots: int) -> str:
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(
            database_url=f"sqlite:///{folder}/memory.sqlite3", cache_dir=Path(folder) / "cache", slots=slots
        ) as service,
        service.client() as client,
    ):
        files = {"file": ("pictures.npz", pictures)}
        dataset = client.post("/v1/datasets", files=files, timeout=120).raise_for_status().json()["id"]
        _run(client, dataset, [0])  # what is made once is made
        before, _ = _memory(service.process.pid)
        ids = [_submit(client, dataset, seed) for seed in range(slots)]
        peak, largest = before, 0.0
        while not all(_done(client, run_id) for run_id in ids):
            now, most = _memory(service.process.pid)
            peak, largest = max(peak, now), max(largest, most)
            time.sleep(EVERY_S)
    return f"| {slots} | {before:.0f} | {peak:.0f} | {(peak - before) / slots:.0f} | {largest:.0f} |"


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


def _run(client: httpx.Client, dataset: str, seeds: list[int]) -> None:
    ids = [_submit(client, dataset, seed) for seed in seeds]
    while not all(_done(client, run_id) for run_id in ids):
        time.sleep(EVERY_S)


def _submit(client: httpx.Client, dataset: str, seed: int) -> str:
    answer = client.post("/v1/runs", json=RUN | {"dataset": dataset, "seed": seed})
    run_id: str = answer.raise_for_status().json()["id"]
    return run_id


def _done(client: httpx.Client, run_id: str) -> bool:
    run = client.get(f"/v1/runs/{run_id}").raise_for_status().json()
    if run["done"] and run["status"] != "succeeded":
        raise SystemExit(f"a run ended {run['status']}: {run['detail']}")
    return bool(run["done"])


if __name__ == "__main__":
    main()
