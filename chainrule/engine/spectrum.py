"""What a network's weights are, as maps and as places: singular values of each W, and the way from the beginning.

W = U·diag(σ)·Vᵀ, σ₁ ≥ σ₂ ≥ …     dA[l-1] = dZ[l]·W[l] is at most σ₁ and at least σ_min times as long as dZ[l],
                                  of a dZ[l] that W[l] does not take to 0
stable rank   ‖W‖_F²/σ₁²          how many directions count; 1 where all rows are multiples of one
condition     σ₁/σ_min

distance      ‖θ_e − θ_0‖         θ all parameters
path          Σ ‖θ_k − θ_{k−1}‖   over the epochs given, up to e
cosine        of θ_e − θ_{e−1} and θ_{e−1} − θ_{e−2}: 1 straight ahead, 0 at right angles, −1 back
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.engine.arrays import FloatArray
from chainrule.engine.network import Network


@dataclass(frozen=True)
class Spectrum:
    """The singular values of one W, of this shape, largest first, and what follows from them.

    `stable_rank` is None of a W that is 0, `condition` where the smallest singular value is 0.
    """

    shape: tuple[int, ...]
    singular_values: FloatArray
    frobenius: float
    stable_rank: float | None
    condition: float | None


def spectrum(W: FloatArray) -> Spectrum:
    """Take a matrix apart, in float64."""
    values = np.linalg.svd(W.astype(np.float64), compute_uv=False)
    largest, smallest = float(values[0]), float(values[-1])
    frobenius = float(np.linalg.norm(values))
    # Below the rounding of the decomposition a singular value is 0.
    zero = largest * max(W.shape) * float(np.finfo(np.float64).eps)
    return Spectrum(
        W.shape,
        values,
        frobenius,
        (frobenius / largest) ** 2 if largest > 0 else None,
        largest / smallest if smallest > zero else None,
    )


@dataclass(frozen=True)
class Place:
    """Where a network is at an epoch's end, seen from the first and the one before.

    Attributes:
        epoch: which.
        distance: from the first.
        path: along all those before.
        moved: from the one before; None of the first.
        cosine: between this displacement and the one before; None of the first two, and where one is 0.
        norm: ‖θ‖.
        layers: l to the distance of its W and b from the first.
    """

    epoch: int
    distance: float
    path: float
    moved: float | None
    cosine: float | None
    norm: float
    layers: dict[int, float]


def places(networks: Iterable[tuple[int, Network]]) -> Iterator[Place]:
    """Follow a network from epoch to epoch, in float64."""
    first: Network | None = None
    before: FloatArray | None = None
    displacement: FloatArray | None = None
    path = 0.0
    for epoch, network in networks:
        P = network.parameters.astype(np.float64)
        first = first or Network(network.spec, P.copy())
        there = Network(network.spec, P - first.parameters).blocks
        squares = dict.fromkeys(range(1, len(network.spec.layers) + 1), 0.0)
        for number in squares:
            blocks = (there[f"{symbol}{number}"] for symbol in ("W", "b"))
            squares[number] = sum(float(np.sum(block * block)) for block in blocks)
        step = None if before is None else P - before
        moved = None if step is None else float(np.linalg.norm(step))
        path += moved or 0.0
        yield Place(
            epoch,
            float(np.linalg.norm(P - first.parameters)),
            path,
            moved,
            _cosine(step, displacement),
            float(np.linalg.norm(P)),
            {number: square**0.5 for number, square in squares.items()},
        )
        before, displacement = P, step


def _cosine(first: FloatArray | None, second: FloatArray | None) -> float | None:
    if first is None or second is None:
        return None
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / size if size > 0 else None
