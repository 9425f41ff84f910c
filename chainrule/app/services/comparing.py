"""Comparing: what a verification comes to, epoch by epoch, against what the run it verifies has stored."""

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from chainrule.app.run_status import Reason
from chainrule.app.store import checkpoints, epochs
from chainrule.app.store.database import Database

COMPARED = ("cost", "error", "validation_cost", "validation_error", "learning_rate")
"""What is compared of every epoch, beside the hash of its weights where they are kept."""


@dataclass(frozen=True)
class Comparison:
    """How far a verification has come.

    Attributes:
        run: whose records are expected.
        first, last: the epochs to be compared.
        builds: what the run's results depended on when it was trained; None if nobody noted it.
        epochs, weights: how many epochs, and of how many of them the weights, were compared and are equal.
        difference: the first epoch that differs, with what differs in it; None while none does.
    """

    run: str
    first: int
    last: int
    builds: dict[str, Any] | None
    epochs: int = 0
    weights: int = 0
    difference: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Comparison":
        """Read back what `to_dict` gave."""
        return cls(**stored)

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON takes it."""
        return asdict(self)


class Hashed:
    """The epochs of a run whose weights are kept, and so can be compared."""

    def __init__(self, database: Database, comparison: Comparison) -> None:
        with database.reading() as session:
            kept = checkpoints.kept_epochs(session, comparison.run, comparison.first, comparison.last)
            self._epochs = array("q", kept)

    def __contains__(self, epoch: int) -> bool:
        """Tell whether the weights of an epoch are kept."""
        place = bisect_left(self._epochs, epoch)
        return place < len(self._epochs) and self._epochs[place] == epoch


def compare(
    session: Session, comparison: Comparison, found: Sequence[Mapping[str, Any]], hashes: Mapping[int, str]
) -> Comparison | None:
    """Compare some more epochs with what is stored of them, up to the first that differs.

    Args:
        session: a transaction.
        comparison: how far it has come.
        found: the epochs that follow, as rows.
        hashes: of the weights at the end of some of them.

    Returns:
        How far it has come with them; None if what is expected of them is stored no longer.
    """
    if not found:
        return comparison
    first, last = found[0]["epoch"], found[-1]["epoch"]
    expected = {row.epoch: row for row in epochs.page(session, comparison.run, first - 1, last - first + 1)}
    kept = checkpoints.hashes(session, comparison.run, first, last)
    compared, weighed = comparison.epochs, comparison.weights
    for row in found:
        epoch = row["epoch"]
        if epoch not in expected:
            return None
        pairs = {name: (getattr(expected[epoch], name), row[name]) for name in COMPARED}
        if epoch in kept and epoch in hashes:
            pairs = {"weights": (kept[epoch], hashes[epoch])} | pairs
        differing = [{"name": n, "expected": old, "found": new} for n, (old, new) in pairs.items() if old != new]
        if differing:
            difference = {"epoch": epoch, "quantities": differing}
            return replace(comparison, epochs=compared, weights=weighed, difference=difference)
        compared += 1
        weighed += "weights" in pairs
    return replace(comparison, epochs=compared, weights=weighed)


def ended(comparison: Comparison, reason: Reason) -> Comparison:
    """Take the end of the training into account: before the last epoch to be compared it is a difference."""
    if comparison.difference or reason not in (Reason.VERIFIED, Reason.DIVERGED):
        return comparison
    missing = comparison.first + comparison.epochs
    if missing > comparison.last:
        return comparison
    end = "diverged" if reason is Reason.DIVERGED else "ended before"
    quantities = [{"name": "epoch", "expected": "recorded", "found": end}]
    return replace(comparison, difference={"epoch": missing, "quantities": quantities})


def told(comparison: Comparison) -> str:
    """Say what came out, in a sentence."""
    if comparison.difference is None:
        return f"{comparison.epochs} epochs and {comparison.weights} weights compared, all equal"
    names = ", ".join(one["name"] for one in comparison.difference["quantities"])
    return f"epoch {comparison.difference['epoch']} is the first that differs ({names})"
