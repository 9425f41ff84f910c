"""Rows sent as JSON."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.app.errors import InvalidInput, LimitExceeded
from chainrule.app.services.formats import Limits, Table, rows
from tests.app.services.formats.files import LIMITS, check, class_names

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SAMPLES = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


def read(samples: Any, *, targets: Any = None, labels: Any = None, names: Any = None, limits: Limits = LIMITS) -> Table:
    table = rows.read(samples, targets, labels, names, limits)
    check(table)
    return table


def test_rows_with_labels_are_a_classification() -> None:
    table = read(SAMPLES, labels=["b", "a", "b"], names=["width", "height"])
    assert table.X.tolist() == SAMPLES
    assert class_names(table) == ["b", "a", "b"]
    assert table.feature_names == ["width", "height"]
    assert table.notes == ["Labels were sent: classification."]


def test_rows_with_targets_are_a_regression() -> None:
    table = read(SAMPLES, targets=[[1], [2], [3]])
    assert table.Y is not None
    assert table.Y.tolist() == [[1], [2], [3]]
    assert table.feature_names == ["x1", "x2"]
    assert table.notes == ["Numeric targets were sent: regression."]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([3, 3.0, "10"], ["3", "10"]),
        ([True, False, True], ["false", "true"]),
        (["a", 1, "a"], ["1", "a"]),
        ([0.5, 1, 1], ["0.5", "1"]),
    ],
)
def test_labels_of_mixed_type_are_named_as_json_writes_them(labels: list[object], classes: list[str]) -> None:
    assert read(SAMPLES, labels=labels).classes == classes


@pytest.mark.parametrize(
    ("sent", "pointer", "says"),
    [
        ({"samples": [], "labels": []}, "/samples", "0 samples"),
        ({"samples": [[], [], []]}, "/samples", "0 features"),
        ({"samples": [[], [1], [2]]}, "/samples/0", "empty"),
        ({"samples": [[1, 2], [3], [4, 5]]}, "/samples/1", "Row 1 has 1 values and row 0 has 2."),
        ({"samples": [[1], [2, 3], [4]]}, "/samples/1", "Row 1 has 2 values"),
        ({"samples": [[1], [float("nan")], [2]]}, "/samples", "nan at row 1, column 0"),
        ({"samples": [[1], [2], [float("-inf")]]}, "/samples", "-inf at row 2, column 0"),
        ({"samples": [[1], [10**400], [2]]}, "/samples", "not a number"),
        ({"samples": [[1], ["a"], [2]]}, "/samples/1/0", "'a'; the column holds numbers"),
        ({"samples": [[1], [None], [2]]}, "/samples", "nan at row 1"),
        ({"samples": [[[1]], [[2]], [[3]]]}, "/samples", "lists"),
        ({"samples": [[[1, 2]], [[1]], [1]]}, "/samples", "not a number"),
        ({"labels": None}, "/labels", "either labels or targets"),
        ({"targets": [[1], [2], [3]]}, "/labels", "either labels or targets"),
        ({"labels": ["a", "b"]}, "/labels", "3 samples and 2 labels"),
        ({"labels": []}, "/labels", "3 samples and 0 labels"),
        ({"labels": ["a", "a", "a"]}, "/labels", "at least two classes"),
        ({"labels": ["a", None, "b"]}, "/labels/1", "A label is 'None'"),
        ({"labels": ["a", "b", ["c"]]}, "/labels/2", "it needs to be a text"),
        ({"labels": [1, 2, float("nan")]}, "/labels/2", "it needs to be a text"),
        ({"labels": [1, 2, 10**300]}, "/labels/2", "it needs to be a text"),
        ({"labels": ["a", "b", ""]}, "/labels", "empty name"),
        ({"labels": ["a", "b", "c\0"]}, "/labels", "cannot be stored"),
        ({"labels": ["a", "b", "\ud83d"]}, "/labels", "cannot be stored"),
        ({"labels": ["a", "b", "c" * 201]}, "/labels", "201 characters"),
        ({"labels": None, "targets": [[1], [2]]}, "/targets", "3 samples and 2 rows of targets"),
        ({"labels": None, "targets": [[1], [2, 3], [4]]}, "/targets/1", "Row 1 has 2 values"),
        ({"labels": None, "targets": [[1], [2], [float("inf")]]}, "/targets", "inf at row 2"),
        ({"labels": None, "targets": []}, "/targets", "no rows"),
        ({"feature_names": ["a"]}, "/feature_names", "2 features and 1 names"),
        ({"feature_names": ["a", "a"]}, "/feature_names", "Two have the feature name 'a'"),
        ({"feature_names": ["a", ""]}, "/feature_names", "empty name"),
        ({"feature_names": ["a", "\0"]}, "/feature_names", "cannot be stored"),
    ],
)
def test_rows_that_do_not_fit_together_are_refused_by_place(sent: dict[str, Any], pointer: str, says: str) -> None:
    whole = {"samples": SAMPLES, "targets": None, "labels": ["a", "b", "a"], "feature_names": None} | sent
    with pytest.raises(InvalidInput) as refused:
        rows.read(**whole, limits=LIMITS)
    assert says in refused.value.detail
    assert refused.value.errors[0].pointer == pointer


def test_the_limit_of_values_is_exact() -> None:
    assert read(SAMPLES, labels=[1, 2, 1], limits=Limits(1, 6)).X.size == 6
    with pytest.raises(LimitExceeded) as refused:
        read(SAMPLES, labels=[1, 2, 1], limits=Limits(1, 5))
    assert refused.value.errors[0].pointer == "/samples"
    assert refused.value.extra == {"limit": 5, "value": 6, "setting": "CHAINRULE_MAX_DATASET_VALUES"}


@given(
    st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(FINITE, min_size=width, max_size=width), min_size=2, max_size=20)
    ),
    st.data(),
)
def test_rows_through_json_read_back_the_same(samples: list[list[float]], data: st.DataObject) -> None:
    words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
    classes = data.draw(st.lists(words.map(lambda word: f"w{word}"), min_size=2, max_size=5, unique=True))
    labels = [classes[n] if n < 2 else data.draw(st.sampled_from(classes)) for n in range(len(samples))]
    sent = json.loads(json.dumps({"samples": samples, "labels": labels}))
    table = read(sent["samples"], labels=sent["labels"])
    assert np.array_equal(table.X, np.array(samples))
    assert class_names(table) == labels
    targets = read(sent["samples"], targets=sent["samples"])
    assert targets.Y is not None
    assert np.array_equal(targets.Y, np.array(samples))


def test_weights_are_numbers_one_for_each_row() -> None:
    table = rows.read(SAMPLES, None, ["a", "b", "a"], None, LIMITS, [1, 0.5, 0])
    check(table)
    assert table.weights is not None
    assert table.weights.dtype == np.float64
    assert table.weights.tolist() == [1, 0.5, 0]
    assert table.notes[-1] == "Weights of the samples were sent."


@pytest.mark.parametrize(
    ("weights", "pointer", "words"),
    [
        ([1, 2], "/weights", "There are 3 samples and 2 weights."),
        ([1, -2, 1], "/weights/1", "A weight is -2; it must be a finite number of at least 0."),
        ([1, 1, float("nan")], "/weights/2", "A weight is nan"),
        ([float("inf"), 1, 1], "/weights/0", "A weight is inf"),
        ([0, 0, 0], "/weights", "The weights of all samples are 0"),
    ],
)
def test_weights_that_weigh_nothing_sensible_are_refused_at_their_place(
    weights: list[float], pointer: str, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        rows.read(SAMPLES, None, ["a", "b", "a"], None, LIMITS, weights)
    assert refused.value.errors[0].pointer == pointer
