"""Gradients of somebody's own making, held against those of the network, block by block, the mistake named.

A block that differs is held against what the known mistakes would have made of it: the whole backward pass with one
thing wrong, up to a factor that has a name of its own (−1, m, 1/m, 2, ½, 1/n_L, 2/n_L), or any factor where the block
is large enough that chance cannot have brought it about. What fits to the tolerance is named, the simplest first.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chainrule.engine import layers
from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray
from chainrule.engine.costs import cost
from chainrule.engine.errors import UnknownNameError
from chainrule.engine.layers import Cache
from chainrule.engine.network import Network, backward, forward

EXACT, CLOSE, DIFFERENT = VERDICTS = ("exact", "close", "different")
TOLERANCES = {"float32": 1e-4, "float64": 1e-6}
"""Up to which relative error a gradient is close, by the network's type."""
TELLING = 3
"""A block of so many entries is no multiple of another by chance."""
MISTAKES = {
    "sign_flipped": "The sign is flipped: dA[L] begins with A − Y, and the step goes against the gradient.",
    "summed": "It is m = {m} times too large: summed over the samples instead of averaged. Divide by m.",
    "averaged_twice": "It is m = {m} times too small: 1/m is taken twice. dZ holds none; it enters in dW and db only.",
    "doubled": "It is twice too large: a factor 2 is left over, as of a squared error without its ½.",
    "halved": "It is half as large as it should be: a factor ½ is left over.",
    "outputs_averaged": "It is {factor:.6g} times ours: averaged over the {outputs} outputs as well; E is their sum.",
    "scaled": "It is {factor:.6g} times ours, in every entry: look for a constant factor.",
    "transposed": "It is transposed: dW[l] = (1/m)·dZ[l]ᵀ·A[l-1] has the shape of W[l], (n_l, n_{{l-1}}).",
    "slope_missing": "g′ is missing in layer {at}: dZ = dA ⊙ g′(Z), not dA.",
    "slope_of_activation": "g′ is taken at A in layer {at}, in place of Z: use g′(Z).",
    "slope_twice": "g′ of the output is taken twice: with this cost dZ[L] is A − Y, which has g′ in it.",
    "before_activation": "dW is made with Z of the layer before; take A[l-1] = g(Z[l-1]).",
    "weights_transposed": "W[{at}] is transposed on the way back: with rows as samples dA[l-1] = dZ[l]·W[l].",
    "unweighted": "The samples' weights are left out: row i of dA[L] is multiplied by w⁽ⁱ⁾.",
    "statistics": "Normalization's μ and σ² are not treated as here ({at}): see dZ of a layer that normalizes.",
    "penalty": "A penalty is in it: it is ours plus {factor:.6g}·{at}. Gradients here are of C, without penalties.",
    "another_block": "It is the gradient of {at}: blocks have been mixed up.",
    "per_sample": "It has a row for each sample: take the mean over them.",
    "shape": "It has shape {at}, and the values are right: give it the shape of its parameter.",
    "wrong_shape": "It has shape {at}, which is neither that of its parameter nor its transpose.",
    "zero": "It is zero throughout: never filled in, or read after it was cleared.",
    "not_finite": "It holds NaN or infinity: look for a division by zero or a logarithm of 0, or an overflow.",
    "one_row": "It is off in row {at} only, that of one unit of its layer; the rest is right.",
    "one_column": "It is off in column {at} only, that of one unit of the layer before; the rest is right.",
    "one_entry": "It is off in the entry {at} only; the rest is right.",
    "unknown": "None of the known mistakes fits; compare dZ and dA of this layer with those of a walk.",
}
"""By name: what to say, and what to do."""


@dataclass(frozen=True)
class Worst:
    """Where a block differs most."""

    index: tuple[int, ...]
    ours: float
    theirs: float


