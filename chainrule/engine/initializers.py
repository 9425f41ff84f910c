"""Where the weights begin."""

from collections.abc import Callable

import numpy as np

from chainrule.engine.arrays import FloatArray
from chainrule.engine.errors import UnknownNameError

Initializer = Callable[[np.random.Generator, int, int], FloatArray]


def _uniform(limit: float) -> Callable[[np.random.Generator, int, int], FloatArray]:
    return lambda rng, outputs, inputs: rng.uniform(-limit, limit, (outputs, inputs))


def _zeros(rng: np.random.Generator, outputs: int, inputs: int) -> FloatArray:
    return np.zeros((outputs, inputs))


def _xavier_uniform(rng: np.random.Generator, outputs: int, inputs: int) -> FloatArray:
    return _uniform(np.sqrt(6 / (inputs + outputs)))(rng, outputs, inputs)


def _xavier_normal(rng: np.random.Generator, outputs: int, inputs: int) -> FloatArray:
    return rng.normal(0.0, np.sqrt(2 / (inputs + outputs)), (outputs, inputs))


def _he_uniform(rng: np.random.Generator, outputs: int, inputs: int) -> FloatArray:
    return _uniform(np.sqrt(6 / inputs))(rng, outputs, inputs)


def _he_normal(rng: np.random.Generator, outputs: int, inputs: int) -> FloatArray:
    return rng.normal(0.0, np.sqrt(2 / inputs), (outputs, inputs))


INITIALIZERS: dict[str, Initializer] = {
    "zeros": _zeros,
    "xavier_uniform": _xavier_uniform,
    "xavier_normal": _xavier_normal,
    "he_uniform": _he_uniform,
    "he_normal": _he_normal,
}
"""Each makes W (n_l, n_{l-1}) in float64 from a generator; biases begin at zero.

    xavier   Var w = 2/(n_{l-1} + n_l)      uniform within ±√(6/(n_{l-1} + n_l))
    he       Var w = 2/n_{l-1}              uniform within ±√(6/n_{l-1})

Sources: Glorot and Bengio (2010); He, Zhang, Ren and Sun (2015).
"""


def initializer(name: str, field: str = "") -> Initializer:
    """Look an initializer up.

    Raises:
        UnknownNameError: there is none of this name; lists those there are.
    """
    if name not in INITIALIZERS:
        raise UnknownNameError("initializer", name, INITIALIZERS, field)
    return INITIALIZERS[name]


RECTIFIERS = (  # and their smooth kin
    "relu",
    "leaky_relu",
    "elu",
    "silu",
    "gelu",
)


def default_initializer(activation: str) -> str:
    """Choose by activation: He for the rectifiers, which halve the variance, Xavier for the rest."""
    return "he_normal" if activation in RECTIFIERS else "xavier_uniform"
