"""What shards save and cost: a step in one piece, by threads, and by an actor of a Dask cluster on this machine.

    python -m benchmarks.shards [--rounds 9]

Prints the medians, in milliseconds, of steps that take turns, and w, c and e of `services.break_even`, fitted to them.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from chainrule.engine import Data, OptimizerSpec, StepBoundary, TrainingConfig, blas, dense, train
from chainrule.engine.arrays import FloatArray
from chainrule.engine.sharding import Part, Shard

SHAPES = {"784-32-10": (32,), "784-256-10": (256,), "784-1024-1024-10": (1024, 1024)}
BATCHES = (256, 1024, 4096, 16384)
FITTED_BATCH = 1024
"""The costs of an exchange are fitted to batches near the break-even, with all that a step by an actor takes more."""
STEPS_AT_ONCE = 3


class Held:
    """An actor that holds shard 1, of samples it makes itself."""

    def __init__(self, config: TrainingConfig) -> None:
        blas.set_threads(1)
        self._shard = Shard(config, samples(), 1)

    def part(self, parameters: FloatArray, epoch: int, step: int) -> tuple[Any, ...]:
        """Compute it."""
        return tuple(self._shard.part(parameters, epoch, step))

    def echo(self, parameters: FloatArray) -> FloatArray:
        """Answer with as many numbers as came."""
        return parameters


class OverThere:
    """A gang of two: this process, and an actor."""

    def __init__(self, config: TrainingConfig, actor: object) -> None:
        self._own, self._actor = Shard(config, samples(), 0), actor

    def parts(self, P: FloatArray, epoch: int, step: int, /) -> list[Part]:
        """Compute both."""
        asked = self._actor.part(P, epoch, step)  # type: ignore[attr-defined]
        return [self._own.part(P, epoch, step), Part(*asked.result())]


def samples() -> Data:
    """Make samples of the largest batch."""
    rng = np.random.default_rng(0)
    X = rng.random((2 * BATCHES[-1], 784), np.float32)
    return Data(X, labels=rng.integers(0, 10, len(X)), classes=tuple("0123456789"))


def steps(config: TrainingConfig, data: Data, **given: object) -> Callable[[], float]:
    """Train on and on; give what takes some steps and tells how long one took."""
    events: Iterator[object] = iter(())

    def take() -> float:
        nonlocal events
        seconds: list[float] = []
        while len(seconds) < STEPS_AT_ONCE:
            started = time.perf_counter()
            event = next(events, None)
            if event is None:
                events = train(config, data, snapshot_due=lambda: True, **given)  # type: ignore[arg-type]
                next(events)
            elif isinstance(event, StepBoundary):
                seconds.append(time.perf_counter() - started)
        return statistics.median(seconds)

    return take


def main() -> None:
    """Measure, print, fit."""
    import distributed

    dask: Any = distributed
    blas.set_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    data, work, exchange = samples(), [], []
    cluster = dask.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
    )
    with cluster, dask.Client(cluster, direct_to_workers=True) as client:
        print("| network | batch | one piece | 2 threads | 2 with an actor | exchange alone |")
        print("|---|---|---|---|---|---|")
        for shape, hidden in SHAPES.items():
            network = dense(784, *((units, "relu") for units in hidden), (10, "softmax"))
            p = network.parameter_count
            for m in BATCHES:
                if m * p > 5e9:
                    continue
                whole = TrainingConfig(
                    network, optimizer=OptimizerSpec("sgd", 0.01), epochs=10**6, batch_size=m, gradients_every=None
                )
                cut = replace(whole, shards=2)
                actor = client.submit(Held, cut, actor=True, pure=False).result()
                vector = np.zeros(p, np.float32)

                def echo(actor: object = actor, vector: FloatArray = vector) -> float:
                    started = time.perf_counter()
                    total = np.zeros_like(vector)
                    total += actor.echo(vector).result()  # type: ignore[attr-defined]
                    return time.perf_counter() - started

                ways = [steps(whole, data), steps(cut, data), steps(cut, data, gang=OverThere(cut, actor)), echo]
                for way in ways:
                    way()
                times = [[way() for way in ways] for _ in range(rounds)]
                alone, threads, actors, bare = (statistics.median(column) for column in zip(*times, strict=True))
                cells = " | ".join(f"{1000 * each:.2f}" for each in (alone, threads, actors, bare))
                print(f"| {shape} | {m:,} | {cells} |", flush=True)
                work.append(alone / (m * p))
                if m <= FITTED_BATCH:
                    exchange.append((p, actors - alone / 2))
                del actor
    parameters, seconds = np.array(exchange).T
    slope, start = np.polyfit(parameters, seconds, 1)
    print(f"w = {statistics.median(work):.2g} s, c = {start:.2g} s, e = {slope:.2g} s")


if __name__ == "__main__":
    main()
