"""Gradients: the statistics a run recorded, and any quantity of backpropagation on demand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput, LimitExceeded
from chainrule.app.services import checkpoints, datasets, training
from chainrule.app.services.formats import rows as sent
from chainrule.app.services.formats.rows import Row
from chainrule.app.services.runs import found, iso
from chainrule.app.store import gradients as store
from chainrule.app.store import runs
from chainrule.app.store.database import Database
from chainrule.engine import Data, EngineError, NetworkSpec, cost, goal
from chainrule.engine.arrays import FloatArray
from chainrule.engine.gradients import PER_SAMPLE, equation, gradients, mixed, names, statistics
from chainrule.engine.network import mean_cost
from chainrule.engine.normalization import EVALUATION, MODES, TRAINING
from chainrule.engine.preprocessing import Preprocessing

RECORD = (
    "epoch", "layer", "gradient", "norm", "mean", "standard_deviation", "minimum", "maximum", "zeros", "update_ratio",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """Which quantities, for which samples: rows of the run's dataset, or samples sent along."""

    names: Sequence[str] | None = None
    rows: Sequence[int] | None = None
    samples: Sequence[Row] | None = None
    labels: Sequence[Any] | None = None
    targets: list[list[float]] | None = None
    per_sample: bool = False
    mode: str = EVALUATION


@dataclass(frozen=True)
class Inspection:
    """Quantities of backpropagation for some samples, at the weights of one epoch.

    Attributes:
        m: how many samples.
        cost: C over them.
        cost_name, cost_equation: which cost, and E of one sample.
        weights: w of each sample, None where all are 1.
        arrays: by name.
        norms: √Σx² of each.
        equations: of each.
        mode: where batch normalization took μ and σ² from.
    """

    run_id: str
    epoch: int
    m: int
    rows: list[int] | None
    cost: float
    cost_name: str
    cost_equation: str
    weights: FloatArray | None
    dtype: str
    per_sample: bool
    arrays: dict[str, FloatArray]
    norms: dict[str, float]
    equations: dict[str, str]
    mode: str


def recorded(
    database: Database, run_id: str, *, after: int, limit: int, layer: int | None
) -> tuple[list[dict[str, Any]], int | None, str | None]:
    """Read the recorded statistics of up to `limit` epochs behind `after`, where more begin, and if some are gone.

    Raises:
        NotFound: there is no such run.
    """
    with database.reading() as session:
        thinned_at = found(runs.get(session, run_id), run_id).thinned_at
        records, more = store.page(session, run_id, after, limit, layer)
        shown = [{name: getattr(record, name) for name in RECORD} for record in records]
    return shown, shown[-1]["epoch"] if more and shown else None, iso(thinned_at)


def inspect(database: Database, settings: Settings, run_id: str, epoch: str, question: Question) -> Inspection:
    """Run forward and backward for the samples asked for, by the engine's reading path.

    The cost is the run's own C, with smoothed labels and weighted errors if it has them; the network is used as it
    is, without dropout, and with running statistics unless the mode is training. Weights and samples are read and the
    session is closed before anything is computed.

    Raises:
        NotFound: there is no such run or checkpoint.
        InvalidInput: a name, a row or a sample does not fit.
        LimitExceeded: too much to compute in one request.
    """
    opened = checkpoints.open_network(database, run_id, epoch)
    spec, cost_name = opened.network.spec, opened.config["cost"]
    wanted = _wanted(spec, question.names)
    if question.mode not in MODES:
        raise InvalidInput.at("/mode", f"There is no mode {question.mode!r}; there are {', '.join(MODES)}.")
    in_training = question.mode == TRAINING
    if question.per_sample and in_training:
        _each_its_own(spec, wanted)
    m = len(question.rows if question.rows is not None else question.samples or ())
    _limit(settings, spec, wanted, question, m)
    config = training.engine_config(opened.config, spec.inputs)
    if question.rows is not None:
        data = training.open_data(database, settings, opened.config, opened.config["dataset"])
        data = rows_of(data, question.rows, opened.inputs)
    else:
        data = _sent(database, opened, question)
    try:
        sought = goal(config, data, training.class_balance(database, settings, opened.config))
    except EngineError as error:
        raise InvalidInput.at("/targets", str(error)) from error
    # What overflows is shown as it is: an infinity here is a finding, and no warning would say more.
    with np.errstate(over="ignore", invalid="ignore"):
        arrays = gradients(
            opened.network, cost_name, data.X, sought.Y, wanted,
            per_sample=question.per_sample, weights=sought.weights, training=in_training,
        )  # fmt: skip
        value = mean_cost(opened.network, cost_name, data.X, sought.Y, sought.weights, training=in_training)
        norms = {name: statistics(array).norm for name, array in arrays.items()}
    return Inspection(
        run_id=opened.run_id,
        epoch=opened.epoch,
        m=m,
        rows=None if question.rows is None else list(question.rows),
        cost=value,
        cost_name=cost_name,
        cost_equation=cost(cost_name).equation,
        weights=sought.weights,
        dtype=str(opened.network.parameters.dtype),
        per_sample=question.per_sample,
        arrays=arrays,
        norms=norms,
        equations={
            name: _equation(
                name, opened, per_sample=question.per_sample, weighted=sought.weights is not None, training=in_training
            )
            for name in wanted
        },
        mode=question.mode,
    )


