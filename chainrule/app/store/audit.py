"""The audit log: entries are added and read; nothing here, or anywhere, changes or removes one."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from chainrule.app.store.models import AuditEntry


def add(session: Session, entry: AuditEntry) -> None:
    """Store an entry."""
    session.add(entry)
    session.flush()


def page(session: Session, *, limit: int, cursor_id: str | None) -> Sequence[AuditEntry]:
    """Read one page of entries, the newest first, from behind `cursor_id`."""
    query = select(AuditEntry)
    if cursor_id is not None:
        query = query.where(AuditEntry.id < cursor_id)
    return session.scalars(query.order_by(AuditEntry.id.desc()).limit(limit)).all()
