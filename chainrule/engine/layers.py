"""One dense layer: forward with its cache, and the way back."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chainrule.engine import normalization
from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray
from chainrule.engine.errors import ShapeError
from chainrule.engine.normalization import Normalized


@dataclass(frozen=True)
class Cache:
    """What a layer must remember of a batch to find its gradients: (W, A_prev, b, Z, A).

    And dropout's mask, and what normalization made of Z, where there is any.
    """

    W: FloatArray
    A_prev: FloatArray
    b: FloatArray
    Z: FloatArray
    A: FloatArray
    activation: str
    mask: FloatArray | None = None
    normalized: Normalized | None = None

    @property
    def N(self) -> FloatArray:
        """What g is applied to: Z, normalized if the layer does so."""
        return self.Z if self.normalized is None else self.normalized.N


def forward(
    A_prev: FloatArray,
    W: FloatArray,
    b: FloatArray,
    name: str,
    mask: FloatArray | None = None,
    normalize: Callable[[FloatArray], Normalized] | None = None,
) -> Cache:
    """Compute one layer.

        Z = A_prev · Wᵀ + b      (m, n_out)
        A = g(Z)                 (m, n_out); g(N), N = γ ⊙ Ẑ + β, with normalization

    Args:
        A_prev: (m, n_in) activations of the layer before.
        W: (n_out, n_in) weights.
        b: (n_out,) biases.
        name: of the activation function g.
        mask: (m, n_out) of dropout, which the layer after will multiply A by; None for none.
        normalize: what is done to Z; None for nothing.

    Raises:
        ShapeError: A_prev does not fit W.
    """
    if A_prev.ndim != 2 or A_prev.shape[1] != W.shape[1]:
        raise ShapeError(f"The layer takes {W.shape[1]} values a sample; it was given {A_prev.shape}.")
    Z = A_prev @ W.T + b
    if normalize is None:
        return Cache(W, A_prev, b, Z, activation(name).forward(Z), name, mask)
    normalized = normalize(Z)
    return Cache(W, A_prev, b, Z, activation(name).forward(normalized.N), name, mask, normalized)


def backward(dZ: FloatArray, cache: Cache) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Carry each sample's gradient from the pre-activations to the parameters and the layer before.

        dW      = (1/m) · dZᵀ · A_prev      (n_out, n_in)
        db      = (1/m) · Σᵢ dZ⁽ⁱ⁾          (n_out,)
        dA_prev = dZ · W                    (m, n_in)

    dZ holds ∂E⁽ⁱ⁾/∂Z⁽ⁱ⁾, one row for each sample; the 1/m of the mean enters here, and only here. Where a step's
    batch normalization takes b away again, Σᵢ dZ⁽ⁱ⁾ is 0.

    Args:
        dZ: (m, n_out) gradient of each sample's error with respect to Z.
        cache: what `forward` returned for the same batch.

    Returns:
        dW, db and dA_prev.

    Raises:
        ShapeError: dZ does not fit the cache.

    Source:
        Backpropagation, steps 3 to 5; Nielsen (2015), chapter 2, (BP2) to (BP4).
    """
    if dZ.shape != cache.Z.shape:
        raise ShapeError(f"dZ has shape {dZ.shape} and the layer's Z {cache.Z.shape}.")
    m = len(dZ)
    dW = dZ.T @ cache.A_prev / m
    db = np.sum(dZ, axis=0) / m
    if cache.normalized is not None and cache.normalized.axis == 0:
        db = db * 0  # μ takes b away again; what rounding leaves is noise, which some optimizers would enlarge
    dA_prev = dZ @ cache.W
    return dW, db, dA_prev


def through_activation(dA: FloatArray, cache: Cache) -> FloatArray:
    """Carry the gradient back through the activation function.

        dZ = dA ⊙ g′(Z)           (m, n_out); for softmax its Jacobian
        dZ = dA ⊙ mask ⊙ g′(Z)    in a step with dropout
        dN = dA ⊙ g′(N)           with normalization; see `through_normalization`

    Source:
        Backpropagation, step 2; Nielsen (2015), chapter 2, (BP2).
    """
    if cache.mask is not None:
        dA = dA * cache.mask
    return activation(cache.activation).backward(dA, cache.N, cache.A)


def through_normalization(dN: FloatArray, normalized: Normalized) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Carry the gradient back through the normalization, and to its parameters.

        dγ = (1/m) · Σᵢ dN⁽ⁱ⁾ ⊙ Ẑ⁽ⁱ⁾      (n_out,)
        dβ = (1/m) · Σᵢ dN⁽ⁱ⁾             (n_out,)
        dZ                                (m, n_out), as `normalization.backward` says

    Returns:
        dγ, dβ and dZ.
    """
    m = len(dN)
    dgamma = np.sum(dN * normalized.Z_hat, axis=0) / m
    dbeta = np.sum(dN, axis=0) / m
    return dgamma, dbeta, normalization.backward(dN, normalized)
