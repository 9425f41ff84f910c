"""Metrics: how good the network of a checkpoint is, on the samples it learnt from or on those held out."""

from typing import Any

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput, LimitExceeded
from chainrule.app.services import checkpoints, datasets, training
from chainrule.app.store.database import Database
from chainrule.engine import NetworkSpec
from chainrule.engine.metrics import Metrics, measure

TRAINING, VALIDATION = "training", "validation"
UNIT_OPERATIONS = 100
"""What a unit's activation function takes for one sample, in multiplications of a matrix product."""


def split_of(kept: checkpoints.Kept, asked: str | None) -> str:
    """Choose the split: the one asked for, else validation where the run has it.

    Raises:
        InvalidInput: validation is asked for, and the run has none.
    """
    validated = kept.config["validation"] is not None
    if asked == VALIDATION and not validated:
        raise InvalidInput.at(
            "/split",
            f"Run {kept.run_id} has no validation samples; ask for split=training, or submit it with `validation`.",
        )
    return asked or (VALIDATION if validated else TRAINING)


def of_checkpoint(database: Database, settings: Settings, kept: checkpoints.Kept, split: str) -> Metrics:
    """Measure a network on all samples of a split, as they are when it is trained; block by block.

    Raises:
        LimitExceeded: too much to compute in one request.
    """
    network = checkpoints.open_kept(kept).network
    _limit(database, settings, kept.config, network.spec, split)
    data, held_out = training.load_split(database, settings, kept.run_id, kept.config)
    if split == VALIDATION:
        assert held_out is not None
        data = held_out
    # What overflows is shown as it is: an infinity here is a finding, and no warning would say more.
    with np.errstate(over="ignore", invalid="ignore"):
        return measure(network, kept.config["cost"], data)


def _limit(database: Database, settings: Settings, config: dict[str, Any], spec: NetworkSpec, split: str) -> None:
    info, validation = datasets.describe(database, config["dataset"]), config["validation"]
    other = validation and validation.get("dataset")
    counts = training.split_sizes(
        info.samples, validation, datasets.describe(database, other).samples if other else None
    )
    samples = counts[1] if split == VALIDATION else counts[0]
    operations = samples * (spec.parameter_count + UNIT_OPERATIONS * sum(spec.sizes[1:]))
    if operations > settings.max_metrics_operations:
        raise LimitExceeded(
            f"The operations for {samples:,} samples", operations, settings.max_metrics_operations,
            "CHAINRULE_MAX_METRICS_OPERATIONS", pointer="/split",
            hint="Ask for the smaller split, or predict some of the samples at a time.",
        )  # fmt: skip
    entries = len(info.classes) ** 2
    if entries > settings.max_inspect_values:
        raise LimitExceeded(
            "The number of values of the confusion matrix", entries, settings.max_inspect_values,
            "CHAINRULE_MAX_INSPECT_VALUES", hint="Predict some of the samples at a time.",
        )  # fmt: skip
