"""The supervisor: whose fault an attempt's end was, and what becomes of its run."""

import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from chainrule.app.config import Settings
from chainrule.app.execution import child
from chainrule.app.services import lineage
from chainrule.app.services import runs as services
from chainrule.app.store.database import Database
from chainrule.app.store.models import Run
from tests.app.execution.test_stacks import SPEC as LONG
from tests.app.execution.test_stacks import attempts_of, dispatching, ended, one_slot, submit, told
from tests.processes import busiest
from tests.waiting import wait_for

SPOILT: dict[str, Any] = {"name": "no_such_optimizer"}


def spoil(database: Database, run_id: str) -> None:
    """Make a run one that no attempt can train."""
    change(database, run_id, optimizer=SPOILT)


def change(database: Database, run_id: str, **fields: Any) -> None:
    """Change a run's config after it was found good."""
    config = services.get(database, run_id)["config"] | fields
    with database.writing() as session:
        session.execute(update(Run).where(Run.id == run_id).values(config=config))


def ends_of(database: Database, run_id: str) -> list[tuple[str, str]]:
    return [(attempt["status"], attempt["reason"]) for attempt in services.attempts(database, run_id)]


def test_a_fault_of_the_run_itself_is_not_tried_again(database: Database, settings: Settings) -> None:
    run_id = submit(database, settings, stacked=False)[0]
    spoil(database, run_id)
    with dispatching(database, one_slot(settings)):
        wait_for(lambda: ended(database, [run_id]))
    run = services.get(database, run_id)
    assert (run["status"], run["reason"], run["attempts"], run["failures"]) == ("failed", "training_error", 1, 0)
    assert "no_such_optimizer" in run["detail"]
    assert ends_of(database, run_id) == [("failed", "training_error")]


def test_a_run_of_a_stack_that_cannot_be_trained_fails_and_the_others_do_not(
    database: Database, settings: Settings
) -> None:
    ids = submit(database, settings, stacked=True)
    spoil(database, ids[1])
    with dispatching(database, one_slot(settings)):
        wait_for(lambda: ended(database, ids))
    assert attempts_of(database, [ids[0], *ids[2:]]) == {("succeeded", 2, 1)}
    assert attempts_of(database, ids[1:2]) == {("failed", 2, 1)}
    assert ends_of(database, ids[0]) == [("queued", "training_error"), ("succeeded", "completed")]
    assert ends_of(database, ids[1]) == [("queued", "training_error"), ("failed", "training_error")]


def test_a_process_that_hangs_is_killed_and_its_run_ends_as_it_would_have(
    database: Database, settings: Settings
) -> None:
    spec = LONG | {"epochs": 400}
    alone, run_id = (services.submit(database, settings, spec, key=None).run["id"] for _ in range(2))
    services.pause(database, run_id, if_match=None)
    with dispatching(database, one_slot(settings)):
        wait_for(lambda: ended(database, [alone]))
    services.resume(database, settings, run_id, if_match=None)
    with dispatching(database, one_slot(settings, stalled_after_s=2.0, flush_interval_s=0.05)):
        wait_for(lambda: services.get(database, run_id)["progress"]["epochs_done"] > 5)
        training = busiest(psutil.Process())
        assert training is not None
        training.suspend()
        wait_for(lambda: ended(database, [run_id]))
    assert ends_of(database, run_id) == [("queued", "child_stalled"), ("succeeded", "completed")]
    assert "no step for 2 s" in services.attempts(database, run_id)[0]["detail"]
    assert told(database, run_id) == told(database, alone)


def test_a_process_that_hangs_in_the_middle_of_a_write_is_killed_though_it_locks_others_out(
    database: Database, settings: Settings
) -> None:
    run_id = services.submit(database, settings, LONG | {"epochs": 20000}, key=None).run["id"]

    def caught(training: psutil.Process) -> bool:
        training.suspend()
        try:
            with database.writing(announce=False, patience_s=0.3) as session:
                session.execute(select(Run.id).where(Run.id == run_id).with_for_update())
        except OperationalError:
            return True
        training.resume()
        return False

    with dispatching(database, one_slot(settings, stalled_after_s=2.0, flush_interval_s=0.01)):
        wait_for(lambda: services.get(database, run_id)["progress"]["epochs_done"] > 5)
        training = busiest(psutil.Process())
        assert training is not None
        wait_for(lambda: caught(training))
        wait_for(lambda: services.get(database, run_id)["attempts"] == 2)
    assert ends_of(database, run_id)[0] == ("queued", "child_stalled")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_to_wait_for_the_database_is_no_hang(database: Database, settings: Settings) -> None:
    run_id = services.submit(database, settings, LONG | {"epochs": 20000}, key=None).run["id"]
    with dispatching(database, one_slot(settings, stalled_after_s=2.0, flush_interval_s=0.05)):
        wait_for(lambda: services.get(database, run_id)["progress"]["epochs_done"] > 5)
        elsewhere = sqlite3.connect(str(database.url.database), isolation_level=None)
        elsewhere.execute("BEGIN IMMEDIATE")
        time.sleep(5.0)
        elsewhere.execute("ROLLBACK")
        elsewhere.close()
        wait_for(lambda: services.get(database, run_id)["progress"]["epochs_done"] > 500)
        assert attempts_of(database, [run_id]) == {("running", 1, 0)}


