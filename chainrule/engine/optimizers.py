"""Optimizers: one step of the parameters P against their gradient G, for the whole network at once.

    sgd        P ← P − η·G
    momentum   V ← μ·V + G;  P ← P − η·V
    nesterov   V ← μ·V + G;  P ← P − η·(G + μ·V)
    rmsprop    S ← ρ·S + (1−ρ)·G²;  P ← P − η·G/(√S + ε)
    adagrad    S ← S + G²;  P ← P − η·G/(√S + ε)
    adam       M ← β₁·M + (1−β₁)·G;  S ← β₂·S + (1−β₂)·G²
               P ← P − η·M̂/(√Ŝ + ε)  with M̂ = M/(1−β₁ᵗ), Ŝ = S/(1−β₂ᵗ)
    adamw      P ← (1 − η·λ)·P, then as adam
    lbfgs      P ← P − a·H·G, a by line search from a = η; see `lbfgs`

η is the learning rate, which a schedule may change from epoch to epoch, μ the momentum, λ the weight
decay, t the step from 1. Sources: Polyak (1964); Nesterov (1983) in the form of Sutskever et al. (2013);
Hinton, lecture 6e (2012); Duchi, Hazan and Singer (2011); Kingma and Ba (2015); Loshchilov and Hutter (2019).

The means M and S are kept without their constant factor, as M/(1−β₁), S/(1−β₂) and S/(1−ρ): it can be
taken out of the sum, and two operations on whole vectors become part of one number.

State that decays towards zero would end as denormal numbers, on which arithmetic is many times
slower; every `FLUSH_EVERY` steps what is far below any effect is set to zero. It depends on t alone,
so that a resumed run does the same.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.engine.arrays import FloatArray
from chainrule.engine.errors import ConfigError, UnknownNameError

FLUSH_EVERY = 128
HISTORY = 10
"""So many pairs L-BFGS remembers."""
State = dict[str, FloatArray]


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer with its numbers; each uses only some of them (`OPTIMIZERS[name].uses`).

    Without a learning rate it takes the optimizer's usual one.

    Raises:
        ConfigError, UnknownNameError: with the path of the wrong field.
    """

    name: str = "sgd"
    learning_rate: float = None  # type: ignore[assignment]  # filled in below
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    rho: float = 0.9
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        """Check every number."""
        if self.name not in OPTIMIZERS:
            raise UnknownNameError("optimizer", self.name, OPTIMIZERS, "optimizer/name")
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", OPTIMIZERS[self.name].learning_rate)
        for field in ("learning_rate", "epsilon"):
            if not 0 < getattr(self, field) < float("inf"):
                raise ConfigError(f"{field} must be a number above 0.", f"optimizer/{field}")
        for field in ("momentum", "beta1", "beta2", "rho"):
            if not 0 <= getattr(self, field) < 1:
                raise ConfigError(f"{field} must be at least 0 and below 1.", f"optimizer/{field}")
        if not 0 <= self.weight_decay < float("inf"):
            raise ConfigError("weight_decay must be a number of at least 0.", "optimizer/weight_decay")


Numbers = Mapping[str, Any]
"""The numbers an update uses by name: those of the spec, and the coefficients of step t."""


def fixed(spec: OptimizerSpec) -> dict[str, float]:
    """Give the numbers that are the same in every step."""
    return {name: getattr(spec, name) for name in ("momentum", "beta1", "beta2", "rho", "epsilon")}


def flush(state: State, t: int) -> None:
    """Set state that has decayed below any effect to zero, in place, when step t is one to do so after."""
    if t % FLUSH_EVERY == 0:
        for vector in state.values():
            vector[np.abs(vector) < (1e-30 if vector.dtype == np.float32 else 1e-290)] = 0


class Stepper:
    """Takes steps in place, one at a time; how training does it is in `fast`."""

    def __init__(self, spec: OptimizerSpec, P: FloatArray, state: State | None = None) -> None:
        self._spec, self._rate, self._optimizer = spec, spec.learning_rate, OPTIMIZERS[spec.name]
        if self._optimizer.update is None:
            raise ConfigError(f"Optimizer {spec.name!r} takes no steps along one gradient.", "optimizer/name")
        self._update = self._optimizer.update
        self.state: State = (
            {name: np.zeros_like(P) for name in self._optimizer.state}
            if state is None
            else {name: vector.astype(P.dtype, copy=True) for name, vector in state.items()}
        )

    def set_learning_rate(self, rate: float) -> None:
        """Take steps of another η from here on; it is no part of the state."""
        self._rate = rate

    def step(self, P: FloatArray, G: FloatArray, t: int) -> None:
        """Take step t (from 1): change P, and the state, in place."""
        numbers = fixed(self._spec) | self._optimizer.coefficients(self._spec, self._rate, t)
        self._update({name: P.dtype.type(n) for name, n in numbers.items()}, P, G, self.state)
        flush(self.state, t)


