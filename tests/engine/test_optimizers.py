from collections.abc import Callable

import numpy as np
import pytest

from chainrule.engine import ConfigError, OptimizerSpec, UnknownNameError
from chainrule.engine.arrays import FloatArray
from chainrule.engine.optimizers import FLUSH_EVERY, OPTIMIZERS, Stepper
from tests.engine.problems import STEPPING

STEPS, PARAMETERS = 50, 9
SPEC = {"learning_rate": 0.05, "momentum": 0.8, "beta1": 0.85, "beta2": 0.95, "rho": 0.7, "epsilon": 1e-3}
SPEC["weight_decay"] = 0.02
Rates = list[float]
Textbook = Callable[[OptimizerSpec, Rates, FloatArray, list[FloatArray]], FloatArray]


def sgd(o: OptimizerSpec, rates: Rates, P: FloatArray, gradients: list[FloatArray]) -> FloatArray:
    for rate, G in zip(rates, gradients, strict=True):
        P = P - rate * G
    return P


def momentum(o: OptimizerSpec, rates: Rates, P: FloatArray, gradients: list[FloatArray]) -> FloatArray:
    V = np.zeros_like(P)
    for rate, G in zip(rates, gradients, strict=True):
        V = o.momentum * V + G
        P = P - rate * V
    return P


def nesterov(o: OptimizerSpec, rates: Rates, P: FloatArray, gradients: list[FloatArray]) -> FloatArray:
    V = np.zeros_like(P)
    for rate, G in zip(rates, gradients, strict=True):
        V = o.momentum * V + G
        P = P - rate * (G + o.momentum * V)
    return P


def rmsprop(o: OptimizerSpec, rates: Rates, P: FloatArray, gradients: list[FloatArray]) -> FloatArray:
    S = np.zeros_like(P)
    for rate, G in zip(rates, gradients, strict=True):
        S = o.rho * S + (1 - o.rho) * G**2
        P = P - rate * G / (np.sqrt(S) + o.epsilon)
    return P


def adam(o: OptimizerSpec, rates: Rates, P: FloatArray, gradients: list[FloatArray]) -> FloatArray:
    M, S = np.zeros_like(P), np.zeros_like(P)
    for t, (rate, G) in enumerate(zip(rates, gradients, strict=True), start=1):
        M = o.beta1 * M + (1 - o.beta1) * G
        S = o.beta2 * S + (1 - o.beta2) * G**2
        M_hat, S_hat = M / (1 - o.beta1**t), S / (1 - o.beta2**t)
        P = P - rate * M_hat / (np.sqrt(S_hat) + o.epsilon)
    return P


def adagrad(o: OptimizerSpec, rates: Rates, P: FloatArray, gradients: list[FloatArray]) -> FloatArray:
    S = np.zeros_like(P)
    for rate, G in zip(rates, gradients, strict=True):
        S = S + G**2
        P = P - rate * G / (np.sqrt(S) + o.epsilon)
    return P


def adamw(o: OptimizerSpec, rates: Rates, P: FloatArray, gradients: list[FloatArray]) -> FloatArray:
    M, S = np.zeros_like(P), np.zeros_like(P)
    for t, (rate, G) in enumerate(zip(rates, gradients, strict=True), start=1):
        M = o.beta1 * M + (1 - o.beta1) * G
        S = o.beta2 * S + (1 - o.beta2) * G**2
        M_hat, S_hat = M / (1 - o.beta1**t), S / (1 - o.beta2**t)
        P = P - rate * (M_hat / (np.sqrt(S_hat) + o.epsilon) + o.weight_decay * P)
    return P


TEXTBOOK: dict[str, Textbook] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "adam": adam,
    "adamw": adamw,
}
every_optimizer = pytest.mark.parametrize("name", STEPPING)


def start(dtype: str = "float64") -> tuple[FloatArray, list[FloatArray]]:
    rng = np.random.default_rng(0)
    P = rng.normal(size=PARAMETERS).astype(dtype)
    return P, [rng.normal(size=PARAMETERS).astype(dtype) for _ in range(STEPS)]


def test_every_registered_optimizer_has_its_textbook_form_here() -> None:
    assert set(TEXTBOOK) == set(STEPPING)


@every_optimizer
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-11), ("float32", 1e-4)])
def test_fifty_steps_equal_the_textbook(name: str, dtype: str, rtol: float) -> None:
    fifty_steps(name, dtype, rtol, [SPEC["learning_rate"]] * STEPS)


