"""The tally: what a process that trains has counted since it last told the database.

Counts of training processes come to their supervisor through its pipe; what all supervisors counted is added
up in the database, with their heartbeats, so that any process of the service can tell the totals.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

STEPS, EPOCHS, ENDED, LOST = "steps", "epochs", "attempts_ended", "attempts_lost"
WAIT, FLUSH = "run_wait", "flush"
BOUNDS_S: dict[str, tuple[float, ...]] = {
    WAIT: (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 43200),
    FLUSH: (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
}
"""Upper bounds of the buckets durations are counted in; a bucket's label is its bound, the sum's is `sum`."""
SUM, BEYOND = "sum", "+Inf"

Counts = Mapping[tuple[str, str], float]
"""Numbers by name and label."""


@dataclass(frozen=True)
class Flush:
    """What one transaction of a training process wrote, for the tally and for traces.

    Attributes:
        started_ns: when it began, as `time.time_ns`.
        seconds: how long it took.
        steps: how many steps of all its runs it brought.
        epochs: how many epochs.
        endings: the statuses that its runs' attempts ended with.
    """

    started_ns: int
    seconds: float
    steps: int
    epochs: int
    endings: tuple[str, ...] = field(default=())


class Tally:
    """Counts, from any thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, name: str, amount: float = 1, label: str = "") -> None:
        """Count something."""
        with self._guard:
            self._counts[name, label] += amount  # type: ignore[assignment]  # halves of seconds are counted too

    def time(self, name: str, seconds: float) -> None:
        """Count a duration in its bucket."""
        self.count(name, 1, bucket(name, seconds))
        self.count(name, seconds, SUM)

    def flushed(self, flush: Flush) -> None:
        """Count what a transaction of a training process wrote."""
        self.time(FLUSH, flush.seconds)
        self.count(STEPS, flush.steps)
        self.count(EPOCHS, flush.epochs)
        for status in flush.endings:
            self.count(ENDED, label=status)

    def take(self) -> Counts:
        """Take what was counted since, and begin anew."""
        with self._guard:
            taken, self._counts = self._counts, Counter()
        return taken

    def give_back(self, taken: Counts) -> None:
        """Keep for the next time what could not be told."""
        for (name, label), amount in taken.items():
            self.count(name, amount, label)


def bucket(name: str, seconds: float) -> str:
    """Name the bucket a duration falls in."""
    bounds = BOUNDS_S[name]
    place = bisect_left(bounds, seconds)
    return f"{bounds[place]:g}" if place < len(bounds) else BEYOND
