"""Data: samples with their targets, and the sets that are there from the start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.engine.arrays import FloatArray, IntArray, generator
from chainrule.engine.errors import ConfigError, ShapeError


@dataclass(frozen=True)
class Data:
    """Samples as rows, with class labels (classification) or numeric targets (regression).

    Attributes:
        X: (m, n) features.
        Y: (m, k) numeric targets, None for classification.
        labels: (m,) positions in `classes`, None for regression.
        classes: the names of the classes, () for regression.
        feature_names: the names of the n features, () if they have none.
        categories: for each feature the names of its categories, of which X holds the positions, or None for a
            number; () if all are numbers. Categories are made columns by `preprocessing`, never trained on as they are.
        weights: (m,) how much each sample's error counts, None where all count 1.
    """

    X: NDArray[Any]
    Y: FloatArray | None = None
    labels: IntArray | None = None
    classes: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...] | None, ...] = ()
    weights: FloatArray | None = None

    def __post_init__(self) -> None:
        """Check that all has as many rows, and each label its class."""
        if self.X.ndim != 2:
            raise ShapeError(f"X has {self.X.ndim} dimensions; it needs two, samples and features.")
        if (self.Y is None) == (self.labels is None):
            raise ShapeError("Data needs either labels or numeric targets Y.")
        rows = self.labels if self.labels is not None else self.Y
        if rows is None or len(rows) != len(self.X):
            raise ShapeError(f"There are {len(self.X)} samples and {0 if rows is None else len(rows)} targets.")
        if self.weights is not None and (
            self.weights.shape != (len(self.X),) or not (np.isfinite(self.weights) & (self.weights >= 0)).all()
        ):
            raise ShapeError(f"weights must be {len(self.X)} numbers of at least 0, one for each sample.")
        if self.Y is not None and self.Y.ndim != 2:
            raise ShapeError(f"Y has {self.Y.ndim} dimensions; it needs two, samples and targets.")
        if self.labels is not None and self.labels.size:
            lowest, highest = int(self.labels.min()), int(self.labels.max())
            if lowest < 0 or highest >= len(self.classes):
                raise ShapeError(f"Labels run from {lowest} to {highest}; there are {len(self.classes)} classes.")

    @property
    def samples(self) -> int:
        """The number of samples, m."""
        return int(self.X.shape[0])

    @property
    def features(self) -> int:
        """The number of features, n."""
        return int(self.X.shape[1])

    def take(self, rows: Any) -> "Data":
        """Choose samples, by row numbers or by a slice."""
        return Data(
            self.X[rows],
            None if self.Y is None else self.Y[rows],
            None if self.labels is None else self.labels[rows],
            self.classes,
            self.feature_names,
            self.categories,
            None if self.weights is None else self.weights[rows],
        )

    def split(self, fraction: float, seed: int) -> tuple["Data", "Data"]:
        """Hold a random part out for validation; a pure function of the sizes and the seed.

        Returns:
            Training and validation data, each in the order of the dataset.

        Raises:
            ConfigError: a part would be empty.
        """
        training, validating = split_rows(self.samples, fraction, seed)
        return self.take(training), self.take(validating)


def split_rows(samples: int, fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Tell which samples `Data.split` puts into either part.

    Raises:
        ConfigError: a part would be empty.
    """
    held_out = split_size(samples, fraction)
    if not 0 < held_out < samples:
        raise ConfigError(
            f"A fraction of {fraction} holds {held_out} of {samples} samples out; both parts need one.",
            "validation/fraction",
        )
    order = generator(seed, "split").permutation(samples)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def shuffled(seed: int, epoch: int, samples: int) -> IntArray:
    """Draw the order that an epoch, from 1, takes the samples of a run in: a pure function of its arguments."""
    order: IntArray = generator(seed, "shuffle", epoch).permutation(samples)
    return order


def split_size(samples: int, fraction: float) -> int:
    """Count the samples that a fraction holds out."""
    return round(samples * fraction)


def targets(data: Data, units: int, smoothing: float = 0.0) -> FloatArray:
    """Make Y (m, units) for an output layer.

    One-hot rows for as many units as classes, a column of 0 and 1 for one unit and two classes, the
    numeric targets as they are. Those of classes can be smoothed:

        y ← (1 − α)·y + α/k      k the number of classes

    Args:
        data: the samples.
        units: n_L.
        smoothing: α.

    Raises:
        ShapeError: the output layer does not fit; says which would.

    Source:
        Label smoothing: Szegedy et al., "Rethinking the Inception architecture" (2016), section 7.
    """
    if data.labels is None:
        assert data.Y is not None
        if data.Y.shape[1] != units:
            raise ShapeError(f"The data has {data.Y.shape[1]} targets and the output layer {units} units.")
        return data.Y
    classes = len(data.classes)
    if units == classes:
        Y = np.eye(classes)[data.labels]
    elif units == 1 and classes == 2:
        Y = data.labels.astype(np.float64)[:, None]
    else:
        fitting = "1 or 2 units" if classes == 2 else f"{classes} units"
        raise ShapeError(f"The data has {classes} classes and the output layer {units} units; it needs {fitting}.")
    return Y if smoothing == 0 else (1 - smoothing) * Y + smoothing / classes


def xor() -> Data:
    """Exclusive or: four samples, no straight line between the classes."""
    X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return Data(X, labels=np.array([0, 1, 1, 0]), classes=("0", "1"), feature_names=("x1", "x2"))


def moons(samples: int = 400, noise: float = 0.1, seed: int = 0) -> Data:
    """Two interleaved half circles."""
    angles = np.linspace(0, np.pi, samples // 2)
    upper = np.column_stack([np.cos(angles), np.sin(angles)])
    lower = np.column_stack([1 - np.cos(angles), 0.5 - np.sin(angles)])
    return _plane([upper, lower], ("upper", "lower"), noise, seed, "moons")


def circles(samples: int = 400, noise: float = 0.05, seed: int = 0) -> Data:
    """A circle within a circle."""
    angles = np.linspace(0, 2 * np.pi, samples // 2, endpoint=False)
    ring = np.column_stack([np.cos(angles), np.sin(angles)])
    return _plane([ring, 0.5 * ring], ("outer", "inner"), noise, seed, "circles")


def spirals(samples: int = 600, noise: float = 0.02, seed: int = 0) -> Data:
    """Three arms of a spiral."""
    radius = np.linspace(0.05, 1, samples // 3)
    arms = []
    for arm in range(3):
        angle = 4 * radius + 2 * np.pi * arm / 3
        arms.append(np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]))
    return _plane(arms, ("a", "b", "c"), noise, seed, "spirals")


def digits() -> Data:
    """Handwritten digits: 1797 pictures of 8×8 pixels, 0 to 1, ten classes.

    Source:
        E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits" (1998), the test set,
        UCI Machine Learning Repository, CC BY 4.0.
    """
    with np.load(Path(__file__).parent / "digits.npz", allow_pickle=False) as stored:
        X, labels = stored["pixels"] / 16.0, stored["labels"].astype(np.int64)
    names = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    return Data(X, labels=labels, classes=tuple("0123456789"), feature_names=names)


BUILT_IN: dict[str, Callable[[], Data]] = {
    "xor": xor,
    "moons": moons,
    "circles": circles,
    "spirals": spirals,
    "digits": digits,
}


def _plane(parts: Sequence[FloatArray], classes: tuple[str, ...], noise: float, seed: int, purpose: str) -> Data:
    X = np.concatenate(parts)
    X = X + generator(seed, purpose).normal(0.0, noise, X.shape)
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Data(X, labels=labels, classes=classes, feature_names=("x1", "x2"))