def test_a_run_that_has_trained_for_as_long_as_it_may_fails_and_can_be_extended(
    database: Database, settings: Settings
) -> None:
    spec = LONG | {"epochs": 10**6, "max_duration_s": 2, "checkpoints": {"every": 1000, "keep": None}}
    run_id = services.submit(database, settings, spec, key=None).run["id"]
    with dispatching(database, one_slot(settings, flush_interval_s=0.05)):
        wait_for(lambda: services.get(database, run_id)["progress"]["epochs_done"] > 0)
        services.pause(database, run_id, if_match=None)
        wait_for(lambda: services.get(database, run_id)["status"] != "running")
        paused_at = services.get(database, run_id)["trained_s"]
        time.sleep(2.1)  # what does not count
        services.resume(database, settings, run_id, if_match=None)
        wait_for(lambda: ended(database, [run_id]))
        run = services.get(database, run_id)
        assert (run["status"], run["reason"], run["failures"]) == ("failed", "deadline_exceeded", 0)
        assert "max_duration_s is 2" in run["detail"]
        assert 0.0 < paused_at < run["trained_s"]
        assert run["trained_s"] >= 2
        assert [reason for _, reason in ends_of(database, run_id)] == ["pause_requested", "deadline_exceeded"]
        done = run["progress"]["epochs_done"]
        assert 0 < done < 10**6
        longer = lineage.extend(database, settings, run_id, lineage.Length(epochs=1), key=None).run
        assert (longer["trained_s"], longer["progress"]["epochs_done"]) == (0.0, done)
        wait_for(lambda: ended(database, [longer["id"]]))
        assert services.get(database, longer["id"])["status"] == "succeeded"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds the data segment")
@pytest.mark.parametrize("stacked", [False, True])
def test_a_run_that_takes_more_memory_than_it_may_fails_and_says_so(
    database: Database, settings: Settings, stacked: bool
) -> None:
    ids = submit(database, settings, stacked=stacked)
    for run_id in ids:
        change(database, run_id, max_memory_bytes=1024)  # less than any training takes; submitted it would be refused
    with dispatching(database, one_slot(settings)):
        wait_for(lambda: ended(database, ids))
        after = services.submit(database, settings, LONG | {"epochs": 1}, key=None).run["id"]
        wait_for(lambda: ended(database, [after]))
    for run_id in ids:
        run = services.get(database, run_id)
        assert (run["status"], run["reason"], run["failures"]) == ("failed", "memory_exceeded", int(stacked))
        assert "MemoryError" in run["detail"]
    assert attempts_of(database, [after]) == {("succeeded", 1, 0)}


def test_a_bound_of_memory_holds_for_one_order_only_and_not_for_what_is_mapped(tmp_path: Path) -> None:
    (tmp_path / "samples").write_bytes(bytes(2**27))
    with child._bounded(2**25):
        mapped = np.memmap(tmp_path / "samples", mode="r")
        assert mapped.sum() == 0
        if sys.platform.startswith("linux"):
            with pytest.raises(MemoryError):
                np.ones(2**24)
    assert np.ones(2**24).sum() == 2**24


@pytest.mark.parametrize(
    ("error", "own_memory", "fault"),
    [
        (OSError("a disk that fails"), None, child.CRASHED),
        (SQLAlchemyError("a database that fails"), None, child.CRASHED),
        (MemoryError("a machine short of memory"), None, child.CRASHED),
        (MemoryError("a limit of its own"), 2**20, child.TOO_LARGE),
        (ValueError("what would be the same again"), None, child.FAULTY),
    ],
    ids=str,
)
def test_what_trying_again_may_mend_is_told_from_what_it_would_repeat(
    error: Exception, own_memory: int | None, fault: str
) -> None:
    assert child._fault(error, own_memory) == fault
