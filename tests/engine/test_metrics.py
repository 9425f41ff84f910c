"""Metrics against numbers worked by hand, and against plain loops over the samples."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.engine import Data, ShapeError, dense, digits, evaluate, initialize, predict, targets, xor
from chainrule.engine import metrics as module
from chainrule.engine.arrays import FloatArray
from chainrule.engine.metrics import (
    Classification,
    Macro,
    MultiLabel,
    Regression,
    Scores,
    classification,
    measure,
    multi_label,
    regression,
)
from chainrule.engine.network import mean_cost

seeds = st.integers(0, 2**32 - 1)


def one_hot(predicted: list[int], classes: int) -> FloatArray:
    """Make outputs that say these classes."""
    return np.eye(classes)[predicted]


def cut(A: FloatArray, truth: Any, places: list[int]) -> Iterator[tuple[FloatArray, Any]]:
    """Cut outputs and truth into blocks."""
    yield from zip(np.split(A, places), np.split(truth, places), strict=True)


def harmonic_mean(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_three_classes_worked_by_hand() -> None:
    # actual     a a a a  b b b  c c
    # predicted  a a a b  b c a  c c
    #
    #      a b c   support            precision        recall   F1 = 2·hits / (predicted + support)
    #  a   3 1 0   4                  3/4              3/4      6/8
    #  b   1 1 1   3                  1/2              1/3      2/5
    #  c   0 0 2   2                  2/3              2/2      4/5
    # predicted:  4 2 3; wrong: 3 of 9
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    found = classification([(one_hot([0, 0, 0, 1, 1, 2, 0, 2, 2], 3), labels)], ("a", "b", "c"))
    assert found.samples == 9
    assert found.error == 3 / 9
    assert found.confusion_matrix.tolist() == [[3, 1, 0], [1, 1, 1], [0, 0, 2]]
    assert found.classes == (
        Scores("a", 4, 4, 3 / 4, 3 / 4, 6 / 8),
        Scores("b", 3, 2, 1 / 2, 1 / 3, 2 / 5),
        Scores("c", 2, 3, 2 / 3, 2 / 2, 4 / 5),
    )
    assert found.macro.precision == pytest.approx((9 + 6 + 8) / 36)  # 23/36, as 3/4 + 1/2 + 2/3 over 3
    assert found.macro.recall == pytest.approx((9 + 4 + 12) / 36)
    assert found.macro.f1 == pytest.approx((15 + 8 + 16) / 60)


def test_what_is_divided_by_nothing_is_undefined_and_left_out_of_the_means() -> None:
    # b never occurs and is predicted once; c occurs once and is never predicted; d is in neither
    found = classification([(one_hot([0, 1, 0], 4), np.array([0, 0, 2]))], ("a", "b", "c", "d"))
    assert found.classes == (
        Scores("a", 2, 2, 1 / 2, 1 / 2, 1 / 2),
        Scores("b", 0, 1, 0.0, None, 0.0),
        Scores("c", 1, 0, None, 0.0, 0.0),
        Scores("d", 0, 0, None, None, None),
    )
    assert found.macro == Macro(1 / 4, 1 / 4, 1 / 6)


def test_one_unit_tells_two_classes_at_one_half() -> None:
    A = np.array([[0.2], [0.5], [0.51], [0.9]])
    found = classification([(A, np.array([0, 1, 1, 0]))], ("no", "yes"))
    assert found.confusion_matrix.tolist() == [[1, 1], [1, 1]]
    assert found.error == 0.5


@given(seeds, st.integers(2, 6), st.integers(1, 40), st.integers(0, 40))
def test_classes_are_counted_as_a_loop_over_the_samples_would(seed: int, classes: int, m: int, place: int) -> None:
    rng = np.random.default_rng(seed)
    labels, A = rng.integers(0, classes, m), rng.normal(size=(m, classes))
    found = classification(cut(A, labels, [min(place, m)]), tuple(map(str, range(classes))))
    told = [row.index(max(row)) for row in A.tolist()]
    assert found.error == pytest.approx(sum(told[i] != labels[i] for i in range(m)) / m)
    for j, scores in enumerate(found.classes):
        hits = sum(told[i] == labels[i] == j for i in range(m))
        said, has = told.count(j), labels.tolist().count(j)
        assert (scores.predicted, scores.support) == (said, has)
        assert scores.precision == (hits / said if said else None)
        assert scores.recall == (hits / has if has else None)
        for k in range(classes):
            assert found.confusion_matrix[j, k] == sum(labels[i] == j and told[i] == k for i in range(m))
        if scores.precision is not None and scores.recall is not None:
            assert scores.f1 == pytest.approx(harmonic_mean(scores.precision, scores.recall))


def test_labels_worked_by_hand() -> None:
    # y   1 0 1    a  .9 .1 .2
    #     0 0 1       .8 .4 .7
    #     1 0 0       .6 .5 .1
    #     1 0 0       .3 .2 .4
    # y1: TP 2, FP 1, FN 1; y2: never there, never said; y3: TP 1, FP 0, FN 1
    Y = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0]])
    A = np.array([[0.9, 0.1, 0.2], [0.8, 0.4, 0.7], [0.6, 0.5, 0.1], [0.3, 0.2, 0.4]])
    found = multi_label([(A, Y)])
    assert found.samples == 4
    assert found.error == 3 / 4  # all but the third
    assert found.label_error == pytest.approx(3 / 12)
    assert [scores.name for scores in found.labels] == ["y1", "y2", "y3"]
    assert [scores.error for scores in found.labels] == [2 / 4, 0.0, 1 / 4]
    assert [(s.support, s.predicted) for s in found.labels] == [(3, 3), (0, 0), (2, 1)]
    assert [s.precision for s in found.labels] == [2 / 3, None, 1.0]
    assert [s.recall for s in found.labels] == [2 / 3, None, 1 / 2]
    assert [s.f1 for s in found.labels] == [4 / 6, None, 2 / 3]
    assert found.macro == Macro((2 / 3 + 1) / 2, (2 / 3 + 1 / 2) / 2, 2 / 3)


@given(seeds, st.integers(1, 5), st.integers(1, 40), st.integers(0, 40))
def test_labels_are_counted_as_a_loop_over_the_samples_would(seed: int, k: int, m: int, place: int) -> None:
    rng = np.random.default_rng(seed)
    Y, A = rng.integers(0, 2, (m, k)).astype(float), rng.random((m, k))
    found = multi_label(cut(A, Y, [min(place, m)]))
    wrong = [[(A[i, j] > 0.5) != (Y[i, j] == 1) for j in range(k)] for i in range(m)]
    assert found.error == pytest.approx(sum(map(any, wrong)) / m)
    assert found.label_error == pytest.approx(sum(map(sum, wrong)) / (m * k))
    for j, scores in enumerate(found.labels):
        one = classification([(np.column_stack([1 - A[:, j], A[:, j]]), Y[:, j].astype(np.int64))], ("0", "1"))
        assert (scores.precision, scores.recall, scores.f1, scores.error) == pytest.approx(
            (one.classes[1].precision, one.classes[1].recall, one.classes[1].f1, one.error)
        )


def test_a_regression_worked_by_hand() -> None:
    # y1 = 1 2 3 6, mean 3, Σ(y − ȳ)² = 4 + 1 + 0 + 9 = 14; a − y = 1 0 0 −1: Σ² = 2, Σ|·| = 2
    # y2 = 5 5 5 5 does not vary;                              a − y = 0 3 0 0: Σ² = 9, Σ|·| = 3
    Y = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [6.0, 5.0]])
    A = Y + np.array([[1.0, 0.0], [0.0, 3.0], [0.0, 0.0], [-1.0, 0.0]])
    found = regression([(A, Y)])
    one, other = found.targets
    assert (one.name, one.rmse, one.mae) == ("y1", math.sqrt(2 / 4), 2 / 4)
    assert one.r2 == pytest.approx(1 - 2 / 14)
    assert (other.name, other.rmse, other.mae, other.r2) == ("y2", 1.5, 3 / 4, None)
    assert (found.samples, found.rmse, found.mae) == (4, math.sqrt(11 / 8), 5 / 8)
    assert found.r2 == pytest.approx(1 - 11 / 14)


def test_r2_is_1_where_exact_0_for_the_mean_and_negative_for_worse() -> None:
    Y = np.array([[1.0], [2.0], [6.0]])
    found = [regression([(A, Y)]).r2 for A in (Y, np.full((3, 1), 3.0), -Y)]
    assert found[:2] == [1.0, 0.0]
    assert found[2] is not None
    assert found[2] < 0


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.1, -3.7e-5])
def test_a_target_that_does_not_vary_has_no_r2_whatever_rounding_makes_of_its_mean(value: float) -> None:
    Y = np.full((1001, 1), value)
    found = regression(cut(Y + 1, Y, [3, 400, 700]))
    assert found.r2 is None
    assert found.targets[0].r2 is None


@given(seeds, st.integers(1, 4), st.integers(1, 40), st.lists(st.integers(0, 40), max_size=3))
def test_a_regression_is_summed_as_a_loop_over_the_samples_would(seed: int, k: int, m: int, places: list[int]) -> None:
    rng = np.random.default_rng(seed)
    # Far from zero: sums of squares and of their means would cancel.
    Y = 1e6 * rng.normal(size=k) + rng.normal(size=(m, k))
    A = Y + rng.normal(size=(m, k))
    places = sorted({place for place in places if 0 < place < m})
    found = regression(cut(A, Y, places))
    off = [math.fsum((A[i, j] - Y[i, j]) ** 2 for i in range(m)) for j in range(k)]
    away = [math.fsum(abs(A[i, j] - Y[i, j]) for i in range(m)) for j in range(k)]
    means = [math.fsum(Y[:, j]) / m for j in range(k)]
    spread = [math.fsum((Y[i, j] - means[j]) ** 2 for i in range(m)) for j in range(k)]
    assert found.rmse == pytest.approx(math.sqrt(math.fsum(off) / (m * k)))
    assert found.mae == pytest.approx(math.fsum(away) / (m * k))
    if m == 1:
        assert found.r2 is None
    else:
        assert found.r2 == pytest.approx(1 - math.fsum(off) / math.fsum(spread), rel=1e-6)
    for j, scores in enumerate(found.targets):
        assert scores.rmse == pytest.approx(math.sqrt(off[j] / m))
        assert scores.mae == pytest.approx(away[j] / m)
        assert scores.r2 == (None if m == 1 else pytest.approx(1 - off[j] / spread[j], rel=1e-6))


def test_what_is_too_large_for_a_float_is_infinite_and_no_warning() -> None:
    found = regression([(np.array([[1e200], [0.0]]), np.array([[0.0], [1.0]]))])
    assert (found.rmse, found.r2) == (math.inf, -math.inf)
    assert found.mae == pytest.approx(5e199)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_is_measured_as_training_evaluates_it(dtype: str) -> None:
    data = digits()
    network = initialize(dense(64, (7, "tanh"), (10, "softmax")), 3, dtype)
    found = measure(network, "cross_entropy", data)
    assert isinstance(found, Classification)
    _, error = evaluate(network, "cross_entropy", data.X, targets(data, 10), data.labels, 10)
    assert found.error == error
    assert found.confusion_matrix.sum() == found.samples == 1797
    assert [scores.support for scores in found.classes] == np.bincount(data.labels, minlength=10).tolist()  # type: ignore[arg-type]


def test_how_many_rows_are_taken_at_once_changes_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    network = initialize(dense(64, (7, "tanh"), (10, "softmax")), 3, "float64")
    rows: list[int] = []

    def recorded(network: Any, X: FloatArray) -> FloatArray:
        rows.append(len(X))
        return predict(network, X)

    monkeypatch.setattr(module, "predict", recorded)
    whole = measure(network, "cross_entropy", digits())
    monkeypatch.setattr(module, "BLOCK_VALUES", 2 * (64 + 7 + 10) * 100)
    blocks = measure(network, "cross_entropy", digits())
    assert isinstance(whole, Classification)
    assert isinstance(blocks, Classification)
    assert rows == [1797, *[100] * 17, 97]
    assert blocks.confusion_matrix.tolist() == whole.confusion_matrix.tolist()
    assert blocks.classes == whole.classes


def test_the_kind_is_that_of_the_targets() -> None:
    X = np.random.default_rng(0).normal(size=(20, 3))
    numbers, labels = X[:, :2] * 3, (X[:, :2] > 0).astype(float)
    sigmoid, linear = (initialize(dense(3, (2, name)), 0) for name in ("sigmoid", "linear"))
    assert isinstance(measure(sigmoid, "binary_cross_entropy", Data(X, Y=labels)), MultiLabel)
    assert isinstance(measure(sigmoid, "binary_cross_entropy", Data(X, Y=labels / 2)), Regression)
    assert isinstance(measure(sigmoid, "mse", Data(X, Y=labels)), Regression)
    assert isinstance(measure(linear, "mse", Data(X, Y=labels)), Regression)
    assert isinstance(measure(linear, "mse", Data(X, Y=numbers)), Regression)
    assert isinstance(measure(initialize(dense(2, (1, "sigmoid")), 0), "cross_entropy", xor()), Classification)


def test_half_the_squared_rmse_of_one_target_is_the_mean_squared_error_cost() -> None:
    X = np.random.default_rng(1).normal(size=(50, 3))
    data = Data(X, Y=X[:, :1] - 2 * X[:, 1:2] ** 2)
    network = initialize(dense(3, (4, "tanh"), (1, "linear")), 2, "float64")
    found = measure(network, "mse", data)
    assert isinstance(found, Regression)
    assert found.rmse**2 / 2 == pytest.approx(mean_cost(network, "mse", X, data.Y))  # type: ignore[arg-type]


def test_outputs_and_targets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(3,\) and the targets \(2,\)"):
        classification([(np.zeros((3, 2)), np.array([0, 1]))], ("a", "b"))
    for function in (multi_label, regression):
        with pytest.raises(ShapeError, match=r"\(3, 2\) and the targets \(3, 1\)"):
            function([(np.zeros((3, 2)), np.zeros((3, 1)))])
        with pytest.raises(ShapeError, match="at least one sample"):
            function([])
    with pytest.raises(ShapeError, match="at least one sample"):
        classification([], ("a", "b"))
    with pytest.raises(ShapeError, match="10 classes and the output layer 3 units"):
        measure(initialize(dense(64, (3, "softmax")), 0), "cross_entropy", digits())


def test_every_metric_has_its_equation() -> None:
    for kind in (Classification, MultiLabel, Regression):
        fields = set(kind.__dataclass_fields__) - {"kind", "equations", "samples", "classes", "labels", "targets"}
        assert fields <= set(kind.equations)
    for kind in (Classification, MultiLabel):
        assert set(Scores.__dataclass_fields__) - {"name", "support", "predicted"} <= set(kind.equations)
