"""Preprocessing: fitted to training rows, applied the same everywhere."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from chainrule.engine import Data, EngineError, digits
from chainrule.engine.errors import ConfigError, ShapeError, UnknownNameError
from chainrule.engine.preprocessing import (
    BLOCK_VALUES,
    ENCODINGS,
    SCALINGS,
    Preprocessing,
    check_categories,
    fit,
    identity,
    width,
)

COLOURS = ("blue", "red", "white")
NUMBERS = st.floats(-1e300, 1e300, allow_nan=False) | st.floats(-10, 10) | st.sampled_from([0.0, -0.0, 0.1, 5e-324])
TABLES = st.tuples(st.integers(1, 30), st.integers(1, 4)).flatmap(
    lambda shape: arrays.arrays(np.float64, shape, elements=NUMBERS)
)


def numeric(X: Any) -> Data:
    X = np.asarray(X)
    return Data(X, Y=np.zeros((len(X), 1)))


def mixed() -> Data:
    """Two numeric columns with a categorical one between them."""
    X = np.array([[1.0, 2, 10], [2, 0, 10], [3, 1, 10], [6, 2, 10]])
    return Data(
        X, labels=np.array([0, 1, 0, 1]), classes=("no", "yes"), feature_names=("size", "colour", "same"),
        categories=(None, COLOURS, None),
    )  # fmt: skip


@given(TABLES)
def test_standardized_training_columns_have_mean_0_and_standard_deviation_1(X: np.ndarray[Any, Any]) -> None:
    X = X[:, np.isfinite(np.ptp(X, axis=0))]
    scaled = fit(numeric(X), "standardize").apply(X) if X.size else X
    for column, raw in zip(scaled.T, X.T, strict=True):
        if np.ptp(raw) > max(1e-9 * np.abs(raw).max(), 1e-290):
            assert np.mean(column) == pytest.approx(0, abs=1e-6)
            assert np.std(column) == pytest.approx(1, rel=1e-6)
        elif np.ptp(raw) == 0:
            assert not column.any()
        assert np.isfinite(column).all()


@given(TABLES)
def test_min_max_puts_training_columns_between_0_and_1_to_the_bit(X: np.ndarray[Any, Any]) -> None:
    X = X[:, np.isfinite(np.ptp(X, axis=0))]
    scaled = fit(numeric(X), "min_max").apply(X) if X.size else X
    assert ((scaled >= 0) & (scaled <= 1)).all()
    for column, raw in zip(scaled.T, X.T, strict=True):
        assert column.min() == 0
        if np.ptp(raw) > 1e-300:
            assert column.max() == pytest.approx(1, rel=1e-12)


@given(TABLES, st.sampled_from(list(SCALINGS)), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_makes_no_difference_but_rounding(
    X: np.ndarray[Any, Any], scaling: str, random: Any
) -> None:
    X = np.clip(X, -1e6, 1e6)
    order = random.sample(range(len(X)), len(X))
    plain, permuted = fit(numeric(X), scaling), fit(numeric(X[order]), scaling)
    assert permuted.apply(X[order]) == pytest.approx(plain.apply(X)[order], rel=1e-6, abs=1e-6)
    if scaling != "standardize":
        assert np.array_equal(permuted.offset, plain.offset)
        assert np.array_equal(permuted.scale, plain.scale)


def test_standardizing_by_hand() -> None:
    fitted = fit(numeric([[2.0], [4.0], [4.0], [4.0], [5.0], [5.0], [7.0], [9.0]]), "standardize")
    # μ = 40/8 = 5 and σ² = (9 + 1 + 1 + 1 + 0 + 0 + 4 + 16)/8 = 4
    assert (fitted.offset.tolist(), fitted.scale.tolist()) == ([5.0], [0.5])
    assert fitted.apply([[9.0], [5.0], [0.0]]).tolist() == [[2.0], [0.0], [-2.5]]


def test_numbers_are_scaled_and_categories_become_columns_at_their_place() -> None:
    fitted = fit(mixed(), "min_max")
    assert (fitted.inputs, fitted.outputs, fitted.is_affine, fitted.is_identity) == (3, 5, False, False)
    assert fitted.output_names == ("size", "colour=blue", "colour=red", "colour=white", "same")
    assert fitted.offset.tolist() == [1, 0, 10]
    assert fitted.scale.tolist() == [0.2, 1, 1]  # the last column is the same in every row
    made = fitted.transform(mixed())
    assert made.X.tolist() == [[0, 0, 0, 1, 0], [0.2, 1, 0, 0, 0], [0.4, 0, 1, 0, 0], [1, 0, 0, 1, 0]]
    assert (made.classes, made.feature_names, made.categories) == (("no", "yes"), fitted.output_names, ())
    assert [fitted.raw_column(column) for column in range(5)] == [0, 1, 1, 1, 2]


def test_a_constant_column_becomes_0_however_its_value_rounds() -> None:
    fitted = fit(numeric(np.full((1000, 1), 0.1)), "standardize")
    assert (fitted.offset.tolist(), fitted.scale.tolist()) == ([0.1], [1.0])
    assert fitted.apply([[0.1], [0.4]]).ravel() == pytest.approx([0, 0.3])


def test_what_is_fitted_is_a_function_of_the_values_not_of_how_they_are_stored() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2 * BLOCK_VALUES // 64 + 17, 64)).astype(np.uint8)
    for scaling in ("standardize", "min_max"):
        plain = fit(numeric(pixels), scaling)
        for other in (pixels.astype(np.float32), np.asfortranarray(pixels.astype(np.float64))):
            again = fit(numeric(other), scaling)
            assert again.offset == pytest.approx(plain.offset, rel=1e-12)
            assert again.scale == pytest.approx(plain.scale, rel=1e-12)
        assert plain.to_dict() == fit(numeric(pixels), scaling).to_dict()
        assert plain.offset == pytest.approx(pixels.mean(axis=0) if scaling == "standardize" else pixels.min(axis=0))


def test_rows_are_mapped_the_same_one_by_one_and_all_at_once_and_rounded_once() -> None:
    data = digits()
    fitted = fit(data, "standardize")
    whole = fitted.apply(data.X, np.float32)
    assert whole.dtype == np.float32
    assert np.array_equal(whole, fitted.apply(data.X).astype(np.float32))
    assert np.array_equal(whole[100:103], np.vstack([fitted.apply(data.X[row : row + 1]) for row in range(100, 103)])
                          .astype(np.float32))  # fmt: skip


@pytest.mark.parametrize("scaling", SCALINGS)
def test_what_was_fitted_goes_through_json_to_the_bit(scaling: str) -> None:
    fitted = fit(mixed(), scaling)
    again = Preprocessing.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert np.array_equal(again.offset, fitted.offset)
    assert np.array_equal(again.scale, fitted.scale)
    assert (again.categories, again.names) == (fitted.categories, fitted.names)
    assert np.array_equal(again.apply(mixed().X), fitted.apply(mixed().X))


def test_without_scaling_and_categories_nothing_is_changed_or_copied() -> None:
    data = digits()
    for unchanged in (identity(data.features), fit(data), fit(data, "none")):
        assert unchanged.is_identity
        assert unchanged.transform(data) is data
        assert np.shares_memory(unchanged.apply(data.X), data.X)


def test_validation_rows_have_no_part_in_the_fit() -> None:
    X = np.column_stack([np.arange(500.0), np.random.default_rng(0).normal(size=500)])
    training, held_out = numeric(X).split(0.3, seed=4)
    X[held_out.X[:, 0].astype(int)] = 1e6
    spoilt, far = numeric(X).split(0.3, seed=4)
    assert (far.X == 1e6).all()
    for scaling in ("standardize", "min_max"):
        assert fit(spoilt, scaling).to_dict() == fit(training, scaling).to_dict() != fit(numeric(X), scaling).to_dict()


@pytest.mark.parametrize("scaling", SCALINGS)
def test_rows_chosen_by_number_are_fitted_to_as_if_they_were_all(scaling: str) -> None:
    data = numeric(np.random.default_rng(0).normal(size=(5000, 700)))
    rows = np.arange(0, 5000, 3)
    assert fit(data, scaling, rows).to_dict() == fit(data.take(rows), scaling).to_dict()


def test_data_with_the_same_categories_in_another_order_is_mapped_by_name() -> None:
    fitted = fit(mixed(), "min_max")
    X = np.array([[1.0, 0, 10], [6, 1, 10]])
    other = Data(X, labels=np.array([0, 1]), classes=("no", "yes"), categories=(None, ("white", "blue"), None))
    assert fitted.transform(other).X.tolist() == [[0, 0, 0, 1, 0], [1, 1, 0, 0, 0]]
    assert X.tolist() == [[1, 0, 10], [6, 1, 10]]


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ((None, ("blue", "green"), None), "Column colour has the category 'green', .* has blue, red, white"),
        ((None, None, None), "Column colour is numeric here and categorical in the training data"),
        ((("a",), COLOURS, None), "Column size is categorical here and numeric in the training data"),
        ((None, COLOURS), "There are 2 columns; there must be 3"),
    ],
)
def test_data_of_another_kind_is_refused(theirs: Any, says: str) -> None:
    with pytest.raises(EngineError, match=says):
        check_categories((None, COLOURS, None), theirs, ("size", "colour", "same"))


def test_what_cannot_be_fitted_is_refused_with_the_place() -> None:
    with pytest.raises(UnknownNameError, match="known: none, standardize, min_max") as unknown:
        fit(mixed(), "robust")
    assert unknown.value.field == "inputs/scaling"
    with pytest.raises(ConfigError, match=r"Column number 2 runs from -1e\+308 to 1e\+308") as too_wide:
        fit(numeric([[0.0, -1e308], [1.0, 1e308]]), "standardize")
    assert too_wide.value.field == "inputs/scaling"
    with pytest.raises(ShapeError, match="they need 3 columns"):
        fit(mixed()).apply([[1.0, 2.0]])


def test_every_way_has_its_equation() -> None:
    assert all(equation.startswith("x′ = ") for equation in (*SCALINGS.values(), *ENCODINGS.values()))
    assert width((None, COLOURS, None)) == 5
