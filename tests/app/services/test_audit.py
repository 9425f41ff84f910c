"""The audit log: no change without an entry, whatever happens after it."""

from contextlib import suppress
from typing import Any

import pytest

from chainrule.app.services import audit
from chainrule.app.services.audit import Change
from chainrule.app.services.keys import ADMIN, Caller
from chainrule.app.store import runs
from chainrule.app.store.database import Database
from tests.app.store.test_visibility import a_run

CALLER = Caller("alice", ADMIN, "key_1")
ASKED = Change("POST", "/v1/runs", None, "127.0.0.1", 0, "r1")
ANSWERED = Change("POST", "/v1/runs", "run_x", "127.0.0.1", 201, "r1")


def log_of(database: Database) -> list[tuple[Any, Any]]:
    return [(entry["status"], entry["object_id"]) for entry in audit.page(database, limit=9, cursor_id=None)]


def changing(database: Database) -> tuple[Database, list[str]]:
    """Give the database as a request sees it that changes something, and where the id of its entry will be."""
    begun: list[str] = []

    def note(session: Any) -> None:
        if not begun:
            begun.append(audit.begin(session, CALLER, ASKED))

    return database.of("alice").noting(note), begun


def test_a_change_has_its_entry_though_nobody_comes_to_say_what_came_of_it(database: Database) -> None:
    seen, begun = changing(database)
    with seen.writing() as session:
        runs.add(session, a_run())
    with seen.writing() as session:
        runs.cancel_queued(session, "run_x")
    assert log_of(database) == [(None, None)]
    audit.record(database, CALLER, ANSWERED, *begun)
    assert log_of(database) == [(201, "run_x")]


def test_an_entry_that_is_whole_is_changed_no_more(database: Database) -> None:
    seen, begun = changing(database)
    with seen.writing() as session:
        runs.add(session, a_run())
    audit.record(database, CALLER, ANSWERED, *begun)
    audit.record(database, CALLER, Change(**{**vars(ANSWERED), "status": 500}), *begun)
    assert log_of(database) == [(500, "run_x"), (201, "run_x")]


def test_a_change_that_is_undone_has_the_entry_of_its_answer_alone(database: Database) -> None:
    seen, begun = changing(database)
    with suppress(KeyError), seen.writing() as session:
        runs.add(session, a_run())
        raise KeyError
    assert (log_of(database), begun) == ([], [])
    with seen.writing() as session:
        session.flush()
        begun.append("audit_of_a_transaction_that_failed")
    audit.record(database, CALLER, Change(**{**vars(ANSWERED), "status": 503}), *begun)
    assert log_of(database) == [(503, "run_x")]


def test_all_entries_of_all_owners_come_page_by_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE", 2)
    for number in range(5):
        owner = ("alice", "bob")[number % 2]
        audit.record(database, Caller(owner, ADMIN, "key"), Change(**{**vars(ANSWERED), "status": 200 + number}))
    found = list(audit.every(database))
    assert [(entry["owner"], entry["status"]) for entry in found] == [
        ("alice", 200), ("bob", 201), ("alice", 202), ("bob", 203), ("alice", 204),
    ]  # fmt: skip
    assert list(audit.every(database, after=found[1]["id"])) == found[2:]
    assert [entry["status"] for entry in audit.every(database.of("bob"))] == [201, 203]
    newest = audit.page(database, limit=2, cursor_id=None)
    assert newest == found[:2:-1]
    assert audit.page(database, limit=9, cursor_id=newest[-1]["id"]) == found[2::-1]
