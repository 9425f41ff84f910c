"""Chainrule's engine, by its public generator: epoch costs and errors are part of it, as always."""

from collections.abc import Iterator

from benchmarks.workloads import Weights, Workload
from chainrule.engine import Epoch, StepBoundary, train


class Training:
    """See `benchmarks.tools.Training`."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload

    def restart(self) -> None:
        """Begin a training; the first thing it yields is the untrained network."""
        self._epochs: Iterator[Epoch | StepBoundary] = train(self._workload.config, self._workload.data)
        self._last = next(self._epochs)

    def train(self) -> None:
        """Exhaust the generator."""
        for epoch in self._epochs:
            self._last = epoch

    def weights(self) -> Weights:
        """Take the last epoch's network apart."""
        assert isinstance(self._last, Epoch)
        network = self._last.network
        return list(zip(network.W.values(), network.b.values(), strict=True))
