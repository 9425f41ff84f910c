"""Rounds: what an epoch comes to for each network of a training, and who goes on after it."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from chainrule.engine.epoch import Epoch
from chainrule.engine.errors import DivergedError
from chainrule.engine.member import Here, Member, Validated
from chainrule.engine.observation import Look, Observation


class Round(Mapping[int, Epoch | DivergedError]):
    """What an epoch of a stack came to: by the trainee's position, its epoch, or that it diverged.

    An epoch is made when it is asked for: of a tiny network that takes longer than to train it.

    Args:
        found: what it came to; None where that is still to be made.
        make: makes the epoch of one position.
    """

    def __init__(self, found: dict[int, Epoch | DivergedError | None], make: Callable[[int], Epoch]) -> None:
        self._found, self._make = found, make

    def __getitem__(self, place: int) -> Epoch | DivergedError:
        found = self._found[place]
        if found is None:
            found = self._found[place] = self._make(place)
        return found

    def __iter__(self) -> Iterator[int]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class Ended(NamedTuple):
    """An epoch that has ended, with a value for each network: what an `Epoch` of one of them is made of."""

    epoch: int
    t: int
    costs: Sequence[float]
    errors: Sequence[float | None]
    rates: Sequence[float]
    here: Callable[[int], Here]


class Rounds:
    """Makes the rounds of a training, of one network or of a stack.

    Args:
        members: the networks.
        observation: looks at them; None if nothing is recorded.
        begins: whether the untrained networks come first.

    Attributes:
        living: the networks that go on, by position.
        next_recorded: the next epoch that is recorded; ∞ if none is. It is known beforehand, so that nothing is to
            be computed at the others: tiny ones take a few microseconds.
    """

    def __init__(self, members: Sequence[Member], observation: Observation | None, *, begins: bool) -> None:
        first = members[0]
        self._members, self._observation, self._epochs = members, observation, first.config.epochs
        self._judged = any(member.judged or not member.finite for member in members)
        self.living = {k: member for k, member in enumerate(members) if begins or not member.stopped}
        self.next_recorded = self._recorded_after(-1 if begins else first.epoch)

    def end(self, ended: Ended, healthy: Sequence[bool] | None, started: float) -> Round:
        """Look at an epoch's end, if it is recorded, and part with those who have diverged or are ready.

        Args:
            ended: the epoch.
            healthy: whether each network's numbers and its cost are finite; None if all are.
            started: when it began.
        """
        look: Look | None = None
        if self._observation is not None and ended.epoch == self.next_recorded:
            look, seen = self._observation.look(ended.epoch)
            self.next_recorded = self._recorded_after(ended.epoch)
            if not all(seen):
                healthy = seen if healthy is None else [a and b for a, b in zip(healthy, seen, strict=True)]
        found: dict[int, Epoch | DivergedError | None] = dict.fromkeys(self.living)
        verdicts = self._verdicts(ended, healthy) if self._judged or healthy is not None else {}
        seconds = (time.perf_counter() - started) / len(self._members)
        for k, validated in verdicts.items():
            if validated is None:
                found[k] = DivergedError(ended.epoch)
            else:
                found[k] = self._epoch(ended, look, seconds, k, validated)
            if validated is None or self._members[k].early:
                del self.living[k]
        if ended.epoch >= self._epochs:
            self.living = {}
        return Round(found, partial(self._epoch, ended, look, seconds))

    def _verdicts(self, ended: Ended, healthy: Sequence[bool] | None) -> dict[int, Validated | None]:
        """Judge networks by their validation data and by their costs so far; None for each that has diverged."""
        verdicts: dict[int, Validated | None] = {}
        for k, member in self.living.items():
            validated = member.validated(partial(ended.here, k))
            watched = ended.costs[k] if validated[0] is None else validated[0]
            well = member.finite and (healthy is None or healthy[k]) and math.isfinite(watched)
            verdicts[k] = validated if well else None
            if well and member.watches:
                member.see(watched)
        return verdicts

    def _epoch(
        self, ended: Ended, look: Look | None, seconds: float, k: int, validated: Validated = (None, None)
    ) -> Epoch:
        """Make the epoch of one network."""
        member = self._members[k]
        return Epoch(
            epoch=ended.epoch,
            cost=ended.costs[k],
            error=ended.errors[k],
            validation_cost=validated[0],
            validation_error=validated[1],
            learning_rate=ended.rates[k],
            seconds=seconds,
            best_epoch=member.watched.best_epoch if member.config.early_stopping else None,
            last=ended.epoch >= self._epochs or member.early,
            _t=ended.t,
            _member=member,
            _here=partial(ended.here, k),
            _look=None if look is None else partial(look.at, k),
        )

    def _recorded_after(self, epoch: int) -> float:
        """Tell which epoch after another one is recorded next: 0, 1, each n-th and the last; ∞ if none is."""
        every, last = self._members[0].config.gradients_every, self._epochs
        if every is None or epoch >= last:
            return math.inf
        return epoch + 1 if epoch < 1 else min((epoch // every + 1) * every, last)
