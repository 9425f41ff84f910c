import math

import numpy as np
import pytest

from chainrule.engine import ConfigError, Network, RegularizationSpec, dense
from chainrule.engine.arrays import FloatArray
from chainrule.engine.regularization import MaxNorm, add_penalty, of_weights

SPEC = dense(3, (4, "tanh"), (1, "sigmoid"), (2, "softmax"))


def network(dtype: str = "float64", scale: float = 1.0) -> Network:
    P = np.random.default_rng(0).normal(0, scale, SPEC.parameter_count).astype(dtype)
    return Network(SPEC, P)


def added(spec: RegularizationSpec, P: FloatArray) -> Network:
    G = np.zeros_like(P)
    at_weights = of_weights(SPEC, P.dtype)
    add_penalty(P, G, spec.l1 * at_weights, spec.l2 * at_weights)
    return Network(SPEC, G)


def shortened(c: float, P: FloatArray) -> Network:
    found = P.copy()
    with np.errstate(over="ignore", invalid="ignore"):  # as in a training
        MaxNorm(c, SPEC, P.dtype).shorten(found)
    return Network(SPEC, found)


def penalty(spec: RegularizationSpec, of: Network) -> float:
    """Compute λ₁·Σ|w| + ½·λ₂·Σw²."""
    return sum(
        spec.l1 * float(np.abs(W).sum()) + spec.l2 / 2 * float((W.astype(np.float64) ** 2).sum()) for W in of.W.values()
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("l1", "l2"), [(0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
def test_a_penalty_adds_its_own_gradient_to_the_weights_alone(dtype: str, l1: float, l2: float) -> None:
    spec, at = RegularizationSpec(l1, l2), network(dtype)
    found = added(spec, at.parameters)
    for number, W in at.W.items():
        np.testing.assert_allclose(found.W[number], l1 * np.sign(W) + l2 * W, rtol=1e-6)
        np.testing.assert_array_equal(found.b[number], 0)


def test_the_gradient_of_a_penalty_is_its_slope() -> None:
    spec, at, h = RegularizationSpec(0.3, 0.2), network(), 1e-6
    found = added(spec, at.parameters).parameters
    for index in range(at.parameters.size):
        ends = []
        for moved in (h, -h):
            P = at.parameters.copy()
            P[index] += moved
            ends.append(penalty(spec, Network(SPEC, P)))
        assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(found[index], abs=1e-8)


def test_a_weight_of_zero_is_left_alone() -> None:
    found = added(RegularizationSpec(0.3, 0.2), np.zeros(SPEC.parameter_count))
    np.testing.assert_array_equal(found.parameters, 0)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("c", [0.01, 1.5, 1.9, 100.0])
def test_rows_longer_than_the_bound_are_shortened_to_it(dtype: str, rtol: float, c: float) -> None:
    at = network(dtype)
    found = shortened(c, at.parameters)
    for number, W in at.W.items():
        for row, short in zip(W, found.W[number], strict=True):
            length = float(np.linalg.norm(row.astype(np.float64)))
            if length <= c:
                assert short.tobytes() == row.tobytes()
            else:
                np.testing.assert_allclose(short, row * (c / length), rtol=rtol)
        assert found.b[number].tobytes() == at.b[number].tobytes()


def test_a_row_worked_by_hand() -> None:
    bound = MaxNorm(1.0, dense(2, (2, "linear")), np.dtype(np.float64))
    P = np.array([3.0, 4.0, 7.0, 0.3, 0.4, 9.0])  # [w | b] of two units: ‖w‖ = 5 and 0.5
    bound.shorten(P)
    np.testing.assert_allclose(P, [0.6, 0.8, 7.0, 0.3, 0.4, 9.0])


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1e30), ("float64", 1e200)])
def test_a_row_whose_squares_overflow_keeps_its_direction(dtype: str, scale: float) -> None:
    at = network(dtype)
    at.W[1][1] = 0
    at.W[1][2] *= scale
    found = shortened(2.0, at.parameters)
    row = at.W[1][2].astype(np.float64) / scale
    np.testing.assert_allclose(found.W[1][2], 2 * row / np.linalg.norm(row), rtol=1e-5)
    np.testing.assert_array_equal(found.W[1][1], 0)


def test_weights_that_are_not_finite_are_not_made_to_look_well() -> None:
    for wrong in (math.inf, math.nan):
        at = network()
        at.W[2][0, 1] = wrong
        assert not np.isfinite(shortened(1.0, at.parameters).parameters).all()


@pytest.mark.parametrize(
    ("number", "value"),
    [
        *[(number, value) for number in ("l1", "l2") for value in (-0.1, math.inf, math.nan)],
        *[("max_norm", value) for value in (0.0, -1.0, math.inf, math.nan)],
    ],
)
def test_a_number_that_makes_no_sense_is_refused_with_its_field(number: str, value: float) -> None:
    with pytest.raises(ConfigError, match=number) as refusal:
        RegularizationSpec(**{number: value})
    assert refusal.value.field == f"regularization/{number}"
