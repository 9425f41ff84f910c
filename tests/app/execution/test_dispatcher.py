"""The dispatcher: trains what waits, and keeps its head when it cannot."""

import logging
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from chainrule.app.config import Settings
from chainrule.app.execution.dispatcher import Dispatcher
from chainrule.app.execution.presence import Presence
from chainrule.app.execution.standby import Standby
from chainrule.app.execution.supervisor import supervise_once
from chainrule.app.services import runs as services
from chainrule.app.store.changes import Changes
from chainrule.app.store.database import Database
from tests.app.execution.test_standby import children, server
from tests.app.execution.test_writer import Answerless
from tests.app.services.test_runs import SPEC
from tests.app.store.test_runs import status_of
from tests.service import local_only
from tests.waiting import wait_for


@pytest.fixture
def dispatcher(database: Database, settings: Settings) -> Iterator[Dispatcher]:
    changes = Changes(database)
    dispatcher = Dispatcher(database, settings, changes)
    changes.start()
    dispatcher.start()
    yield dispatcher
    dispatcher.drain()
    changes.stop()


@local_only
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("dispatcher")
def test_where_nothing_can_be_claimed_it_tries_again_now_and_then(
    database: Database, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with database.writing() as session:
        refusal = "SELECT RAISE(ABORT, 'database or disk is full')"
        session.execute(text(f"CREATE TRIGGER full BEFORE UPDATE OF status ON runs BEGIN {refusal}; END"))
    with caplog.at_level(logging.WARNING):
        run = services.submit(database, settings, SPEC | {"dataset": "xor"}, key=None).run
        wait_for(lambda: caplog.records)
        time.sleep(2.5)
        assert 1 <= len(caplog.records) <= 10
        assert "disk is full" in caplog.text
        assert "Traceback" not in caplog.text
    with database.writing() as session:
        session.execute(text("DROP TRIGGER full"))
    wait_for(lambda: status_of(database, run["id"])[0] == "succeeded")


@local_only
@pytest.mark.usefixtures("dispatcher")
def test_no_run_is_claimed_while_no_process_can_be_started(database: Database, settings: Settings) -> None:
    wait_for(lambda: len(children()) == settings.slots)
    for child in children():
        child.kill()
        child.wait()
    fork_server = server()
    fork_server.suspend()
    run = services.submit(database, settings, SPEC | {"dataset": "xor"}, key=None).run
    time.sleep(0.5)
    assert status_of(database, run["id"]) == ("queued", "submitted")
    fork_server.kill()
    wait_for(lambda: status_of(database, run["id"])[0] == "succeeded")
    shown = services.get(database, run["id"])
    assert (shown["attempts"], shown["failures"]) == (1, 0)


def test_a_run_whose_claim_was_stored_and_whose_answer_was_lost_is_trained_by_that_attempt(
    database_url: str, settings: Settings
) -> None:
    database = Answerless(database_url)
    run = services.submit(database, settings, SPEC | {"dataset": "xor"}, key=None).run
    standby = Standby(settings)
    standby.start()
    database.losing = 1
    assert supervise_once(database, settings, standby, threading.Event(), Presence(database, settings, 1)) == [
        run["id"]
    ]
    standby.close()
    shown = services.get(database, run["id"])
    assert (shown["status"], shown["attempts"], shown["failures"]) == ("succeeded", 1, 0)
    database.dispose()
