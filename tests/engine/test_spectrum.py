"""Singular values, and the way a network goes, against their definitions."""

import numpy as np
import pytest

from chainrule.engine import Network, dense, initialize
from chainrule.engine.spectrum import places, spectrum

SPEC = dense(4, (5, "tanh"), (3, "softmax"))


@pytest.mark.parametrize("shape", [(5, 4), (4, 5), (1, 6), (3, 3)])
def test_singular_values_are_those_of_a_matrix_made_of_them(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    U, V = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in shape)
    sigma = np.sort(rng.uniform(0.5, 3, min(shape)))[::-1]
    found = spectrum((U[:, : len(sigma)] * sigma) @ V[:, : len(sigma)].T)
    np.testing.assert_allclose(found.singular_values, sigma, rtol=1e-12)
    np.testing.assert_allclose(found.frobenius**2, np.sum(sigma**2), rtol=1e-12)
    np.testing.assert_allclose(found.stable_rank or 0, np.sum(sigma**2) / sigma[0] ** 2, rtol=1e-12)
    np.testing.assert_allclose(found.condition or 0, sigma[0] / sigma[-1], rtol=1e-11)


def test_a_matrix_of_one_direction_has_stable_rank_1_and_no_condition() -> None:
    found = spectrum(np.outer([1.0, 2, 3], [1.0, -1]))
    np.testing.assert_allclose(found.stable_rank or 0, 1)
    assert found.condition is None
    nothing = spectrum(np.zeros((3, 2)))
    assert (nothing.stable_rank, nothing.condition, nothing.frobenius) == (None, None, 0)


def test_dA_is_no_longer_than_the_largest_singular_value_allows() -> None:
    network = initialize(SPEC, 1, "float64")
    dZ = np.random.default_rng(0).normal(size=(200, 5))
    stretched = np.linalg.norm(dZ @ network.W[1], axis=1) / np.linalg.norm(dZ, axis=1)
    assert stretched.max() <= spectrum(network.W[1]).singular_values[0]


def test_the_way_is_measured_from_its_beginning_and_its_last_turn() -> None:
    rng = np.random.default_rng(4)
    vectors = np.cumsum(rng.normal(size=(5, SPEC.parameter_count)), axis=0)
    vectors[4] = vectors[3]  # stands still
    found = list(places((3 * k, Network(SPEC, P)) for k, P in enumerate(vectors)))
    steps = np.diff(vectors, axis=0)
    assert [place.epoch for place in found] == [0, 3, 6, 9, 12]
    np.testing.assert_allclose([p.distance for p in found], np.linalg.norm(vectors - vectors[0], axis=1))
    np.testing.assert_allclose([p.path for p in found], [0, *np.cumsum(np.linalg.norm(steps, axis=1))])
    assert (found[0].moved, found[0].cosine, found[1].cosine, found[4].cosine) == (None, None, None, None)
    for at in (2, 3):
        cosine = steps[at - 1] @ steps[at - 2] / np.linalg.norm(steps[at - 1]) / np.linalg.norm(steps[at - 2])
        np.testing.assert_allclose(found[at].cosine or 0, cosine)
    np.testing.assert_allclose(sum(d**2 for d in found[2].layers.values()), found[2].distance ** 2)
