"""The audit log: who asked for a change of what, when, from where, and what came of it."""

from dataclasses import asdict, dataclass
from typing import Any

from chainrule.app.services.keys import Caller
from chainrule.app.store import audit as store
from chainrule.app.store.database import Database, new_id, now
from chainrule.app.store.models import AuditEntry


@dataclass(frozen=True)
class Change:
    """A request for a change, and its answer.

    Attributes:
        method, route: what was asked for; ids in the path are left to `object_id`.
        object_id: what it was about, or what it made; None if there is none.
        client: the address it came from, as we see it.
        status: the HTTP status it was answered with.
        request_id: the answer's X-Request-Id.
    """

    method: str
    route: str
    object_id: str | None
    client: str | None
    status: int
    request_id: str


def record(database: Database, caller: Caller, change: Change) -> None:
    """Keep an entry, in a transaction of its own; it is the caller's owner's."""
    entry = AuditEntry(id=new_id("audit"), owner=caller.owner, key_id=caller.key_id, at=now(), **asdict(change))
    with database.of(caller.owner).writing(announce=False) as session:
        store.add(session, entry)


def page(database: Database, *, limit: int, cursor_id: str | None) -> list[dict[str, Any]]:
    """List entries, the newest first, from behind `cursor_id`."""
    names = ("id", "key_id", "owner", "method", "route", "object_id", "client", "status", "request_id")
    with database.reading() as session:
        return [
            {"at": entry.at.isoformat().replace("+00:00", "Z")} | {name: getattr(entry, name) for name in names}
            for entry in store.page(session, limit=limit, cursor_id=cursor_id)
        ]
