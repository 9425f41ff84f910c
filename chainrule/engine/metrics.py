"""Metrics: how good a network's outputs are, in the words people report.

Three kinds, by what the targets are: classes (each sample has one), labels (each sample has any number
of them, told by zeros and ones), numbers. Sums are taken in float64, over blocks of rows, so that memory
does not grow with the data. A ratio whose denominator is zero is undefined and given as None, never as a
number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.data import Data, targets
from chainrule.engine.errors import ShapeError
from chainrule.engine.network import EVALUATION_ROWS, Network, classify, predict

BLOCK_VALUES = 1 << 22
"""How many pre-activations and activations are held at once; fewer rows are taken of a wide network."""


@dataclass(frozen=True)
class Scores:
    """How well one class, or one label, is told from the rest.

    Attributes:
        name: of the class or label.
        support: samples that have it.
        predicted: samples that are said to have it.
        precision: of those said to have it, the share that does; None if none is said to.
        recall: of those that have it, the share that is said to; None if none has it.
        f1: None if none has it and none is said to.
    """

    name: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class LabelScores(Scores):
    """The same of a label, with the share of samples for which it is told wrong."""

    error: float


@dataclass(frozen=True)
class Macro:
    """Means over the classes or labels for which a score is defined; None if it is for none."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Classification:
    """Metrics of samples that have one class each.

    Attributes:
        samples: m.
        error: the share of samples got wrong.
        confusion_matrix: M (k, k), rows are the actual class, columns the predicted one.
        classes: the scores of each class.
        macro: their means, in which a rare class counts as much as a frequent one.
    """

    kind: ClassVar = "classification"
    equations: ClassVar = {
        "prediction": "ŷ = argmax a[L]; for one unit ŷ = 1 where a > ½, else 0",
        "error": "(1/m)·#{i : ŷ⁽ⁱ⁾ ≠ y⁽ⁱ⁾} = 1 − (1/m)·Σⱼ M[j,j]",
        "confusion_matrix": "M[j,k] = #{i : y⁽ⁱ⁾ = j and ŷ⁽ⁱ⁾ = k}",
        "precision": "M[j,j] / Σₖ M[k,j]",
        "recall": "M[j,j] / Σₖ M[j,k]",
        "f1": "2·M[j,j] / (Σₖ M[k,j] + Σₖ M[j,k])",
        "macro": "the mean over the classes for which it is defined",
    }

    samples: int
    error: float
    confusion_matrix: IntArray
    classes: tuple[Scores, ...]
    macro: Macro


@dataclass(frozen=True)
class MultiLabel:
    """Metrics of samples that have any number of labels each.

    Attributes:
        samples: m.
        error: the share of samples with at least one label told wrong.
        label_error: the share of all labels told wrong.
        labels: the scores of each label.
        macro: their means.
    """

    kind: ClassVar = "multi_label"
    equations: ClassVar = {
        "prediction": "ŷ = 1 where a > ½, else 0",
        "error": "(1/m)·#{i : ŷ⁽ⁱ⁾ ≠ y⁽ⁱ⁾}",
        "label_error": "(1/(m·k))·#{i, j : ŷⱼ⁽ⁱ⁾ ≠ yⱼ⁽ⁱ⁾}, for one label (1/m)·#{i : ŷⱼ⁽ⁱ⁾ ≠ yⱼ⁽ⁱ⁾}",
        "precision": "TP / (TP + FP)",
        "recall": "TP / (TP + FN)",
        "f1": "2·TP / (2·TP + FP + FN)",
        "macro": "the mean over the labels for which it is defined",
    }

    samples: int
    error: float
    label_error: float
    labels: tuple[LabelScores, ...]
    macro: Macro


@dataclass(frozen=True)
class TargetScores:
    """How close one target is met; r2 is None if the target does not vary."""

    name: str
    rmse: float
    mae: float
    r2: float | None


@dataclass(frozen=True)
class Regression:
    """Metrics of numeric targets.

    Attributes:
        samples: m.
        rmse: root mean squared error over all targets, in their units.
        mae: mean absolute error over all targets, in their units.
        r2: coefficient of determination over all targets: 1 is exact, 0 as good as always answering the
            mean, and below it is worse; None if no target varies.
        targets: the scores of each target.
    """

    kind: ClassVar = "regression"
    equations: ClassVar = {
        "rmse": "√((1/(m·k))·Σᵢⱼ (aⱼ⁽ⁱ⁾ − yⱼ⁽ⁱ⁾)²), for one target √((1/m)·Σᵢ (aⱼ⁽ⁱ⁾ − yⱼ⁽ⁱ⁾)²)",
        "mae": "(1/(m·k))·Σᵢⱼ |aⱼ⁽ⁱ⁾ − yⱼ⁽ⁱ⁾|, for one target (1/m)·Σᵢ |aⱼ⁽ⁱ⁾ − yⱼ⁽ⁱ⁾|",
        "r2": "1 − Σᵢⱼ (aⱼ⁽ⁱ⁾ − yⱼ⁽ⁱ⁾)² / Σᵢⱼ (yⱼ⁽ⁱ⁾ − ȳⱼ)², for one target the sums over i alone; ȳⱼ is the mean",
    }

    samples: int
    rmse: float
    mae: float
    r2: float | None
    targets: tuple[TargetScores, ...]


