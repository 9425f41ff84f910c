import math

import numpy as np
import pytest

from chainrule.engine import ClipSpec, ConfigError
from chainrule.engine.arrays import FloatArray
from chainrule.engine.clipping import by_norm, by_value

every_type = pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-6)])


def clipped(spec: ClipSpec, G: FloatArray) -> FloatArray:
    found = G.copy()
    with np.errstate(over="ignore", invalid="ignore"):  # as in a training
        if spec.norm is not None:
            by_norm(spec.norm)(found)
        else:
            bound = np.array(spec.value, G.dtype)
            by_value(found, -bound, bound)
    return found


def test_a_clipped_gradient_worked_by_hand() -> None:
    G = np.array([3.0, -4.0])  # ‖G‖ = 5
    np.testing.assert_allclose(clipped(ClipSpec(norm=1.0), G), [0.6, -0.8])
    np.testing.assert_array_equal(clipped(ClipSpec(value=3.5), G), [3.0, -3.5])


@every_type
@pytest.mark.parametrize("c", [0.5, 3.0, 100.0])
def test_a_gradient_clipped_by_norm_is_that_of_pytorchs_clip_grad_norm(dtype: str, rtol: float, c: float) -> None:
    G = np.random.default_rng(0).normal(size=50).astype(dtype)
    # clip_grad_norm_ divides by ‖G‖ + 1e-6, which changes the sixth digit or a later one; we divide by ‖G‖.
    share = min(1, c / (float(np.linalg.norm(G.astype(np.float64))) + 1e-6))
    np.testing.assert_allclose(clipped(ClipSpec(norm=c), G), share * G, rtol=1e-6)
    exact = min(1, c / float(np.linalg.norm(G.astype(np.float64))))
    np.testing.assert_allclose(clipped(ClipSpec(norm=c), G), exact * G, rtol=rtol)


@pytest.mark.parametrize("spec", [ClipSpec(norm=10.0), ClipSpec(value=4.0)])
def test_a_gradient_within_the_bound_is_left_to_the_bit(spec: ClipSpec) -> None:
    G = np.array([3.0, -4.0, 1e-30], np.float32)
    assert clipped(spec, G).tobytes() == G.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_whose_squares_overflow_keeps_its_direction(dtype: str) -> None:
    largest = float(np.finfo(dtype).max)
    G = np.array([0.6, -0.8, 0.0], dtype) * np.array(largest, dtype)
    np.testing.assert_allclose(clipped(ClipSpec(norm=2.0), G), [1.2, -1.6, 0.0], rtol=1e-6)


def test_a_gradient_of_zero_stays_zero() -> None:
    for spec in (ClipSpec(norm=1e-18), ClipSpec(value=1e-30)):
        np.testing.assert_array_equal(clipped(spec, np.zeros(3, np.float32)), 0)


@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan])
def test_a_gradient_that_is_not_finite_is_not_made_to_look_well(wrong: float) -> None:
    assert np.isnan(clipped(ClipSpec(norm=1.0), np.array([1.0, wrong]))).any()
    assert np.isnan(clipped(ClipSpec(value=1.0), np.array([1.0, math.nan]))).any()


@pytest.mark.parametrize(
    ("numbers", "field"),
    [
        ({}, "clip"),
        ({"norm": 1.0, "value": 1.0}, "clip"),
        *[({name: value}, f"clip/{name}") for name in ("norm", "value") for value in (0.0, -1.0, math.inf, math.nan)],
    ],
)
def test_a_bound_that_makes_no_sense_is_refused_with_its_field(numbers: dict[str, float], field: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        ClipSpec(**numbers)
    assert refusal.value.field == field
