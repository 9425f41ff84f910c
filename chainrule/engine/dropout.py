"""Dropout: in each step of training a random share of a hidden layer's activations is set to zero.

    mask = 0 with probability p, else 1/(1 − p);  the layer after takes A[l] ⊙ mask

so that nothing need be changed when the network is used. p is rounded to a multiple of 1/65536, in both places.
The masks of a step are a pure function of seed, layer, epoch and step: each step has its own stretch of the
counter-based generator's numbers.

Source: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014), in the form called inverted dropout.
"""

import numpy as np

from chainrule.engine.arrays import FloatArray, generator

_LEVELS = 2**16
_PER_COUNT = 16
"""Numbers of 16 bits that one count of the generator gives."""


def masks(
    seed: int,
    layer: int,
    p: float,
    epoch: int,
    steps: range,
    units: int,
    batch: int,
    m: int,
    dtype: np.dtype[np.floating],
) -> FloatArray:
    """Draw the masks of one layer for some steps of an epoch.

    Args:
        seed: of the run.
        layer: l.
        p: the share to be set to zero.
        epoch: from 1.
        steps: which, from 0.
        units: n_l.
        batch: samples of a full batch, by which the stretches are measured.
        m: samples of these steps' batches.
        dtype: of the masks.

    Returns:
        (steps, n_l, m).
    """
    counts = -(-units * batch // _PER_COUNT)
    bits = generator(seed, f"dropout {layer}", epoch).bit_generator
    bits.advance(steps.start * counts)  # type: ignore[attr-defined]
    drawn = bits.random_raw(len(steps) * counts * 4).view(np.uint16).reshape(len(steps), -1)
    zeroed = round(p * _LEVELS)
    kept = drawn[:, : units * m].reshape(len(steps), units, m) >= zeroed
    return np.multiply(kept, dtype.type(_LEVELS / (_LEVELS - zeroed)), dtype=dtype)
