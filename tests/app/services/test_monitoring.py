"""What a service needs to do its work is checked, and who does not answer is not waited for."""

import asyncio
import threading

import pytest

from chainrule.app.config import Settings
from chainrule.app.services import monitoring as module
from chainrule.app.services import runs as services
from chainrule.app.services.monitoring import Monitoring, Question
from chainrule.app.store import queue, workers
from chainrule.app.store.database import Database
from tests.app.services.test_runs import SPEC


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a database that is slow because the machine is busy."""
    monkeypatch.setattr(module, "PATIENCE_S", 60.0)


def checked(monitoring: Monitoring) -> dict[str, tuple[bool, str]]:
    return {check.name: (check.ok, check.detail) for check in asyncio.run(monitoring.checks())}


@pytest.mark.usefixtures("unhurried")
def test_all_is_well_where_threads_live_and_the_database_can_be_written_to(
    database: Database, settings: Settings
) -> None:
    found = checked(Monitoring(database, settings, lambda: {"dispatcher": True, "reaper": True}))
    assert list(found) == ["dispatcher", "reaper", "database", "disk"]
    assert all(ok for ok, _ in found.values())


@pytest.mark.usefixtures("unhurried")
def test_a_thread_that_has_died_is_named(database: Database, settings: Settings) -> None:
    found = checked(Monitoring(database, settings, lambda: {"dispatcher": True, "reaper": False}))
    assert [name for name, (ok, _) in found.items() if not ok] == ["reaper"]


@pytest.mark.usefixtures("unhurried")
def test_a_disk_without_room_is_said_with_the_setting(database: Database, settings: Settings) -> None:
    greedy = settings.model_copy(update={"min_free_bytes": 1 << 60, "cache_dir": settings.cache_dir / "not" / "yet"})
    ok, detail = checked(Monitoring(database, greedy, dict))["disk"]
    assert not ok
    assert "CHAINRULE_MIN_FREE_BYTES" in detail


def test_those_who_ask_meanwhile_wait_for_the_same_answer_and_not_for_ever() -> None:
    asked, go = [], threading.Event()

    def answer() -> int:
        asked.append(1)
        go.wait(120)
        return len(asked)

    question = Question(answer)

    async def ask() -> list[object]:
        first = await asyncio.gather(*(question.ask() for _ in range(50)), return_exceptions=True)
        go.set()
        return [*first, await question.ask()]

    *impatient, late = asyncio.run(asyncio.wait_for(ask(), 60))
    assert {type(each) for each in impatient} == {TimeoutError}
    assert (late, len(asked)) == (1, 1)


def test_who_asks_hears_what_went_wrong_each_time() -> None:
    def fails() -> None:
        raise LookupError("nothing here")

    question = Question(fails)
    for _ in range(2):
        with pytest.raises(LookupError, match="nothing here"):
            asyncio.run(question.ask())


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_lives_while_its_heartbeat_is_seen_to_move(database: Database, settings: Settings) -> None:
    given = {"name": "h:1", "host": "h", "version": "1", "slots": 3, "busy": 1, "draining": False}
    monitoring = Monitoring(database, settings.model_copy(update={"attempt_timeout_s": 0.3}), dict)

    def beat_and_count(beats: bool) -> int:
        if beats:
            with database.writing() as session:
                workers.beat(session, "worker_1", given)
        return asyncio.run(monitoring.figures()).slots

    async def pause() -> None:
        await asyncio.sleep(0.2)

    for _ in range(3):
        assert beat_and_count(True) == 3
        asyncio.run(pause())
    for _ in range(2):
        asyncio.run(pause())
    assert beat_and_count(False) == 0
    assert beat_and_count(True) == 3


@pytest.mark.usefixtures("unhurried")
def test_the_status_names_the_runs_of_the_owner_who_asks_and_counts_all(database: Database, settings: Settings) -> None:
    owners = {}
    for owner in ("alice", "bob"):
        owners[owner] = services.submit(database.of(owner), settings, SPEC | {"dataset": "xor"}, key=None).run["id"]
    given = {"name": "h:1", "host": "h", "version": "1", "slots": 2, "busy": 2, "draining": False}
    with database.writing() as session:
        workers.beat(session, "worker_1", given)
        for attempt in "ab":
            assert queue.claim(session, attempt, "h:1") is not None
    monitoring = Monitoring(database, settings, dict)
    for owner, run_id in owners.items():
        status = asyncio.run(monitoring.status(owner))
        assert [each["run"] for each in status["workers"][0]["training"]] == [run_id]
        assert status["runs"] == {"running": 2}
