"""Answers already given, by idempotency key."""

from datetime import timedelta

from sqlalchemy import delete, text
from sqlalchemy.orm import Session

from chainrule.app.store.database import now
from chainrule.app.store.models import IdempotencyKey

KEPT_FOR = timedelta(days=7)


def get(session: Session, key: str) -> IdempotencyKey | None:
    """Find the answer given under this key."""
    return session.get(IdempotencyKey, key)


def add(session: Session, answer: IdempotencyKey) -> None:
    """Keep an answer, in the transaction that creates what it tells of."""
    session.add(answer)
    session.flush()


def forget(session: Session) -> None:
    """Forget the answers of more than a week ago."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now() - KEPT_FOR))


def lock(session: Session, key: str) -> bool:
    """Hold the key until this transaction ends; False if another request holds it.

    Concurrency: an advisory lock on PostgreSQL; on SQLite the caller's `BEGIN IMMEDIATE` is the lock.
    """
    if session.get_bind().dialect.name == "sqlite":
        return True
    query = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))")
    return bool(session.scalar(query, {"key": key}))
