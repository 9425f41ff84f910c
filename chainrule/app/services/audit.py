"""The audit log: who asked for a change of what, when, from where, and what came of it.

An entry is stored with the change, in its transaction, and completed when the answer is known: no change is without an
entry, wherever the service ends. What is refused gets its entry when it is answered.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from chainrule.app.services.keys import Caller
from chainrule.app.store import audit as store
from chainrule.app.store.database import Database, new_id, now
from chainrule.app.store.models import AuditEntry

PAGE = 1000


@dataclass(frozen=True)
class Change:
    """A request for a change, and its answer.

    Attributes:
        method, route: what was asked for; ids in the path are left to `object_id`.
        object_id: what it was about, or what it made; None if there is none.
        client: the address it came from, as we see it.
        status: the HTTP status it was answered with; 0 if that is not known yet.
        request_id: the answer's X-Request-Id.
    """

    method: str
    route: str
    object_id: str | None
    client: str | None
    status: int
    request_id: str


def begin(session: Session, caller: Caller, change: Change) -> str:
    """Store an entry with the change, in the transaction that makes it; give its id."""
    entry = _entry(caller, replace(change, status=store.UNANSWERED))
    store.add(session, entry)
    return entry.id


def record(database: Database, caller: Caller, change: Change, begun: str | None = None) -> None:
    """Complete the entry that was stored with the change; make one if there is none, its transaction having failed."""
    with database.of(caller.owner).writing(announce=False) as session:
        if begun is None or not store.complete(session, begun, status=change.status, object_id=change.object_id):
            store.add(session, _entry(caller, change))


def page(database: Database, *, limit: int, cursor_id: str | None, newest_first: bool = True) -> list[dict[str, Any]]:
    """List entries from behind `cursor_id`."""
    with database.reading() as session:
        found = store.page(session, limit=limit, cursor_id=cursor_id, newest_first=newest_first)
        return [_view(entry) for entry in found]


def every(database: Database, after: str | None = None) -> Iterator[dict[str, Any]]:
    """Go through all entries from behind `after`, the oldest first, page by page."""
    while found := page(database, limit=PAGE, cursor_id=after, newest_first=False):
        yield from found
        after = found[-1]["id"]


def _entry(caller: Caller, change: Change) -> AuditEntry:
    return AuditEntry(id=new_id("audit"), owner=caller.owner, key_id=caller.key_id, at=now(), **asdict(change))


def _view(entry: AuditEntry) -> dict[str, Any]:
    names = ("id", "key_id", "owner", "method", "route", "object_id", "client", "request_id")
    return {
        "at": entry.at.isoformat().replace("+00:00", "Z"),
        **{name: getattr(entry, name) for name in names},
        "status": None if entry.status == store.UNANSWERED else entry.status,
    }
