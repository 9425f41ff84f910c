"""A network's weights under the names that a `torch.nn.Sequential` of the same layers gives them."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save

from chainrule.engine import Network
from chainrule.engine.activations import LEAK
from chainrule.engine.arrays import FloatArray
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


def sequential(network: Network) -> list[tuple[str, dict[str, Any]]]:
    """Name the modules of the `Sequential` and their arguments: a Linear and an activation for each layer."""
    modules: list[tuple[str, dict[str, Any]]] = []
    for number, layer in enumerate(network.spec.layers, start=1):
        n_out, n_in = network.W[number].shape
        modules += [("Linear", {"in_features": n_in, "out_features": n_out}), ACTIVATIONS[layer.activation]]
    return modules


def encode_torch(network: Network, preprocessing: Preprocessing, about: Mapping[str, Any]) -> bytes:
    """Write weights as safetensors: `0.weight`, `0.bias`, `2.weight`, …, the even modules of the `Sequential`.

        W[1]·((x − offset) ⊙ scale) + b[1] = W′·x + b′,   W′ = W[1]·diag(scale),  b′ = b[1] − W′·offset

    so that a preprocessing without categories is in the first layer, and the `Sequential` takes raw rows.
    The metadata has one entry, `chainrule`: JSON with what `about` says, and the modules under `sequential`.

    Raises:
        ValueError: the preprocessing is not affine, or W′ or b′ is too large for the network's float type.
    """
    if not preprocessing.is_affine:
        raise ValueError("one-hot columns are no linear function of the raw one")
    arrays = {}
    for number in network.W:
        arrays[f"{2 * (number - 1)}.weight"] = np.ascontiguousarray(network.W[number])
        arrays[f"{2 * (number - 1)}.bias"] = np.ascontiguousarray(network.b[number])
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
