"""The resume point: all it takes to go on with a training exactly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.engine.arrays import FloatArray

_STATE = "optimizer_"


@dataclass(frozen=True)
class ResumePoint:
    """Where a training stands, at a step boundary.

    Randomness needs no place here: it is a pure function of seed, epoch and step.

    Attributes:
        epoch: epochs completed.
        step: steps done in the next epoch.
        steps: steps done in all, the optimizer's t.
        parameters: the vector of W and b, and γ and β of normalization.
        optimizer_state: the optimizer's vectors.
        cost_sum: Σ E over the samples of the epoch under way.
        wrong: how many of them were got wrong.
        watched: what early stopping and plateau remember, None if nobody watches.
        best: the parameters of the best epoch, None if they are not kept.
        running: the running statistics of batch normalization; None where there are none.
        best_running: those of the best epoch, likewise.
    """

    epoch: int
    step: int
    steps: int
    parameters: FloatArray
    optimizer_state: dict[str, FloatArray] = field(default_factory=dict)
    cost_sum: float = 0.0
    wrong: int = 0
    watched: FloatArray | None = None
    best: FloatArray | None = None
    running: FloatArray | None = None
    best_running: FloatArray | None = None

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give everything as arrays, for any format that holds arrays."""
        return {
            "position": np.array([self.epoch, self.step, self.steps, self.wrong], dtype=np.int64),
            "cost_sum": np.array([self.cost_sum], dtype=np.float64),
            "parameters": self.parameters,
            **{_STATE + name: vector for name, vector in self.optimizer_state.items()},
            **({} if self.watched is None else {"watched": self.watched}),
            **({} if self.best is None else {"best": self.best}),
            **({} if self.running is None else {"running": self.running}),
            **({} if self.best_running is None else {"best_running": self.best_running}),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "ResumePoint":
        """Read back what `to_arrays` gave, to the bit."""
        epoch, step, steps, wrong = (int(n) for n in arrays["position"])
        return cls(
            epoch=epoch,
            step=step,
            steps=steps,
            parameters=arrays["parameters"],
            optimizer_state={n.removeprefix(_STATE): v for n, v in arrays.items() if n.startswith(_STATE)},
            cost_sum=float(arrays["cost_sum"][0]),
            wrong=wrong,
            watched=arrays.get("watched"),
            best=arrays.get("best"),
            running=arrays.get("running"),
            best_running=arrays.get("best_running"),
        )
