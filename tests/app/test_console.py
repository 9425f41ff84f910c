from typing import Any

import numpy as np
import pytest

from chainrule.app import console
from chainrule.app.client import Resource

CONFIG: dict[str, Any] = {
    "cost": "mse",
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "batch_size": None,
    "seed": 0,
}
LINE = "mse, sgd (learning_rate 0.1), batch all, seed 0"


@pytest.mark.parametrize(
    ("shaped_by", "words"),
    [
        ({}, ""),
        ({"schedule": {"name": "constant", "warmup_epochs": 0}, "clip": None, "regularization": None}, ""),
        ({"schedule": {"name": "constant", "warmup_epochs": 3}}, ", schedule warmup_epochs 3"),
        ({"schedule": {"name": "cosine", "minimum": 0.0, "warmup_epochs": 0}}, ", schedule cosine"),
        (
            {"clip": {"norm": 1.5}, "regularization": {"l2": 0.01, "max_norm": 3.0}},
            ", clip norm 1.5, regularization l2 0.01 max_norm 3",
        ),
        (
            {"label_smoothing": 0.1, "class_weights": [1.0, 2.5], "early_stopping": {"patience": 5, "min_delta": 0.0}},
            ", label smoothing 0.1, class weights 1 2.5, early stopping patience 5",
        ),
        ({"label_smoothing": 0.0, "class_weights": "balanced", "early_stopping": None}, ", class weights balanced"),
    ],
)
def test_the_line_of_a_training_names_what_shapes_its_steps_and_nothing_that_is_off(
    shaped_by: dict[str, Any], words: str
) -> None:
    assert console.training(CONFIG | shaped_by) == LINE + words


SCORES: dict[str, Any] = {"support": 3, "predicted": 2, "precision": 1.0, "recall": 2 / 3, "f1": 0.8}
MACRO = {"precision": 1.0, "recall": 2 / 3, "f1": 0.8}
MEASURED = {"epoch": 7, "samples": 1200, "split": "validation", "error": 0.125, "macro": MACRO}


def printed(capsys: pytest.CaptureFixture[str], **found: Any) -> list[list[str]]:
    console.metrics(Resource(MEASURED | found))
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_metrics_of_a_classifier_are_printed_with_the_confusion_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    undefined = {"name": "[b]", "support": 0, "predicted": 0, "precision": None, "recall": None, "f1": None}
    matrix = np.array([[2, 1], [0, 0]])
    classes = [SCORES | {"name": "a"}, undefined]
    assert printed(capsys, kind="classification", classes=classes, confusion_matrix=matrix) == [
        ["Epoch", "7,", "1,200", "validation", "samples:", "error", "12.50%"],
        ["class", "samples", "precision", "recall", "F1"],
        ["a", "3", "100.00%", "66.67%", "80.00%"],
        ["[b]", "0", "–", "–", "–"],
        ["(mean)", "–", "100.00%", "66.67%", "80.00%"],
        [],
        ["Confusion", "matrix:", "rows", "are", "actual", "classes,", "columns", "predicted", "ones"],
        ["a", "[b]"],
        ["a", "2", "1"],
        ["[b]", "0", "0"],
    ]


def test_metrics_of_labels_are_printed_with_the_error_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    labels = [SCORES | {"name": "y1", "error": 0.25}]
    assert printed(capsys, kind="multi_label", labels=labels, label_error=0.25)[1:] == [
        ["label", "samples", "precision", "recall", "F1", "error"],
        ["y1", "3", "100.00%", "66.67%", "80.00%", "25.00%"],
        ["(mean)", "–", "100.00%", "66.67%", "80.00%", "25.00%"],
    ]


def test_metrics_of_a_regression_say_what_is_undefined(capsys: pytest.CaptureFixture[str]) -> None:
    targets = [{"name": "y1", "rmse": 1.5, "mae": 0.75, "r2": None}]
    assert printed(capsys, kind="regression", rmse=1.5, mae=0.75, r2=None, targets=targets) == [
        ["Epoch", "7,", "1,200", "validation", "samples:", "RMSE", "1.5,", "MAE", "0.75,", "R²", "undefined"],
        ["target", "RMSE", "MAE", "R²"],
        ["y1", "1.5", "0.75", "–"],
    ]


def test_a_network_in_a_line_says_where_dropout_is() -> None:
    layers = [{"units": 8, "activation": "relu", "dropout": 0.5}, {"units": 2, "activation": "softmax", "dropout": 0.0}]
    assert console.network({"network": {"inputs": 4, "layers": layers}}) == "4 → 8 relu (dropout 0.5) → 2 softmax"
