"""Gradients: the statistics a run recorded, and any quantity of backpropagation on demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput
from chainrule.app.services import batches, checkpoints
from chainrule.app.services.batches import Selection
from chainrule.app.services.runs import found, iso
from chainrule.app.store import gradients as store
from chainrule.app.store import runs
from chainrule.app.store.database import Database
from chainrule.engine import NetworkSpec, cost
from chainrule.engine.arrays import FloatArray
from chainrule.engine.gradients import PER_SAMPLE, equation, gradients, mixed, names, statistics
from chainrule.engine.network import mean_cost
from chainrule.engine.normalization import EVALUATION, MODES, TRAINING
from chainrule.engine.preprocessing import Preprocessing

RECORD = (
    "epoch", "layer", "gradient", "norm", "mean", "standard_deviation", "minimum", "maximum", "zeros", "update_ratio",
)  # fmt: skip


@dataclass(frozen=True)
class Question(Selection):
    """Which quantities, for which samples."""

    names: Sequence[str] | None = None
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
    asked = wanted(spec, question.names)
    if question.mode not in MODES:
        raise InvalidInput.at("/mode", f"There is no mode {question.mode!r}; there are {', '.join(MODES)}.")
    in_training = question.mode == TRAINING
    if question.per_sample and in_training:
        _each_its_own(spec, asked)
    m = len(question.rows if question.rows is not None else question.samples or ())
    _limit(settings, spec, asked, question, m)
    batch = batches.open_batch(database, settings, opened, question)
    # What overflows is shown as it is: an infinity here is a finding, and no warning would say more.
    with np.errstate(over="ignore", invalid="ignore"):
        arrays = gradients(
            opened.network, cost_name, batch.X, batch.Y, asked,
            per_sample=question.per_sample, weights=batch.weights, training=in_training,
        )  # fmt: skip
        value = mean_cost(opened.network, cost_name, batch.X, batch.Y, batch.weights, training=in_training)
        norms = {name: statistics(array).norm for name, array in arrays.items()}
    return Inspection(
        run_id=opened.run_id,
        epoch=opened.epoch,
        m=m,
        rows=None if question.rows is None else list(question.rows),
        cost=value,
        cost_name=cost_name,
        cost_equation=cost(cost_name).equation,
        weights=batch.weights,
        dtype=str(opened.network.parameters.dtype),
        per_sample=question.per_sample,
        arrays=arrays,
        norms=norms,
        equations={
            name: _equation(
                name, opened, per_sample=question.per_sample, weighted=batch.weights is not None, training=in_training
            )
            for name in asked
        },
        mode=question.mode,
    )


def wanted(spec: NetworkSpec, asked: Sequence[str] | None) -> list[str]:
    """Check the names of quantities that are asked for; all there are if none is named.

    Raises:
        InvalidInput: the network has no such quantity, or it is named twice.
    """
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
    sizes, values = spec.sizes, batches.values_of(spec, m)
    if question.per_sample:
        values += sum(m * sizes[int(n[2:])] * sizes[int(n[2:]) - 1] for n in wanted if n.startswith("dW"))
    batches.limit_values(settings, values, question)


def _equation(name: str, opened: checkpoints.Opened, *, per_sample: bool, weighted: bool, training: bool) -> str:
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
    return of_features(name, found, opened.run_id, opened.inputs)


def of_features(name: str, text: str, run_id: str, inputs: Preprocessing) -> str:
    """Say in an equation that the network's input is what preprocessing makes of the features, if it does."""
    if inputs.is_identity:
        return text
    if name == "A0":
        return f"A[0] = X′, the features after preprocessing: GET /v1/runs/{run_id}/inputs"
    return f"{text}, with respect to the features after preprocessing" if name == "dA0" else text
