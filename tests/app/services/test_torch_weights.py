"""Weights for torch: a Sequential that loads them computes what the engine predicts."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from chainrule.app.services.torch_weights import ACTIVATIONS, NORMALIZATIONS, encode_torch
from chainrule.engine import ACTIVATIONS as REGISTERED
from chainrule.engine import LayerSpec, Network, NetworkSpec, initialize, normalization, predict
from chainrule.engine.preprocessing import Preprocessing, identity
from tests.engine.problems import HIDDEN

FLOATS = ["float32", "float64"]
CLOSE = {"float32": 2e-6, "float64": 1e-12}
SCALED = Preprocessing(np.array([10.0, -2.0, 0.0]), np.array([0.5, 4.0, 1.0]), (None, None, None))


def made(hidden: str, output: str, dtype: str, normalization: str | None = None) -> Network:
    layers = (LayerSpec(units, hidden, normalization=normalization) for units in (8, 6))
    network = initialize(NetworkSpec(3, (*layers, LayerSpec(4, output))), 2, dtype)
    rng = np.random.default_rng(7)
    for name, block in network.blocks.items():
        if name[0] != "W":
            block += rng.normal(0, 0.5, block.shape).astype(dtype)
    for mean, variance in network.running_views.values():
        mean[:], variance[:] = rng.normal(0, 1, mean.shape), rng.uniform(0.01, 3, variance.shape)
    return network


def metadata(content: bytes) -> dict[str, Any]:
    end = 8 + int.from_bytes(content[:8], "little")
    found: dict[str, Any] = json.loads(content[8:end])["__metadata__"]
    return found


def loaded(content: bytes, samples: NDArray[Any]) -> NDArray[Any]:
    """Build the Sequential that the metadata describes, load the weights and run it."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load

    modules = json.loads(metadata(content)["chainrule"])["sequential"]
    model = torch.nn.Sequential(*(getattr(torch.nn, name)(**arguments) for name, arguments in modules))
    model.load_state_dict(load(content), strict=True, assign=True)
    model.eval()
    with torch.no_grad():
        result: NDArray[Any] = model(torch.from_numpy(samples)).numpy()
    return result


def test_every_activation_function_and_normalization_has_its_module() -> None:
    assert ACTIVATIONS.keys() == REGISTERED.keys()
    assert NORMALIZATIONS.keys() == normalization.NORMALIZATIONS.keys()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", NORMALIZATIONS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_sequential_normalizes_as_the_network_in_use_does(hidden: str, kind: str, dtype: str) -> None:
    network = made(hidden, "softmax", dtype, kind)
    samples = np.random.default_rng(1).normal(0, 5, (200, 3)).astype(dtype)
    found, expected = loaded(encode_torch(network, identity(3), {}), samples), predict(network, samples)
    assert found.dtype == expected.dtype
    assert np.max(np.abs(found - expected)) < CLOSE[dtype]


def test_a_normalization_is_a_module_of_its_own_between_linear_and_activation() -> None:
    network = made("relu", "softmax", "float32", "batch")
    content = encode_torch(network, SCALED, {})
    arrays = safetensors.numpy.load(content)
    assert sorted(arrays) == [
        "0.bias", "0.weight", "1.bias", "1.num_batches_tracked", "1.running_mean", "1.running_var", "1.weight",
        "3.bias", "3.weight", "4.bias", "4.num_batches_tracked", "4.running_mean", "4.running_var", "4.weight",
        "6.bias", "6.weight",
    ]  # fmt: skip
    assert np.array_equal(arrays["1.weight"], network.blocks["gamma1"])
    assert np.array_equal(arrays["4.running_var"], network.statistics["running_var2"])
    assert [name for name, _ in json.loads(metadata(content)["chainrule"])["sequential"]] == [
        "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear", "Softmax",
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("output", REGISTERED)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_sequential_computes_what_the_engine_predicts(hidden: str, output: str, dtype: str) -> None:
    network = made(hidden, output, dtype)
    samples = np.random.default_rng(1).normal(0, 5, (200, 3)).astype(dtype)
    found, expected = loaded(encode_torch(network, identity(3), {}), samples), predict(network, samples)
    assert found.dtype == expected.dtype
    assert np.max(np.abs(found - expected)) < CLOSE[dtype] * max(1.0, np.max(np.abs(expected)))


def test_weights_have_the_names_and_shapes_of_a_sequential() -> None:
    network = made("relu", "softmax", "float32")
    content = encode_torch(network, identity(3), {"run": "run_1"})
    arrays = safetensors.numpy.load(content)
    assert {name: array.shape for name, array in arrays.items()} == {
        "0.weight": (8, 3), "0.bias": (8,), "2.weight": (6, 8), "2.bias": (6,), "4.weight": (4, 6), "4.bias": (4,),
    }  # fmt: skip
    assert np.array_equal(arrays["2.weight"], network.W[2])
    about = json.loads(metadata(content)["chainrule"])
    assert about["run"] == "run_1"
    assert about["sequential"][2:] == [
        ["Linear", {"in_features": 8, "out_features": 6}], ["ReLU", {}],
        ["Linear", {"in_features": 6, "out_features": 4}], ["Softmax", {"dim": 1}],
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
def test_scaling_is_folded_into_the_first_layer(dtype: str) -> None:
    network = made("tanh", "linear", dtype)
    arrays = safetensors.numpy.load(encode_torch(network, SCALED, {}))
    raw = np.random.default_rng(1).normal(0, 1, (200, 3)) * [2, 0.25, 1] + [10, -2, 0]
    Z1 = raw @ arrays["0.weight"].T + arrays["0.bias"]
    expected = SCALED.apply(raw) @ network.W[1].T + network.b[1]
    assert arrays["0.weight"].dtype == dtype
    assert np.max(np.abs(Z1 - expected)) < 10 * CLOSE[dtype]


def test_one_hot_columns_cannot_be_folded() -> None:
    one_hot = Preprocessing(np.zeros(1), np.ones(1), (("a", "b", "c"),))
    with pytest.raises(ValueError, match="no linear function"):
        encode_torch(made("tanh", "linear", "float32"), one_hot, {})


def test_a_scale_that_the_float_type_cannot_hold_cannot_be_folded() -> None:
    steep = Preprocessing(np.zeros(3), np.full(3, 1e300), (None, None, None))
    with pytest.raises(ValueError, match="too large for float32"):
        encode_torch(made("tanh", "linear", "float32"), steep, {})


def test_the_same_network_gives_the_same_bytes_in_another_process() -> None:
    script = (
        "import hashlib\n"
        "from chainrule.app.services.torch_weights import encode_torch\n"
        "from chainrule.engine import dense, initialize\n"
        "from chainrule.engine.preprocessing import identity\n"
        "network = initialize(dense(3, (4, 'elu'), (2, 'softmax')), 1)\n"
        "print(hashlib.sha256(encode_torch(network, identity(3), {'a': 1, 'b': 2, 'c': 3})).hexdigest())\n"
    )
    printed = {subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(printed) == 1
