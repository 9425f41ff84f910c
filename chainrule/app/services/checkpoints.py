"""Checkpoints: the weights at the end of an epoch, found by number or as `final`, `last` or `best`; and predicting."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput, LimitExceeded, NotFound
from chainrule.app.services import datasets, training
from chainrule.app.services.formats import rows as sent
from chainrule.app.services.formats.rows import Row
from chainrule.app.services.runs import found, iso
from chainrule.app.services.weights import decode_safetensors
from chainrule.app.store import checkpoints as store
from chainrule.app.store import runs
from chainrule.app.store.database import Database
from chainrule.app.store.models import Checkpoint, Epoch, Run
from chainrule.engine import Network, predict
from chainrule.engine.arrays import FloatArray
from chainrule.engine.network import classify
from chainrule.engine.preprocessing import Preprocessing

FINAL, LAST, BEST = ALIASES = ("final", "last", "best")


@dataclass(frozen=True)
class Kept:
    """A checkpoint with the weights in it, safetensors bytes, the config of its run, and its map of raw features."""

    run_id: str
    epoch: int
    config: dict[str, Any]
    inputs: Preprocessing
    sha256: str
    weights: bytes


@dataclass(frozen=True)
class Opened:
    """A network as it was at the end of an epoch, with the config of its run and its map of raw features."""

    run_id: str
    epoch: int
    config: dict[str, Any]
    inputs: Preprocessing
    network: Network


def page(database: Database, run_id: str, *, after: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
    """List checkpoints behind epoch `after`, and where more begin.

    Raises:
        NotFound: there is no such run.
    """
    with database.reading() as session:
        found(runs.get(session, run_id), run_id)
        read = [_view(*row) for row in store.page(session, run_id, after, limit + 1)]
    return read[:limit], read[limit - 1]["epoch"] if len(read) > limit else None


def get(database: Database, run_id: str, epoch: str) -> dict[str, Any]:
    """Look at one checkpoint: its epoch, costs, hash and size.

    Raises:
        NotFound: there is no such run, or it keeps no such checkpoint.
    """
    with database.reading() as session:
        run = found(runs.get(session, run_id), run_id)
        row = store.get(session, run_id, number_of(session, run, epoch))
        if row is None:
            raise _not_kept(run, epoch)
        return _view(*row)


def weights(database: Database, run_id: str, epoch: str) -> Kept:
    """Read the weights of one checkpoint.

    Raises:
        NotFound: there is no such run, or it keeps no such checkpoint.
    """
    with database.reading() as session:
        run = found(runs.get(session, run_id), run_id)
        number = number_of(session, run, epoch)
        row, content = store.get(session, run_id, number), store.weights(session, run_id, number)
        if row is None or content is None:
            raise _not_kept(run, epoch)
        inputs = training.load_inputs(session, run.id, run.config)
        return Kept(run.id, number, run.config, inputs, row[0].sha256, content)


def open_network(database: Database, run_id: str, epoch: str) -> Opened:
    """Put the network of one checkpoint together.

    Raises:
        NotFound: there is no such run, or it keeps no such checkpoint.
    """
    return open_kept(weights(database, run_id, epoch))


def open_kept(kept: Kept) -> Opened:
    """Put the network together of a checkpoint that has been read."""
    network = kept.config["network"]
    spec = training.network_spec(network, network["inputs"])
    made = Network.from_named(spec, decode_safetensors(kept.weights))
    return Opened(kept.run_id, kept.epoch, kept.config, kept.inputs, made)


def predict_rows(
    database: Database, settings: Settings, run_id: str, epoch: str, samples: Sequence[Row]
) -> dict[str, Any]:
    """Put samples through the network; answer in class names where there are classes.

    Raises:
        NotFound: there is no such run or checkpoint.
        InvalidInput: the samples do not fit the network.
        LimitExceeded: too much to compute in one request.
    """
    opened = open_network(database, run_id, epoch)
    X = fitting_samples(opened, samples)
    values = len(X) * sum(opened.network.spec.sizes)
    if values > settings.max_inspect_values:
        raise LimitExceeded(
            "The number of values to compute", values, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES",
            pointer="/samples", hint="Send fewer samples at once.",
        )  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = predict(opened.network, X)
    classes = datasets.describe(database, opened.config["dataset"]).classes
    labels = [classes[number] for number in classify(outputs, len(classes))] if classes else None
    return {
        "run": opened.run_id,
        "epoch": opened.epoch,
        "outputs": outputs,
        "labels": labels,
        "classes": list(classes),
    }


def fitting_samples(opened: Opened, samples: Sequence[Row]) -> FloatArray:
    """Make the network's input of raw rows that were sent along, as training made it of the dataset's.

    Raises:
        InvalidInput: ragged, not as wide as the dataset, an unknown category, or not finite in the run's float type.
    """
    inputs, dtype = opened.inputs, opened.network.parameters.dtype
    if samples and samples[0] and len(samples[0]) != inputs.inputs:
        taken = "the network takes" if inputs.is_affine else "the dataset has"
        raise InvalidInput.at("/samples/0", f"The samples have {len(samples[0])} values and {taken} {inputs.inputs}.")
    mapped = inputs.apply(sent.coded(samples, inputs.categories, inputs.names, "/samples"))
    for row, column in np.argwhere(np.abs(mapped) > np.finfo(dtype).max)[:1]:
        raise _too_large(opened, f"/samples/{row}/{inputs.raw_column(column)}")
    return mapped.astype(dtype)


def fitting_type(opened: Opened, rows: FloatArray, pointer: str) -> FloatArray:
    """Turn rows that were sent along into the run's float type.

    Raises:
        InvalidInput: a value is too large for it.
    """
    dtype = opened.network.parameters.dtype
    too_large = np.argwhere(np.abs(rows) > np.finfo(dtype).max)
    if len(too_large):
        row, column = (int(n) for n in too_large[0])
        raise _too_large(opened, f"{pointer}/{row}/{column}")
    return rows.astype(dtype)


def _too_large(opened: Opened, pointer: str) -> InvalidInput:
    return InvalidInput.at(pointer, f"The value is too large for {opened.network.parameters.dtype}, the run's type.")


def number_of(session: Any, run: Run, epoch: str) -> int:
    """Find the epoch that a name stands for.

    The final weights of a run with early stopping are those of its best epoch, else of its last.

    Raises:
        NotFound: the run keeps no checkpoint yet.
    """
    number: int | None
    if epoch == FINAL and run.best_epoch is not None:
        number = run.best_epoch
    elif epoch in (FINAL, LAST):
        number = store.last_epoch(session, run.id)
    elif epoch == BEST:
        number = store.best_epoch(session, run.id)
    else:
        return int(epoch)
    if number is None and run.verifies is not None:
        raise NotFound(f"Run {run.id} verifies run {run.verifies} and keeps no weights of its own; ask for that one's.")
    if number is None:
        raise NotFound(f"Run {run.id} has no checkpoint; its status is {run.status}.")
    return number


def _not_kept(run: Run, epoch: str) -> NotFound:
    if run.thinned_at is not None:
        return NotFound(
            f"Run {run.id} has no checkpoint of epoch {epoch}: at {iso(run.thinned_at)} all but those of its last, "
            "best and final epochs were removed, as this service does some time after a run's end (setting "
            f"CHAINRULE_BULK_RETENTION_S); GET /v1/runs/{run.id}/checkpoints lists those left."
        )
    return NotFound(
        f"Run {run.id} has no checkpoint of epoch {epoch} ({run.epochs_done} of {run.epochs_total} epochs are done, "
        f"checkpoints.every is {run.config['checkpoints']['every']}); "
        f"GET /v1/runs/{run.id}/checkpoints lists those it has."
    )


def _view(checkpoint: Checkpoint, epoch: Epoch) -> dict[str, Any]:
    return {
        "run": checkpoint.run_id,
        "epoch": checkpoint.epoch,
        "sha256": checkpoint.sha256,
        "size_bytes": checkpoint.size_bytes,
        "cost": epoch.cost,
        "error": epoch.error,
        "validation_cost": epoch.validation_cost,
        "validation_error": epoch.validation_error,
    }