@dataclass(frozen=True)
class BlockComparison:
    """What the comparison of one block came to.

    Attributes:
        name: dW1, db1, …
        shape: of ours.
        verdict: exact (every bit), close (to the tolerance), or different.
        relative_error: ‖ours − theirs‖ / (‖ours‖ + ‖theirs‖); None where shapes or infinities forbid it.
        mistakes: their names; none of what is right, two where one came on top of another.
        factor: by which it is too large, if that is a mistake.
        sentence: what is wrong, and the fix.
        worst: None where there is nothing to compare entry by entry.
    """

    name: str
    shape: tuple[int, ...]
    verdict: str
    relative_error: float | None
    mistakes: tuple[str, ...]
    factor: float | None
    sentence: str
    worst: Worst | None


@dataclass(frozen=True)
class _Wrong:
    """What a mistake would have made of the gradients."""

    mistake: str
    at: str
    gradients: Mapping[str, FloatArray]


@dataclass(frozen=True)
class _Setting:
    """What blocks are compared by."""

    ours: Mapping[str, FloatArray]
    own: Mapping[str, FloatArray]
    wrong: list[_Wrong]
    parameters: Mapping[str, FloatArray]
    m: int
    outputs: int
    tolerance: float
    rounding: float

    def sentence(self, mistakes: tuple[str, ...], factor: float | None, at: str) -> str:
        """Say what is wrong, and the fix."""
        words = {"m": self.m, "outputs": self.outputs, "factor": factor, "at": at}
        return " ".join(MISTAKES[mistake].format(**words) for mistake in mistakes)

    def named_factors(self) -> dict[float, str]:
        """Name the factors that have a name."""
        found = {2.0: "doubled", 0.5: "halved"}
        if self.outputs > 1:
            found |= {c: "outputs_averaged" for c in (1 / self.outputs, 2 / self.outputs) if c not in (0.5, 1.0)}
        if self.m > 1:
            found |= {float(self.m): "summed", 1 / self.m: "averaged_twice"}
        return found


def compare(
    network: Network,
    cost_name: str,
    X: ArrayLike,
    Y: ArrayLike,
    given: Mapping[str, NDArray[Any]],
    weights: FloatArray | None = None,
    *,
    training: bool = False,
) -> list[BlockComparison]:
    """Compare gradients with those of a network, in float64 and, for equality of every bit, in its own type too.

    Args:
        network: with the weights they were computed at.
        cost_name: of the cost.
        X: (m, n_0) samples.
        Y: (m, n_L) targets.
        given: dW1, db1, … by name, of any shape; not all need be there.
        weights: (m,) how much each sample's error counts; None where all count 1.
        training: whether batch normalization takes μ and σ² of these samples, as in a step, or running ones.

    Raises:
        UnknownNameError: there is no block of a name that is given.
        ShapeError: X or Y do not fit.
    """
    blocks = [f"d{name}" for name in network.blocks]
    for name in given:
        if name not in blocks:
            raise UnknownNameError("gradient", name, blocks, "gradients")
    exact = Network(network.spec, network.parameters.astype(np.float64), network.running.astype(np.float64))
    X64, Y64 = np.asarray(X, np.float64), np.asarray(Y, np.float64)
    own = backward(forward(network, X, training=training), cost_name, Y, weights)
    caches = forward(exact, X64, training=training)
    ours = backward(caches, cost_name, Y64, weights)
    setting = _Setting(
        ours, own, list(_wrongs(exact, caches, cost_name, X64, Y64, weights, training=training)), exact.blocks,
        len(X64), network.spec.outputs, TOLERANCES[str(network.parameters.dtype)],
        float(np.finfo(network.parameters.dtype).eps) * max(float(np.linalg.norm(ours[name])) for name in blocks),
    )  # fmt: skip
    return [_compare_block(setting, name, np.asarray(given[name], np.float64)) for name in blocks if name in given]


