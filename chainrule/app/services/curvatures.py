"""Curvatures: how strongly the cost bends at a checkpoint, in the direction where it bends most and in all."""

from dataclasses import dataclass

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput, LimitExceeded
from chainrule.app.services import batches, checkpoints, training, what_if
from chainrule.app.services.batches import Selection
from chainrule.app.store.database import Database
from chainrule.engine import ConfigError, Network, NetworkSpec
from chainrule.engine.arrays import FloatArray
from chainrule.engine.config import PROBE
from chainrule.engine.curvature import Largest, Trace, check, hessian_product, largest, trace

PASSES = 2
"""What H·v takes, in forward and backward passes."""


@dataclass(frozen=True)
class Curvature:
    """What was found.

    Attributes:
        m: over so many samples.
        trace: None if not asked for.
        products: H·v that were computed.
        operations: about what they took, in multiplications.
        rate: η of the step that followed.
        note: where the run is no plain gradient descent over all samples, for which 2/η is the edge.
    """

    spec: NetworkSpec
    m: int
    parameters: int
    largest: Largest
    trace: Trace | None
    products: int
    operations: int
    rate: float
    note: str


def take(
    database: Database, settings: Settings, kept: checkpoints.Kept, selection: Selection | None, *,
    products: int, probes: int, seed: int,
) -> Curvature:  # fmt: skip
    """Find λ_max by at most so many products, and estimate tr H by so many probes; in float64.

    Without a selection over the samples that recorded statistics are of, the first of those trained on.

    Raises:
        InvalidInput: the samples do not fit, or there are no second derivatives.
        LimitExceeded: too much to compute in one request.
    """
    opened = checkpoints.open_kept(kept)
    spec, config = opened.network.spec, training.engine_config(opened.config, opened.network.spec.inputs)
    try:
        check(spec, l1=config.regularization.l1)
    except ConfigError as error:
        raise InvalidInput.at("", f"The curvature of run {kept.run_id} is not defined: {error}") from error
    of_probe = Selection(split=batches.TRAINING)
    m = batches.size(database, opened, selection or of_probe)
    m = m if selection is not None else min(PROBE, m)
    pointer = of_probe if selection is None else selection
    batches.limit_operations(settings, spec, m, pointer, passes=PASSES * (products + probes))
    if (values := products * spec.parameter_count) > settings.max_inspect_values:
        raise LimitExceeded(
            "The number of values to keep", values, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES",
            pointer="/products", hint="Ask for fewer products; λ_max is then less exact.",
        )  # fmt: skip
    if selection is None:
        batch = batches.first_rows(database, settings, opened, m)
    else:
        batch = batches.open_batch(database, settings, opened, selection)
    network = Network(spec, opened.network.parameters.astype(np.float64))
    X, Y = batch.X.astype(np.float64), batch.Y.astype(np.float64)
    weights = None if batch.weights is None else batch.weights.astype(np.float64)

    def product(v: FloatArray) -> FloatArray:
        return hessian_product(network, config.cost, X, Y, v, weights, l2=config.regularization.l2)

    with np.errstate(over="ignore", invalid="ignore"):
        found = largest(product, spec.parameter_count, seed=seed, most=products)
        whole = trace(product, spec.parameter_count, seed=seed, probes=probes) if probes else None
    taken = found.products + probes
    plain = config.optimizer.name == "sgd" and config.clip is None
    whole_batch = config.steps_per_epoch(batches.size(database, opened, of_probe)) == 1
    note = ""
    if not plain or not whole_batch:
        note = (
            f"2/η is the edge of plain gradient descent over all samples; this run takes {config.optimizer.name}"
            f"{'' if config.clip is None else ' with a clip'}{'' if whole_batch else ' over batches'}, so it is a "
            "guide only."
        )
    return Curvature(
        spec, m, spec.parameter_count, found, whole, taken,
        3 * PASSES * taken * m * (spec.parameter_count + batches.UNIT_OPERATIONS * sum(spec.sizes[1:])),
        what_if.following_rate(database, kept, config), note,
    )  # fmt: skip
