"""Workers: the processes that host slots, and what they have counted together."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from chainrule.app.store.attempts import Heartbeat
from chainrule.app.store.database import now
from chainrule.app.store.models import Total, Worker


def beat(session: Session, worker_id: str, given: Mapping[str, Any]) -> None:
    """Show that a worker lives, and how it is; it is listed from its first heartbeat on."""
    values = {**given, "heartbeat": Worker.heartbeat + 1}
    touched = session.execute(
        update(Worker).where(Worker.id == worker_id).values(**values).returning(Worker.id)
    ).one_or_none()
    if touched is None:
        session.add(Worker(id=worker_id, heartbeat=1, started_at=now(), **given))
        session.flush()


def leave(session: Session, worker_ids: Sequence[str]) -> None:
    """Take workers off the list."""
    session.execute(delete(Worker).where(Worker.id.in_(worker_ids)))


def listed(session: Session) -> Sequence[Worker]:
    """Read all workers that have not taken their leave, in the order they came."""
    return session.scalars(select(Worker).order_by(Worker.id)).all()


def heartbeats(session: Session) -> list[Heartbeat]:
    """Read every worker's heartbeat, for an observer."""
    return [
        Heartbeat(worker_id, "", beats) for worker_id, beats in session.execute(select(Worker.id, Worker.heartbeat))
    ]


def count(session: Session, counted: Mapping[tuple[str, str], float]) -> None:
    """Add what was counted, by name and label, to the totals.

    Concurrency: rows are locked in the order of their names.
    """
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    for (name, label), value in sorted(counted.items()):
        row = insert(Total).values(name=name, label=label, value=value)
        session.execute(
            row.on_conflict_do_update(
                index_elements=[Total.name, Total.label], set_={"value": Total.value + row.excluded.value}
            )
        )


def totals(session: Session) -> dict[tuple[str, str], float]:
    """Read what was counted so far, by name and label."""
    return {
        (name, label): value for name, label, value in session.execute(select(Total.name, Total.label, Total.value))
    }
