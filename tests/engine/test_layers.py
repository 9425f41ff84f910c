import numpy as np
import pytest

from chainrule.engine import ShapeError, layers


def test_a_layer_is_one_product_one_bias_and_its_activation() -> None:
    rng = np.random.default_rng(0)
    A_prev, W, b = rng.normal(size=(5, 3)), rng.normal(size=(4, 3)), rng.normal(size=4)
    cache = layers.forward(A_prev, W, b, "tanh")
    for i in range(5):
        for j in range(4):
            z = sum(A_prev[i, k] * W[j, k] for k in range(3)) + b[j]
            assert cache.Z[i, j] == pytest.approx(z, rel=1e-12)
            assert cache.A[i, j] == pytest.approx(np.tanh(z), rel=1e-12)


def test_the_cache_keeps_what_the_way_back_needs() -> None:
    A_prev, W, b = np.ones((5, 3)), np.ones((4, 3)), np.zeros(4)
    cache = layers.forward(A_prev, W, b, "relu")
    assert cache.W is W
    assert cache.A_prev is A_prev
    assert cache.b is b
    assert cache.activation == "relu"


def test_the_mean_over_samples_enters_in_dw_and_db_only() -> None:
    rng = np.random.default_rng(1)
    cache = layers.forward(rng.normal(size=(5, 3)), rng.normal(size=(4, 3)), rng.normal(size=4), "linear")
    dZ = rng.normal(size=(5, 4))
    dW, db, dA_prev = layers.backward(dZ, cache)
    np.testing.assert_allclose(dW, sum(np.outer(dZ[i], cache.A_prev[i]) for i in range(5)) / 5, rtol=1e-12)
    np.testing.assert_allclose(db, sum(dZ[i] for i in range(5)) / 5, rtol=1e-12)
    np.testing.assert_allclose(dA_prev, [cache.W.T @ row for row in dZ], rtol=1e-12)


def test_arrays_that_do_not_fit_are_refused() -> None:
    W, b = np.ones((4, 3)), np.zeros(4)
    with pytest.raises(ShapeError, match="takes 3 values a sample"):
        layers.forward(np.ones((5, 2)), W, b, "relu")
    with pytest.raises(ShapeError, match="takes 3 values a sample"):
        layers.forward(np.ones(3), W, b, "relu")
    with pytest.raises(ShapeError, match="dZ has shape"):
        layers.backward(np.ones((5, 3)), layers.forward(np.ones((5, 3)), W, b, "relu"))