def _rate(spec: OptimizerSpec, rate: float, t: int) -> dict[str, float]:
    return {"rate": rate}


def _sgd(n: Numbers, P: FloatArray, G: FloatArray, state: State) -> None:
    P -= n["rate"] * G


def _momentum(n: Numbers, P: FloatArray, G: FloatArray, state: State) -> None:
    V = state["V"]
    V *= n["momentum"]
    V += G
    P -= n["rate"] * V


def _nesterov(n: Numbers, P: FloatArray, G: FloatArray, state: State) -> None:
    V = state["V"]
    V *= n["momentum"]
    V += G
    P -= (n["momentum"] * V + G) * n["rate"]


def _rmsprop_coefficients(spec: OptimizerSpec, rate: float, t: int) -> dict[str, float]:
    # η·G/(√((1−ρ)·S) + ε), S without its factor 1−ρ
    root = math.pow(1 - spec.rho, -0.5)
    return {"rate": rate * root, "added": spec.epsilon * root}


def _rmsprop(n: Numbers, P: FloatArray, G: FloatArray, state: State) -> None:
    S = state["S"]
    S *= n["rho"]
    S += G * G
    P -= G / (np.sqrt(S) + n["added"]) * n["rate"]


def _adagrad(n: Numbers, P: FloatArray, G: FloatArray, state: State) -> None:
    S = state["S"]
    S += G * G
    P -= G / (np.sqrt(S) + n["epsilon"]) * n["rate"]


def _adam_coefficients(spec: OptimizerSpec, rate: float, t: int) -> dict[str, float]:
    # η·M̂/(√Ŝ + ε) with M̂ = M·(1−β₁)/(1−β₁ᵗ) and Ŝ = S·(1−β₂)/(1−β₂ᵗ), M and S without their factors
    root = math.sqrt((1 - math.pow(spec.beta2, t)) / (1 - spec.beta2))
    return {
        "rate": rate * root * (1 - spec.beta1) / (1 - math.pow(spec.beta1, t)),
        "added": spec.epsilon * root,
    }


def _adam(n: Numbers, P: FloatArray, G: FloatArray, state: State) -> None:
    M, S = state["M"], state["S"]
    M *= n["beta1"]
    M += G
    S *= n["beta2"]
    S += G * G
    P -= M / (np.sqrt(S) + n["added"]) * n["rate"]


def _adamw_coefficients(spec: OptimizerSpec, rate: float, t: int) -> dict[str, float]:
    return _adam_coefficients(spec, rate, t) | {"kept": 1 - rate * spec.weight_decay}


def _adamw(n: Numbers, P: FloatArray, G: FloatArray, state: State) -> None:
    P *= n["kept"]
    _adam(n, P, G, state)


@dataclass(frozen=True)
class Optimizer:
    """One optimizer.

    Attributes:
        learning_rate: the usual one.
        uses: the other numbers of the spec it uses.
        state: the names of its state vectors.
        changing: the names of its coefficients.
        coefficients: (spec, η, t) to the numbers that may differ from step to step, by name.
        update: (numbers, P, G, state): change P and the state in place; made of ufuncs alone. None for one whose
            step takes the gradient at several places, and all samples: see `lbfgs`.
    """

    learning_rate: float
    uses: tuple[str, ...]
    state: tuple[str, ...]
    changing: tuple[str, ...]
    coefficients: Callable[[OptimizerSpec, float, int], dict[str, float]]
    update: Callable[[Numbers, FloatArray, FloatArray, State], None] | None

    @property
    def searches(self) -> bool:
        """Whether a step is found by line search, over all samples."""
        return self.update is None


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(0.1, (), (), ("rate",), _rate, _sgd),
    "momentum": Optimizer(0.01, ("momentum",), ("V",), ("rate",), _rate, _momentum),
    "nesterov": Optimizer(0.01, ("momentum",), ("V",), ("rate",), _rate, _nesterov),
    "rmsprop": Optimizer(0.001, ("rho", "epsilon"), ("S",), ("rate", "added"), _rmsprop_coefficients, _rmsprop),
    "adagrad": Optimizer(0.01, ("epsilon",), ("S",), ("rate",), _rate, _adagrad),
    "adam": Optimizer(0.001, ("beta1", "beta2", "epsilon"), ("M", "S"), ("rate", "added"), _adam_coefficients, _adam),
    "adamw": Optimizer(
        0.001,
        ("beta1", "beta2", "epsilon", "weight_decay"),
        ("M", "S"),
        ("rate", "added", "kept"),
        _adamw_coefficients,
        _adamw,
    ),
    "lbfgs": Optimizer(1.0, (), tuple(f"{kind}{n}" for kind in "SY" for n in range(1, HISTORY + 1)), (), _rate, None),
}
