"""Explanations: one number of backpropagation, at the weights of a checkpoint, broken into its terms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput
from chainrule.app.services import batches, checkpoints
from chainrule.app.services.batches import Batch, Selection
from chainrule.app.store.database import Database
from chainrule.engine import ShapeError, UnknownNameError
from chainrule.engine.explain import Explanation, explain


@dataclass(frozen=True)
class Explained:
    """An explanation, with what it is of."""

    run_id: str
    epoch: int
    batch: Batch
    dtype: str
    explanation: Explanation


def take(
    database: Database, settings: Settings, kept: checkpoints.Kept, selection: Selection, name: str,
    index: Sequence[int], top: int,
) -> Explained:  # fmt: skip
    """Break one number into its terms; the network is taken as it is used.

    Raises:
        InvalidInput: the samples do not fit, or there is no such number.
        LimitExceeded: too much to compute in one request.
    """
    opened = checkpoints.open_kept(kept)
    batches.limit_operations(settings, opened.network.spec, batches.size(database, opened, selection), selection)
    batch = batches.open_batch(database, settings, opened, selection)
    try:
        # What overflows is shown as it is: an infinity here is a finding, and no warning would say more.
        with np.errstate(over="ignore", invalid="ignore"):
            found = explain(
                opened.network, opened.config["cost"], batch.X, batch.Y, name, index, batch.weights, top=top
            )  # fmt: skip
    except UnknownNameError as error:
        raise InvalidInput.at("/name", str(error)) from error
    except ShapeError as error:
        raise InvalidInput.at("/index", str(error)) from error
    return Explained(kept.run_id, kept.epoch, batch, str(opened.network.parameters.dtype), found)
