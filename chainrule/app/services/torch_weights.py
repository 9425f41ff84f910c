"""A network's weights under the names that a `torch.nn.Sequential` of the same layers gives them."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from chainrule.engine import Network
from chainrule.engine.activations import LEAK
from chainrule.engine.arrays import FloatArray
from chainrule.engine.normalization import EPSILON, MOMENTUM
from chainrule.engine.preprocessing import Preprocessing

ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "relu": ("ReLU", {}),
    "leaky_relu": ("LeakyReLU", {"negative_slope": LEAK}),
    "elu": ("ELU", {}),
    # Above its threshold torch takes z for log(1 + eᶻ); at 40 that is right to the last bit in float64 too.
    "softplus": ("Softplus", {"threshold": 40}),
    "silu": ("SiLU", {}),
    "gelu": ("GELU", {"approximate": "tanh"}),
    "linear": ("Identity", {}),
    "softmax": ("Softmax", {"dim": 1}),
}
"""The module of `torch.nn` that computes each activation function, and its arguments."""


NORMALIZATIONS: dict[str, Callable[[int], tuple[str, dict[str, Any]]]] = {
    "layer": lambda units: ("LayerNorm", {"normalized_shape": units, "eps": EPSILON}),
    "batch": lambda units: ("BatchNorm1d", {"num_features": units, "eps": EPSILON, "momentum": MOMENTUM}),
}
"""The module that normalizes so many units, likewise."""
Module = tuple[str, dict[str, Any]]


def sequential(network: Network) -> list[Module]:
    """Name the modules of the `Sequential` and their arguments, in their order."""
    return [module for module, _ in _modules(network)]


def _modules(network: Network) -> list[tuple[Module, dict[str, NDArray[Any]]]]:
    """Give the modules, each with its tensors: for each layer a Linear, a normalization if it has one, and g."""
    modules: list[tuple[Module, dict[str, NDArray[Any]]]] = []
    for number, layer in enumerate(network.spec.layers, start=1):
        W, b = network.W[number], network.b[number]
        n_out, n_in = W.shape
        modules.append((("Linear", {"in_features": n_in, "out_features": n_out}), {"weight": W, "bias": b}))
        if layer.normalization is not None:
            tensors = {"weight": network.blocks[f"gamma{number}"], "bias": network.blocks[f"beta{number}"]}
            if layer.normalization == "batch":
                tensors |= {f"running_{of}": network.statistics[f"running_{of}{number}"] for of in ("mean", "var")}
                # How many batches were seen: torch only counts, as long as it has a momentum.
                tensors["num_batches_tracked"] = np.array(0)
            modules.append((NORMALIZATIONS[layer.normalization](n_out), tensors))
        modules.append((ACTIVATIONS[layer.activation], {}))
    return modules


def encode_torch(network: Network, preprocessing: Preprocessing, about: Mapping[str, Any]) -> bytes:
    """Write weights as safetensors: `0.weight`, `0.bias`, `2.weight`, …, by the modules of the `Sequential`.

        W[1]·((x − offset) ⊙ scale) + b[1] = W′·x + b′,   W′ = W[1]·diag(scale),  b′ = b[1] − W′·offset

    so that a preprocessing without categories is in the first layer, and the `Sequential` takes raw rows.
    The metadata has one entry, `chainrule`: JSON with what `about` says, and the modules under `sequential`.

    Raises:
        ValueError: the preprocessing is not affine, or W′ or b′ is too large for the network's float type.
    """
    if not preprocessing.is_affine:
        raise ValueError("one-hot columns are no linear function of the raw one")
    arrays = {
        f"{position}.{name}": np.asarray(tensor, order="C")
        for position, (_, tensors) in enumerate(_modules(network))
        for name, tensor in tensors.items()
    }
    if not preprocessing.is_identity:
        arrays["0.weight"], arrays["0.bias"] = _folded(network, preprocessing)
    # One entry, since safetensors writes several in an order of its own, another one each time.
    text = json.dumps({**about, "sequential": sequential(network)}, ensure_ascii=False)
    return save(arrays, {"chainrule": text})


@np.errstate(over="ignore", invalid="ignore")
def _folded(network: Network, preprocessing: Preprocessing) -> tuple[FloatArray, FloatArray]:
    dtype = network.parameters.dtype
    W = network.W[1] * preprocessing.scale
    b = network.b[1] - W @ preprocessing.offset
    W, b = W.astype(dtype), b.astype(dtype)
    if not (np.isfinite(W).all() and np.isfinite(b).all()):
        raise ValueError(f"the layer's weights would be too large for {dtype}")
    return W, b
