"""Comparing gradients: each known mistake, made here by hand, is named; of right gradients nothing is said."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from chainrule.engine import ACTIVATIONS, UnknownNameError, backward, forward
from chainrule.engine.comparison import CLOSE, DIFFERENT, EXACT, MISTAKES, BlockComparison, compare
from tests.engine.problems import NORMALIZED, PROBLEMS, Problem

Array = NDArray[Any]
SHOWN = [p for p in PROBLEMS if p.sizes in ((4, 5, 3), (3, 5, 4, 6, 3)) and not p.normalization][::7] + NORMALIZED[::5]
TANH = Problem((4, 5, 5, 3), "tanh", "softmax", "cross_entropy")


def by_hand(problem: Problem, **wrong: Any) -> tuple[Any, Array, Array, dict[str, Array]]:
    """Go back through a network by the five equations, with something wrong if it is asked for."""
    network, X, Y = problem.make()
    W, b, L = network.W, network.b, len(problem.spec.layers)
    g = [ACTIVATIONS[layer.activation] for layer in problem.spec.layers]
    A: list[Array] = [X]
    Z: list[Array] = [X]
    for n in range(1, L + 1):
        Z.append(A[-1] @ W[n].T + b[n])
        A.append(g[n - 1].forward(Z[-1]))
    found: dict[str, Array] = {}
    dZ: Array = A[L] - Y
    if problem.cost == "mse" and not wrong.get("bare_output"):
        dZ = g[L - 1].backward(dZ, Z[L], A[L])
    if wrong.get("twice"):
        dZ = dZ * A[L] * (1 - A[L])
    for n in range(L, 0, -1):
        found[f"dW{n}"] = dZ.T @ (Z if wrong.get("before") else A)[n - 1] / len(X)
        found[f"db{n}"] = dZ.mean(axis=0)
        dA = dZ @ (W[n].T if wrong.get("turned") == n else W[n])
        if n > 1:
            missing, at_A = wrong.get("missing", ()), wrong.get("at_A", ())
            slope = g[n - 2].backward(np.ones_like(dA), Z[n - 1], A[n - 1])
            if n - 1 in at_A:
                slope = 1 - np.tanh(A[n - 1]) ** 2
            dZ = dA if n - 1 in missing else dA * slope
    return network, X, Y, found


def named(found: list[BlockComparison]) -> dict[str, tuple[str, ...]]:
    return {block.name: block.mistakes for block in found}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("training", [False, True], ids=["as used", "as in a step"])
@pytest.mark.parametrize("problem", SHOWN, ids=str)
def test_nothing_is_said_of_right_gradients(problem: Problem, training: bool, dtype: str) -> None:
    network, X, Y = problem.make(dtype=dtype)
    right = backward(forward(network, X, training=training), problem.cost, Y)
    blocks = {f"d{name}": right[f"d{name}"] for name in network.blocks}
    for block in compare(network, problem.cost, X, Y, blocks, training=training):
        assert (block.verdict, block.mistakes, block.factor) == (EXACT, (), None), block
    rng = np.random.default_rng(0)
    noise = {name: G * (1 + 1e-8 * rng.normal(size=G.shape)) for name, G in blocks.items()}
    for block in compare(network, problem.cost, X, Y, noise, training=training):
        assert block.verdict in (CLOSE, EXACT), block
        assert block.mistakes == ()


WHOLE: dict[str, Any] = {
    "summed": lambda G, m: G * m,
    "averaged_twice": lambda G, m: G / m,
    "doubled": lambda G, m: 2 * G,
    "halved": lambda G, m: G / 2,
    "sign_flipped": lambda G, m: -G,
    "outputs_averaged": lambda G, m: G * 2 / 3,
    "scaled": lambda G, m: G * 1.37,
    "per_sample": lambda G, m: np.stack([G * 0.5, *[G] * (m - 2), G * 1.5]),
    "zero": lambda G, m: np.zeros_like(G),
}


@pytest.mark.parametrize("mistake", WHOLE)
@pytest.mark.parametrize("problem", [TANH, *SHOWN[::4]], ids=str)
def test_a_factor_has_a_name(problem: Problem, mistake: str) -> None:
    network, X, Y = problem.make()
    right = backward(forward(network, X), problem.cost, Y)
    wrong = {f"d{name}": WHOLE[mistake](right[f"d{name}"], len(X)) for name in network.blocks}
    for block in compare(network, problem.cost, X, Y, wrong):
        assert (block.verdict, block.mistakes) == (DIFFERENT, (mistake,)), block
        assert block.sentence


def test_two_mistakes_on_top_of_each_other_are_both_named() -> None:
    network, X, Y, right = by_hand(TANH)
    found = compare(network, TANH.cost, X, Y, {name: -G * len(X) for name, G in right.items()})
    assert set(named(found).values()) == {("sign_flipped", "summed")}
    turned = compare(network, TANH.cost, X, Y, {"dW1": -right["dW1"].T, "dW2": -right["dW2"].T})
    assert named(turned) == dict.fromkeys(("dW1", "dW2"), ("transposed", "sign_flipped"))


@pytest.mark.parametrize(
    ("wrong", "mistake", "blocks"),
    [
        ({"missing": (2,)}, "slope_missing", ["dW1", "db1", "dW2", "db2"]),
        ({"missing": (1, 2)}, "slope_missing", ["dW1", "db1", "dW2", "db2"]),
        ({"missing": (1,)}, "slope_missing", ["dW1", "db1"]),
        ({"at_A": (1, 2)}, "slope_of_activation", ["dW1", "db1", "dW2", "db2"]),
        ({"twice": True}, "slope_twice", ["dW1", "db1", "dW2", "db2", "dW3", "db3"]),
        ({"before": True}, "before_activation", ["dW2", "dW3"]),
        ({"turned": 2}, "weights_transposed", ["dW1", "db1"]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_mistake_on_the_way_back_is_named_where_it_shows(wrong: Any, mistake: str, blocks: list[str]) -> None:
    network, X, Y, found = by_hand(TANH, **wrong)
    expected = {name: ((mistake,) if name in blocks else ()) for name in found}
    assert named(compare(network, TANH.cost, X, Y, found)) == expected


def test_a_missing_slope_at_the_output_is_named() -> None:
    problem = Problem((4, 5, 3), "tanh", "sigmoid", "mse")
    network, X, Y, found = by_hand(problem, bare_output=True)
    compared = compare(network, "mse", X, Y, found)
    assert set(named(compared).values()) == {("slope_missing",)}
    assert "in layer 2" in compared[0].sentence


def test_what_is_off_in_one_place_is_told_so() -> None:
    network, X, Y, right = by_hand(TANH)
    wrong = {name: G.copy() for name, G in right.items()}
    wrong["dW1"][2] *= 3
    wrong["dW2"][:, 1] = 0
    wrong["dW3"][1, 4] += 1
    wrong["db1"][3] = 7
    found = {block.name: block for block in compare(network, TANH.cost, X, Y, wrong)}
    assert found["dW1"].mistakes == ("one_row",)
    assert "row 2" in found["dW1"].sentence
    assert found["dW2"].mistakes == ("one_column",)
    assert found["dW3"].mistakes == found["db1"].mistakes == ("one_entry",)
    worst = found["dW3"].worst
    assert worst is not None
    assert worst.index == (1, 4)
    assert np.isclose(worst.theirs - worst.ours, 1)


def test_shapes_blocks_penalties_and_infinities_are_told_apart() -> None:
    network, X, Y, right = by_hand(TANH)
    wrong = {
        "dW1": right["dW1"] + 0.01 * network.W[1],
        "db1": right["db2"],
        "dW2": right["dW2"].T,
        "db2": right["db2"][:, None],
        "dW3": right["dW3"][:2],
        "db3": right["db3"] * [1, np.nan, 1],
    }
    found = {block.name: block for block in compare(network, TANH.cost, X, Y, wrong)}
    assert {name: block.mistakes for name, block in found.items()} == {
        "dW1": ("penalty",), "db1": ("another_block",), "dW2": ("transposed",), "db2": ("shape",),
        "dW3": ("wrong_shape",), "db3": ("not_finite",),
    }  # fmt: skip
    factor = found["dW1"].factor
    assert factor is not None
    assert np.isclose(factor, 0.01)
    assert found["db3"].worst is not None
    assert found["db3"].worst.index == (1,)


def test_weights_left_out_and_other_statistics_are_named() -> None:
    network, X, Y, right = by_hand(TANH)
    weights = np.linspace(0.5, 2, len(X))
    assert set(named(compare(network, TANH.cost, X, Y, right, weights)).values()) == {("unweighted",)}
    problem = next(p for p in NORMALIZED if p.normalization == "batch")
    network, X, Y = problem.make()
    used = backward(forward(network, X), problem.cost, Y)
    found = compare(network, problem.cost, X, Y, {"dW1": used["dW1"], "dgamma1": used["dgamma1"]}, training=True)
    assert set(named(found).values()) == {("statistics",)}


def test_nonsense_is_unknown_and_every_mistake_says_something() -> None:
    network, X, Y, right = by_hand(TANH)
    rng = np.random.default_rng(1)
    found = compare(network, TANH.cost, X, Y, {name: rng.normal(size=G.shape) for name, G in right.items()})
    assert set(named(found).values()) == {("unknown",)}
    assert all(sentence.endswith(".") for sentence in MISTAKES.values())
    with pytest.raises(UnknownNameError, match="dW9"):
        compare(network, TANH.cost, X, Y, {"dW9": np.zeros(1)})
