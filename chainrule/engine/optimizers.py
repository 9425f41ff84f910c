"""Optimizers: one step of the parameters P against their gradient G, for the whole network at once.

    sgd        P ← P − η·G
    momentum   V ← μ·V + G;  P ← P − η·V
    nesterov   V ← μ·V + G;  P ← P − η·(G + μ·V)
    rmsprop    S ← ρ·S + (1−ρ)·G²;  P ← P − η·G/(√S + ε)
    adagrad    S ← S + G²;  P ← P − η·G/(√S + ε)
    adam       M ← β₁·M + (1−β₁)·G;  S ← β₂·S + (1−β₂)·G²
               P ← P − η·M̂/(√Ŝ + ε)  with M̂ = M/(1−β₁ᵗ), Ŝ = S/(1−β₂ᵗ)
    adamw      P ← (1 − η·λ)·P, then as adam

η is the learning rate, which a schedule may change from epoch to epoch, μ the momentum, λ the weight
decay, t the step from 1. Sources: Polyak (1964); Nesterov (1983) in the form of Sutskever et al. (2013);
Hinton, lecture 6e (2012); Duchi, Hazan and Singer (2011); Kingma and Ba (2015); Loshchilov and Hutter (2019).

The means M and S are kept without their constant factor, as M/(1−β₁), S/(1−β₂) and S/(1−ρ): it can be
taken out of the sum, and two operations on whole vectors become part of one number.

State that decays towards zero would end as denormal numbers, on which arithmetic is many times
slower; every `FLUSH_EVERY` steps what is far below any effect is set to zero. It depends on t alone,
so that a resumed run does the same.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chainrule.engine.arrays import FloatArray
from chainrule.engine.errors import ConfigError, UnknownNameError

FLUSH_EVERY = 128
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


class Numbers:
    """The numbers of an optimizer as 0-d arrays of the parameters' type, which NumPy takes faster than floats."""

    def __init__(self, spec: OptimizerSpec, dtype: np.dtype[np.floating]) -> None:
        self.spec = spec
        self.momentum = np.array(spec.momentum, dtype)
        self.beta1 = np.array(spec.beta1, dtype)
        self.beta2 = np.array(spec.beta2, dtype)
        self.rho = np.array(spec.rho, dtype)
        self.set_learning_rate(spec.learning_rate)

    def set_learning_rate(self, rate: float) -> None:
        """Take another η, once an epoch."""
        self.rate = rate
        self.learning_rate = np.array(rate, self.momentum.dtype)
        self.kept = np.array(1 - rate * self.spec.weight_decay, self.momentum.dtype)


class Stepper:
    """Takes steps in place: the state vectors, and one to compute in."""

    def __init__(self, spec: OptimizerSpec, P: FloatArray, state: State | None = None) -> None:
        self._numbers = Numbers(spec, P.dtype)
        self.state: State = (
            {name: np.zeros_like(P) for name in OPTIMIZERS[spec.name].state}
            if state is None
            else {name: vector.astype(P.dtype, copy=True) for name, vector in state.items()}
        )
        self._work = np.empty_like(P)
        self._update = OPTIMIZERS[spec.name].update
        self._tiny = 1e-30 if P.dtype == np.float32 else 1e-290

    def set_learning_rate(self, rate: float) -> None:
        """Take steps of another η from here on; it is no part of the state."""
        self._numbers.set_learning_rate(rate)

    def step(self, P: FloatArray, G: FloatArray, t: int) -> None:
        """Take step t (from 1): change P, and the state, in place."""
        self._update(self._numbers, P, G, self.state, t, self._work)
        if t % FLUSH_EVERY == 0:
            for vector in self.state.values():
                vector[np.abs(vector) < self._tiny] = 0


def _sgd(n: Numbers, P: FloatArray, G: FloatArray, state: State, t: int, work: FloatArray) -> None:
    np.multiply(G, n.learning_rate, out=work)
    np.subtract(P, work, out=P)


