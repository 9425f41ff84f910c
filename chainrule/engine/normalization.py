"""Normalization: pre-activations brought to mean 0 and variance 1, then scaled and moved by what is learnt.

    Ẑ = (Z − μ)/√(σ² + ε),  N = γ ⊙ Ẑ + β,  A = g(N)

    layer    μ and σ² are those of one sample's n_l units, in training as in use
    batch    μ and σ² are those of a unit over the m samples of a step's batch; a network in use takes running
             ones, which each step moves by a tenth towards its batch's, there with m − 1 in place of m in σ²

Everything is made of ufuncs and their reduce, so that it can be recorded (see `recording`), for units along any
axis. Sources: batch, Ioffe and Szegedy (2015); layer, Ba, Kiros and Hinton (2016).
"""

from dataclasses import dataclass

import numpy as np

from chainrule.engine.arrays import FloatArray

EVALUATION, TRAINING = MODES = ("evaluation", "training")
"""Where μ and σ² of batch normalization come from: running ones, or the samples at hand."""
EPSILON = 1e-5
MOMENTUM = 0.1
"""How far a step moves the running statistics."""
NORMALIZATIONS: dict[str, str] = {
    "layer": "N = γ ⊙ (Z − μ)/√(σ² + ε) + β, μ and σ² over the units of each sample",
    "batch": "N = γ ⊙ (Z − μ)/√(σ² + ε) + β, μ and σ² over the samples of a step's batch",
}


@dataclass(frozen=True)
class Normalized:
    """What forward leaves for backward.

    Attributes:
        N: γ ⊙ Ẑ + β, of the shape of Z.
        Z_hat: Ẑ, likewise.
        scale: 1/√(σ² + ε).
        gamma: γ.
        mean: μ.
        variance: σ².
        axis: over which μ and σ² were taken; None if they were given, and do not depend on Z.
    """

    N: FloatArray
    Z_hat: FloatArray
    scale: FloatArray
    gamma: FloatArray
    mean: FloatArray
    variance: FloatArray
    axis: int | None


def axis_of(kind: str, *, training: bool, units: int, samples: int) -> int | None:
    """Choose the axis that μ and σ² are taken over; None for running ones."""
    if kind == "layer":
        return units
    return samples if training else None


def forward(
    Z: FloatArray, gamma: FloatArray, beta: FloatArray, axis: int | None, running: tuple[FloatArray, FloatArray] | None
) -> Normalized:
    """Normalize pre-activations.

        μ = mean(Z),  σ² = mean((Z − μ)²)      over the axis
        Ẑ = (Z − μ)/√(σ² + ε)
        N = γ ⊙ Ẑ + β

    Args:
        Z: pre-activations.
        gamma: γ of each unit, to be broadcast to Z.
        beta: β, likewise.
        axis: over which μ and σ² are taken; None to take running ones.
        running: μ and σ² for that case, likewise.
    """
    if axis is None:
        assert running is not None, "without an axis μ and σ² are given"
        mean, variance = running
        deviation = Z - mean
    else:
        mean = np.add.reduce(Z, axis=axis, keepdims=True) / Z.shape[axis]
        deviation = Z - mean
        variance = np.add.reduce(deviation * deviation, axis=axis, keepdims=True) / Z.shape[axis]
    scale = np.reciprocal(np.sqrt(variance + EPSILON))
    Z_hat = deviation * scale
    return Normalized(Z_hat * gamma + beta, Z_hat, scale, gamma, mean, variance, axis)


def backward(dN: FloatArray, normalized: Normalized) -> FloatArray:
    """Carry a gradient back through the normalization.

        dẐ = γ ⊙ dN
        dZ = (dẐ − mean(dẐ) − Ẑ ⊙ mean(dẐ ⊙ Ẑ))/√(σ² + ε)     means over the axis of μ and σ²
        dZ = dẐ/√(σ² + ε)                                      if these do not depend on Z

    Over a batch a row of dZ then holds what its sample does to the errors of all: ∂(Σⱼ E⁽ʲ⁾)/∂Z⁽ⁱ⁾.

    Args:
        dN: gradient with respect to N.
        normalized: what `forward` returned.

    Source:
        Ioffe and Szegedy (2015), section 3, with ∂C/∂σ² and ∂C/∂μ put in.
    """
    return _through(dN * normalized.gamma, normalized)


def along(RZ: FloatArray, normalized: Normalized) -> FloatArray:
    """Tell how Ẑ changes as Z does by R{Z}.

    R{Ẑ} = (R{Z} − mean(R{Z}) − Ẑ ⊙ mean(R{Z} ⊙ Ẑ))/√(σ² + ε), the Jacobian of `backward`, which is symmetric.
    """
    return _through(RZ, normalized)


def bend(
    dN: FloatArray, RdN: FloatArray, RZ: FloatArray, RZ_hat: FloatArray, Rgamma: FloatArray, normalized: Normalized
) -> FloatArray:
    """Tell how dZ changes as Z does by R{Z}, dN by R{dN} and γ by R{γ}.

        R{dẐ} = γ ⊙ R{dN} + R{γ} ⊙ dN
        R{dZ} = (R{dẐ} − mean(R{dẐ}) − Ẑ ⊙ mean(R{dẐ} ⊙ Ẑ) − R{Ẑ} ⊙ mean(dẐ ⊙ Ẑ) − Ẑ ⊙ mean(dẐ ⊙ R{Ẑ}))/√(σ² + ε)
                − dZ ⊙ mean(R{Z} ⊙ Ẑ)/√(σ² + ε)

    All but the first three terms are left out where μ and σ² are given. Source: the equations above, derived.
    """
    RdZ = _through(normalized.gamma * RdN + Rgamma * dN, normalized)
    if normalized.axis is None:
        return RdZ
    dZ_hat, Z_hat, axis = dN * normalized.gamma, normalized.Z_hat, normalized.axis

    def mean(array: FloatArray) -> FloatArray:
        found: FloatArray = np.mean(array, axis=axis, keepdims=True)
        return found

    moved = RZ_hat * mean(dZ_hat * Z_hat) + Z_hat * mean(dZ_hat * RZ_hat) + backward(dN, normalized) * mean(RZ * Z_hat)
    return RdZ - moved * normalized.scale


def _through(dZ_hat: FloatArray, normalized: Normalized) -> FloatArray:
    Z_hat, axis = normalized.Z_hat, normalized.axis
    if axis is None:
        return dZ_hat * normalized.scale
    size = Z_hat.shape[axis]
    mean = np.add.reduce(dZ_hat, axis=axis, keepdims=True) / size
    along = np.add.reduce(dZ_hat * Z_hat, axis=axis, keepdims=True) / size
    dZ: FloatArray = (dZ_hat - mean - Z_hat * along) * normalized.scale
    return dZ


def follow(running: tuple[FloatArray, FloatArray], normalized: Normalized, m: int) -> None:
    """Move running statistics, in place, towards those of a batch of m samples, of which there are at least two.

    μ_run ← 0.9·μ_run + 0.1·μ,  σ²_run ← 0.9·σ²_run + 0.1·σ²·m/(m − 1)
    """
    mean, variance = running
    mean *= 1 - MOMENTUM
    mean += normalized.mean * MOMENTUM
    variance *= 1 - MOMENTUM
    variance += normalized.variance * (MOMENTUM * m / (m - 1))
