"""What recording costs: runs of the service with the statistics a run records by default, against the same without.

`python -m benchmarks.recording` trains them in turn, on one slot, one BLAS thread, each epoch's weights kept, and takes
the time from a run's start to its end. The ratio is that of two runs of the same round. Aim: at most 1.05.
"""

import argparse
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import httpx
import numpy as np

from benchmarks import report
from chainrule.app.services.training import default_gradients_every
from chainrule.engine import Data, OptimizerSpec, TrainingConfig, dense, digits, xor
from tests.service import serving

SGD = OptimizerSpec("sgd", 0.1)


def workloads(samples: int) -> dict[str, tuple[TrainingConfig, Data]]:
    """Give the three trainings; of the last, so many samples of MNIST's size."""
    rng = np.random.default_rng(0)
    X = np.where(rng.random((samples, 784)) < 0.2, rng.random((samples, 784)), 0).astype(np.float32)
    wide = Data(X, labels=rng.integers(0, 10, samples), classes=tuple("0123456789"))
    return {
        "XOR, 2-8-1, 5,000 epochs": (
            TrainingConfig(dense(2, (8, "tanh"), (1, "sigmoid")), optimizer=SGD, epochs=5000, batch_size=4), xor()
        ),
        "digits, 64-32-10, 100 epochs": (
            TrainingConfig(dense(64, (32, "relu"), (10, "softmax")), optimizer=SGD, epochs=100), digits()
        ),
        f"784-128-10, {samples:,} samples, 3 epochs": (
            TrainingConfig(dense(784, (128, "relu"), (10, "softmax")), optimizer=SGD, epochs=3, batch_size=64), wide
        ),
    }  # fmt: skip


def turns(samples: int, rounds: int) -> Iterator[tuple[str, TrainingConfig, Data, list[tuple[float, float]]]]:
    """Train each with and without recording; give the seconds, round by round."""
    with (
        tempfile.TemporaryDirectory() as name,
        serving(database_url=f"sqlite:///{name}/recording.sqlite3", cache_dir=Path(name) / "cache", slots=1) as service,
        service.client() as client,
    ):
        for title, (config, data) in workloads(samples).items():
            on = {
                "dataset": {4: "xor", 1797: "digits"}.get(data.samples) or _uploaded(client, data),
                "network": {
                    "layers": [{"units": one.units, "activation": one.activation} for one in config.network.layers]
                },
                "optimizer": {"name": config.optimizer.name, "learning_rate": config.optimizer.learning_rate},
                "epochs": config.epochs,
                "batch_size": config.batch(data.samples),
            }
            off = on | {"gradients": {"every": 0}}
            _trained(client, on), _trained(client, off)
            yield title, config, data, [(_trained(client, on), _trained(client, off)) for _ in range(rounds)]


def _uploaded(client: httpx.Client, data: Data) -> str:
    file = io.BytesIO()
    np.savez(file, X=data.X, labels=np.asarray(data.labels))
    answer = client.post("/v1/datasets", files={"file": ("pictures.npz", file.getvalue())}, timeout=120)
    dataset: str = answer.raise_for_status().json()["id"]
    return dataset


def _trained(client: httpx.Client, spec: dict[str, Any]) -> float:
    """Train a run, and tell how long its one attempt took."""
    run = client.post("/v1/runs", json=spec).raise_for_status().json()
    while not run["done"]:
        run = client.get(f"/v1/runs/{run['id']}", headers={"Prefer": "wait=60"}).raise_for_status().json()
    assert run["status"] == "succeeded", run
    (attempt,) = client.get(f"/v1/runs/{run['id']}/attempts").raise_for_status().json()["items"]
    start, end = (datetime.fromisoformat(attempt[name]) for name in ("started_at", "ended_at"))
    return (end - start).total_seconds()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and keep it if there is a file for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="how often each has its turn")
    parser.add_argument("--samples", type=int, default=60_000, help="of the widest training")
    parser.add_argument("--output", type=Path, help="a file to keep the table in, such as benchmarks/results.md")
    given = parser.parse_args(arguments)
    lines = ["| run | recorded epochs | ms without | ratio | (least to most) |", "|---|--:|--:|--:|--:|"]
    print("\n".join(lines))
    for title, config, data, seconds in turns(given.samples, given.rounds):
        every = default_gradients_every(config.epochs, config.network, data.samples, config.batch(data.samples))
        recorded = len({0, 1, config.epochs, *range(every, config.epochs + 1, every)})
        ratios = sorted(with_it / without for with_it, without in seconds)
        lines.append(
            f"| {title} | {recorded} (every {every}) | {1000 * float(np.median([t for _, t in seconds])):.1f} "
            f"| {float(np.median(ratios)):.3f} | {ratios[0]:.3f} to {ratios[-1]:.3f} |"
        )
        print(lines[-1], flush=True)
    if given.output:
        report.keep("What recording costs", "\n".join(lines), given.output)


if __name__ == "__main__":
    main()
