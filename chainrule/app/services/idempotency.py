"""Idempotency: a create request repeated under one key is answered once and for all."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from chainrule.app.errors import IdempotencyInFlight, IdempotencyMismatch
from chainrule.app.store import idempotency as store
from chainrule.app.store.database import Database, now
from chainrule.app.store.models import LOCAL, IdempotencyKey


@dataclass(frozen=True)
class Key:
    """What a client calls its request, and a hash of method, path and body; each owner has names of its own."""

    value: str
    request_sha256: str
    owner: str = LOCAL


@dataclass(frozen=True)
class Answer:
    """What a create request was answered."""

    status_code: int
    location: str
    body: dict[str, Any]


_in_flight: set[tuple[str, str]] = set()
_guard = threading.Lock()


@contextmanager
def in_flight(key: Key | None) -> Iterator[None]:
    """Hold the key while its request is answered.

    Raises:
        IdempotencyInFlight: another request of this process holds it.
    """
    if key is None:
        yield
        return
    with _guard:
        if (key.owner, key.value) in _in_flight:
            raise _still_in_flight(key)
        _in_flight.add((key.owner, key.value))
    try:
        yield
    finally:
        with _guard:
            _in_flight.discard((key.owner, key.value))


def find(database: Database, key: Key | None) -> Answer | None:
    """Look up the answer already given.

    Raises:
        IdempotencyMismatch: it was given to another body.
    """
    if key is None:
        return None
    with database.reading() as session:
        return _answer(session, key)


def begin(session: Session, key: Key | None) -> Answer | None:
    """Look again inside the transaction that creates, holding the key against other processes.

    Raises:
        IdempotencyMismatch: the key was used with another body.
        IdempotencyInFlight: another process holds it.
    """
    if key is None:
        return None
    if not store.lock(session, key.owner, key.value):
        raise _still_in_flight(key)
    return _answer(session, key)


def keep(session: Session, key: Key | None, answer: Answer) -> None:
    """Keep the answer, in the transaction that creates what it tells of."""
    if key is not None:
        store.add(
            session,
            IdempotencyKey(
                owner=key.owner,
                key=key.value,
                request_sha256=key.request_sha256,
                status_code=answer.status_code,
                location=answer.location,
                body=answer.body,
                created_at=now(),
            ),
        )


def _answer(session: Session, key: Key) -> Answer | None:
    found = store.get(session, key.owner, key.value)
    if found is None:
        return None
    if found.request_sha256 != key.request_sha256:
        raise IdempotencyMismatch(
            f"Idempotency-Key {key.value!r} was used with another request; use a new key for a new request."
        )
    return Answer(found.status_code, found.location, found.body)


def _still_in_flight(key: Key) -> IdempotencyInFlight:
    return IdempotencyInFlight(
        f"A request with Idempotency-Key {key.value!r} is still being answered; repeat this one a little later."
    )
