"""Histograms of weights, activations, gradients and updates over the kept epochs of a run, in the same bins for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput, LimitExceeded, NotFound
from chainrule.app.services import batches, checkpoints
from chainrule.app.services.batches import Batch, Selection
from chainrule.app.services.runs import found
from chainrule.app.store import checkpoints as store
from chainrule.app.store import runs
from chainrule.app.store.database import Database
from chainrule.engine import Network
from chainrule.engine.arrays import FloatArray
from chainrule.engine.config import PROBE
from chainrule.engine.gradients import gradients
from chainrule.engine.histograms import BINS, Histogram, Joint, histogram, joint, merged
from chainrule.engine.network import EVALUATION_ROWS, backward, forward

OF_SAMPLES = ("Z", "A", "dA", "dZ")
OF_MEAN = ("dW", "db")
UPDATE = "update"
NAMES = {
    "W": "W[l]",
    "b": "b[l]",
    "Z": "Z[l] = A[l-1]·W[l]ᵀ + b[l]",
    "A": "A[l] = g(Z[l])",
    "dA": "dA[l], each sample's own",
    "dZ": "dZ[l], each sample's own",
    "dW": "dW[l] = (1/m)·dZ[l]ᵀ·A[l-1]",
    "db": "db[l] = (1/m)·Σᵢ dZ[l]⁽ⁱ⁾",
    UPDATE: "W[l] − W[l] at the end of the kept epoch before",
}
"""What can be counted, with its equation."""
MOST_EPOCHS = 100
NUMBER_OPERATIONS = 100
"""What finding a number's bin takes, in multiplications of a matrix product."""


@dataclass(frozen=True)
class Which:
    """Which epochs are looked at.

    Attributes:
        kept: how many there are to choose from.
        epochs: the chosen ones, with the hash of the weights of each.
        before: to each its kept neighbour before, None of the first.
    """

    run_id: str
    kept: int
    epochs: dict[int, str]
    before: dict[int, int | None]

    @property
    def sampled(self) -> bool:
        """Whether there are more than were chosen."""
        return len(self.epochs) < self.kept


@dataclass(frozen=True)
class Histograms:
    """What was counted: by name, such as dW2, and epoch; None where there is no epoch before to be compared with."""

    which: Which
    m: int
    split: str | None
    counted: dict[str, dict[int, Histogram | None]]


def choose(
    database: Database, run_id: str, first: int, last: int | None, listed: Sequence[int] | None, at_most: int
) -> Which:
    """Choose the epochs to be looked at: those listed, or of all kept from `first` to `last` some evenly spread.

    Raises:
        NotFound: there is no such run, or it keeps none of them.
    """
    with database.reading() as session:
        run = found(runs.get(session, run_id), run_id)
        end = run.epochs_total if last is None else last
        kept = list(store.kept_epochs(session, run_id, 0, max(end, *(listed or [0]))))
        wanted = range(first, end + 1) if listed is None else set(listed)
        inside = [epoch for epoch in kept if epoch in wanted]
        if not inside:
            raise NotFound(
                f"Run {run_id} keeps no checkpoint of these epochs; GET /v1/runs/{run_id}/checkpoints lists those it "
                "has."
            )
        chosen = inside
        if len(inside) > at_most:
            chosen = [inside[i] for i in np.unique(np.linspace(0, len(inside) - 1, at_most).round().astype(int))]
        hashes = store.hashes(session, run_id, chosen[0], chosen[-1])
    position = {epoch: number for number, epoch in enumerate(kept)}
    before = {epoch: kept[position[epoch] - 1] if position[epoch] else None for epoch in chosen}
    # One that has gone since is left out.
    epochs = {epoch: hashes[epoch] for epoch in chosen if epoch in hashes}
    if not epochs:
        raise NotFound(f"The checkpoints of run {run_id} that were to be looked at have just been removed.")
    return Which(run_id, len(inside), epochs, before)


def count(
    database: Database, settings: Settings, which: Which, names: Sequence[str], layers: Sequence[int] | None,
    split: str | None,
) -> Histograms:  # fmt: skip
    """Count, epoch after epoch, over the probe or a whole split.

    Raises:
        NotFound: a checkpoint has gone.
        InvalidInput: there is no such quantity or layer, or no such split.
        LimitExceeded: too much to compute in one request.
    """
    epochs = list(which.epochs)
    opened = checkpoints.open_network(database, which.run_id, str(epochs[-1]))
    spec = opened.network.spec
    _check(names, layers, len(spec.layers))
    numbers = range(1, len(spec.layers) + 1) if layers is None else layers
    values = len(epochs) * len(names) * len(numbers) * BINS
    if values > settings.max_inspect_values:
        raise LimitExceeded(
            "The number of values to answer", values, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES",
            pointer="/at_most", hint="Ask for fewer epochs, layers or names.",
        )  # fmt: skip
    counting = NUMBER_OPERATIONS * len(epochs) * spec.parameter_count
    if counting > settings.max_metrics_operations:
        raise LimitExceeded(
            "The operations to count these weights", counting, settings.max_metrics_operations,
            "CHAINRULE_MAX_METRICS_OPERATIONS", pointer="/at_most", hint="Ask for fewer epochs.",
        )  # fmt: skip
    batch, m = None, 0
    if any(name in OF_SAMPLES + OF_MEAN for name in names):
        m = batches.size(database, opened, Selection(split=split or batches.TRAINING))
        m = m if split else min(PROBE, m)
        batches.limit_operations(settings, spec, m, Selection(split=split), passes=len(epochs))
        batch = _probe(database, settings, opened, split, m)
    counted: dict[str, dict[int, Histogram | None]] = {f"{name}{n}": {} for name in names for n in numbers}
    kept: dict[int, Network] = {epochs[-1]: opened.network}
    for epoch in epochs:
        network = _network(database, which, epoch, kept)
        before = which.before[epoch]
        earlier = None if UPDATE not in names or before is None else _network(database, which, before, kept)
        for name, of_epoch in _counted(network, earlier, opened.config["cost"], batch, names, numbers).items():
            counted[name][epoch] = of_epoch
        kept = {n: held for n, held in kept.items() if n == epoch or n == epochs[-1]}
    return Histograms(which, m, split, counted)


