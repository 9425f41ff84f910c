"""What a training notes of itself at the ends of recorded epochs, over the probe: the first samples it trains on.

The pass over the probe is taken at once. What it leaves is laid aside and described when somebody asks, or when there
is no more room: that of several epochs side by side, for of a small network a call costs more than what it computes.
Each epoch's numbers come out as they would alone, to the bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.engine import probe
from chainrule.engine.arrays import FloatArray
from chainrule.engine.config import PROBE
from chainrule.engine.fast import Batches, Observed, gradient_pass, input_width
from chainrule.engine.gradients import Statistics, statistics_of, update_ratios
from chainrule.engine.member import Member, fill, together
from chainrule.engine.network import views
from chainrule.engine.probe import Probe

ROOM_BYTES = 2**20
"""What is laid aside takes so much; it is then still in the cache when it is described."""


@dataclass(frozen=True)
class GradientRecord(Statistics):
    """Statistics of one gradient at the end of one epoch, over the probe.

    Attributes:
        name: dW1, db1, …
        layer: its layer.
        update_ratio: ‖ΔW‖/‖W‖ of the epoch's last step; None at epoch 0 and where W is zero.
    """

    name: str
    layer: int
    update_ratio: float | None


Described = tuple[list[GradientRecord], Probe | None]


class Look:
    """A look at the networks of a training at the end of an epoch; it is described when somebody asks."""

    def __init__(self, observation: "Observation", epoch: int) -> None:
        self.epoch = epoch
        self.described: list[Described] | None = None
        self._observation = observation

    def at(self, member: int) -> Described:
        """Give what was seen of one of the networks."""
        if self.described is None:
            self._observation.describe()
        assert self.described is not None
        return self.described[member]


class Observation:
    """Looks at the networks of a training, of one or of a stack.

    Args:
        members: the networks.
        P: (p,) or (K, p) their parameters.
        P_before: likewise, before the epoch's last step.
        G: likewise, room for gradients.
        R: (r,) or (K, r) running statistics of batch normalization.
        stacked: whether there is an axis of networks.
    """

    def __init__(
        self,
        members: Sequence[Member],
        P: FloatArray,
        P_before: FloatArray,
        G: FloatArray,
        R: FloatArray,
        *,
        stacked: bool,
    ) -> None:
        first, lead = members[0], P.shape[:-1]
        spec, m = first.config.network, min(PROBE, len(first.X))
        rows = np.broadcast_to(np.arange(m), (len(members), 1, m))
        in_place = first.X.shape[1] == input_width(spec)
        X = (
            together(members, m, stacked=stacked)[..., None, :, :]
            if in_place
            else np.ones((*lead, 1, m, input_width(spec)), P.dtype)
        )
        batches = Batches(spec, X, weighted=first.goal.weights is not None)
        fill(batches, members, rows, stacked=stacked, in_place=in_place)
        observed = Observed()
        self._pass = gradient_pass(spec, first.config.cost, P, G, R, batches, observed)
        self._spec, labels = spec, first.goal.labels
        self._classes = 0 if labels is None or labels.ndim > 1 else first.classes
        self._names = [(f"d{symbol}{number}", number) for number, of in views(spec, P).items() for symbol in of.blocks]
        inputs = {id(member.X): member.X[:m, : spec.inputs] for member in members}
        described = {key: probe.Inputs(X) for key, X in inputs.items()}
        self._inputs = [described[id(member.X)] for member in members]
        left = {"G": G, "P": P, "P_before": P_before, "Z": batches.Z[..., 0, :, :]}
        left |= {f"A{number}": A for number, A in observed.A.items()}
        left |= {f"squares{number}": squares for number, squares in observed.squares.items()}
        self._left = {name: array if stacked else array[None] for name, array in left.items()}
        self._room = max(1, ROOM_BYTES // sum(array.nbytes for array in left.values()))
        # Where there is room for one only, it is described at once, as it lies.
        self._kept = {
            name: np.empty((self._room, *array.shape), array.dtype) if self._room > 1 else array[None]
            for name, array in self._left.items()
        }
        self._looks: list[Look] = []

    @np.errstate(over="ignore", invalid="ignore")
    def look(self, epoch: int) -> tuple[Look, Sequence[bool]]:
        """Look at the networks as they are; tell of each whether what is seen is finite."""
        self._pass()
        look, place = Look(self, epoch), len(self._looks)
        self._looks.append(look)
        if self._room > 1:
            for name, array in self._left.items():
                self._kept[name][place] = array
        finite = self._finite(epoch)
        if place + 1 == self._room:
            self.describe()
        return look, finite

    def _finite(self, epoch: int) -> Sequence[bool]:
        """Tell of each network whether all is finite that is going to be described."""
        G, P, P_before = (self._left[name] for name in ("G", "P", "P_before"))
        finite: Any = np.isfinite(G).all(axis=1)
        if G.dtype == np.float64:  # of numbers with half as many digits, no square is beyond it
            finite &= np.isfinite(np.einsum("kp,kp->k", G, G))
            if epoch > 0:
                update = P - P_before
                finite &= np.isfinite(np.einsum("kp,kp->k", update, update))
        told: list[bool] = finite.tolist()
        return told

    @np.errstate(over="ignore", invalid="ignore")
    def describe(self) -> None:
        """Describe all that is laid aside."""
        looks, self._looks = self._looks, []
        of_all = {name: kept[: len(looks)].reshape(-1, *kept.shape[2:]) for name, kept in self._kept.items()}
        begins = [look.epoch == 0 for look in looks for _ in self._inputs]
        records = self._records(of_all["G"], of_all["P"], of_all["P_before"], begins)
        squares = [
            sum(record.norm**2 for record in of_one if record.name.rstrip("0123456789") in ("dW", "db"))
            for of_one in records
        ]
        layers = range(1, len(self._spec.layers) + 1)
        probes = probe.described(
            self._spec,
            self._inputs * len(looks),
            {number: of_all[f"A{number}"] for number in layers[:-1]},
            of_all["Z"],
            {number: of_all[f"squares{number}"] for number in layers},
            {number: view.W for number, view in views(self._spec, of_all["P"]).items()},
            squares,
            self._classes,
            begins,
        )
        found, members = list(zip(records, probes, strict=True)), len(self._inputs)
        for place, look in enumerate(looks):
            look.described = found[place * members : (place + 1) * members]

    def _records(
        self, G: FloatArray, P: FloatArray, P_before: FloatArray, begins: Sequence[bool]
    ) -> list[list[GradientRecord]]:
        """Describe gradients, a row each."""
        gradient, now, then = (self._blocks(vectors) for vectors in (G, P, P_before))
        found, ratios, blocks = statistics_of(gradient), update_ratios(now, then), len(self._names)
        return [
            [
                GradientRecord(**vars(one), name=name, layer=number, update_ratio=None if first else ratio)
                for (name, number), one, ratio in zip(
                    self._names, found[place : place + blocks], ratios[place : place + blocks], strict=True
                )
            ]
            for place, first in zip(range(0, len(found), blocks), begins, strict=True)
        ]

    def _blocks(self, vectors: FloatArray) -> list[FloatArray]:
        """List the blocks of the first row, then those of the second, …"""
        of = [block for view in views(self._spec, vectors).values() for block in view.blocks.values()]
        return [block[row] for row in range(len(vectors)) for block in of]
