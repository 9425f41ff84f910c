"""Epochs: what each came to, the same for those who poll and those who listen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from chainrule.app.run_status import RunStatus
from chainrule.app.services.runs import found, verdicts
from chainrule.app.store import epochs as store
from chainrule.app.store import runs
from chainrule.app.store.database import Database
from chainrule.app.store.models import Epoch
from chainrule.engine import TrainingConfig
from chainrule.engine.stopping import Watched

COLUMNS = ("epoch", "cost", "error", "validation_cost", "validation_error", "learning_rate", "seconds")


@dataclass(frozen=True)
class Page:
    """Epochs from behind a number, with the run's state at the same moment.

    Attributes:
        rows: one tuple for each epoch, in the order of COLUMNS.
        next_after: where more that is there already begins; None if there is none.
        stride, of: every `stride`-th of `of` epochs was read; None if all were.
        diagnoses: the verdicts on the run so far, as they are stored.
    """

    run_id: str
    status: str
    reason: str
    detail: str
    revision: int
    rows: list[tuple[Any, ...]]
    next_after: int | None = None
    stride: int | None = None
    of: int | None = None
    diagnoses: Sequence[dict[str, Any]] = ()

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return RunStatus(self.status).terminal


def page(database: Database, run_id: str, *, after: int, limit: int, at_most: int | None = None) -> Page:
    """Read up to `limit` epochs behind `after`; or, with `at_most`, all of them thinned out to about so many.

    Transaction: epochs and the run's state are of one moment, so that "done" means there are no more.

    Raises:
        NotFound: there is no such run.
    """
    with database.reading() as session:
        run = found(runs.get(session, run_id), run_id)
        state = (run.id, run.status, run.reason, run.detail, run.revision)
        said = verdicts(run)
        if at_most is not None:
            total, last = store.count(session, run_id, after)
            if total > at_most:
                stride = -(-total // at_most)
                return Page(*state, _rows(store.every(session, run_id, after, stride, last)), stride=stride, of=total)
            limit = at_most
        read = _rows(store.page(session, run_id, after, limit + 1))
    more = len(read) > limit
    read = read[:limit]
    return Page(*state, read, next_after=read[-1][0] if more else None, diagnoses=said)


def watched_up_to(session: Session, run_id: str, engine: TrainingConfig, epoch: int) -> Watched | None:
    """Tell what early stopping and plateau had seen by the end of an epoch; None if its costs are not all there."""
    watched, stopping = Watched(), engine.early_stopping
    patience = engine.schedule.patience if engine.schedule.name == "plateau" else None
    rows = store.page(session, run_id, -1, epoch + 1)
    if [row.epoch for row in rows] != list(range(epoch + 1)):
        return None
    for row in rows:
        seen = row.cost if row.validation_cost is None else row.validation_cost
        watched.see(row.epoch, seen, min_delta=stopping.min_delta if stopping else 0.0, plateau_patience=patience)
    return watched


def _rows(epochs: Sequence[Epoch]) -> list[tuple[Any, ...]]:
    return [tuple(getattr(epoch, name) for name in COLUMNS) for epoch in epochs]