def rows_of(data: Data, rows: Sequence[int], inputs: Preprocessing) -> Data:
    """Take rows of a dataset, X as the network takes it.

    Raises:
        InvalidInput: a row that is not there.
    """
    for position, row in enumerate(rows):
        if not 0 <= row < data.samples:
            raise InvalidInput.at(
                f"/rows/{position}", f"There is no row {row}; the dataset has rows 0 to {data.samples - 1}."
            )
    chosen = inputs.transform(data.take(np.array(rows, dtype=np.int64)))
    return replace(chosen, X=np.asarray(chosen.X, dtype=np.float64))


def _wanted(spec: NetworkSpec, asked: Sequence[str] | None) -> list[str]:
    known = names(spec)
    if asked is None:
        return known
    for position, name in enumerate(asked):
        if name not in known:
            raise InvalidInput.at(
                f"/names/{position}", f"The network has no quantity {name!r}; it has {', '.join(known)}."
            )
        if name in asked[:position]:
            raise InvalidInput.at(f"/names/{position}", f"{name} is asked for twice; ask once.")
    return list(asked)


def _each_its_own(spec: NetworkSpec, wanted: Sequence[str]) -> None:
    """Refuse to tell samples apart where a step's batch normalization mixes them."""
    for position, name in enumerate(wanted):
        if name.startswith(PER_SAMPLE) and mixed(name, spec):
            raise InvalidInput.at(
                f"/names/{position}",
                f"No sample has a {name} of its own in training: through μ and σ² of batch normalization it changes "
                "the errors of all. Leave per_sample out, or ask in mode evaluation.",
            )


def _limit(settings: Settings, spec: NetworkSpec, wanted: list[str], question: Question, m: int) -> None:
    sizes = spec.sizes
    normalizing = sum(layer.units for layer in spec.layers if layer.normalization is not None)
    values = m * (4 * sum(sizes) + 3 * normalizing) + spec.parameter_count
    if question.per_sample:
        values += sum(m * sizes[int(n[2:])] * sizes[int(n[2:]) - 1] for n in wanted if n.startswith("dW"))
    if values > settings.max_inspect_values:
        raise LimitExceeded(
            "The number of values to compute", values, settings.max_inspect_values, "CHAINRULE_MAX_INSPECT_VALUES",
            pointer="/samples" if question.rows is None else "/rows", hint="Ask for fewer samples at once.",
        )  # fmt: skip


def _sent(database: Database, opened: checkpoints.Opened, question: Question) -> Data:
    """Read samples that were sent along; each weighs 1, beside what its class weighs."""
    X = checkpoints.fitting_samples(opened, question.samples or [])
    classes = datasets.describe(database, opened.config["dataset"]).classes
    if question.labels is not None:
        if not classes:
            raise InvalidInput.at("/labels", "The run is a regression; send targets in place of labels.")
        position = {name: number for number, name in enumerate(classes)}
        for at, label in enumerate(question.labels):
            if str(label) not in position:
                raise InvalidInput.at(
                    f"/labels/{at}", f"There is no class {str(label)!r}; the classes are {', '.join(classes)}."
                )
        labels = np.array([position[str(label)] for label in question.labels], dtype=np.int64)
        _as_many(X, labels, "labels")
        return Data(X, labels=labels, classes=classes)
    if classes:
        raise InvalidInput.at("/targets", f"The run is a classifier; send labels: {', '.join(classes)}.")
    Y = checkpoints.fitting_type(opened, sent.matrix(question.targets or [], "/targets"), "/targets")
    _as_many(X, Y, "targets")
    return Data(X, Y=Y)


def _as_many(samples: NDArray[Any], given: NDArray[Any], name: str) -> None:
    if len(given) != len(samples):
        raise InvalidInput.at(f"/{name}", f"There are {len(samples)} samples and {len(given)} {name}.")


def _equation(name: str, opened: checkpoints.Opened, *, per_sample: bool, weighted: bool, training: bool) -> str:
    preprocessed = not opened.inputs.is_identity
    if preprocessed and name == "A0":
        return f"A[0] = X′, the features after preprocessing: GET /v1/runs/{opened.run_id}/inputs"
    if per_sample and name.startswith("dW"):
        number = int(name[2:])
        return f"dW[{number}]⁽ⁱ⁾ = dZ[{number}]⁽ⁱ⁾ᵀ·A[{number - 1}]⁽ⁱ⁾"
    if per_sample and name.startswith("dbeta"):
        return f"dβ[{name[5:]}]⁽ⁱ⁾ = dN[{name[5:]}]⁽ⁱ⁾"
    if per_sample and name.startswith("dgamma"):
        return f"dγ[{name[6:]}]⁽ⁱ⁾ = dN[{name[6:]}]⁽ⁱ⁾ ⊙ Ẑ[{name[6:]}]⁽ⁱ⁾"
    if per_sample and name.startswith("db"):
        return f"db[{name[2:]}]⁽ⁱ⁾ = dZ[{name[2:]}]⁽ⁱ⁾"
    found = equation(name, opened.network.spec, opened.config["cost"], weighted=weighted, training=training)
    return f"{found}, with respect to the features after preprocessing" if preprocessed and name == "dA0" else found
