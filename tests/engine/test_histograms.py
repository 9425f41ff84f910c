"""Histograms: each number in its bin, once, and what is no number counted apart."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.engine import ShapeError
from chainrule.engine.histograms import BINS, ZERO, edges, histogram, joint, merged, places

NUMBERS = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40)


def expected_place(value: float) -> int:
    """Look a number's bin up in the list of edges: on either side the edge nearer to zero belongs to it."""
    found = edges()
    if value > 0:
        return max(i for i in range(BINS) if found[i] <= value)
    return min(i for i in range(BINS) if value <= found[i + 1])


def test_edges_are_powers_of_two_on_either_side_of_zero() -> None:
    found = edges()
    assert len(found) == BINS + 1
    assert found == sorted(found)
    assert found == [-edge for edge in reversed(found)]
    assert found[BINS // 2] == 0
    assert {np.log2(edge) % 1 for edge in found if 0 < edge < np.inf} == {0.0}


@given(NUMBERS)
def test_every_number_is_counted_once_where_it_belongs(numbers: list[float]) -> None:
    array = np.array(numbers)
    found = histogram(array)
    filled = [n for n in numbers if np.isfinite(n) and n != 0]
    counts = np.zeros(BINS, np.int64)
    for n in filled:
        counts[expected_place(n)] += 1
    np.testing.assert_array_equal(found.counts, counts)
    assert found.size == len(numbers)
    assert found.zeros == numbers.count(0)
    assert found.nan == sum(map(np.isnan, numbers))
    assert (found.positive_infinite, found.negative_infinite) == (numbers.count(np.inf), numbers.count(-np.inf))


@given(NUMBERS, NUMBERS)
def test_two_histograms_add_up_to_that_of_both(first: list[float], second: list[float]) -> None:
    together = merged([histogram(np.array(first)), histogram(np.array(second))])
    whole = histogram(np.array(first + second))
    np.testing.assert_array_equal(together.counts, whole.counts)
    assert (together.zeros, together.nan, together.size) == (whole.zeros, whole.nan, whole.size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_smallest_and_the_largest_numbers_have_bins(dtype: type) -> None:
    info = np.finfo(dtype)
    smallest, largest = info.smallest_subnormal, info.max
    numbers: Any = np.array([-largest, -smallest, smallest, largest], dtype)
    assert places(numbers).tolist() == [0, BINS // 2 - 1, BINS // 2, BINS - 1]


@given(st.lists(st.tuples(st.floats(), st.floats()), min_size=1, max_size=40))
def test_pairs_are_counted_in_the_cell_of_both(pairs: list[tuple[float, float]]) -> None:
    first, second = np.array(pairs).T
    found = joint(first, second)
    finite = np.isfinite(first) & np.isfinite(second)
    assert found.cells[:, 2].sum() == finite.sum()
    assert found.nonfinite == (~finite).sum()
    cells = {(int(i), int(j)): int(n) for i, j, n in found.cells}
    for a, b in zip(first[finite], second[finite], strict=True):
        at = tuple(ZERO if v == 0 else expected_place(v) for v in (a, b))
        assert cells[at[0], at[1]] >= 1


def test_pairs_of_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError):
        joint(np.zeros(3), np.zeros(4))
