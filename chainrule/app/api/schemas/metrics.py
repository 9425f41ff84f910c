"""Metrics on the wire: one shape for each kind of targets."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from chainrule.app.api.schemas.checkpoints import RUN_ID
from chainrule.app.api.schemas.wire import Answer
from chainrule.engine import metrics

ABOUT: dict[str, JsonValue] = {"run": RUN_ID, "epoch": 200, "split": "validation"}


class Scores(Answer):
    """How well one class is told from the rest."""

    name: str = Field(description="The class.")
    support: int = Field(description="Samples that are of it.")
    predicted: int = Field(description="Samples that are said to be of it.")
    precision: float | None = Field(description="Of those said to be of it, the share that is; null if none is said.")
    recall: float | None = Field(description="Of those that are of it, the share said to be; null if there is none.")
    f1: float | None = Field(description="Harmonic mean of both; null if there is none and none is said to be.")


class LabelScores(Answer):
    """How well one label is told."""

    name: str = Field(description="The label: y1, y2, … in the order of the output's units.")
    support: int = Field(description="Samples that have it.")
    predicted: int = Field(description="Samples that are said to have it.")
    precision: float | None = Field(description="Of those said to have it, the share that does; null if none is said.")
    recall: float | None = Field(description="Of those that have it, the share said to; null if there is none.")
    f1: float | None = Field(description="Harmonic mean of both; null if there is none and none is said to.")
    error: float = Field(description="Share of the samples for which it is told wrong.")


class Macro(Answer):
    """Means over the classes or labels, each counting the same, for which a score is defined."""

    precision: float | None = Field(description="Mean precision; null if it is defined for none.")
    recall: float | None = Field(description="Mean recall, of classes also called balanced accuracy.")
    f1: float | None = Field(description="Mean F1.")


class TargetScores(Answer):
    """How close one numeric target is met; null where a number is too large for a float."""

    name: str = Field(description="The target: y1, y2, … in the order of the output's units.")
    rmse: float | None = Field(description="Root mean squared error, in the target's unit.")
    mae: float | None = Field(description="Mean absolute error, in the target's unit.")
    r2: float | None = Field(description="Coefficient of determination R²; null if the target does not vary.")


class _About(Answer):
    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were measured.")
    split: Literal["training", "validation"] = Field(description="On which samples.")
    samples: int = Field(description="How many samples, m.")
    equations: dict[str, str] = Field(description="The equation of each metric, by the name of its field.")


class ClassificationMetrics(_About):
    """Metrics of samples that have one class each."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **ABOUT,
                    "kind": "classification",
                    "samples": 20,
                    "error": 0.15,
                    "confusion_matrix": [[9, 1], [2, 8]],
                    "classes": [
                        {"name": "cat", "support": 10, "predicted": 11, "precision": 0.818, "recall": 0.9, "f1": 0.857},
                        {"name": "dog", "support": 10, "predicted": 9, "precision": 0.889, "recall": 0.8, "f1": 0.842},
                    ],
                    "macro": {"precision": 0.854, "recall": 0.85, "f1": 0.85},
                    "equations": dict(metrics.Classification.equations),
                }
            ]
        }
    )  # fmt: skip

    kind: Literal["classification"] = Field(description="Each sample has one class.")
    error: float = Field(description="Classification error: the share of samples got wrong.")
    confusion_matrix: list[list[int]] = Field(
        description="Counts of samples: rows are actual classes, columns predicted ones, in the order of `classes`."
    )
    classes: list[Scores] = Field(description="The scores of each class.")
    macro: Macro = Field(description="Their means.")


class MultiLabelMetrics(_About):
    """Metrics of samples that have any number of labels each: targets of 0 and 1 learned by
    binary cross-entropy.
    """

    kind: Literal["multi_label"] = Field(description="Each sample has any number of labels.")
    error: float = Field(description="Share of the samples with at least one label told wrong.")
    label_error: float = Field(description="Share of all labels told wrong (Hamming loss).")
    labels: list[LabelScores] = Field(description="The scores of each label.")
    macro: Macro = Field(description="Their means.")


class RegressionMetrics(_About):
    """Metrics of numeric targets; null where a number is too large for a float."""

    kind: Literal["regression"] = Field(description="The targets are numbers.")
    rmse: float | None = Field(description="Root mean squared error over all targets.")
    mae: float | None = Field(description="Mean absolute error over all targets.")
    r2: float | None = Field(
        description="R² over all targets: 1 is exact, 0 as good as always answering the mean, below 0 worse; "
        "null if no target varies."
    )
    targets: list[TargetScores] = Field(description="The scores of each target.")


Metrics = Annotated[ClassificationMetrics | MultiLabelMetrics | RegressionMetrics, Field(discriminator="kind")]
