"""Chainrule's engine with all members trained as one, each with a seed of its own."""

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.workloads import Weights, Workload
from chainrule.engine import Epoch, Round, StepBoundary, Trainee, train_stacked


class Training:
    """See `benchmarks.tools.Training`."""

    def __init__(self, workload: Workload) -> None:
        first = workload.config.seed
        self._trainees = [
            Trainee(replace(workload.config, seed=seed), workload.data)
            for seed in range(first, first + workload.members)
        ]

    def restart(self) -> None:
        """Begin a training; the first thing it yields is the untrained networks."""
        self._rounds: Iterator[Round | StepBoundary] = train_stacked(self._trainees)
        self._last = next(self._rounds)

    def train(self) -> None:
        """Exhaust the generator."""
        for epochs in self._rounds:
            self._last = epochs

    def weights(self) -> Weights:
        """Take the first member's network apart: it is the one that the other tools train."""
        assert isinstance(self._last, Round)
        epoch = self._last[0]
        assert isinstance(epoch, Epoch)
        return list(zip(epoch.network.W.values(), epoch.network.b.values(), strict=True))
