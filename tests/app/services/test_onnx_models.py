"""ONNX models: what a runtime computes is what the engine predicts."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from chainrule.app.services.onnx_models import ACTIVATIONS, IR_VERSION, OPSET, encode_onnx
from chainrule.engine import ACTIVATIONS as REGISTERED
from chainrule.engine import COSTS, LayerSpec, Network, NetworkSpec, dense, initialize, predict
from chainrule.engine.network import classify, mean_cost
from chainrule.engine.normalization import NORMALIZATIONS
from chainrule.engine.preprocessing import Preprocessing, identity
from tests.engine.problems import FITTING, HIDDEN

FLOATS = ["float32", "float64"]
CLOSE = {"float32": 2e-6, "float64": 1e-12}
"""The largest difference, as a share of the largest output or of 1."""
ROWS = 300


def with_biases(spec: NetworkSpec, dtype: str) -> Network:
    network = initialize(spec, 3, dtype)
    rng = np.random.default_rng(7)
    for name, block in network.blocks.items():
        if name[0] != "W":
            block += rng.normal(0, 0.5, block.shape).astype(dtype)
    for mean, variance in network.running_views.values():
        mean[:], variance[:] = rng.normal(0, 1, mean.shape), rng.uniform(0.01, 3, variance.shape)
    return network


def encoded(network: Network, classes: int = 0, preprocessing: Preprocessing | None = None) -> bytes:
    content = encode_onnx(network, preprocessing or identity(network.spec.inputs), classes, {"run": "run_1"})
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    return content


def computed(content: bytes, samples: NDArray[Any]) -> list[NDArray[Any]]:
    results: list[NDArray[Any]] = onnxruntime.InferenceSession(content).run(None, {"samples": samples})
    return results


def difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    assert found.dtype == expected.dtype
    return float(np.max(np.abs(found - expected)) / max(1.0, np.max(np.abs(expected))))


def drawn(network: Network, scale: float = 1.0) -> NDArray[Any]:
    samples = np.random.default_rng(1).normal(0, scale, (ROWS, network.spec.inputs))
    return samples.astype(network.parameters.dtype)


def test_every_activation_function_has_its_operators() -> None:
    assert ACTIVATIONS.keys() == REGISTERED.keys()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("output", REGISTERED)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_runtime_computes_what_the_engine_predicts(hidden: str, output: str, dtype: str) -> None:
    network = with_biases(dense(6, (16, hidden), (12, hidden), (5, output)), dtype)
    samples = drawn(network)
    outputs, label = computed(encoded(network, classes=5), samples)
    assert difference(outputs, predict(network, samples)) < CLOSE[dtype]
    assert label.dtype == np.int64
    assert np.array_equal(label, classify(outputs, 5))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_runtime_normalizes_as_the_network_in_use_does(hidden: str, normalization: str, dtype: str) -> None:
    layers = (LayerSpec(units, hidden, normalization=normalization) for units in (16, 12))
    network = with_biases(NetworkSpec(6, (*layers, LayerSpec(5, "softmax"))), dtype)
    content, samples = encoded(network), drawn(network)
    for rows in (samples, samples[:1]):
        (outputs,) = computed(content, rows)
        assert difference(outputs, predict(network, rows)) < CLOSE[dtype]
    names = {constant.name for constant in onnx.load_from_string(content).graph.initializer}
    assert {*network.blocks, *network.statistics} <= names


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("output", "cost"), FITTING)
def test_a_runtime_comes_to_the_same_cost(output: str, cost: str, dtype: str) -> None:
    network = with_biases(dense(6, (16, "tanh"), (5, output)), dtype)
    samples = drawn(network)
    (outputs,) = computed(encoded(network), samples)
    Y = np.eye(5)[np.arange(ROWS) % 5]
    A = Z = outputs.astype(np.float64)
    if cost.endswith("cross_entropy"):
        # It is computed from Z, which the model keeps to itself: take it back from A.
        Z = np.log(A) - (np.log1p(-A) if output == "sigmoid" else 0)
    found = float(np.mean(COSTS[cost].per_sample(Z, A, Y, REGISTERED[output])))
    assert found == pytest.approx(mean_cost(network, cost, samples, Y), rel=10 * CLOSE[dtype])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("output", REGISTERED)
def test_saturated_and_huge_pre_activations_come_out_as_in_the_engine(output: str, dtype: str) -> None:
    network = initialize(dense(2, (2, output)), 0, dtype)
    network.parameters[:] = [1, 0, 0, 0, 1, 0]  # Z is the sample
    magnitudes = np.array([0, 1e-6, 1e-3, 0.5, 5, 15, 30, 60, 90, 300, 800, 1e6], dtype)
    samples = np.array([(a, b) for a in (*magnitudes, *-magnitudes) for b in (0, a / 2)], dtype)
    (outputs,) = computed(encoded(network), samples)
    assert np.isfinite(outputs).all()
    expected = predict(network, samples)
    largest = np.maximum(1, np.abs(expected))
    assert np.max(np.abs(outputs - expected) / largest) < CLOSE[dtype]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("output", ["sigmoid", "tanh", "linear"])
def test_one_unit_tells_two_classes_apart_at_one_half(output: str, dtype: str) -> None:
    network = with_biases(dense(3, (7, "relu"), (1, output)), dtype)
    samples = drawn(network, 3.0)
    outputs, label = computed(encoded(network, classes=2), samples)
    assert label.shape == (ROWS,)
    assert np.array_equal(label, outputs[:, 0] > 0.5)
    assert 0 < label.sum() < ROWS


def test_a_network_for_regression_has_no_label() -> None:
    network = with_biases(dense(3, (2, "linear")), "float32")
    assert [found.name for found in onnxruntime.InferenceSession(encoded(network)).get_outputs()] == ["outputs"]


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_model_takes_raw_rows_and_any_number_of_them(dtype: str) -> None:
    colours = ("blue", "green", "red")
    preprocessing = Preprocessing(
        np.array([1.7e9, 0.0, -3.0, 0.0]), np.array([1e-3, 1.0, 0.25, 1.0]), (None, colours, None, ("no", "yes"))
    )
    network = with_biases(dense(preprocessing.outputs, (9, "tanh"), (3, "softmax")), dtype)
    rng = np.random.default_rng(5)
    raw = np.column_stack(
        [rng.normal(1.7e9, 1e3, ROWS), rng.integers(0, 3, ROWS), rng.normal(-3, 4, ROWS), rng.integers(0, 2, ROWS)]
    )
    content = encoded(network, 3, preprocessing)
    for rows in (raw, raw[:1]):
        outputs, _ = computed(content, rows)
        expected = predict(network, preprocessing.apply(rows, network.parameters.dtype))
        assert difference(outputs, expected) < CLOSE[dtype]


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_model_scales_raw_rows(dtype: str) -> None:
    preprocessing = Preprocessing(np.array([1e6, 0.0]), np.array([0.01, 3.0]), (None, None))
    network = with_biases(dense(2, (9, "tanh"), (1, "linear")), dtype)
    raw = np.random.default_rng(5).normal(0, 1, (ROWS, 2)) * [100, 0.3] + [1e6, 0]
    (outputs,) = computed(encoded(network, preprocessing=preprocessing), raw)
    expected = predict(network, preprocessing.apply(raw, network.parameters.dtype))
    assert difference(outputs, expected) < CLOSE[dtype]


def test_a_model_says_where_it_comes_from_and_pins_its_versions() -> None:
    about = {"run": "run_1", "epoch": 7, "classes": ["süß", "salty"]}
    content = encode_onnx(with_biases(dense(2, (2, "softmax")), "float32"), identity(2), 2, about)
    model = onnx.load_from_string(content)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "run": "run_1", "epoch": "7", "classes": '["süß", "salty"]'
    }  # fmt: skip
    assert (model.producer_name, model.ir_version) == ("chainrule", IR_VERSION)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert [constant.name for constant in model.graph.initializer] == ["W1", "b1"]


def test_the_same_network_gives_the_same_bytes() -> None:
    network = with_biases(dense(3, (4, "elu"), (2, "softmax")), "float64")
    assert encoded(network) == encoded(network)