Metrics = Classification | MultiLabel | Regression


def measure(network: Network, cost_name: str, data: Data) -> Metrics:
    """Put samples through a network, block by block, and tell how good its outputs are.

    Class labels are measured as classes; targets that are all 0 or 1, learned by binary cross-entropy, as labels;
    other targets as numbers.

    Args:
        network: with the weights to be measured.
        cost_name: of the cost it learns by.
        data: features and targets as the network takes them.

    Raises:
        ShapeError: the data does not fit the network, or there is no sample.
    """
    spec = network.spec
    targets(data.take(slice(0, 1)), spec.outputs)  # refuses what does not fit
    step = max(1, min(EVALUATION_ROWS, BLOCK_VALUES // (2 * sum(spec.sizes))))
    rows = [slice(start, start + step) for start in range(0, data.samples, step)]
    if data.labels is not None:
        labels = data.labels
        return classification(((predict(network, data.X[block]), labels[block]) for block in rows), data.classes)
    assert data.Y is not None
    Y = data.Y
    blocks = ((predict(network, data.X[block]), Y[block]) for block in rows)
    if cost_name == "binary_cross_entropy" and all(_are_labels(Y[block]) for block in rows):
        return multi_label(blocks)
    return regression(blocks)


def classification(blocks: Iterable[tuple[FloatArray, IntArray]], classes: Sequence[str]) -> Classification:
    """Count which class is taken for which, and derive everything from the counts.

        M[j,k]       = #{i : y⁽ⁱ⁾ = j and ŷ⁽ⁱ⁾ = k}           (k, k)
        error        = 1 − (1/m)·Σⱼ M[j,j]
        precision[j] = M[j,j] / Σₖ M[k,j]
        recall[j]    = M[j,j] / Σₖ M[j,k]
        F1[j]        = 2·M[j,j] / (Σₖ M[k,j] + Σₖ M[j,k])      the harmonic mean of both

    A class that is never predicted has no precision, one that never occurs no recall. Macro averages
    leave out what is undefined; macro recall is also called balanced accuracy.

    Args:
        blocks: pairs of outputs A[L] (rows, n_L) and positions in `classes` (rows,).
        classes: the names of the classes.

    Raises:
        ShapeError: a block has not as many labels as outputs, or there is no sample.

    Source:
        Sokolova and Lapalme, "A systematic analysis of performance measures for classification tasks"
        (2009); F1: van Rijsbergen, "Information Retrieval" (1979), chapter 7.
    """
    k = len(classes)
    counts = np.zeros(k * k, dtype=np.int64)
    for A, labels in blocks:
        _same_shape(A.shape[:1], labels.shape)
        counts += np.bincount(labels.astype(np.int64) * k + classify(A, k), minlength=k * k)
    M = counts.reshape(k, k)
    m = _some(int(M.sum()))
    hits, predicted, support = M.diagonal().tolist(), M.sum(axis=0).tolist(), M.sum(axis=1).tolist()
    scores = tuple(
        Scores(name, support[j], predicted[j], *_ratios(hits[j], predicted[j], support[j]))
        for j, name in enumerate(classes)
    )
    return Classification(m, (m - sum(hits)) / m, M, scores, _macro(scores))


def multi_label(blocks: Iterable[tuple[FloatArray, FloatArray]]) -> MultiLabel:
    """Count for each label how often it is told right and wrong.

        TP, FP, FN: samples that have the label and are said to, have it not and are said to, have it and are not
        precision = TP / (TP + FP)
        recall    = TP / (TP + FN)
        F1        = 2·TP / (2·TP + FP + FN)

    A label that is never predicted has no precision, one that never occurs no recall. Labels are named
    y1, y2, … in the order of the output's units.

    Args:
        blocks: pairs of outputs A[L] and targets of 0 and 1, (rows, k) both.

    Raises:
        ShapeError: outputs and targets of a block differ in shape, or there is no sample.

    Source:
        Sokolova and Lapalme (2009), as above; the label error is the Hamming loss of Schapire and Singer,
        "BoosTexter" (2000).
    """
    m, wrong = 0, 0
    hits = predicted = support = np.zeros(1, dtype=np.int64)
    for A, Y in blocks:
        _same_shape(A.shape, Y.shape)
        told, true = A > 0.5, Y > 0.5
        m += len(Y)
        wrong += int(np.count_nonzero((told != true).any(axis=1)))
        hits = hits + np.count_nonzero(told & true, axis=0)
        predicted = predicted + np.count_nonzero(told, axis=0)
        support = support + np.count_nonzero(true, axis=0)
    m = _some(m)
    errors = (predicted + support - 2 * hits) / m
    counts = zip(hits.tolist(), predicted.tolist(), support.tolist(), errors.tolist(), strict=True)
    scores = tuple(
        LabelScores(f"y{j}", has, said, *_ratios(hit, said, has), error)
        for j, (hit, said, has, error) in enumerate(counts, start=1)
    )
    return MultiLabel(m, wrong / m, float(errors.mean()), scores, _macro(scores))


@np.errstate(over="ignore", invalid="ignore")
def regression(blocks: Iterable[tuple[FloatArray, FloatArray]]) -> Regression:
    """Tell how far outputs lie from targets, and how much of the targets' variation they account for.

        RMSE = √((1/m)·Σᵢ (a⁽ⁱ⁾ − y⁽ⁱ⁾)²)
        MAE  = (1/m)·Σᵢ |a⁽ⁱ⁾ − y⁽ⁱ⁾|
        R²   = 1 − Σᵢ (a⁽ⁱ⁾ − y⁽ⁱ⁾)² / Σᵢ (y⁽ⁱ⁾ − ȳ)²

    Over k targets the sums run over all of them, each with its own mean ȳ: R² then weights a target by its
    variation. A target that does not vary has no R². Targets are named y1, y2, … in the order of the
    output's units. What is too large for float64 is infinite or NaN.

    Args:
        blocks: pairs of outputs A[L] and targets Y, (rows, k) both.

    Raises:
        ShapeError: outputs and targets of a block differ in shape, or there is no sample.

    Source:
        R²: Kvålseth, "Cautionary note about R²" (1985), R₁²; sums of squares of blocks are put together as
        in Chan, Golub and LeVeque, "Algorithms for computing the sample variance" (1983).
    """
    m = 0
    squared = absolute = mean = variation = np.zeros(1)
    lowest, highest = np.array([np.inf]), np.array([-np.inf])
    for A, Y in blocks:
        _same_shape(A.shape, Y.shape)
        y, rows = np.asarray(Y, dtype=np.float64), len(Y)
        difference = np.asarray(A, dtype=np.float64) - y
        squared = squared + np.sum(difference * difference, axis=0)
        absolute = absolute + np.sum(np.abs(difference), axis=0)
        block_mean = np.mean(y, axis=0)
        shift = block_mean - mean
        variation = variation + np.sum((y - block_mean) ** 2, axis=0) + shift * shift * (m * rows / (m + rows))
        mean = mean + shift * (rows / (m + rows))
        m += rows
        lowest, highest = np.minimum(lowest, y.min(axis=0)), np.maximum(highest, y.max(axis=0))
    m, k = _some(m), len(squared)
    variation = np.where(lowest < highest, variation, 0.0)  # rounding is no variation
    rows_of = zip(np.sqrt(squared / m).tolist(), (absolute / m).tolist(), squared, variation, strict=True)
    scores = tuple(
        TargetScores(f"y{j}", rmse, mae, _r2(float(off), float(spread)))
        for j, (rmse, mae, off, spread) in enumerate(rows_of, start=1)
    )
    total, spread = float(np.sum(squared)), float(np.sum(variation))
    return Regression(m, (total / (m * k)) ** 0.5, float(np.sum(absolute)) / (m * k), _r2(total, spread), scores)


def _are_labels(Y: FloatArray) -> bool:
    return bool(((Y == 0) | (Y == 1)).all())


def _ratios(hits: int, predicted: int, support: int) -> tuple[float | None, float | None, float | None]:
    """Compute precision, recall and F1."""
    return _ratio(hits, predicted), _ratio(hits, support), _ratio(2 * hits, predicted + support)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _r2(squared: float, variation: float) -> float | None:
    return 1 - squared / variation if variation else None


def _macro(scores: Sequence[Scores]) -> Macro:
    columns = ([s.precision for s in scores], [s.recall for s in scores], [s.f1 for s in scores])
    return Macro(*(_mean([value for value in column if value is not None]) for column in columns))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _same_shape(outputs: tuple[int, ...], given: tuple[int, ...]) -> None:
    if outputs != given:
        raise ShapeError(f"The outputs have shape {outputs} and the targets {given}.")


def _some(samples: int) -> int:
    if not samples:
        raise ShapeError("A metric needs at least one sample.")
    return samples