def _compare_block(setting: _Setting, name: str, theirs: FloatArray) -> BlockComparison:
    ours = setting.ours[name]
    shaped, shape_mistake = _shaped(setting, name, theirs)
    if shaped is None:
        sentence = setting.sentence(("wrong_shape",), None, str(theirs.shape))
        return BlockComparison(name, ours.shape, DIFFERENT, None, ("wrong_shape",), None, sentence, None)
    if not np.isfinite(shaped).all():
        place = tuple(int(at) for at in np.argwhere(~np.isfinite(shaped))[0])
        worst = Worst(place, float(ours[place]), float(shaped[place]))
        sentence = setting.sentence(("not_finite",), None, "")
        return BlockComparison(name, ours.shape, DIFFERENT, None, ("not_finite",), None, sentence, worst)
    difference = np.abs(ours - shaped)
    place = tuple(int(at) for at in np.unravel_index(int(np.argmax(difference)), ours.shape))
    worst, error = Worst(place, float(ours[place]), float(shaped[place])), relative_error(ours, shaped)
    equal = np.array_equal(ours, shaped) or np.array_equal(setting.own[name], shaped)
    # What is 0 but for rounding, as dβ may be before a softmax, has no digits to agree in.
    rounding = float(np.linalg.norm(ours - shaped)) <= setting.rounding
    if shape_mistake is None and (equal or rounding or error <= setting.tolerance):
        verdict = EXACT if equal else CLOSE
        sentence = "Every bit is the same." if equal else f"It agrees, to a relative error of {error:.1e}."
        return BlockComparison(name, ours.shape, verdict, error, (), None, sentence, worst)
    mistakes, factor, at = _diagnose(setting, name, shaped)
    if shape_mistake is not None:
        right = error <= setting.tolerance
        mistakes, at = (
            ((shape_mistake,) if right or mistakes == ("unknown",) else (shape_mistake, *mistakes)),
            (at if not right and shape_mistake == "transposed" else str(theirs.shape)),
        )
    return BlockComparison(
        name, ours.shape, DIFFERENT, error, mistakes, factor, setting.sentence(mistakes, factor, at), worst
    )  # fmt: skip


