"""Comparisons: gradients of the client's own making, held against those of a checkpoint, the mistake named."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput
from chainrule.app.services import batches, checkpoints
from chainrule.app.services.batches import Batch, Selection
from chainrule.app.services.formats import Limits, npz
from chainrule.app.services.walks import check_mode
from chainrule.app.store.database import Database
from chainrule.engine import UnknownNameError
from chainrule.engine.comparison import TOLERANCES, VERDICTS, BlockComparison, compare
from chainrule.engine.normalization import TRAINING

PASSES = 8
"""Ways back with something wrong that are tried, and two more for each layer."""


@dataclass(frozen=True)
class Comparison:
    """What a comparison came to, block by block; the verdict is that of the worst block."""

    run_id: str
    epoch: int
    batch: Batch
    mode: str
    tolerance: float
    verdict: str
    blocks: list[BlockComparison]
    missing: list[str]


def take(
    database: Database, settings: Settings, kept: checkpoints.Kept, selection: Selection,
    given: Mapping[str, NDArray[Any]], mode: str,
) -> Comparison:  # fmt: skip
    """Compare gradients with those of C over the samples, at the weights of a checkpoint.

    Raises:
        InvalidInput: the samples do not fit, or the network has no gradient of a name that is given.
        LimitExceeded: too much to compute in one request.
    """
    check_mode(mode)
    opened = checkpoints.open_kept(kept)
    spec = opened.network.spec
    m, passes = batches.size(database, opened, selection), PASSES + 2 * len(spec.layers)
    # What is wrong in many ways is kept at once; what has a row for each sample only once.
    batches.limit_values(settings, batches.values_of(spec, m) + passes * spec.parameter_count, selection)
    batches.limit_operations(settings, spec, m, selection, passes)
    batch = batches.open_batch(database, settings, opened, selection)
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            blocks = compare(
                opened.network, opened.config["cost"], batch.X, batch.Y, given, batch.weights,
                training=mode == TRAINING,
            )  # fmt: skip
    except UnknownNameError as error:
        raise InvalidInput.at("/gradients", str(error)) from error
    return Comparison(
        kept.run_id,
        kept.epoch,
        batch,
        mode,
        TOLERANCES[str(opened.network.parameters.dtype)],
        max((block.verdict for block in blocks), key=VERDICTS.index),
        blocks,
        [f"d{name}" for name in opened.network.blocks if f"d{name}" not in given],
    )


def of_lists(given: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Make arrays of nested lists; null is what is not finite.

    Raises:
        InvalidInput: ragged, or not of numbers.
    """
    return {name: _of_list(name, values) for name, values in given.items()}


def of_npz(content: bytes, settings: Settings) -> dict[str, NDArray[Any]]:
    """Read the arrays of an archive.

    Raises:
        InvalidInput: it is damaged, pickled, or not of numbers.
        LimitExceeded: it unpacks to more than may be computed.
    """
    found = npz.read_arrays(io.BytesIO(content), Limits(8 * settings.max_inspect_values, settings.max_inspect_values))
    for name, array in found.items():
        if array.dtype.kind not in "iuf":
            raise _no_numbers(name)
    if not found:
        raise InvalidInput.at("/gradients", "The archive holds no array; send dW1, db1, ….")
    return found


def _of_list(name: str, values: Any) -> NDArray[Any]:
    if not all(value is None or type(value) in (int, float) for value in _leaves(values)):
        raise _no_numbers(name)
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput.at(
            f"/gradients/{name}", f"{name} is no array of numbers: its lists differ in length, or hold too much."
        ) from error


def _leaves(values: Any) -> Iterator[Any]:
    if isinstance(values, list):
        for value in values:
            yield from _leaves(value)
    else:
        yield values


def _no_numbers(name: str) -> InvalidInput:
    return InvalidInput.at(f"/gradients/{name}", f"{name} holds what is not a number.")
