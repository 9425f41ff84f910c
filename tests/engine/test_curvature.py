"""H·v against a dense Hessian by finite differences; its largest eigenvalue and trace against those of the matrix."""

import numpy as np
import pytest

from chainrule.engine import ACTIVATIONS, ConfigError, LayerSpec, Network, NetworkSpec, activation, cost, dense
from chainrule.engine import curvature as module
from chainrule.engine.arrays import FloatArray
from chainrule.engine.curvature import check, hessian_product, largest, trace
from chainrule.engine.network import backward, forward
from chainrule.engine.regularization import of_weights
from tests.engine.problems import FITTING, PROBLEMS, Problem

SMALL = [Problem((3, 4, 2), hidden, "linear", "mse") for hidden in ACTIVATIONS if not ACTIVATIONS[hidden].output_only]
OUTPUTS = [Problem((2, 3, 2), "tanh", output, cost_name) for output, cost_name in FITTING]
NORMALIZED = [
    Problem((3, 4, 2), hidden, output, cost_name, "layer")
    for hidden, output, cost_name in [
        ("tanh", "softmax", "cross_entropy"), ("silu", "linear", "mse"), ("relu", "sigmoid", "cross_entropy"),
    ]
] + [Problem((2, 3, 4, 2), "gelu", "linear", "huber", "layer")]  # fmt: skip
DEEP = [problem for problem in PROBLEMS if len(problem.sizes) > 4 and problem.normalization is None][::13]


def gradient(network: Network, cost_name: str, X: FloatArray, Y: FloatArray, weights: FloatArray | None) -> FloatArray:
    found = backward(forward(network, X), cost_name, Y, weights)
    G = Network(network.spec, np.zeros_like(network.parameters))
    for name, block in G.blocks.items():
        block[:] = found[f"d{name}"]
    return G.parameters


def dense_hessian(
    network: Network, cost_name: str, X: FloatArray, Y: FloatArray, weights: FloatArray | None = None
) -> FloatArray:
    """Differentiate the gradient by central differences, one parameter after another."""
    P, h = network.parameters, 1e-5
    columns = []
    for k in range(len(P)):
        sides = []
        for sign in (1, -1):
            moved = P.copy()
            moved[k] += sign * h
            sides.append(gradient(Network(network.spec, moved), cost_name, X, Y, weights))
        columns.append((sides[0] - sides[1]) / (2 * h))
    return np.array(columns).T


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_second_derivatives_of_activations_are_those_of_the_first(name: str) -> None:
    rng, g = np.random.default_rng(2), activation(name)
    Z = rng.normal(0, 2, (6, 5))
    Z[np.abs(Z) < 1e-3] = 0.5
    dA, RZ, h = rng.normal(size=Z.shape), rng.normal(size=Z.shape), 1e-6
    sides = [g.backward(dA, Z + r * RZ, g.forward(Z + r * RZ)) for r in (h, -h)]
    bent = g.bend(dA, Z, g.forward(Z), RZ)
    np.testing.assert_allclose(bent, (sides[0] - sides[1]) / (2 * h), rtol=1e-6, atol=1e-8)
    assert np.all(np.isfinite(g.bend(dA, Z * 1e3, g.forward(Z * 1e3), RZ)))
    columns = g.bend(dA.T, Z.T, g.forward(Z.T, 0), RZ.T, 0)
    np.testing.assert_allclose(columns.T, bent, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("output", "cost_name"), FITTING)
def test_second_derivatives_of_costs_are_those_of_the_first(output: str, cost_name: str) -> None:
    network, X, Y = Problem((3, 4), None, output, cost_name).make()
    last, g, found = forward(network, X)[-1], activation(output), cost(cost_name)
    RZ, h = np.random.default_rng(5).normal(size=last.Z.shape), 1e-6
    sides = [found.output_dZ(Z, g.forward(Z), Y, g) for Z in (last.Z + h * RZ, last.Z - h * RZ)]
    along = found.along(last.Z, last.A, Y, RZ, g)
    np.testing.assert_allclose(along, (sides[0] - sides[1]) / (2 * h), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("problem", [*SMALL, *OUTPUTS, *DEEP, *NORMALIZED], ids=str)
def test_products_are_those_of_the_dense_hessian(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    network, X, Y = problem.make()
    weights = np.linspace(0.5, 2, len(X))
    H = dense_hessian(network, problem.cost, X, Y, weights)
    scale = np.abs(H).max()
    np.testing.assert_allclose(H, H.T, atol=1e-6 * max(scale, 1e-3))
    monkeypatch.setattr(module, "EVALUATION_ROWS", 3)
    for k in range(3):
        v = np.random.default_rng(k).normal(size=len(H))
        found = hessian_product(network, problem.cost, X, Y, v, weights, l2=0.3)
        expected = H @ v + 0.3 * of_weights(network.spec, v.dtype) * v
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * max(scale, 1e-3))


def test_the_largest_eigenvalue_and_the_trace_are_those_of_the_hessian() -> None:
    problem = Problem((3, 5, 3), "tanh", "softmax", "cross_entropy")
    network, X, Y = problem.make(40)
    size = network.spec.parameter_count
    columns = [hessian_product(network, problem.cost, X, Y, unit) for unit in np.eye(size)]
    H = np.array(columns)
    np.testing.assert_allclose(H, H.T, atol=1e-12)

    def product(v: FloatArray) -> FloatArray:
        return hessian_product(network, problem.cost, X, Y, v)

    values = np.linalg.eigvalsh(H)
    for seed in range(3):
        found = largest(product, size, seed=seed)
        assert found.converged
        np.testing.assert_allclose(found.value, values[-1], rtol=1e-6)
        np.testing.assert_allclose(product(found.vector), found.value * found.vector, atol=1e-5)
        assert found.smallest >= values[0] - 1e-9
    estimate = trace(product, size, seed=1, probes=400)
    assert estimate.standard_error is not None
    assert abs(estimate.value - np.trace(H)) < 4 * estimate.standard_error
    assert trace(product, size, seed=1, probes=400) == estimate
    assert trace(product, size, probes=1).standard_error is None


@pytest.mark.parametrize("size", [1, 2, 30])
def test_lanczos_finds_the_largest_of_any_symmetric_matrix(size: int) -> None:
    rng = np.random.default_rng(size)
    M = rng.normal(size=(size, size))
    M = M + M.T
    found = largest(lambda v: M @ v, size, most=size)
    assert found.converged
    np.testing.assert_allclose(found.value, np.linalg.eigvalsh(M)[-1], rtol=1e-9)
    nothing = largest(np.zeros_like, size)
    assert (nothing.value, nothing.products, nothing.converged) == (0, 1, True)
    few = largest(lambda v: M @ v, size, most=1, tolerance=0.0)
    assert few.products == 1
    assert few.converged == (size == 1)
    broken = largest(lambda v: v * np.nan, size)
    assert not broken.converged


def test_what_has_no_second_derivatives_is_refused_by_name() -> None:
    check(dense(2, (3, "relu"), (1, "sigmoid")))
    with pytest.raises(ConfigError, match="l1"):
        check(dense(2, (1, "sigmoid")), l1=0.1)
    check(NetworkSpec(2, (LayerSpec(3, "tanh", None, 0.0, "layer"), LayerSpec(1, "sigmoid"))))
    normalizing = NetworkSpec(2, (LayerSpec(3, "tanh", None, 0.0, "batch"), LayerSpec(1, "sigmoid")))
    with pytest.raises(ConfigError, match="Layer 1 has batch normalization"):
        check(normalizing)
