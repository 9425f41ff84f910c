"""The supervisor: whose fault an attempt's end was, and what becomes of its run."""

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from chainrule.app.config import Settings
from chainrule.app.services import datasets
from chainrule.app.services import runs as services
from chainrule.app.store.database import Database
from chainrule.app.store.models import Run
from tests.app.execution.test_dispatcher import wait_for
from tests.app.execution.test_stacks import SPEC as LONG
from tests.app.execution.test_stacks import attempts_of, dispatching, ended, one_slot, submit, told
from tests.app.execution.test_standby import children
from tests.app.services.test_runs import SPEC

SPOILT: dict[str, Any] = {"name": "no_such_optimizer"}


def spoil(database: Database, run_id: str) -> None:
    """Make a run one that no attempt can train."""
    config = services.get(database, run_id)["config"] | {"optimizer": SPOILT}
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
        max(children(), key=lambda child: child.cpu_times().user).suspend()
        wait_for(lambda: ended(database, [run_id]))
    assert ends_of(database, run_id) == [("queued", "child_stalled"), ("succeeded", "completed")]
    assert "no step for 2 s" in services.attempts(database, run_id)[0]["detail"]
    assert told(database, run_id) == told(database, alone)


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


def test_what_trying_again_may_mend_is_tried_again(database: Database, settings: Settings, tmp_path: Path) -> None:
    made = datasets.create_from_rows(
        database, settings, name="", samples=[[0.0], [1.0]], targets=None, labels=["a", "b"], feature_names=None
    ).dataset
    run_id = services.submit(database, settings, SPEC | {"dataset": made["id"]}, key=None).run["id"]
    (tmp_path / "file").touch()  # where the cache should be: no folder can be made there
    with dispatching(database, one_slot(settings, cache_dir=tmp_path / "file", max_failures=1)):
        wait_for(lambda: ended(database, [run_id]))
    assert ends_of(database, run_id) == [("queued", "child_lost"), ("failed", "attempts_exhausted")]
    assert "NotADirectoryError" in services.get(database, run_id)["detail"]
