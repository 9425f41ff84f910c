"""Curvature: the cost's second derivatives with respect to all parameters, H = ∂²C/∂θ², and no more of it than H·v.

The R-operator R{·} = d/dr (·) at θ + r·v, r = 0, turns each step of the forward and the backward pass into one for how
it changes along v = (V[1], c[1], V[2], …); the directions of W[l] are V[l], those of b[l] are c[l]:

    R{Z[l]}    = R{A[l-1]}·W[l]ᵀ + A[l-1]·V[l]ᵀ + c[l],           R{A[0]} = 0
    R{A[l]}    = g′(Z[l]) ⊙ R{Z[l]}
    R{dZ[L]}   = (∂²E/∂Z[L]²)·R{Z[L]}                              of each sample
    R{dA[l-1]} = R{dZ[l]}·W[l] + dZ[l]·V[l]
    R{dZ[l]}   = R{dA[l]} ⊙ g′(Z[l]) + dA[l] ⊙ g″(Z[l]) ⊙ R{Z[l]}
    R{dW[l]}   = (1/m)·(R{dZ[l]}ᵀ·A[l-1] + dZ[l]ᵀ·R{A[l-1]})       the part of H·v for W[l]
    R{db[l]}   = (1/m)·Σᵢ R{dZ[l]⁽ⁱ⁾}

Where a layer normalizes over its units, g is of N[l], whose own steps are those of `normalization.along` and `bend`;
γ and β are parameters like others. It is exact, and takes about twice as long as the gradient. λ_max is found by the
Lanczos method, tr H as the mean of vᵀ·H·v over vectors of random signs. Plain gradient descent over all samples is
stable where λ_max < 2/η. With l2 its penalty belongs to what is made smaller: H + λ₂ at the weights. Of activations
with a kink g″ is 0, which is so everywhere but at the kink.

Sources: Pearlmutter (1994), "Fast exact multiplication by the Hessian"; Lanczos (1950), with all vectors kept
orthogonal; Hutchinson (1990); Cohen, Kaur, Li, Kolter and Talwalkar (2021), "Gradient descent on neural networks
typically occurs at the edge of stability".
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chainrule.engine import normalization
from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray, generator
from chainrule.engine.costs import cost
from chainrule.engine.errors import ConfigError
from chainrule.engine.network import EVALUATION_ROWS, Network, NetworkSpec, backward, forward
from chainrule.engine.regularization import of_weights

TOLERANCE = 1e-6
"""λ_max is good enough where what is left over of H·v = λ·v is so small a part of the eigenvalue farthest from 0."""
Product = Callable[[FloatArray], FloatArray]


def check(spec: NetworkSpec, *, l1: float = 0.0) -> None:
    """Refuse where what is made smaller has no second derivatives, or not those of a function of θ alone.

    Raises:
        ConfigError: by name.
    """
    if l1 > 0:
        raise ConfigError("l1 has no second derivative where a weight is 0, and there it holds them.", "l1")
    for place, layer in enumerate(spec.layers):
        if layer.normalization == "batch":
            raise ConfigError(
                f"Layer {place + 1} has batch normalization: what training makes smaller depends on each batch's μ and "
                "σ², and is no function of the parameters and single samples.",
                f"network/layers/{place}/normalization",
            )


def hessian_product(
    network: Network,
    cost_name: str,
    X: FloatArray,
    Y: FloatArray,
    v: FloatArray,
    weights: FloatArray | None = None,
    *,
    l2: float = 0.0,
) -> FloatArray:
    """Multiply H by a vector, over samples that are taken block by block.

    Args:
        network: in float64 for all digits.
        cost_name: of the cost.
        X: (m, n_0) samples.
        Y: (m, n_L) targets.
        v: (p,) in the order of the network's parameters.
        weights: (m,) how much each sample's error counts; None where all count 1.
        l2: λ₂ of the penalty.

    Returns:
        H·v, (p,).

    Raises:
        ConfigError: the network has batch normalization.
    """
    check(network.spec)
    total = v * of_weights(network.spec, v.dtype) * l2
    for start in range(0, len(X), EVALUATION_ROWS):
        rows = slice(start, start + EVALUATION_ROWS)
        w = None if weights is None else weights[rows]
        total += _of_block(network, cost_name, X[rows], Y[rows], v, w) * (len(X[rows]) / len(X))
    return total


def _of_block(
    network: Network, cost_name: str, X: FloatArray, Y: FloatArray, v: FloatArray, weights: FloatArray | None
) -> FloatArray:
    m, L = len(X), len(network.spec.layers)
    direction = Network(network.spec, v)
    caches = forward(network, X)
    back = backward(caches, cost_name, Y, weights)
    RA, RZ, RN = {0: np.zeros_like(caches[0].A_prev)}, dict[int, FloatArray](), dict[int, FloatArray]()
    RZ_hat = dict[int, FloatArray]()
    for number, cache in enumerate(caches, start=1):
        RZ[number] = RA[number - 1] @ cache.W.T + cache.A_prev @ direction.W[number].T + direction.b[number]
        RN[number] = RZ[number]
        if (normalized := cache.normalized) is not None:
            RZ_hat[number] = normalization.along(RZ[number], normalized)
            Rgamma, Rbeta = direction.blocks[f"gamma{number}"], direction.blocks[f"beta{number}"]
            RN[number] = normalized.gamma * RZ_hat[number] + Rgamma * normalized.Z_hat + Rbeta
        if number < L:
            RA[number] = activation(cache.activation).backward(RN[number], cache.N, cache.A)
    last = caches[-1]
    RdZ = cost(cost_name).along(last.Z, last.A, Y.astype(last.A.dtype), RZ[L], activation(last.activation))
    if weights is not None:
        RdZ = weights.astype(RdZ.dtype)[:, None] * RdZ
    product = np.zeros_like(v)
    found = Network(network.spec, product)
    for number in range(L, 0, -1):
        cache, dZ = caches[number - 1], back[f"dZ{number}"]
        found.W[number][:] = (RdZ.T @ cache.A_prev + dZ.T @ RA[number - 1]) / m
        found.b[number][:] = np.sum(RdZ, axis=0) / m
        if number == 1:
            break
        RdA, number_below, below = RdZ @ cache.W + dZ @ direction.W[number], number - 1, caches[number - 2]
        g, dA = activation(below.activation), back[f"dA{number_below}"]
        RdZ = g.backward(RdA, below.N, below.A) + g.bend(dA, below.N, below.A, RN[number_below])
        if (normalized := below.normalized) is not None:
            dN, RdN = back[f"dN{number_below}"], RdZ
            changed = RdN * normalized.Z_hat + dN * RZ_hat[number_below]
            found.blocks[f"gamma{number_below}"][:] = np.sum(changed, axis=0) / m
            found.blocks[f"beta{number_below}"][:] = np.sum(RdN, axis=0) / m
            Rgamma = direction.blocks[f"gamma{number_below}"]
            RdZ = normalization.bend(dN, RdN, RZ[number_below], RZ_hat[number_below], Rgamma, normalized)
    return product


@dataclass(frozen=True)
class Largest:
    """The largest eigenvalue of H.

    Attributes:
        value: λ_max.
        smallest: the smallest eigenvalue of what H looks like to as many products: an upper bound of H's own.
        vector: (p,) its direction, of length 1.
        products: how many H·v it took.
        residual: ‖H·v − λ·v‖/max(|λ_max|, |smallest|), how far it is from being exact; 0 of H = 0.
        converged: whether that is below the tolerance.
    """

    value: float
    smallest: float
    vector: FloatArray
    products: int
    residual: float
    converged: bool


def largest(product: Product, size: int, *, seed: int = 0, most: int = 40, tolerance: float = TOLERANCE) -> Largest:
    """Find the largest eigenvalue of a symmetric matrix by the Lanczos method.

        H·q_k = β_{k−1}·q_{k−1} + α_k·q_k + β_k·q_{k+1},  q_1 at random

    The eigenvalues of the tridiagonal matrix of α and β are H's, the outermost soonest.

    Args:
        product: v to H·v.
        size: p.
        seed: of q_1.
        most: products.
        tolerance: of the residual.
    """
    start = generator(seed, "lanczos").standard_normal(size)
    basis = [start / np.linalg.norm(start)]
    alphas, betas = list[float](), list[float]()
    while True:
        q = basis[-1]
        r = product(q).astype(np.float64)
        alphas.append(float(q @ r))
        # Twice, for all digits: what is not orthogonal grows.
        for _ in range(2):
            for other in basis:
                r = r - (other @ r) * other
        beta = float(np.linalg.norm(r))
        T = np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1)
        if not np.all(np.isfinite(T)):
            nan = float("nan")
            return Largest(nan, nan, q, len(alphas), nan, converged=False)
        values, vectors = np.linalg.eigh(T)
        value, residual = float(values[-1]), abs(beta * float(vectors[-1, -1]))
        scale = max(abs(float(values[0])), abs(value))
        relative = residual / scale if scale > 0 else 0.0
        exhausted = beta <= scale * size * np.finfo(np.float64).eps
        if relative <= tolerance or exhausted or len(alphas) >= min(most, size):
            vector = np.sum([c * q for c, q in zip(vectors[:, -1], basis, strict=True)], axis=0)
            done = relative <= tolerance or exhausted or len(alphas) == size
            return Largest(value, float(values[0]), vector, len(alphas), relative, converged=bool(done))
        betas.append(beta)
        basis.append(r / beta)


@dataclass(frozen=True)
class Trace:
    """tr H, estimated: the mean of vᵀ·H·v over so many vectors, and its standard error, None of a single one."""

    value: float
    standard_error: float | None
    probes: int


def trace(product: Product, size: int, *, seed: int = 0, probes: int = 20) -> Trace:
    """Estimate the trace of a symmetric matrix by vectors of random signs.

    Args:
        product: v to H·v.
        size: p.
        seed: of the signs.
        probes: how many vectors.
    """
    rng = generator(seed, "hutchinson")
    found = []
    for _ in range(probes):
        v = rng.integers(0, 2, size) * 2.0 - 1
        found.append(float(v @ product(v)))
    error = None if probes == 1 else float(np.std(found, ddof=1)) / probes**0.5
    return Trace(float(np.mean(found)), error, probes)
