"""The audit log: entries are added and read; nothing here, or anywhere, removes one, or changes one that is whole."""

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from chainrule.app.store.database import touched
from chainrule.app.store.models import AuditEntry

UNANSWERED = 0
"""The status of an entry that was stored with its change, until the answer to it is known."""


def add(session: Session, entry: AuditEntry) -> None:
    """Store an entry."""
    session.add(entry)
    session.flush()


def complete(session: Session, entry_id: str, *, status: int, object_id: str | None) -> bool:
    """Say in an entry what came of its change; False if there is none that waits for that."""
    waiting = update(AuditEntry).where(AuditEntry.id == entry_id, AuditEntry.status == UNANSWERED)
    return touched(session, waiting.values(status=status, object_id=object_id)) > 0


def page(session: Session, *, limit: int, cursor_id: str | None, newest_first: bool = True) -> Sequence[AuditEntry]:
    """Read one page of entries from behind `cursor_id`."""
    query = select(AuditEntry)
    if cursor_id is not None:
        query = query.where(AuditEntry.id < cursor_id if newest_first else AuditEntry.id > cursor_id)
    order = AuditEntry.id.desc() if newest_first else AuditEntry.id
    return session.scalars(query.order_by(order).limit(limit)).all()
