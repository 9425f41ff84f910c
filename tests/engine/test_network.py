import numpy as np
import pytest

from chainrule.engine import (
    ACTIVATIONS,
    COSTS,
    ConfigError,
    LayerSpec,
    Network,
    NetworkSpec,
    ShapeError,
    backward,
    dense,
    evaluate,
    forward,
    initialize,
    predict,
)
from chainrule.engine.arrays import FloatArray
from chainrule.engine.network import EVALUATION_ROWS, classify, mean_cost
from chainrule.engine.normalization import NORMALIZATIONS
from tests.engine.problems import DEEP, PROBLEMS, SAMPLES, Problem

every_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=str)
some_problems = pytest.mark.parametrize("problem", PROBLEMS[::5], ids=str)
H = 1e-5


def numeric_gradient(network: Network, problem: Problem, X: FloatArray, Y: FloatArray, moved: FloatArray) -> FloatArray:
    """Take central differences of the cost while moving each entry of `moved`, in place."""
    gradient = np.empty_like(moved)
    for index in np.ndindex(moved.shape):
        kept = moved[index]
        moved[index] = kept + H
        above = mean_cost(network, problem.cost, X, Y)
        moved[index] = kept - H
        below = mean_cost(network, problem.cost, X, Y)
        moved[index] = kept
        gradient[index] = (above - below) / (2 * H)
    return gradient


def relative_error(analytic: FloatArray, numeric: FloatArray) -> float:
    scale = float(np.linalg.norm(analytic) + np.linalg.norm(numeric))
    return float(np.linalg.norm(analytic - numeric)) / scale if scale > 1e-9 else 0.0


def test_every_registered_activation_and_cost_is_in_the_list_of_problems() -> None:
    hidden, outputs = {problem.hidden for problem in PROBLEMS}, {problem.output for problem in PROBLEMS}
    assert outputs == set(ACTIVATIONS)
    assert hidden - {None} == {name for name, found in ACTIVATIONS.items() if not found.output_only}
    assert {problem.cost for problem in PROBLEMS} == set(COSTS)
    assert {problem.normalization for problem in PROBLEMS} == {None, *NORMALIZATIONS}
    for name, found in COSTS.items():
        assert {problem.output for problem in PROBLEMS if problem.cost == name} == set(found.fits)


@every_problem
def test_gradients_equal_central_differences(problem: Problem) -> None:
    network, X, Y = problem.make()
    analytic = backward(forward(network, X), problem.cost, Y)
    numeric = numeric_gradient(network, problem, X, Y, network.parameters)
    moved = Network(network.spec, numeric)
    for name, block in moved.blocks.items():
        assert relative_error(analytic[f"d{name}"], block) <= 1e-6


@every_problem
def test_da0_is_the_gradient_of_each_samples_error_with_respect_to_its_input(problem: Problem) -> None:
    network, X, Y = problem.make()
    analytic = backward(forward(network, X), problem.cost, Y)["dA0"]
    numeric = SAMPLES * numeric_gradient(network, problem, X, Y, X)  # C is a mean: its gradient has the 1/m
    assert relative_error(analytic, numeric) <= 1e-6


