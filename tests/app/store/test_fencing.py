"""Fencing: whoever has lost its run writes nothing; and each of these tests fails where a write forgets the attempt."""

import contextlib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from chainrule.app import store
from chainrule.app.config import Settings
from chainrule.app.execution.writer import RunLost
from chainrule.app.run_status import TRANSITIONS, Reason, RunStatus
from chainrule.app.store import attempts
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database, now
from chainrule.app.store.models import Base, Run, RunAttempt
from tests.app.execution.test_writer import SUCCEEDED, trained, writing
from tests.app.store.test_runs import claim, queued_run

Write = Callable[[Session, Attempt], Any]


def ending(status: RunStatus) -> Write:
    return lambda session, attempt: attempts.end_attempt(
        session, attempt, status, Reason.COMPLETED, progress={"steps_done": 99}
    )


WRITES: dict[str, Write] = {
    "beat": lambda session, attempt: attempts.beat(session, [attempt]),
    "advance": lambda session, attempt: attempts.advance(session, attempt, {"epochs_done": 99, "cost": 0.5}),
    **{f"end_attempt {status}": ending(status) for status in sorted(TRANSITIONS[RunStatus.RUNNING])},
    "lose_attempt": lambda session, attempt: attempts.lose_attempt(
        session, attempt, Reason.CHILD_LOST, "killed", max_failures=3
    ),
    "lose_attempt as an observer": lambda session, attempt: attempts.lose_attempt(
        session, attempt, Reason.WORKER_LOST, "no heartbeat", max_failures=3, heartbeat=0
    ),
    "_end_attempt": lambda session, attempt: attempts._end_attempt(
        session, attempt, RunStatus.FAILED, Reason.COMPLETED, "", now()
    ),
}
READS = {"wishes", "has_ended"}


def rows(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All that is stored."""
    with database.reading() as session:
        return {
            table.name: sorted((tuple(row) for row in session.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }


def zombie(database: Database) -> Attempt:
    """An attempt that was taken for dead, and whose run another one trains by now."""
    queued_run(database)
    lost = claim(database, "zombie")
    assert lost is not None
    with database.writing() as session:
        attempts.lose_attempt(session, lost, Reason.WORKER_LOST, "", max_failures=3)
    assert claim(database, "winner") is not None
    return lost


def forget_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the attempt's id out of every condition: what somebody might do by mistake."""

    def held_of(given: Any) -> ColumnElement[bool]:
        return and_(Run.id.in_([attempt.run_id for attempt in given]), Run.status == RunStatus.RUNNING)

    monkeypatch.setattr(attempts, "_held_of", held_of)
    monkeypatch.setattr(attempts, "_held", lambda attempt: held_of([attempt]))
    monkeypatch.setattr(
        attempts, "_open", lambda attempt: and_(RunAttempt.run_id == attempt.run_id, RunAttempt.ended_at.is_(None))
    )


@pytest.mark.parametrize("name", WRITES)
def test_a_write_of_an_attempt_that_lost_its_run_touches_nothing(database: Database, name: str) -> None:
    attempt = zombie(database)
    before = rows(database)
    with database.writing() as session:
        assert not WRITES[name](session, attempt)
    assert rows(database) == before


@pytest.mark.parametrize("name", WRITES)
def test_a_write_that_forgot_the_attempt_would_be_found_out(
    database: Database, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = zombie(database)
    before = rows(database)
    forget_the_attempt(monkeypatch)
    with database.writing() as session:
        WRITES[name](session, attempt)
    assert rows(database) != before


def test_every_write_of_an_attempt_is_in_the_list() -> None:
    of_attempts = {
        name
        for module in pkgutil.iter_modules(store.__path__, f"{store.__name__}.")
        for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction)
        if function.__module__ == module.name
        and {"attempt", "attempts"} & set(parameters := inspect.signature(function).parameters)
        and "session" in parameters
    }
    inner = {"_leave_running"}  # takes its condition from whoever calls it
    assert of_attempts - READS - inner == {name.split()[0] for name in WRITES}


def write_as(database: Database, settings: Settings, attempt: Attempt, *, handed_over: bool) -> Iterator[None]:
    """Write two epochs as the training of an attempt does, in one go or handed over first."""
    writer = writing(database, settings, attempt)
    for epoch in trained(1):
        writer.add(0, epoch)
        if handed_over and not epoch.last:
            writer.hand_over({0: epoch.resume_point()})
            yield
    writer.end(0, SUCCEEDED, epoch.resume_point())
    with contextlib.suppress(RunLost):
        writer.close()
    yield


@pytest.mark.parametrize("forgetful", [False, True])
@pytest.mark.parametrize("handed_over", [False, True])
def test_nothing_a_lost_training_computes_is_stored_unless_its_attempt_is_forgotten(
    database: Database, settings: Settings, forgetful: bool, handed_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = zombie(database)
    before = rows(database)
    if forgetful:
        forget_the_attempt(monkeypatch)
    for _ in write_as(database, settings, attempt, handed_over=handed_over):
        pass
    after = rows(database)
    changed = {name for name in after if after[name] != before[name]}
    assert changed >= {"runs", "epochs", "checkpoints", "resume_points"} if forgetful else not changed
