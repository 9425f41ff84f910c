"""A network as an ONNX model: the same computation, written down for the runtimes of other languages.

The input is `samples`, raw rows (m, n); the outputs are `outputs`, A[L], and for classifiers `label` (m,), the
number of each sample's class. Operators are those of opset 20 that onnxruntime computes in both float types.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import helper, numpy_helper

import chainrule
from chainrule.engine import Network
from chainrule.engine.activations import GELU_CUBIC, GELU_SLOPE, LEAK
from chainrule.engine.normalization import EPSILON
from chainrule.engine.preprocessing import Preprocessing

OPSET, IR_VERSION = 20, 9
"""The operators' version, the first with GELU, and the file format's version that came with it."""
SAMPLES, OUTPUTS, LABEL = "samples", "outputs", "label"


class Graph:
    """A computation under construction: operators in their order, and the constants they take.

    Attributes:
        dtype: the float type of all its numbers.
        nodes: the operators.
        constants: weights, biases and what the operators need besides.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: ArrayLike, name: str = "", dtype: DTypeLike | None = None) -> str:
        """Add a constant and give its name."""
        name = name or f"constant{len(self.constants)}"
        array = np.array(value, dtype or self.dtype, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, named: str = "", **attributes: Any) -> str:
        """Add an operator and give the name of its result."""
        named = named or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [named], **attributes))
        return named


def _operator(name: str, **attributes: Any) -> Callable[[Graph, str, str], str]:
    """Compute A by the one operator that does."""
    return lambda graph, Z, A: graph.add(name, Z, named=A, **attributes)


def _float32_operator(
    name: str, in_full: Callable[[Graph, str, str], str], **attributes: Any
) -> Callable[[Graph, str, str], str]:
    """Compute A by one operator in float32; in float64 onnxruntime has none, or one of float32's precision."""

    def add(graph: Graph, Z: str, A: str) -> str:
        if graph.dtype == np.float32:
            return graph.add(name, Z, named=A, **attributes)
        return in_full(graph, Z, A)

    return add


def _leaky_relu(graph: Graph, Z: str, A: str) -> str:
    return graph.add("Max", Z, graph.add("Mul", Z, graph.constant(LEAK)), named=A)


def _elu(graph: Graph, Z: str, A: str) -> str:
    # eᶻ − 1 = 2t/(1 − t) with t = tanh(z/2), which loses no digits near 0
    below = graph.add("Min", Z, graph.constant(0))
    t = graph.add("Tanh", graph.add("Mul", below, graph.constant(0.5)))
    twice = graph.add("Mul", t, graph.constant(2))
    return graph.add("Max", Z, graph.add("Div", twice, graph.add("Sub", graph.constant(1), t)), named=A)


def _softplus(graph: Graph, Z: str, A: str) -> str:
    # log(1 + eᶻ) = max(z, 0) + log(1 + e^−|z|)
    exponential = graph.add("Exp", graph.add("Neg", graph.add("Abs", Z)))
    rest = graph.add("Log", graph.add("Add", exponential, graph.constant(1)))
    return graph.add("Add", graph.add("Relu", Z), rest, named=A)


def _gelu(graph: Graph, Z: str, A: str) -> str:
    # a = ½z·(1 + tanh u), u = √(2/π)·z·(1 + 0.044715·z²)
    square = graph.add("Mul", Z, Z)
    bent = graph.add("Add", graph.add("Mul", square, graph.constant(GELU_CUBIC)), graph.constant(1))
    u = graph.add("Mul", graph.add("Mul", Z, graph.constant(GELU_SLOPE)), bent)
    share = graph.add("Add", graph.add("Tanh", u), graph.constant(1))
    return graph.add("Mul", graph.add("Mul", Z, graph.constant(0.5)), share, named=A)


def _silu(graph: Graph, Z: str, A: str) -> str:
    return graph.add("Mul", Z, graph.add("Sigmoid", Z), named=A)


ACTIVATIONS: dict[str, Callable[[Graph, str, str], str]] = {
    "sigmoid": _operator("Sigmoid"),
    "tanh": _operator("Tanh"),
    "relu": _operator("Relu"),
    "leaky_relu": _float32_operator("LeakyRelu", _leaky_relu, alpha=LEAK),
    "elu": _float32_operator("Elu", _elu, alpha=1.0),
    "softplus": _float32_operator("Softplus", _softplus),
    "silu": _silu,
    "gelu": _float32_operator("Gelu", _gelu, approximate="tanh"),
    "linear": _operator("Identity"),
    "softmax": _operator("Softmax", axis=-1),
}
"""How each activation function is computed: (graph, name of Z, name of A) to the name of A."""


