"""Arrays and randomness."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.engine.errors import ConfigError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]

DTYPES: dict[str, type[np.float32] | type[np.float64]] = {"float32": np.float32, "float64": np.float64}


def generator(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> np.random.Generator:
    """Make the random numbers of one purpose at one place of a run.

    A pure function of its arguments, so that there is no generator state to keep: seed and purpose
    choose the key of the counter-based generator Philox, epoch and step where its counter starts.

    Args:
        seed: of the run, 0 or larger.
        purpose: what the numbers are for, such as "shuffle".
        epoch: 0 or larger.
        step: 0 or larger.

    Returns:
        A generator of its own; streams of different arguments never overlap.

    Source:
        Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
    """
    key = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"), counter=[0, 0, step, epoch]))


def dtype_of(name: str) -> type[np.float32] | type[np.float64]:
    """Look a float type up by its name.

    Raises:
        ConfigError: it is neither float32 nor float64.
    """
    if name not in DTYPES:
        raise ConfigError(f"Unknown dtype {name!r}; known: {', '.join(DTYPES)}.", "dtype")
    return DTYPES[name]
