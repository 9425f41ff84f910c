"""L-BFGS: steps by an estimate H of the inverse second derivatives, made of the last steps taken; all samples at once.

    F = C + ½·λ₂·Σw²                      what is made smaller; G its gradient
    d = −H·G                              by the two-loop recursion, from the newest pairs (s, y)
    P ← P + a·d                           a by line search, begun at a = η
    s = a·d,  y = G(P + a·d) − G(P)       the step's pair, one of the last HISTORY

The line search looks for a step that makes F small enough and after which F falls less steeply than before
(weak Wolfe conditions; then sᵀy > 0, so that d is a descent):

    F(P + a·d) ≤ F(P) + c₁·a·Gᵀd      and      G(P + a·d)ᵀd ≥ c₂·Gᵀd

It doubles a until it is too long, then halves the bracket. Where there is no pair yet, d is −G, shortened to
length 1. If the pairs lead nowhere they are forgotten and −G is tried; if that leads nowhere either, F is as small
as its rounding allows, and P stays. Sums over parameters are taken in float64.

Sources: Nocedal and Wright, "Numerical Optimization" (2006), algorithms 7.4 and 7.5; line search: Lewis and Overton,
"Nonsmooth optimization via quasi-Newton methods" (2013), algorithm 2.6.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray
from chainrule.engine.config import TrainingConfig
from chainrule.engine.costs import cost
from chainrule.engine.fast import Batches, record_gradient
from chainrule.engine.optimizers import HISTORY
from chainrule.engine.recording import Recorder
from chainrule.engine.regularization import add_penalty, of_weights

DECREASE, CURVATURE = 1e-4, 0.9
"""c₁ and c₂."""
MOST_TRIALS = 30
"""So often F is computed in one line search at most, and once more."""
Pair = tuple[FloatArray, FloatArray]


class Searches:
    """The steps of L-BFGS, as `fast.Steps` has those of the others; each network of a stack has a search of its own.

    Args:
        configs: of each network.
        P: (p,) parameters, or (K, p) of K networks.
        state: S1, Y1, … of each, likewise: pairs, or zeros.
        batches: one, of all samples.
    """

    def __init__(
        self, configs: Sequence[TrainingConfig], P: FloatArray, state: Mapping[str, FloatArray], batches: Batches
    ) -> None:
        places: list[Any] = list(range(len(configs))) if P.ndim > 1 else [()]
        given = {name: held[0] for name, held in batches.changing.items()}
        self._searches = [
            _Search(
                config,
                P[k],
                {name: vector[k] for name, vector in state.items()},
                {name: array[k] for name, array in given.items()},
            )
            for config, k in zip(configs, places, strict=True)
        ]

    def take(
        self, start: int, stop: int, rates: Sequence[Sequence[float]], ts: Sequence[int], due: Callable[[], bool] | None
    ) -> int:
        """Take the step, as `fast.Steps.take` does; there is one in an epoch, so nobody is asked after it."""
        for search, rate, t in zip(self._searches, rates[0], ts, strict=True):
            search.step(rate, t)
        return stop - start


class _Search:
    """The steps of one network. What it remembers beside the state follows from P and the state."""

    def __init__(
        self, config: TrainingConfig, P: FloatArray, state: Mapping[str, FloatArray], given: Mapping[str, FloatArray]
    ) -> None:
        spec, l2 = config.network, config.regularization.l2
        self._P, self._G, self._state, self._given = P, np.empty_like(P), state, given
        self._output, self._cost = activation(spec.layers[-1].activation), cost(config.cost)
        self._m = given["X"].shape[0]
        self._at_weights = None if l2 == 0 else P.dtype.type(l2) * of_weights(spec, P.dtype)
        # Z of the point that is tried; given["Z"] has that of the point the step begins at, to be judged by.
        self._Z = np.empty_like(given["Z"])
        recorder = Recorder(P.dtype, {**given, "Z": self._Z})
        scale = recorder.changing.get("scale", 1 / self._m)
        record_gradient(recorder, spec, config.cost, P, self._G, np.empty(0, P.dtype), scale, training=True)
        if self._at_weights is not None:
            add_penalty(recorder.watch(P), recorder.watch(self._G), None, recorder.watch(self._at_weights))
        self._repetition = tuple(recorder.samples.values())
        self._loop = recorder.loop()
        self._F: float | None = None
        self._ended = False

    def step(self, rate: float, t: int) -> None:
        """Take step t + 1 in place: change P and the state."""
        if self._F is None:
            self._F = self._evaluate()
        self._given["Z"][...] = self._Z
        if self._ended or not math.isfinite(self._F):
            return
        P, G = self._P.copy(), self._G.copy()
        pairs = self._pairs(t)
        if not (self._search(P, G, pairs, rate) or (pairs and self._search(P, G, self._forget(), rate))):
            self._P[:], self._G[:], self._Z[...] = P, G, self._given["Z"]
            self._ended = True
            return
        s, y = self._P - P, self._G - G
        kept = _dot(s, y) > np.finfo(P.dtype).eps * _dot(y, y)  # else H would not be one of a descent
        number = t % HISTORY + 1
        self._state[f"S{number}"][:], self._state[f"Y{number}"][:] = (s, y) if kept else (0, 0)

    def _search(self, P: FloatArray, G: FloatArray, pairs: list[Pair], a: float) -> bool:
        """Look for a step from P that meets the conditions, or the first at least; leave it in P, F, G and Z."""
        assert self._F is not None
        F, d = self._F, _direction(G, pairs)
        slope = _dot(G, d)
        if not slope < 0:
            return False
        low, high = 0.0, math.inf
        for _ in range(MOST_TRIALS):
            tried, slope_there = self._try(P, d, a), _dot(self._G, d)
            # What is not a number is too far; and so is what rounding alone lets pass.
            if not (tried <= F + DECREASE * a * slope and tried < F and math.isfinite(slope_there)):
                high = a
            elif slope_there < CURVATURE * slope:
                low = a
            else:
                self._F = tried
                return True
            a = (low + high) / 2 if high < math.inf else 2 * low
        if low > 0:
            self._F = self._try(P, d, low)
        return low > 0

    def _try(self, P: FloatArray, d: FloatArray, a: float) -> float:
        np.add(P, P.dtype.type(a) * d, out=self._P)
        return self._evaluate()

    def _evaluate(self) -> float:
        """Compute F at P, its gradient and the outputs."""
        self._loop([self._repetition], None)
        A = self._output.forward(self._Z, axis=-2)
        errors = self._cost.per_sample(self._Z, A, self._given["Y"], self._output, axis=-2)
        if "scale" in self._given:
            errors = errors * (self._given["scale"][0] * self._m)
        F: float = float(np.add.reduce(errors, dtype=np.float64)) / self._m
        return F if self._at_weights is None else F + 0.5 * _dot(self._at_weights * self._P, self._P)

    def _pairs(self, t: int) -> list[Pair]:
        """Read the pairs, the newest first; where one was not kept there are zeros."""
        numbers = [(t - age) % HISTORY + 1 for age in range(1, HISTORY + 1)]
        return [(self._state[f"S{n}"], self._state[f"Y{n}"]) for n in numbers if self._state[f"S{n}"].any()]

    def _forget(self) -> list[Pair]:
        for vector in self._state.values():
            vector[:] = 0
        return []


def _direction(G: FloatArray, pairs: list[Pair]) -> FloatArray:
    """Compute −H·G from pairs, the newest first.

        q = G;  for each pair, the newest first:   α = sᵀq/sᵀy,  q ← q − α·y
        r = γ·q, γ = sᵀy/yᵀy of the newest
        for each pair, the oldest first:           r ← r + (α − yᵀr/sᵀy)·s
        d = −r

    Without pairs it is −G, of length 1 at most.
    """
    q = G.astype(np.float64)
    if not pairs:
        return (q * (-1 / max(1.0, math.sqrt(_dot(q, q))))).astype(G.dtype)
    alphas = []
    for s, y in pairs:
        alphas.append(_dot(s, q) / _dot(s, y))
        q -= alphas[-1] * y.astype(np.float64)
    s, y = pairs[0]
    q *= _dot(s, y) / _dot(y, y)
    for (s, y), alpha in zip(reversed(pairs), reversed(alphas), strict=True):
        q += (alpha - _dot(y, q) / _dot(s, y)) * s.astype(np.float64)
    return (-q).astype(G.dtype)


def _dot(x: FloatArray, y: FloatArray) -> float:
    return float(np.add.reduce(np.multiply(x, y, dtype=np.float64)))
