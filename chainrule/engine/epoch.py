"""What a training yields: epochs, and places between two steps at which it can be taken up again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from chainrule.engine.checkpoint import ResumePoint
from chainrule.engine.member import Here, Member
from chainrule.engine.network import Network
from chainrule.engine.observation import Described, GradientRecord
from chainrule.engine.probe import Probe


@dataclass
class Place:
    """Where a member stands: what a resume point is made of.

    Attributes:
        member: who stands there.
        here: finds its network and state there.
        epoch: the last one that has ended.
        t: the steps taken altogether.
        step, cost_sum, wrong: how far the epoch after it is; nothing of it between two epochs.
    """

    member: Member
    here: Callable[[], Here]
    epoch: int
    t: int
    step: int = 0
    cost_sum: float = 0.0
    wrong: int = 0

    def network(self) -> Network:
        """Copy the network out."""
        return self.here()[0].copy()

    def resume_point(self) -> ResumePoint:
        """Copy all it takes to go on from here."""
        member, best = self.member, self.member.best
        network, state = self.here()
        follows = network.running.size > 0
        return ResumePoint(
            epoch=self.epoch,
            step=self.step,
            steps=self.t,
            parameters=network.parameters.copy(),
            optimizer_state={name: vector.copy() for name, vector in state.items()},
            cost_sum=self.cost_sum,
            wrong=self.wrong,
            watched=member.watched.to_array() if member.watches else None,
            best=None if best is None else best.parameters.copy(),
            running=network.running.copy() if follows else None,
            best_running=best.running.copy() if best is not None and follows else None,
        )


@dataclass
class StepBoundary:
    """A place between two steps of an epoch, given when `snapshot_due` asks for one."""

    epoch: int
    step: int
    _places: list[Place] = field(repr=False)

    def network(self, trainee: int = 0) -> Network:
        """Copy the network as it is here; only before the generator is advanced."""
        return self._places[trainee].network()

    def resume_point(self, trainee: int = 0) -> ResumePoint:
        """Copy all it takes to go on from here; only before the generator is advanced."""
        return self._places[trainee].resume_point()


@dataclass
class Epoch:
    """What one epoch came to; epoch 0 is the untrained network.

    Attributes:
        epoch: its number.
        cost: the mean over the epoch's samples of w·E, each under the weights its own step started from.
        error: the share of them got wrong, likewise; None for regression.
        validation_cost, validation_error: at the weights at the epoch's end; None without validation data.
        learning_rate: of its steps; for epoch 0 the optimizer's own.
        seconds: how long it took, without what the caller did; its share where several were trained at once.
        best_epoch: with early stopping, the best epoch so far; else None.
        last: whether the training ends with it.
    """

    epoch: int
    cost: float
    error: float | None
    validation_cost: float | None
    validation_error: float | None
    learning_rate: float
    seconds: float
    best_epoch: int | None
    last: bool
    _t: int = field(repr=False)
    _member: Member = field(repr=False)
    _here: Callable[[], Here] = field(repr=False)
    _look: Callable[[], Described] | None = field(repr=False)

    @cached_property
    def network(self) -> Network:
        """A copy of the network at the epoch's end; ask before the generator is advanced."""
        return self._place.network()

    @property
    def _place(self) -> Place:
        return Place(self._member, self._here, self.epoch, self._t)

    @property
    def recorded(self) -> bool:
        """Whether statistics are recorded of it."""
        return self._look is not None

    @property
    def gradients(self) -> list[GradientRecord] | None:
        """Statistics of the gradients over the probe, at the weights at its end; None if not recorded."""
        return None if self._look is None else self._look()[0]

    @property
    def probe(self) -> Probe | None:
        """What else is recorded then; None if nothing is, or a number of it is not finite."""
        return None if self._look is None else self._look()[1]

    @property
    def best(self) -> Network | None:
        """A copy of the network of the best epoch so far; with early stopping only."""
        best = self._member.best
        return None if best is None else best.copy()

    def resume_point(self) -> ResumePoint:
        """Copy all it takes to go on from here; only before the generator is advanced."""
        return self._place.resume_point()