def encode_onnx(network: Network, preprocessing: Preprocessing, classes: int, about: Mapping[str, Any]) -> bytes:
    """Write a network, with the preprocessing in front of it, as an ONNX model.

    Args:
        network: whose weights become the constants W1, b1, W2, … of the model, and gamma1, beta1, …
        preprocessing: from raw rows to A[0]; if it does anything, it is computed in float64, as are the samples.
        classes: how many there are; 0 for regression.
        about: what the model's metadata says; all but texts is written as JSON.
    """
    graph = Graph(network.parameters.dtype)
    A = _preprocess(graph, preprocessing)
    for number, layer in enumerate(network.spec.layers, start=1):
        W, b = graph.constant(network.W[number], f"W{number}"), graph.constant(network.b[number], f"b{number}")
        Z = graph.add("Gemm", A, W, b, named=f"Z{number}", transB=1)
        if layer.normalization is not None:
            Z = _normalize(graph, network, number, Z)
        last = number == len(network.spec.layers)
        A = ACTIVATIONS[layer.activation](graph, Z, OUTPUTS if last else f"A{number}")
    if classes:
        _classify(graph, network.spec.outputs, classes)
    content: bytes = _model(graph, network, preprocessing, classes, about).SerializeToString(deterministic=True)
    return content


def _normalize(graph: Graph, network: Network, number: int, Z: str) -> str:
    """Compute N of Z, as the network is used: with running statistics over batches, of each sample over units."""
    kept = network.blocks | network.statistics

    def constant(symbol: str) -> str:
        return graph.constant(kept[f"{symbol}{number}"], f"{symbol}{number}")

    # Spelled out, since the operators that do it all have ε in float32 even where they compute in float64.
    if network.spec.layers[number - 1].normalization == "batch":
        deviation, variance = graph.add("Sub", Z, constant("running_mean")), constant("running_var")
    else:
        units = graph.constant([1], dtype=np.int64)
        deviation = graph.add("Sub", Z, graph.add("ReduceMean", Z, units))
        variance = graph.add("ReduceMean", graph.add("Mul", deviation, deviation), units)
    root = graph.add("Sqrt", graph.add("Add", variance, graph.constant(EPSILON)))
    scaled = graph.add("Mul", graph.add("Div", deviation, root), constant("gamma"))
    return graph.add("Add", scaled, constant("beta"), named=f"N{number}")


def _preprocess(graph: Graph, preprocessing: Preprocessing) -> str:
    """Compute A[0] of raw rows: (x − offset)·scale, and [x is c₁], …, [x is c_k] for a categorical column."""
    if preprocessing.is_identity:
        return SAMPLES
    widths = [1 if column is None else len(column) for column in preprocessing.categories]
    source = np.repeat(np.arange(preprocessing.inputs), widths)
    offset, scale = preprocessing.offset[source], preprocessing.scale[source]
    raw = SAMPLES
    if not preprocessing.is_affine:
        raw = graph.add("Gather", raw, graph.constant(source, dtype=np.int64), axis=1)
    moved = graph.add("Sub", raw, graph.constant(offset, "offset", np.float64))
    mapped = graph.add("Mul", moved, graph.constant(scale, "scale", np.float64))
    if not preprocessing.is_affine:
        code = np.concatenate([np.arange(width) for width in widths])
        numeric = np.array([column is None for column in preprocessing.categories])[source]
        own = graph.add("Equal", raw, graph.constant(code, "code", np.float64))
        one_hot = graph.add("Cast", own, to=onnx.TensorProto.DOUBLE)
        mapped = graph.add("Where", graph.constant(numeric, "numeric", np.bool_), mapped, one_hot)
    return graph.add("Cast", mapped, named="A0", to=helper.np_dtype_to_tensor_dtype(graph.dtype))


def _classify(graph: Graph, units: int, classes: int) -> None:
    """Read classes off the outputs as the engine does: the largest, or whether the one is above one half."""
    if units == 1 and classes == 2:
        above = graph.add("Greater", OUTPUTS, graph.constant(0.5))
        number = graph.add("Cast", above, to=onnx.TensorProto.INT64)
        graph.add("Squeeze", number, graph.constant([1], dtype=np.int64), named=LABEL)
    else:
        graph.add("ArgMax", OUTPUTS, named=LABEL, axis=1, keepdims=0)


def _model(
    graph: Graph, network: Network, preprocessing: Preprocessing, classes: int, about: Mapping[str, Any]
) -> onnx.ModelProto:
    float_type = helper.np_dtype_to_tensor_dtype(graph.dtype)
    raw_type = float_type if preprocessing.is_identity else onnx.TensorProto.DOUBLE
    samples = helper.make_tensor_value_info(SAMPLES, raw_type, ["m", preprocessing.inputs])
    results = [helper.make_tensor_value_info(OUTPUTS, float_type, ["m", network.spec.outputs])]
    if classes:
        results.append(helper.make_tensor_value_info(LABEL, onnx.TensorProto.INT64, ["m"]))
    model = helper.make_model(
        helper.make_graph(graph.nodes, "network", [samples], results, graph.constants),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="chainrule",
        producer_version=chainrule.__version__,
    )
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in about.items()
    }
    helper.set_model_props(model, texts)
    return model
