import numpy as np
import pytest

from chainrule.engine import ACTIVATIONS, INITIALIZERS, LayerSpec, NetworkSpec, UnknownNameError, default_initializer
from chainrule.engine.initializers import initializer
from chainrule.engine.network import dense, initialize

INPUTS, OUTPUTS = 300, 200
VARIANCE = {
    "zeros": 0.0,
    "xavier_uniform": 2 / (INPUTS + OUTPUTS),
    "xavier_normal": 2 / (INPUTS + OUTPUTS),
    "he_uniform": 2 / INPUTS,
    "he_normal": 2 / INPUTS,
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_mean_and_variance_are_those_of_its_source(name: str) -> None:
    W = initializer(name)(np.random.default_rng(0), OUTPUTS, INPUTS)
    assert W.shape == (OUTPUTS, INPUTS)
    assert W.mean() == pytest.approx(0, abs=5e-4)
    assert W.var() == pytest.approx(VARIANCE[name], rel=0.03)


@pytest.mark.parametrize(("name", "limit"), [("xavier_uniform", (6 / 500) ** 0.5), ("he_uniform", (6 / 300) ** 0.5)])
def test_uniform_weights_fill_their_interval_and_stay_in_it(name: str, limit: float) -> None:
    W = initializer(name)(np.random.default_rng(0), OUTPUTS, INPUTS)
    assert 0.999 * limit < np.abs(W).max() <= limit


def test_the_default_is_he_for_rectifiers_and_xavier_for_the_rest() -> None:
    chosen = {name: default_initializer(name) for name in ACTIVATIONS}
    he = {"relu", "leaky_relu", "elu", "silu", "gelu"}
    assert chosen == {name: "he_normal" if name in he else "xavier_uniform" for name in ACTIVATIONS}


def test_a_layer_is_initialised_as_its_activation_or_its_initializer_says() -> None:
    relu, tanh = (initialize(dense(INPUTS, (OUTPUTS, name)), 0, "float64").W[1] for name in ("relu", "tanh"))
    assert relu.var() == pytest.approx(VARIANCE["he_normal"], rel=0.03)
    assert tanh.var() == pytest.approx(VARIANCE["xavier_uniform"], rel=0.03)
    zeros = initialize(NetworkSpec(INPUTS, (LayerSpec(OUTPUTS, "relu", "zeros"),)), 0)
    assert not zeros.parameters.any()


def test_a_network_at_its_beginning_is_a_pure_function_of_the_seed() -> None:
    spec = dense(4, (5, "relu"), (3, "softmax"))
    assert initialize(spec, 7).parameters.tobytes() == initialize(spec, 7).parameters.tobytes()
    assert initialize(spec, 7).parameters.tobytes() != initialize(spec, 8).parameters.tobytes()


def test_layers_of_the_same_shape_begin_differently() -> None:
    network = initialize(dense(4, (4, "tanh"), (4, "tanh")), 0)
    assert not np.array_equal(network.W[1], network.W[2])


def test_biases_begin_at_zero() -> None:
    network = initialize(dense(4, (5, "relu"), (3, "softmax")), 0)
    assert not any(b.any() for b in network.b.values())


def test_float32_weights_are_the_float64_ones_rounded() -> None:
    spec = dense(4, (5, "relu"))
    exact = initialize(spec, 3, "float64").parameters
    np.testing.assert_array_equal(initialize(spec, 3, "float32").parameters, exact.astype(np.float32))


def test_an_unknown_initializer_is_refused_with_those_known() -> None:
    with pytest.raises(UnknownNameError, match=r"'orthogonal'.*zeros, xavier_uniform") as refusal:
        NetworkSpec(2, (LayerSpec(2, "relu", "orthogonal"),))
    assert refusal.value.field == "network/layers/0/initializer"
