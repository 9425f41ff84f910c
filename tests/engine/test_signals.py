"""Signals of each layer, against what they are by definition."""

import numpy as np
import pytest

from chainrule.engine import initialize
from chainrule.engine.gradients import gradients
from chainrule.engine.network import dense
from chainrule.engine.signals import EQUATIONS, signals


def test_every_number_is_what_its_equation_says() -> None:
    rng = np.random.default_rng(5)
    network = initialize(dense(3, (5, "tanh"), (4, "relu"), (2, "sigmoid")), 1, "float64")
    network.b[2][1] = -100.0  # a unit that never says anything
    X, Y = 3 * rng.normal(size=(20, 3)), rng.integers(0, 2, (20, 2)).astype(float)
    found = signals(network, "mse", X, Y)
    names = [f"{symbol}{number}" for number in (1, 2, 3) for symbol in ("Z", "A", "dZ", "dW")]
    arrays = gradients(network, "mse", X, Y, names)
    for number, layer in enumerate(found, start=1):
        for symbol in ("Z", "A", "dZ"):
            assert getattr(layer, f"{symbol}_rms") == pytest.approx(np.sqrt((arrays[f"{symbol}{number}"] ** 2).mean()))
        assert layer.W_norm == pytest.approx(np.sqrt((network.W[number] ** 2).sum()))
        assert layer.dW_norm == pytest.approx(np.sqrt((arrays[f"dW{number}"] ** 2).sum()))
        assert layer.zeros == (arrays[f"A{number}"] == 0).mean()
        assert layer.parameters == network.W[number].size + network.b[number].size
    assert found[0].saturated == (np.abs(arrays["A1"]) > 0.97).mean() > 0
    assert found[2].saturated == ((arrays["A3"] < 0.02) | (arrays["A3"] > 0.98)).mean()
    assert (found[1].saturated, found[0].dead, found[2].dead) == (None, None, None)
    assert found[1].dead == (arrays["A2"] == 0).all(axis=0).mean() >= 0.25
    assert set(EQUATIONS) <= set(vars(found[0]))