def together(
    database: Database, settings: Settings, kept: checkpoints.Kept, layers: Sequence[int] | None
) -> tuple[dict[int, Joint], int]:
    """Count pairs of a weight and its gradient over the probe, layer by layer; with the probe's size.

    Raises:
        InvalidInput: there is no such layer.
        LimitExceeded: too much to compute in one request.
    """
    opened = checkpoints.open_kept(kept)
    network, spec = opened.network, opened.network.spec
    _check((), layers, len(spec.layers))
    m = min(PROBE, batches.size(database, opened, Selection(split=batches.TRAINING)))
    batches.limit_operations(settings, spec, m, Selection(split=batches.TRAINING))
    batch = _probe(database, settings, opened, None, m)
    numbers = range(1, len(spec.layers) + 1) if layers is None else layers
    with np.errstate(over="ignore", invalid="ignore"):
        dW = gradients(
            network, opened.config["cost"], batch.X, batch.Y, [f"dW{n}" for n in numbers], weights=batch.weights
        )  # fmt: skip
    return {n: joint(network.W[n], dW[f"dW{n}"]) for n in numbers}, m


def _check(names: Sequence[str], layers: Sequence[int] | None, last: int) -> None:
    for name in names:
        if name not in NAMES:
            raise InvalidInput.at("/names", f"There is no histogram of {name!r}; there are {', '.join(NAMES)}.")
    for number in layers or ():
        if not 1 <= number <= last:
            raise InvalidInput.at("/layers", f"There is no layer {number}; the network has layers 1 to {last}.")


def _probe(database: Database, settings: Settings, opened: checkpoints.Opened, split: str | None, m: int) -> Batch:
    """Open the whole split, or the samples that recorded statistics are of: the first of those trained on."""
    if split is not None:
        return batches.open_batch(database, settings, opened, Selection(split=split))
    return batches.first_rows(database, settings, opened, m)


def _network(database: Database, which: Which, epoch: int, kept: dict[int, Network]) -> Network:
    if epoch not in kept:
        kept[epoch] = checkpoints.open_network(database, which.run_id, str(epoch)).network
    return kept[epoch]


def _counted(
    network: Network, earlier: Network | None, cost_name: str, batch: Batch | None, names: Sequence[str],
    numbers: Sequence[int],
) -> dict[str, Histogram | None]:  # fmt: skip
    """Count what there is at the weights of one epoch, the samples block by block."""
    found: dict[str, Histogram | None] = {}
    for n in numbers:
        if "W" in names:
            found[f"W{n}"] = histogram(network.W[n])
        if "b" in names:
            found[f"b{n}"] = histogram(network.b[n])
        if UPDATE in names:
            moved = None if earlier is None else network.W[n].astype(np.float64) - earlier.W[n]
            found[f"{UPDATE}{n}"] = None if moved is None else histogram(moved)
    if batch is None:
        return found
    parts: dict[str, list[Histogram]] = {f"{name}{n}": [] for name in names if name in OF_SAMPLES for n in numbers}
    means: dict[str, FloatArray | Any] = {f"{name}{n}": 0.0 for name in names if name in OF_MEAN for n in numbers}
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, batch.m, EVALUATION_ROWS):
            rows = slice(start, start + EVALUATION_ROWS)
            caches = forward(network, batch.X[rows])
            arrays = backward(caches, cost_name, batch.Y[rows], None if batch.weights is None else batch.weights[rows])
            for number, cache in enumerate(caches, start=1):
                arrays |= {f"Z{number}": cache.Z, f"A{number}": cache.A}
            for name in parts:
                parts[name].append(histogram(arrays[name]))
            share = len(caches[0].Z) / batch.m
            for name in means:
                means[name] = means[name] + (arrays[name] if share == 1 else arrays[name].astype(np.float64) * share)
    found |= {name: merged(of_blocks) for name, of_blocks in parts.items()}
    return found | {name: histogram(mean) for name, mean in means.items()}
