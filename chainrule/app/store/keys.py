"""Keys of callers: found by id, never by secret."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import literal, select, update
from sqlalchemy.orm import Session

from chainrule.app.store.database import now
from chainrule.app.store.models import ApiKey


@dataclass(frozen=True)
class Known:
    """What is known of a key that was shown; all None if there is none of its id."""

    id: str | None
    owner: str | None
    scope: str | None
    sha256: str | None
    previous_sha256: str | None
    previous_until: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


def look(session: Session, key_id: str) -> Known:
    """Look a key up that was shown: one row comes back whether there is one of this id or not, in the same time."""
    always = select(literal(1).label("one")).subquery()
    columns = [getattr(ApiKey, name) for name in Known.__dataclass_fields__]
    query = select(*columns).select_from(always).outerjoin(ApiKey, ApiKey.id == key_id)
    return Known(*session.execute(query).one())


def add(session: Session, key: ApiKey) -> None:
    """Store a new key."""
    session.add(key)
    session.flush()


def get(session: Session, key_id: str) -> ApiKey | None:
    """Find one key."""
    return session.get(ApiKey, key_id)


def hold(session: Session, key_id: str) -> ApiKey | None:
    """Find one key and keep it as it is until this transaction ends."""
    return session.get(ApiKey, key_id, with_for_update=True)


def page(session: Session, *, limit: int | None, cursor_id: str | None) -> Sequence[ApiKey]:
    """Read one page of keys, the newest first, from behind `cursor_id`."""
    query = select(ApiKey)
    if cursor_id is not None:
        query = query.where(ApiKey.id < cursor_id)
    return session.scalars(query.order_by(ApiKey.id.desc()).limit(limit)).all()


def note_use(session: Session, key_id: str) -> None:
    """Note that a key was used in this hour."""
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=_hour()))


def use_is_noted(known: Known) -> bool:
    """Tell whether it is known already that the key was used in this hour."""
    return known.last_used_at is not None and known.last_used_at >= _hour()


def _hour() -> datetime:
    return now().replace(minute=0, second=0, microsecond=0)