def _momentum(n: Numbers, P: FloatArray, G: FloatArray, state: State, t: int, work: FloatArray) -> None:
    V = state["V"]
    np.multiply(V, n.momentum, out=V)
    np.add(V, G, out=V)
    np.multiply(V, n.learning_rate, out=work)
    np.subtract(P, work, out=P)


def _nesterov(n: Numbers, P: FloatArray, G: FloatArray, state: State, t: int, work: FloatArray) -> None:
    V = state["V"]
    np.multiply(V, n.momentum, out=V)
    np.add(V, G, out=V)
    np.multiply(V, n.momentum, out=work)
    np.add(work, G, out=work)
    np.multiply(work, n.learning_rate, out=work)
    np.subtract(P, work, out=P)


def _rmsprop(n: Numbers, P: FloatArray, G: FloatArray, state: State, t: int, work: FloatArray) -> None:
    S, spec = state["S"], n.spec
    np.multiply(S, n.rho, out=S)
    np.multiply(G, G, out=work)
    np.add(S, work, out=S)
    # η·G/(√((1−ρ)·S) + ε), S without its factor 1−ρ
    root = (1 - spec.rho) ** -0.5
    np.sqrt(S, out=work)
    np.add(work, spec.epsilon * root, out=work)
    np.divide(G, work, out=work)
    np.multiply(work, n.rate * root, out=work)
    np.subtract(P, work, out=P)


def _adagrad(n: Numbers, P: FloatArray, G: FloatArray, state: State, t: int, work: FloatArray) -> None:
    S = state["S"]
    np.multiply(G, G, out=work)
    np.add(S, work, out=S)
    np.sqrt(S, out=work)
    np.add(work, n.spec.epsilon, out=work)
    np.divide(G, work, out=work)
    np.multiply(work, n.learning_rate, out=work)
    np.subtract(P, work, out=P)


def _adamw(n: Numbers, P: FloatArray, G: FloatArray, state: State, t: int, work: FloatArray) -> None:
    np.multiply(P, n.kept, out=P)
    _adam(n, P, G, state, t, work)


def _adam(n: Numbers, P: FloatArray, G: FloatArray, state: State, t: int, work: FloatArray) -> None:
    M, S, spec = state["M"], state["S"], n.spec
    np.multiply(M, n.beta1, out=M)
    np.add(M, G, out=M)
    np.multiply(S, n.beta2, out=S)
    np.multiply(G, G, out=work)
    np.add(S, work, out=S)
    # η·M̂/(√Ŝ + ε) with M̂ = M·(1−β₁)/(1−β₁ᵗ) and Ŝ = S·(1−β₂)/(1−β₂ᵗ), M and S without their factors
    root = ((1 - spec.beta2**t) / (1 - spec.beta2)) ** 0.5
    np.sqrt(S, out=work)
    np.add(work, spec.epsilon * root, out=work)
    np.divide(M, work, out=work)
    np.multiply(work, n.rate * root * (1 - spec.beta1) / (1 - spec.beta1**t), out=work)
    np.subtract(P, work, out=P)


@dataclass(frozen=True)
class Optimizer:
    """One optimizer: its usual learning rate, the other numbers it uses, its state, and its step."""

    learning_rate: float
    uses: tuple[str, ...]
    state: tuple[str, ...]
    update: Callable[[Numbers, FloatArray, FloatArray, State, int, FloatArray], None]


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(0.1, (), (), _sgd),
    "momentum": Optimizer(0.01, ("momentum",), ("V",), _momentum),
    "nesterov": Optimizer(0.01, ("momentum",), ("V",), _nesterov),
    "rmsprop": Optimizer(0.001, ("rho", "epsilon"), ("S",), _rmsprop),
    "adagrad": Optimizer(0.01, ("epsilon",), ("S",), _adagrad),
    "adam": Optimizer(0.001, ("beta1", "beta2", "epsilon"), ("M", "S"), _adam),
    "adamw": Optimizer(0.001, ("beta1", "beta2", "epsilon", "weight_decay"), ("M", "S"), _adamw),
}