def relative_error(a: FloatArray, b: FloatArray) -> float:
    """Compute ‖a − b‖ / (‖a‖ + ‖b‖); 0 where both are 0."""
    scale = float(np.linalg.norm(a) + np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / scale if scale > 0 else 0.0


def _shaped(setting: _Setting, name: str, theirs: FloatArray) -> tuple[FloatArray | None, str | None]:
    """Bring a block to the shape of ours, and name the mistake in its shape."""
    shape, m = setting.ours[name].shape, setting.m
    if theirs.shape == shape:
        return theirs, None
    if theirs.shape == shape[::-1] and len(shape) == 2:
        return theirs.T, "transposed"
    if theirs.shape == (m, *shape):
        return theirs.mean(axis=0), "per_sample"
    if theirs.size == setting.ours[name].size:
        return theirs.reshape(shape), "shape"
    return None, None


def _diagnose(setting: _Setting, name: str, theirs: FloatArray) -> tuple[tuple[str, ...], float | None, str]:
    """Name the mistake, its factor, and where it is."""
    ours = setting.ours[name]
    if not theirs.any():
        return ("zero",), None, ""
    if (scaled := _multiple(setting, ours, theirs)) is not None:
        return *scaled, ""
    if ours.ndim == 2 and ours.shape[0] == ours.shape[1]:
        if relative_error(ours.T, theirs) <= setting.tolerance:
            return ("transposed",), None, ""
        if (scaled := _multiple(setting, ours.T, theirs)) is not None:
            return ("transposed", *scaled[0]), scaled[1], ""
    for wrong in setting.wrong:
        if (block := wrong.gradients.get(name)) is None or relative_error(block, ours) <= 2 * setting.tolerance:
            continue
        if relative_error(block, theirs) <= setting.tolerance:
            return (wrong.mistake,), None, wrong.at
    if (place := _one_place(setting, ours, theirs)) is not None:
        return (place[0],), None, place[1]
    for other, block in setting.ours.items():
        alike = other != name and other[1:] in setting.parameters and block.shape == ours.shape and block.any()
        if alike and relative_error(block, theirs) <= setting.tolerance:
            return ("another_block",), None, other
    for wrong in setting.wrong:
        block = wrong.gradients.get(name)
        if block is not None and (scaled := _multiple(setting, block, theirs)) is not None:
            return (wrong.mistake, *scaled[0]), scaled[1], wrong.at
    if (penalty := _penalty(setting, name, theirs)) is not None:
        return ("penalty",), *penalty
    return ("unknown",), None, ""


def _multiple(setting: _Setting, ours: FloatArray, theirs: FloatArray) -> tuple[tuple[str, ...], float] | None:
    """Tell whether theirs is ours times a factor, and what such a factor means."""
    square = float(np.sum(ours * ours))
    if square == 0:
        return None
    factor = float(np.sum(ours * theirs)) / square
    if factor == 0 or relative_error(factor * ours, theirs) > setting.tolerance:
        return None
    flipped = ("sign_flipped",) if factor < 0 else ()
    size = abs(factor)
    if abs(size - 1) <= 2 * setting.tolerance:
        return (flipped, factor) if flipped else None
    for named, mistake in setting.named_factors().items():
        if abs(size / named - 1) <= 2 * setting.tolerance:
            return (*flipped, mistake), factor
    return ((*flipped, "scaled"), factor) if ours.size >= TELLING and np.count_nonzero(ours) >= TELLING else None


def _one_place(setting: _Setting, ours: FloatArray, theirs: FloatArray) -> tuple[str, str] | None:
    """Tell whether theirs is off in one row, one column or one entry of several."""
    off = np.abs(ours - theirs) > setting.tolerance * float(np.max(np.abs(ours), initial=0.0))
    places = np.argwhere(off)
    if len(places) == 1 and ours.size > 1:
        index = ", ".join(str(int(at)) for at in places[0])
        return "one_entry", f"[{index}]"
    if ours.ndim == 2 and len(places):
        for axis, mistake in enumerate(("one_row", "one_column")):
            chosen = np.unique(places[:, axis])
            if len(chosen) == 1 and ours.shape[axis] > 1:
                return mistake, str(int(chosen[0]))
    return None


def _penalty(setting: _Setting, name: str, theirs: FloatArray) -> tuple[float, str] | None:
    """Tell whether theirs is ours plus a multiple of W, or of its signs."""
    W, left = setting.parameters[name[1:]], theirs - setting.ours[name]
    if W.size < TELLING:
        return None
    # What is added is known to as many digits only as the sum has.
    allowed = 4 * setting.tolerance * float(np.linalg.norm(theirs) + np.linalg.norm(left))
    for term, text in ((W, name[1:]), (np.sign(W), f"sign({name[1:]})")):
        square = float(np.sum(term * term))
        factor = float(np.sum(term * left)) / square if square else 0.0
        near = float(np.linalg.norm(left - factor * term))
        if factor and near <= allowed and near <= 0.01 * float(np.linalg.norm(left)):
            return factor, text
    return None


Through = Callable[[int, FloatArray, Cache], FloatArray]


def _as_it_is(number: int, dA: FloatArray, cache: Cache) -> FloatArray:
    return layers.through_activation(dA, cache)


def _back(caches: list[Cache], dZ: FloatArray, through: Through = _as_it_is) -> dict[str, FloatArray]:
    """Carry dZ[L] back, through activation functions as told."""
    found: dict[str, FloatArray] = {}
    for number in range(len(caches), 0, -1):
        dW, db, dA = layers.backward(dZ, caches[number - 1])
        found |= {f"dW{number}": dW, f"db{number}": db}
        if number > 1:
            below = caches[number - 2]
            dZ = through(number - 1, dA, below)
            if below.normalized is not None:
                dgamma, dbeta, dZ = layers.through_normalization(dZ, below.normalized)
                found |= {f"dgamma{number - 1}": dgamma, f"dbeta{number - 1}": dbeta}
    return found


def _wrongs(
    network: Network, caches: list[Cache], cost_name: str, X: FloatArray, Y: FloatArray, weights: FloatArray | None,
    *, training: bool,
) -> Iterator[_Wrong]:  # fmt: skip
    """Go through what known mistakes would make of the gradients."""
    last, L = caches[-1], len(caches)
    output, found = activation(last.activation), cost(cost_name)
    w = np.float64(1) if weights is None else weights.astype(np.float64)[:, None]
    dZ = w * found.output_dZ(last.Z, last.A, Y, output)
    bent = [number for number in range(1, L) if caches[number - 1].activation != "linear"]

    def without(*chosen: int) -> Through:
        return lambda number, dA, cache: dA if number in chosen else _as_it_is(number, dA, cache)

    def at_A(*chosen: int) -> Through:
        def through(number: int, dA: FloatArray, cache: Cache) -> FloatArray:
            g = activation(cache.activation)
            return g.backward(dA, cache.A, g.forward(cache.A)) if number in chosen else _as_it_is(number, dA, cache)

        return through

    every = [(number,) for number in bent] + ([tuple(bent)] if len(bent) > 1 else [])
    for chosen in every:
        yield _Wrong("slope_missing", _listed(chosen), _back(caches, dZ, without(*chosen)))
    if "cross_entropy" in cost_name:
        twice = output.backward(dZ, last.Z, last.A)
        yield _Wrong("slope_twice", str(L), _back(caches, twice))
        yield _Wrong("slope_twice", str(L), _back(caches, dZ * last.A * (1 - last.A)))
    elif output.name != "linear":
        bare = w * found.output_dA(last.Z, last.A, Y, output)
        yield _Wrong("slope_missing", str(L), _back(caches, bare))
        if bent:
            yield _Wrong("slope_missing", _listed((*bent, L)), _back(caches, bare, without(*bent)))
    for chosen in every:
        yield _Wrong("slope_of_activation", _listed(chosen), _back(caches, dZ, at_A(*chosen)))
    before = [caches[0], *(replace(cache, A_prev=below.N) for below, cache in pairwise(caches))]
    yield _Wrong("before_activation", "", _back(before, dZ))
    for number in range(2, L + 1):
        W = caches[number - 1].W
        if W.shape[0] == W.shape[1] > 1:
            turned = [replace(cache, W=W.T) if cache is caches[number - 1] else cache for cache in caches]
            yield _Wrong("weights_transposed", str(number), _back(turned, dZ))
    if weights is not None:
        yield _Wrong("unweighted", "", backward(caches, cost_name, Y))
    if any(cache.normalized is not None for cache in caches):
        yield from _other_statistics(network, caches, cost_name, X, Y, weights, dZ, training=training)


def _other_statistics(
    network: Network, caches: list[Cache], cost_name: str, X: FloatArray, Y: FloatArray, weights: FloatArray | None,
    dZ: FloatArray, *, training: bool,
) -> Iterator[_Wrong]:  # fmt: skip
    """Go through what may be done otherwise with μ and σ²."""
    if network.spec.running_count and len(X) > 1:
        said = "running ones taken, not those of the samples" if training else "those of the samples taken, not running"
        other = forward(network, X, training=not training)
        yield _Wrong("statistics", said, backward(other, cost_name, Y, weights))
    constant = [
        cache if cache.normalized is None else replace(cache, normalized=replace(cache.normalized, axis=None))
        for cache in caches
    ]
    yield _Wrong("statistics", "taken as constants on the way back", _back(constant, dZ))


def _listed(numbers: tuple[int, ...]) -> str:
    return " and ".join(map(str, numbers))
