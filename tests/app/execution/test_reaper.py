"""Loss is found by observation."""

import sqlite3
import time
from contextlib import suppress

import pytest
from sqlalchemy.exc import OperationalError

from chainrule.app.config import Settings
from chainrule.app.execution.reaper import Observation, Reaper
from chainrule.app.store import attempts
from chainrule.app.store.attempts import Heartbeat
from chainrule.app.store.database import Database
from chainrule.app.store.models import Run
from tests.app.store.test_runs import claim, queued_run, status_of


def beat(count: int, attempt_id: str = "a") -> Heartbeat:
    return Heartbeat("run_1", attempt_id, count)


def test_an_attempt_is_lost_when_its_heart_stood_still_for_the_time_limit() -> None:
    observation = Observation(timeout_s=10)
    looks = [observation.look([beat(4)], at) for at in (100.0, 104.0, 108.0, 110.0)]
    assert looks == [[], [], [], [beat(4)]]


def test_a_heart_that_beats_is_never_lost() -> None:
    observation = Observation(timeout_s=10)
    assert all(observation.look([beat(n)], 4.0 * n) == [] for n in range(20))


def test_a_new_attempt_with_the_same_count_is_observed_anew() -> None:
    observation = Observation(timeout_s=10)
    for at in (0.0, 4.0, 8.0):
        observation.look([beat(1, "old")], at)
    assert observation.look([beat(1, "new")], 11.0) == []


def test_an_observer_that_was_asleep_judges_nobody() -> None:
    observation = Observation(timeout_s=10)
    observation.look([beat(1)], 0.0)
    assert observation.look([beat(1)], 3600.0) == []
    assert observation.look([beat(1)], 3604.0) == []
    assert observation.look([beat(1)], 3610.0) == []  # again too long between two looks
    for at in (3614.0, 3618.0):
        assert observation.look([beat(1)], at) == []
    assert observation.look([beat(1)], 3620.0) == [beat(1)]


def test_an_observer_that_could_not_see_starts_anew() -> None:
    observation = Observation(timeout_s=10)
    for at in (0.0, 4.0, 8.0):
        observation.look([beat(1)], at)
    observation.forget()
    assert observation.look([beat(1)], 11.0) == []


@pytest.fixture
def reaper(database: Database, settings: Settings) -> Reaper:
    return Reaper(database, settings.model_copy(update={"attempt_timeout_s": 1.0}))


def test_the_reaper_takes_back_what_stands_still(database: Database, reaper: Reaper) -> None:
    run_id = queued_run(database)
    assert claim(database) is not None
    reaper.start()
    deadline = time.monotonic() + 120
    while status_of(database, run_id) != ("queued", "worker_lost"):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    reaper.stop()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_nobody_is_lost_for_not_having_beaten_while_nobody_could_write(database: Database, reaper: Reaper) -> None:
    run_id = queued_run(database)
    assert claim(database) is not None
    reaper.start()
    time.sleep(0.3)
    elsewhere = sqlite3.connect(str(database.url.database), isolation_level=None)
    elsewhere.execute("BEGIN IMMEDIATE")
    time.sleep(2.0)
    elsewhere.execute("ROLLBACK")
    elsewhere.close()
    time.sleep(0.5)
    assert status_of(database, run_id) == ("running", "claimed")
    reaper.stop()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_attempt_stopped_in_the_middle_of_a_write_is_lost_and_keeps_nobody_waiting(
    database: Database, database_url: str, reaper: Reaper
) -> None:
    frozen, other = (queued_run(database) for _ in range(2))
    claims = [claim(database), claim(database)]
    stopped = Database(database_url)
    with suppress(OperationalError), stopped.writing() as session:
        held = next(held for held in claims if held and held.run_id == frozen)
        assert attempts.advance(session, held, {"steps_done": 5})
        reaper.start()
        deadline = time.monotonic() + 20
        while "running" in (status_of(database, frozen)[0], status_of(database, other)[0]):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
    reaper.stop()
    stopped.dispose()
    assert status_of(database, frozen) == status_of(database, other) == ("queued", "worker_lost")
    with database.reading() as session:
        assert session.get_one(Run, frozen).steps_done == 0