@every_optimizer
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-11), ("float32", 1e-4)])
def test_a_learning_rate_that_changes_is_that_of_the_steps_that_follow(name: str, dtype: str, rtol: float) -> None:
    fifty_steps(name, dtype, rtol, [0.05 * 0.9 ** (step // 5) for step in range(STEPS)])


def fifty_steps(name: str, dtype: str, rtol: float, rates: Rates) -> None:
    spec, (P, gradients) = OptimizerSpec(name, **SPEC), start(dtype)
    expected = TEXTBOOK[name](spec, rates, P.astype(np.float64), [G.astype(np.float64) for G in gradients])
    stepper = Stepper(spec, P)
    for t, (rate, G) in enumerate(zip(rates, gradients, strict=True), start=1):
        kept = G.copy()
        if rate != rates[t - 2]:
            stepper.set_learning_rate(rate)
        stepper.step(P, G, t)
        assert G.tobytes() == kept.tobytes()
    assert P.dtype == dtype
    np.testing.assert_allclose(P, expected, rtol=rtol, atol=rtol)


def test_the_first_step_of_adam_is_the_learning_rate_in_each_direction() -> None:
    P, G = np.zeros(3), np.array([5.0, -0.01, 300.0])
    Stepper(OptimizerSpec("adam", learning_rate=0.1), P).step(P, G, 1)
    np.testing.assert_allclose(P, [-0.1, 0.1, -0.1], rtol=1e-5)


@every_optimizer
def test_going_on_from_a_copy_of_the_state_gives_the_same_bits(name: str) -> None:
    spec, (P, gradients) = OptimizerSpec(name, **SPEC), start("float32")
    stepper, halfway = Stepper(spec, P), STEPS // 2
    for t, G in enumerate(gradients[:halfway], start=1):
        stepper.step(P, G, t)
    kept = {state: vector.copy() for state, vector in stepper.state.items()}
    again, resumed = P.copy(), Stepper(spec, P, kept)
    for t, G in enumerate(gradients[halfway:], start=halfway + 1):
        stepper.step(P, G, t)
        resumed.step(again, G, t)
    assert again.tobytes() == P.tobytes()
    for state, vector in stepper.state.items():
        assert resumed.state[state].tobytes() == vector.tobytes()
        assert not np.shares_memory(resumed.state[state], kept[state])


@every_optimizer
def test_state_never_ends_as_denormal_numbers(name: str) -> None:
    P, nothing = np.ones(PARAMETERS, np.float32), np.zeros(PARAMETERS, np.float32)
    stepper = Stepper(OptimizerSpec(name, momentum=0.5, beta1=0.5, beta2=0.5, rho=0.5), P)
    stepper.step(P, np.full(PARAMETERS, 1e-3, np.float32), 1)
    for t in range(2, FLUSH_EVERY + 1):
        stepper.step(P, nothing, t)
    smallest = np.finfo(np.float32).tiny
    assert all(((vector == 0) | (np.abs(vector) >= smallest)).all() for vector in stepper.state.values())
    assert set(stepper.state) == set(OPTIMIZERS[name].state)


@every_optimizer
def test_it_uses_the_numbers_it_says_and_no_others(name: str) -> None:
    def end(**changed: float) -> bytes:
        P, gradients = start()
        stepper = Stepper(OptimizerSpec(name, **(SPEC | changed)), P)
        for t, G in enumerate(gradients, start=1):
            stepper.step(P, G, t)
        return P.tobytes()

    changed = {number for number in SPEC if end(**{number: SPEC[number] * 0.9}) != end()}
    assert changed == {"learning_rate", *OPTIMIZERS[name].uses}


@pytest.mark.parametrize(
    ("number", "value"),
    [
        *[("learning_rate", value) for value in (0.0, -1.0, float("inf"), float("nan"))],
        *[("weight_decay", value) for value in (-0.1, float("inf"), float("nan"))],
        *[("epsilon", value) for value in (0.0, float("nan"))],
        *[(number, value) for number in ("momentum", "beta1", "beta2", "rho") for value in (-0.1, 1.0, float("nan"))],
    ],
)
def test_a_number_that_makes_no_sense_is_refused_with_its_field(number: str, value: float) -> None:
    with pytest.raises(ConfigError) as refusal:
        OptimizerSpec("adam", **(SPEC | {number: value}))
    assert refusal.value.field == f"optimizer/{number}"


def test_an_unknown_optimizer_is_refused_with_those_known() -> None:
    with pytest.raises(
        UnknownNameError, match=r"'lion'.*sgd, momentum, nesterov, rmsprop, adagrad, adam, adamw"
    ) as refusal:
        OptimizerSpec("lion")
    assert refusal.value.field == "optimizer/name"


def test_one_that_searches_takes_no_step_along_a_single_gradient() -> None:
    with pytest.raises(ConfigError, match="takes no steps along one gradient"):
        Stepper(OptimizerSpec("lbfgs"), np.ones(3))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_a_learning_rate_an_optimizer_takes_its_usual_one(name: str) -> None:
    assert OptimizerSpec(name).learning_rate == OPTIMIZERS[name].learning_rate
    assert OptimizerSpec(name, 0.5).learning_rate == 0.5