def test_one_step_worked_by_hand() -> None:
    # Two inputs, two relu units, one linear unit; two samples.
    #
    #   W1 = [1 −1]  b1 = [ 0]     W2 = [1 2]  b2 = [1]     X = [1 2]  Y = [ 2]
    #        [2  0]       [−1]                                  [2 1]      [10]
    network = Network(dense(2, (2, "relu"), (1, "linear")), np.array([1.0, -1, 0, 2, 0, -1, 1, 2, 1]))
    X, Y = [[1, 2], [2, 1]], [[2], [10]]
    first, second = forward(network, X)

    # Z1 = X·W1ᵀ + b1: sample 1 (1−2, 2−1) = (−1, 1), sample 2 (2−1, 4−1) = (1, 3); relu cuts the −1 off
    np.testing.assert_array_equal(first.Z, [[-1, 1], [1, 3]])
    np.testing.assert_array_equal(first.A, [[0, 1], [1, 3]])
    # Z2 = A1·W2ᵀ + b2: 0 + 2 + 1 = 3 and 1 + 6 + 1 = 8
    np.testing.assert_array_equal(second.A, [[3], [8]])
    # E = ½(2−3)² = 0.5 and ½(10−8)² = 2; their mean
    assert mean_cost(network, "mse", X, Y) == 1.25

    G = backward([first, second], "mse", Y)
    np.testing.assert_array_equal(G["dA2"], [[1], [-2]])  # A2 − Y
    np.testing.assert_array_equal(G["dZ2"], [[1], [-2]])  # linear: g′ = 1
    np.testing.assert_array_equal(G["dW2"], [[-1, -2.5]])  # ½·(1·(0, 1) − 2·(1, 3)) = ½·(−2, −5)
    np.testing.assert_array_equal(G["db2"], [-0.5])  # ½·(1 − 2)
    np.testing.assert_array_equal(G["dA1"], [[1, 2], [-2, -4]])  # dZ2·W2
    np.testing.assert_array_equal(G["dZ1"], [[0, 2], [-2, -4]])  # unit 1 was off for sample 1
    np.testing.assert_array_equal(G["dW1"], [[-2, -1], [-3, 0]])  # ½·(0·(1,2) − 2·(2,1)); ½·(2·(1,2) − 4·(2,1))
    np.testing.assert_array_equal(G["db1"], [-1, -1])  # ½·(0 − 2), ½·(2 − 4)
    np.testing.assert_array_equal(G["dA0"], [[4, 0], [-10, 2]])  # 2·(2, 0); −2·(1, −1) − 4·(2, 0)


