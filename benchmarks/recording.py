"""What recording costs: trainings with the statistics a run records by default, against the same without.

`python -m benchmarks.recording` trains in turn, one BLAS thread, and takes the time of the process, not of the clock:
the ratio is that of two trainings of the same round. Aim: at most 1.05.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from benchmarks import report
from chainrule.app.services.training import default_gradients_every
from chainrule.engine import Data, OptimizerSpec, TrainingConfig, dense, digits, train, xor
from chainrule.engine.diagnoses import facts_of, point_of
from chainrule.engine.examination import Examination
from chainrule.engine.training import Epoch

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


def seconds(config: TrainingConfig, data: Data) -> float:
    """Train, examine what is recorded, and tell how long that took the process."""
    started = time.process_time()
    examination = Examination(facts_of(config, data))
    for epoch in train(config, data):
        if isinstance(epoch, Epoch) and epoch.gradients is not None:
            examination.see(point_of(epoch))
    return time.process_time() - started


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and keep it if there is a file for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each has its turn")
    parser.add_argument("--samples", type=int, default=60_000, help="of the widest training")
    parser.add_argument("--output", type=Path, help="a file to keep the table in, such as benchmarks/results.md")
    given = parser.parse_args(arguments)
    lines = ["| training | recorded epochs | ms without | ratio | (least to most) |", "|---|--:|--:|--:|--:|"]
    print("\n".join(lines))
    for name, (config, data) in workloads(given.samples).items():
        every = default_gradients_every(config.epochs, config.network, data.samples, config.batch(data.samples))
        on, off = replace(config, gradients_every=every), replace(config, gradients_every=None)
        seconds(on, data)
        turns = [(seconds(on, data), seconds(off, data)) for _ in range(given.rounds)]
        ratios = sorted(with_it / without for with_it, without in turns)
        count = len({0, 1, config.epochs, *range(every, config.epochs + 1, every)})
        lines.append(
            f"| {name} | {count} (every {every}) | {1000 * float(np.median([t for _, t in turns])):.1f} "
            f"| {float(np.median(ratios)):.3f} | {ratios[0]:.3f} to {ratios[-1]:.3f} |"
        )
        print(lines[-1], flush=True)
    if given.output:
        report.keep("What recording costs", "\n".join(lines), given.output)


if __name__ == "__main__":
    main()
