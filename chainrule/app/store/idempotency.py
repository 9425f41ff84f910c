"""Answers already given, by idempotency key."""

from datetime import datetime

from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from chainrule.app.store.models import IdempotencyKey


def get(session: Session, owner: str, key: str) -> IdempotencyKey | None:
    """Find the answer given to an owner under this key."""
    return session.get(IdempotencyKey, (owner, key))


def add(session: Session, answer: IdempotencyKey) -> None:
    """Keep an answer, in the transaction that creates what it tells of."""
    session.add(answer)
    session.flush()


def forget(session: Session, before: datetime) -> None:
    """Forget the answers given before a moment."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < before))


def touch(session: Session) -> None:
    """Write without changing anything, which fails where nothing can be written."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.key == ""))


def lock(session: Session, owner: str, key: str) -> bool:
    """Hold an owner's key until this transaction ends; False if another request holds it.

    Concurrency: an advisory lock on PostgreSQL; on SQLite the caller's `BEGIN IMMEDIATE` is the lock.
    """
    if session.get_bind().dialect.name == "sqlite":
        return True
    query = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))")
    return bool(session.scalar(query, {"key": f"{owner} {key}"}))