@some_problems
def test_the_order_of_samples_changes_neither_cost_nor_gradient(problem: Problem) -> None:
    network, X, Y = problem.make()
    order = np.random.default_rng(0).permutation(SAMPLES)
    assert mean_cost(network, problem.cost, X[order], Y[order]) == pytest.approx(
        mean_cost(network, problem.cost, X, Y), rel=1e-13
    )
    one, other = (backward(forward(network, X[rows]), problem.cost, Y[rows]) for rows in (slice(None), order))
    for number in network.W:
        for name in (f"dW{number}", f"db{number}"):
            np.testing.assert_allclose(other[name], one[name], rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(other[f"dZ{number}"], one[f"dZ{number}"][order], rtol=1e-11, atol=1e-14)


@some_problems
def test_seeing_each_sample_twice_changes_neither_cost_nor_gradient(problem: Problem) -> None:
    network, X, Y = problem.make()
    twice = np.concatenate([X, X]), np.concatenate([Y, Y])
    assert mean_cost(network, problem.cost, *twice) == pytest.approx(mean_cost(network, problem.cost, X, Y), rel=1e-13)
    one, other = (
        backward(forward(network, X), problem.cost, Y),
        backward(forward(network, twice[0]), problem.cost, twice[1]),
    )
    for number in network.W:
        for name in (f"dW{number}", f"db{number}"):
            np.testing.assert_allclose(other[name], one[name], rtol=1e-11, atol=1e-14)


def test_backward_gives_every_gradient_in_its_shape() -> None:
    network, X, Y = Problem(DEEP, "tanh", "softmax", "cross_entropy").make()
    G = backward(forward(network, X), "cross_entropy", Y)
    expected: dict[str, tuple[int, ...]] = {f"dA{number}": (SAMPLES, units) for number, units in enumerate(DEEP)}
    for number in range(1, len(DEEP)):
        expected |= {
            f"dZ{number}": (SAMPLES, DEEP[number]),
            f"dW{number}": (DEEP[number], DEEP[number - 1]),
            f"db{number}": (DEEP[number],),
        }
    assert {name: gradient.shape for name, gradient in G.items()} == expected


def test_weights_and_biases_are_views_into_one_vector() -> None:
    network = initialize(dense(3, (4, "relu"), (2, "softmax")), 0)
    assert network.parameters.size == network.spec.parameter_count == 4 * (3 + 1) + 2 * (4 + 1)
    network.parameters[:] = 0
    network.W[2][1, 3], network.b[1][2] = 5, 7
    assert sorted(network.parameters[network.parameters != 0]) == [5, 7]
    assert all(np.shares_memory(view, network.parameters) for view in (*network.W.values(), *network.b.values()))


def test_a_network_comes_back_from_its_named_arrays_and_shares_nothing() -> None:
    network, *_ = Problem(DEEP, "relu", "softmax", "mse").make()
    named = network.named()
    assert list(named) == [f"{symbol}{number}" for number in range(1, 5) for symbol in "Wb"]
    again = Network.from_named(network.spec, named)
    assert again.parameters.tobytes() == network.parameters.tobytes()
    assert not any(np.shares_memory(array, network.parameters) for array in named.values())


def test_named_arrays_that_do_not_fit_are_refused() -> None:
    network = initialize(dense(3, (4, "relu"), (2, "softmax")), 0)
    named = network.named()
    with pytest.raises(ShapeError, match=r"b2 must have shape \(2,\)"):
        Network.from_named(network.spec, {name: array for name, array in named.items() if name != "b2"})
    with pytest.raises(ShapeError, match=r"W1 must have shape \(4, 3\)"):
        Network.from_named(network.spec, named | {"W1": named["W1"].T})
    with pytest.raises(ShapeError, match="has 26 parameters"):
        Network(network.spec, np.zeros(25))


@pytest.mark.parametrize(
    ("inputs", "layers", "field"),
    [
        (0, (LayerSpec(1, "relu"),), "network/inputs"),
        (2, (), "network/layers"),
        (2, (LayerSpec(1, "relu"), LayerSpec(0, "relu")), "network/layers/1/units"),
        (2, (LayerSpec(1, "swish"),), "network/layers/0/activation"),
        (2, (LayerSpec(3, "softmax"), LayerSpec(3, "relu")), "network/layers/0/activation"),
        (2, (LayerSpec(3, "relu"), LayerSpec(1, "softmax")), "network/layers/1/units"),
        (2, (LayerSpec(3, "relu", "magic"),), "network/layers/0/initializer"),
        (2, (LayerSpec(3, "relu", normalization="group"), LayerSpec(1, "linear")), "network/layers/0/normalization"),
        (2, (LayerSpec(1, "relu", normalization="layer"), LayerSpec(1, "linear")), "network/layers/0/normalization"),
        (2, (LayerSpec(3, "relu", normalization="batch"),), "network/layers/0/normalization"),
    ],
)
def test_a_shape_that_makes_no_sense_is_refused_with_the_field(
    inputs: int, layers: tuple[LayerSpec, ...], field: str
) -> None:
    with pytest.raises(ValueError) as refusal:
        NetworkSpec(inputs, layers)
    assert getattr(refusal.value, "field", None) == field


def test_batches_that_do_not_fit_are_refused() -> None:
    network = initialize(dense(3, (2, "softmax")), 0)
    with pytest.raises(ShapeError, match="takes 3 values a sample"):
        forward(network, np.zeros((5, 4)))
    with pytest.raises(ShapeError, match="Y has shape"):
        backward(forward(network, np.zeros((5, 3))), "mse", np.zeros((5, 1)))
    with pytest.raises(ShapeError, match="at least one"):
        backward(forward(network, np.zeros((0, 3))), "mse", np.zeros((0, 2)))
    with pytest.raises(ConfigError):
        NetworkSpec(3, ())


def test_classes_are_the_largest_unit_or_one_unit_above_one_half() -> None:
    np.testing.assert_array_equal(classify(np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]), 3), [1, 0])
    np.testing.assert_array_equal(classify(np.array([[0.4], [0.6], [0.5]]), 2), [0, 1, 0])
    stacked = np.array([[[0.1, 0.5], [0.7, 0.2], [0.2, 0.3]]])  # units along axis 1, samples along the last
    np.testing.assert_array_equal(classify(stacked, 3), [[1, 0]])


def test_evaluating_many_samples_in_parts_equals_evaluating_them_at_once() -> None:
    network = initialize(dense(2, (3, "softmax")), 0, "float64")
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(2 * EVALUATION_ROWS + 100, 2)), rng.integers(0, 3, 2 * EVALUATION_ROWS + 100)
    Y = np.eye(3)[labels]
    found, error = evaluate(network, "cross_entropy", X, Y, labels, 3)
    assert found == pytest.approx(mean_cost(network, "cross_entropy", X, Y), rel=1e-12)
    assert error == np.mean(np.argmax(predict(network, X), axis=1) != labels)
    assert evaluate(network, "mse", X, Y, None, 0)[1] is None
