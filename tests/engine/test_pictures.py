"""Pictures can be read back, planes are those of the largest variance, attributions add up."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.engine import LayerSpec, NetworkSpec, dense, initialize, predict
from chainrule.engine.attributions import INTEGRATED, SALIENCY, TIMES_INPUT, attribute, output_gradient
from chainrule.engine.pictures import picture, principal_plane


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), size=st.integers(1, 16), seed=st.integers(0, 2**16)
)  # fmt: skip
def test_a_picture_has_the_largest_element_of_each_block(shape: tuple[int, int], size: int, seed: int) -> None:
    A = np.random.default_rng(seed).normal(size=shape)
    found = picture(A, size)
    rows, columns = found.block
    assert found.codes.shape == (-(-shape[0] // rows), -(-shape[1] // columns))
    assert max(found.codes.shape) <= size
    assert found.limit == np.abs(A).max()
    code = found.codes.astype(float) - 128
    read = np.sign(code) * (code / 127) ** 2 * found.limit
    for i in range(found.codes.shape[0]):
        for j in range(found.codes.shape[1]):
            block = A[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns].ravel()
            value = block[np.abs(block).argmax()]
            assert read[i, j] == pytest.approx(value, abs=found.limit / 100)


def test_rows_and_columns_of_a_picture_may_have_limits_of_their_own() -> None:
    A = np.random.default_rng(0).normal(size=(300, 90))
    assert picture(A, (100, 90)).block == (3, 1)
    assert picture(A, (300, 10)).codes.shape == (300, 10)


def test_what_is_not_finite_is_seen_in_a_picture() -> None:
    A = np.zeros((300, 3))
    A[5, 1], A[200, 2], A[7, 0] = np.nan, np.inf, -2.0
    found = picture(A, 150)
    assert (found.nonfinite, found.limit, found.block) == (2, 2.0, (2, 1))
    assert (found.codes == 0).sum() == 2
    assert found.codes[2, 1] == found.codes[100, 2] == 0
    assert found.codes[3, 0] == 1
    assert (found.codes == 128).sum() == found.codes.size - 3
    assert picture(np.zeros(4), 9).codes.tolist() == [[128] * 4]
    with pytest.raises(ValueError, match="without elements"):
        picture(np.zeros((0, 3)), 9)


def test_a_plane_holds_the_variance_that_eigenvalues_say() -> None:
    A = np.random.default_rng(1).normal(size=(200, 6)) * [5, 1, 3, 0.5, 0.1, 2] + 7
    plane = principal_plane(A)
    values = np.sort(np.linalg.eigvalsh(np.cov(A.T)))[::-1]
    assert plane.explained(A) == pytest.approx(tuple(values[:2] / values.sum()), rel=1e-9)
    np.testing.assert_allclose(plane.points(A).mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-12)
    assert plane.axes[0][np.abs(plane.axes[0]).argmax()] > 0
    assert principal_plane(np.ones((4, 1))).explained(np.ones((4, 1))) == (None, None)


NETWORKS: dict[str, NetworkSpec] = {
    "softmax": dense(5, (7, "tanh"), (6, "relu"), (3, "softmax")),
    "sigmoid": dense(5, (7, "sigmoid"), (1, "sigmoid")),
    "normalized": NetworkSpec(5, (LayerSpec(7, "tanh", normalization="layer"), LayerSpec(3, "softmax"))),
}


def problem(kind: str) -> tuple[Any, Any, Any]:
    network = initialize(NETWORKS[kind], 2, "float64")
    X = np.random.default_rng(0).normal(size=(6, 5))
    return network, X, np.arange(6) % NETWORKS[kind].outputs


@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients_of_an_output_are_those_of_central_differences(kind: str) -> None:
    network, X, units = problem(kind)
    dX, h = output_gradient(network, X, units), 1e-6
    for j in range(5):
        step = h * np.eye(5)[j]
        numeric = (predict(network, X + step) - predict(network, X - step))[np.arange(6), units] / (2 * h)
        np.testing.assert_allclose(dX[:, j], numeric, rtol=1e-5, atol=1e-9)
    assert np.array_equal(attribute(network, X, units, SALIENCY).values, np.abs(dX))
    assert np.array_equal(attribute(network, X, units, TIMES_INPUT).values, X * dX)


@pytest.mark.parametrize("kind", NETWORKS)
def test_integrated_gradients_add_up_the_better_the_more_steps(kind: str) -> None:
    network, X, units = problem(kind)
    baseline = np.full(5, 0.1)
    few, many = (attribute(network, X, units, INTEGRATED, baseline, steps) for steps in (4, 2000))
    assert few.residuals is not None
    assert many.residuals is not None
    assert many.baseline_outputs is not None
    np.testing.assert_allclose(
        many.values.sum(axis=1) - (many.outputs - many.baseline_outputs), many.residuals, atol=1e-15
    )
    assert np.abs(many.residuals).max() < 1e-4
    assert np.abs(many.residuals).max() < np.abs(few.residuals).max()
