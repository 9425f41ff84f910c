from typing import Any

import pytest

from chainrule.app import console

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
    ],
)
def test_the_line_of_a_training_names_what_shapes_its_steps_and_nothing_that_is_off(
    shaped_by: dict[str, Any], words: str
) -> None:
    assert console.training(CONFIG | shaped_by) == LINE + words
