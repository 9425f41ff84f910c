"""Spectra: singular values of each W of a checkpoint, and the way of the weights over the kept epochs."""

from collections.abc import Iterator

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import LimitExceeded
from chainrule.app.services import checkpoints
from chainrule.app.services.histograms import Which
from chainrule.app.store.database import Database
from chainrule.engine import Network
from chainrule.engine.spectrum import Place, Spectrum, places, spectrum

SVD_OPERATIONS = 10
"""What the decomposition of (n, k), n ≥ k, takes, in multiples of n·k²."""
LONGEST = 1000
"""Most epochs of a way."""


def take(settings: Settings, kept: checkpoints.Kept) -> dict[int, Spectrum]:
    """Take each W of a checkpoint apart.

    Raises:
        LimitExceeded: too much to compute in one request.
    """
    network = checkpoints.open_kept(kept).network
    operations = sum(SVD_OPERATIONS * max(W.shape) * min(W.shape) ** 2 for W in network.W.values())
    if operations > settings.max_metrics_operations:
        raise LimitExceeded(
            "The operations to take these weights apart", operations, settings.max_metrics_operations,
            "CHAINRULE_MAX_METRICS_OPERATIONS", hint="Fetch the weights, and do it elsewhere.",
        )  # fmt: skip
    return {number: spectrum(W) for number, W in network.W.items()}


def way(database: Database, settings: Settings, which: Which) -> list[Place]:
    """Follow the weights from the first of some epochs to the last.

    Raises:
        NotFound: a checkpoint has gone.
        LimitExceeded: too much to read in one request.
    """
    epochs = list(which.epochs)
    first = checkpoints.open_network(database, which.run_id, str(epochs[0])).network
    values = len(epochs) * first.spec.parameter_count
    if values > settings.max_inspect_values:
        raise LimitExceeded(
            "The number of weights to read", values, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES",
            pointer="/at_most", hint="Ask for fewer epochs.",
        )  # fmt: skip

    def read() -> Iterator[tuple[int, Network]]:
        yield epochs[0], first
        for epoch in epochs[1:]:
            yield epoch, checkpoints.open_network(database, which.run_id, str(epoch)).network

    with np.errstate(over="ignore", invalid="ignore"):
        return list(places(read()))
