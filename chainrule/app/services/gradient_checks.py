"""Gradient checks: analytic gradients of a spec against central differences."""

import math
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput, LimitExceeded
from chainrule.app.services import datasets, plans, training
from chainrule.app.services.batches import rows_of
from chainrule.app.store.database import Database
from chainrule.engine import EngineError, goal, initialize
from chainrule.engine.gradient_check import METHOD, check

ROWS = 32
EQUATION = "‖analytic − numeric‖ / (‖analytic‖ + ‖numeric‖)"


def run(database: Database, settings: Settings, spec: dict[str, Any]) -> dict[str, Any]:
    """Check the gradients of a network at its beginning, block by block.

    The cost is what a run of that spec would make smaller: with smoothed labels and weighted errors, without dropout;
    batch normalization takes μ and σ² of the rows, as in a step.

    Raises:
        InvalidInput: the network, the cost or the rows do not fit the dataset.
        LimitExceeded: too much to compute in one request.
    """
    plan = plans.make(database, settings, {**spec, "epochs": 1})
    engine, network_spec = plan.engine, plan.engine.network
    info = datasets.describe(database, spec["dataset"])
    rows = spec["rows"] if spec.get("rows") is not None else list(range(min(ROWS, info.samples)))
    sizes = network_spec.sizes
    per_block = spec.get("entries") or network_spec.parameter_count
    moved = sum(min(per_block, n * before) + min(per_block, n) for before, n in pairwise(sizes))
    moved += sum(2 * min(per_block, layer.units) for layer in network_spec.layers if layer.normalization)
    values = moved * 4 * len(rows) * sum(sizes)
    if values > settings.max_inspect_values:
        raise LimitExceeded(
            "The number of values to compute", values, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES",
            pointer="/entries", hint="Check fewer entries of each block, or on fewer rows.",
        )  # fmt: skip
    try:
        data = training.open_data(database, settings, plan.config, spec["dataset"])
        chosen, balance = rows_of(data, rows, plan.inputs), training.class_balance(database, settings, plan.config)
        sought = goal(replace(engine, dtype="float64"), chosen, balance)
        network = initialize(network_spec, spec["seed"], "float64")
        with np.errstate(over="ignore", invalid="ignore"):
            blocks = check(
                network, engine.cost, chosen.X, sought.Y,
                h=spec["h"], entries=spec.get("entries"), seed=spec["seed"], weights=sought.weights,
            )  # fmt: skip
    except EngineError as error:
        raise InvalidInput.at(f"/{error.field}" if error.field else "", str(error)) from error
    if not all(math.isfinite(block.relative_error) for block in blocks):
        raise InvalidInput.at(
            "/dataset", "The cost or a gradient is infinite for these samples; scale the features or the targets."
        )
    return {
        "passed": all(block.verdict == "pass" for block in blocks),
        "worst_relative_error": max(block.relative_error for block in blocks),
        "method": METHOD,
        "equation": EQUATION,
        "h": spec["h"],
        "samples": len(rows),
        "blocks": [{**asdict(block), "verdict": block.verdict} for block in blocks],
    }
