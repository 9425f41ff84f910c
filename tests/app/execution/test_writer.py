"""The writer: what is stored and where the run would go on never disagree."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from chainrule.app.config import Settings
from chainrule.app.execution import writer as module
from chainrule.app.execution.writer import Assignment, Ending, RunLost, Writer
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services.training import load_resume_point
from chainrule.app.store import attempts, epochs, runs
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database
from chainrule.app.store.models import Checkpoint, Epoch, ResumePoint, Run
from chainrule.engine import Epoch as Trained
from chainrule.engine import TrainingConfig, dense, train, xor
from tests.app.store.test_database import epoch_row
from tests.app.store.test_runs import claim, queued_run, status_of

EPOCHS = 10
CONFIG: dict[str, Any] = {
    "network": {"layers": [{"units": 2, "activation": "tanh"}, {"units": 1, "activation": "sigmoid"}]},
    "checkpoints": {"every": 5, "keep": None},
    "gradients": {"every": 1},
    "epochs": EPOCHS,
}
SUCCEEDED = Ending(RunStatus.SUCCEEDED, Reason.COMPLETED)
DRAINED = Ending(RunStatus.QUEUED, Reason.DRAINED)


def trained(count: int = EPOCHS) -> Iterator[Trained]:
    config = TrainingConfig(dense(2, (2, "tanh"), (1, "sigmoid")), epochs=count)
    for event in train(config, xor()):
        assert isinstance(event, Trained)
        yield event


def claimed(database: Database) -> Attempt:
    queued_run(database)
    attempt = claim(database)
    assert attempt is not None
    return attempt


def writing(database: Database, settings: Settings, attempt: Attempt, flush_interval_s: float = 3600.0) -> Writer:
    changed = settings.model_copy(update={"flush_interval_s": flush_interval_s})
    return Writer(database, changed, [Assignment(attempt, CONFIG, 1)], due=threading.Event())


def recorded(database: Database) -> tuple[list[int], list[int], list[int]]:
    """The epochs, the checkpoints and the resume points that are stored."""
    with database.reading() as session:
        found = [
            session.scalars(select(column).order_by(column)).all()
            for column in (Epoch.epoch, Checkpoint.epoch, ResumePoint.epoch)
        ]
    return list(found[0]), list(found[1]), list(found[2])


def test_the_end_writes_what_was_handed_over_and_then_the_rest(database: Database, settings: Settings) -> None:
    attempt = claimed(database)
    writer = writing(database, settings, attempt)
    for epoch in trained():
        writer.add(0, epoch)
        if epoch.epoch in (3, 4, 8):
            writer.hand_over({0: epoch.resume_point()})
    writer.end(0, SUCCEEDED, epoch.resume_point())
    writer.close()
    assert recorded(database) == (list(range(EPOCHS + 1)), [0, 1, 5, 10], [EPOCHS])
    assert status_of(database, attempt.run_id) == ("succeeded", "completed")


def test_a_drained_run_goes_on_where_its_records_end(database: Database, settings: Settings) -> None:
    attempt = claimed(database)
    writer = writing(database, settings, attempt)
    for epoch in trained():
        writer.add(0, epoch)
        if epoch.epoch == 6:
            writer.end(0, DRAINED, epoch.resume_point())
            writer.close()
            break
    assert recorded(database) == (list(range(7)), [0, 1, 5], [6])
    assert status_of(database, attempt.run_id) == ("queued", "drained")
    point = load_resume_point(database, attempt.run_id)
    assert point is not None
    assert (point.epoch, point.step) == (6, 0)


@pytest.mark.parametrize("ending", [Ending(RunStatus.CANCELLED, Reason.CANCEL_REQUESTED), DRAINED])
def test_a_run_that_was_to_be_cancelled_ends_and_keeps_its_resume_point(
    database: Database, settings: Settings, ending: Ending
) -> None:
    attempt = claimed(database)
    with database.writing() as session:
        assert runs.request_cancel(session, attempt.run_id)
    writer = writing(database, settings, attempt)
    first = next(trained())
    writer.add(0, first)
    writer.end(0, ending, first.resume_point())
    writer.close()
    assert status_of(database, attempt.run_id) == ("cancelled", "cancel_requested")
    assert recorded(database) == ([0], [0], [0])


def test_a_run_that_has_diverged_keeps_no_resume_point(database: Database, settings: Settings) -> None:
    attempt = claimed(database)
    writer = writing(database, settings, attempt)
    for epoch in trained(4):
        writer.add(0, epoch)
        if epoch.epoch == 2:
            writer.hand_over({0: epoch.resume_point()})
    writer.end(0, Ending(RunStatus.FAILED, Reason.DIVERGED), None)
    writer.close()
    assert recorded(database) == (list(range(5)), [0, 1, 4], [])


def test_nothing_of_a_lost_attempt_is_written(database: Database, settings: Settings) -> None:
    attempt = claimed(database)
    writer = writing(database, settings, attempt)
    with database.writing() as session:
        attempts.lose_attempt(session, attempt, Reason.WORKER_LOST, "", max_failures=3)
    first = next(trained())
    writer.add(0, first)
    writer.hand_over({0: first.resume_point()})
    assert writer.due.wait(timeout=60), "whoever trains is told that there is news"
    assert writer.lost == {0}
    writer.add(0, first)
    writer.end(0, SUCCEEDED, None)
    with pytest.raises(RunLost, match=attempt.run_id):
        writer.close()
    assert recorded(database) == ([], [], [])
    assert status_of(database, attempt.run_id) == ("queued", "worker_lost")


def test_a_write_that_fails_fails_the_training_and_leaves_nothing(database: Database, settings: Settings) -> None:
    attempt = claimed(database)
    with database.writing() as session:
        epochs.add(session, [epoch_row(attempt.run_id, 0)])
    writer = writing(database, settings, attempt)
    first = next(trained())
    writer.add(0, first)
    writer.hand_over({0: first.resume_point()})
    writer.end(0, SUCCEEDED, None)
    with pytest.raises(IntegrityError):
        writer.close()
    assert recorded(database) == ([0], [], [])
    with database.reading() as session:
        assert session.get_one(Run, attempt.run_id).epochs_done == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_writes_are_repeated_while_the_database_is_away(database: Database, settings: Settings) -> None:
    attempt = claimed(database)
    writer = writing(database, settings, attempt)
    with database.writing() as session:
        session.execute(text("ALTER TABLE epochs RENAME TO away"))
    back = threading.Timer(0.5, _rename, [str(database.url.database)])
    back.start()
    for epoch in trained():
        writer.add(0, epoch)
        if epoch.epoch == 2:
            writer.hand_over({0: epoch.resume_point()})
    writer.end(0, SUCCEEDED, None)
    writer.close()
    back.join()
    assert recorded(database) == (list(range(EPOCHS + 1)), [0, 1, 5, 10], [])


class Answerless(Database):
    """A database that commits the next `losing` writes and loses its answers."""

    losing = 0

    @contextmanager
    def writing(self, *, announce: bool = True, patience_s: float | None = None) -> Iterator[Session]:
        with super().writing(announce=announce, patience_s=patience_s) as session:
            yield session
        if self.losing:
            self.losing -= 1
            raise OperationalError("COMMIT", None, Exception("the answer is lost"))


@pytest.mark.parametrize("ending", [SUCCEEDED, DRAINED, Ending(RunStatus.FAILED, Reason.DIVERGED)])
def test_a_write_whose_answer_was_lost_is_not_repeated(database_url: str, settings: Settings, ending: Ending) -> None:
    database = Answerless(database_url)
    attempt = claimed(database)
    database.losing = 2
    writer = writing(database, settings, attempt)
    for epoch in trained():
        writer.add(0, epoch)
        if epoch.epoch in (3, 7):
            writer.hand_over({0: epoch.resume_point()})
    writer.end(0, ending, None if ending.reason is Reason.DIVERGED else epoch.resume_point())
    database.losing += 1
    writer.close()
    assert database.losing == 0
    assert recorded(database)[:2] == (list(range(EPOCHS + 1)), [0, 1, 5, 10])
    assert status_of(database, attempt.run_id) == (ending.status, ending.reason)
    database.dispose()


def test_a_lost_answer_does_not_hide_that_the_run_was_lost(database_url: str, settings: Settings) -> None:
    database = Answerless(database_url)
    attempt = claimed(database)
    with database.writing() as session:
        attempts.lose_attempt(session, attempt, Reason.WORKER_LOST, "", max_failures=3)
    writer = writing(database, settings, attempt)
    first = next(trained())
    writer.add(0, first)
    writer.end(0, SUCCEEDED, first.resume_point())
    database.losing = 1
    with pytest.raises(RunLost, match=attempt.run_id):
        writer.close()
    assert recorded(database) == ([], [], [])
    database.dispose()


def _rename(file: str) -> None:
    connection = sqlite3.connect(file)
    connection.execute("ALTER TABLE away RENAME TO epochs")
    connection.close()


def test_a_resume_point_is_due_when_the_time_has_come(database: Database, settings: Settings) -> None:
    writer = writing(database, settings, claimed(database), flush_interval_s=0.05)
    assert writer.due.wait(timeout=60)
    writer.end(0, DRAINED, None)
    writer.close()


def test_after_a_long_write_training_has_its_turn(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REST", 1e9)
    monkeypatch.setattr(module, "LONGEST_REST_S", 3600.0)
    writer = writing(database, settings, claimed(database), flush_interval_s=0.05)
    assert writer.due.wait(timeout=60)
    first = next(trained())
    writer.add(0, first)
    writer.hand_over({0: first.resume_point()})
    while recorded(database)[0] != [0] or writer.writing:
        time.sleep(0.01)
    writer.due.clear()
    assert not writer.due.wait(timeout=0.5), "ten times the interval"
    writer.end(0, DRAINED, None)
    writer.close()


def test_a_resume_point_is_due_when_much_waits_however_small_each_epoch_is(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING_BYTES", 50 * module.ROW_BYTES)
    writer = writing(database, settings, claimed(database))
    for epoch in trained(100):
        writer.add(0, epoch)
        if writer.due.is_set():
            break
    assert 5 < epoch.epoch < 100
    writer.end(0, DRAINED, None)
    writer.close()
