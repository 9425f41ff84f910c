import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.engine import BUILT_IN, ConfigError, Data, ShapeError, digits, moons, split_size, targets, xor

SIZES = {
    "xor": (4, 2, 2),
    "moons": (400, 2, 2),
    "circles": (400, 2, 2),
    "spirals": (600, 2, 3),
    "digits": (1797, 64, 10),
}


def numbered(samples: int) -> Data:
    """Make samples that can be told apart."""
    X = np.arange(samples, dtype=np.float64)[:, None]
    return Data(X, labels=np.arange(samples) % 2, classes=("even", "odd"), feature_names=("number",))


def test_every_built_in_set_has_its_documented_size_here() -> None:
    found = {name: (d.samples, d.features, len(d.classes)) for name, make in BUILT_IN.items() for d in (make(),)}
    assert found == SIZES


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_sets_are_finite_and_the_same_each_time(name: str) -> None:
    one, other = BUILT_IN[name](), BUILT_IN[name]()
    assert np.isfinite(one.X).all()
    assert one.X.tobytes() == other.X.tobytes()
    assert one.labels is not None
    assert set(one.labels.tolist()) == set(range(len(one.classes)))
    assert len(one.feature_names) == one.features


def test_digits_are_pixels_from_0_to_1() -> None:
    data = digits()
    assert (data.X.min(), data.X.max()) == (0, 1)
    assert data.labels is not None
    assert np.bincount(data.labels).min() > 170


def test_xor_is_the_truth_table() -> None:
    data = xor()
    assert data.labels is not None
    assert [(int(a) ^ int(b)) for a, b in data.X] == data.labels.tolist()


def test_noise_is_a_pure_function_of_the_seed() -> None:
    assert moons(seed=1).X.tobytes() == moons(seed=1).X.tobytes() != moons(seed=2).X.tobytes()


@given(samples=st.integers(2, 60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 10))
def test_a_split_is_complete_disjoint_and_in_order(samples: int, fraction: float, seed: int) -> None:
    data = numbered(samples)
    if not 0 < split_size(samples, fraction) < samples:
        with pytest.raises(ConfigError, match="both parts need one"):
            data.split(fraction, seed)
        return
    training, validation = data.split(fraction, seed)
    assert validation.samples == split_size(samples, fraction)
    assert sorted([*training.X[:, 0], *validation.X[:, 0]]) == list(range(samples))
    for part in (training, validation):
        assert (np.diff(part.X[:, 0]) > 0).all()
        assert part.labels is not None
        np.testing.assert_array_equal(part.labels, part.X[:, 0] % 2)
        assert (part.classes, part.feature_names) == (data.classes, data.feature_names)


def test_a_split_is_a_pure_function_of_the_seed() -> None:
    first = numbered(50).split(0.2, 3)[1].X
    np.testing.assert_array_equal(numbered(50).split(0.2, 3)[1].X, first)
    assert not np.array_equal(numbered(50).split(0.2, 4)[1].X, first)


def test_classes_become_one_hot_rows_or_a_column_of_zeros_and_ones() -> None:
    data = numbered(3)
    np.testing.assert_array_equal(targets(data, 2), [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(targets(data, 1), [[0], [1], [0]])


def test_an_output_that_does_not_fit_is_told_which_would() -> None:
    with pytest.raises(ShapeError, match="2 classes and the output layer 3 units; it needs 1 or 2 units"):
        targets(numbered(4), 3)
    with pytest.raises(ShapeError, match="it needs 10 units"):
        targets(digits(), 1)
    with pytest.raises(ShapeError, match="2 targets and the output layer 1 units"):
        targets(Data(np.zeros((3, 1)), Y=np.zeros((3, 2))), 1)


def test_numeric_targets_are_taken_as_they_are() -> None:
    Y = np.array([[1.5], [-2.0]])
    np.testing.assert_array_equal(targets(Data(np.zeros((2, 1)), Y=Y), 1), Y)


def test_data_that_does_not_fit_together_is_refused() -> None:
    X, Y, labels = np.zeros((3, 2)), np.zeros((3, 1)), np.array([0, 1, 1])
    with pytest.raises(ShapeError, match="two, samples and features"):
        Data(X[0], Y=Y)
    with pytest.raises(ShapeError, match="either labels or numeric targets"):
        Data(X)
    with pytest.raises(ShapeError, match="either labels or numeric targets"):
        Data(X, Y=Y, labels=labels, classes=("a", "b"))
    with pytest.raises(ShapeError, match="3 samples and 2 targets"):
        Data(X, Y=Y[:2])
    with pytest.raises(ShapeError, match="two, samples and targets"):
        Data(X, Y=Y[:, 0])
    with pytest.raises(ShapeError, match="Labels run from 0 to 1; there are 1 classes"):
        Data(X, labels=labels, classes=("a",))
    with pytest.raises(ShapeError, match="Labels run from -1"):
        Data(X, labels=labels - 1, classes=("a", "b"))
