"""What becomes of runs is the same on every engine: each reason to end, each wish, stacks, and any number of kills."""

from typing import Any

import pytest

from chainrule.app.config import Settings
from chainrule.app.services import runs as services
from chainrule.app.store.database import Database
from tests.app.execution import test_resuming as resuming
from tests.app.execution.test_stacks import SPEC, attempts_of, dispatching, ended, submit, told
from tests.app.execution.test_supervisor import SPOILT, change
from tests.waiting import wait_for

ENGINES = ("local", "dask")
LONG: dict[str, Any] = SPEC | {"epochs": 10**6, "checkpoints": {"every": 10**5, "keep": None}}


@pytest.fixture(params=ENGINES)
def on(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings for each engine in turn; on Dask a cluster of its own, in processes that share nothing with this one."""
    if request.param == "dask":
        pytest.importorskip("distributed")
    return settings.model_copy(update={"engine": request.param, "flush_interval_s": 0.05, "max_failures": 1000})


def one(database: Database, settings: Settings, **changes: Any) -> str:
    run_id: str = services.submit(database, settings, LONG | changes, key=None).run["id"]
    return run_id


def under_way(database: Database, run_id: str) -> bool:
    return bool(services.get(database, run_id)["progress"]["epochs_done"] > 5)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_runs_end_for_the_same_reasons_and_do_as_wished_wherever_they_are_trained(
    database: Database, on: Settings
) -> None:
    alone = submit(database, on, stacked=False)
    with dispatching(database, on.model_copy(update={"engine": "local"})):
        wait_for(lambda: ended(database, alone))
    together = submit(database, on, stacked=True)
    faulty, greedy = one(database, on), one(database, on)
    change(database, faulty, optimizer=SPOILT)
    change(database, greedy, max_memory_bytes=1024)
    late = one(database, on, max_duration_s=0.5)
    wild = one(database, on, optimizer={"name": "sgd", "learning_rate": 1e30}, epochs=5)
    # What is trained until it is told to stop comes last, in slots that the others have left.
    cancelled, paused = one(database, on, priority=-1), one(database, on, priority=-1)
    with dispatching(database, on):
        wait_for(lambda: under_way(database, cancelled) and under_way(database, paused))
        services.cancel(database, cancelled, if_match=None)
        services.pause(database, paused, if_match=None)
        wait_for(lambda: services.get(database, paused)["status"] == "paused" and ended(database, [cancelled]))
        services.resume(database, on, paused, if_match=None)
        wait_for(lambda: services.get(database, paused)["status"] == "running")
    assert [told(database, run_id) for run_id in together] == [told(database, run_id) for run_id in alone]
    assert attempts_of(database, together) == {("succeeded", 1, 0)}
    runs = [services.get(database, run_id) for run_id in (faulty, greedy, late, wild, cancelled, paused)]
    assert [(run["status"], run["reason"], run["attempts"], run["failures"]) for run in runs] == [
        ("failed", "training_error", 1, 0),
        ("failed", "memory_exceeded", 1, 0),
        ("failed", "deadline_exceeded", 1, 0),
        ("failed", "diverged", 1, 0),
        ("cancelled", "cancel_requested", 1, 0),
        ("queued", "drained", 2, 0),
    ]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_run_killed_again_and_again_on_a_cluster_records_what_it_would_have_here(
    database: Database, settings: Settings
) -> None:
    pytest.importorskip("distributed")
    settings = settings.model_copy(update={"flush_interval_s": 0.01, "max_failures": 1000})
    undisturbed = resuming.submit_all(database, settings)
    with dispatching(database, settings):
        wait_for(lambda: ended(database, undisturbed), resuming.PATIENCE_S)
    resuming.kill_again_and_again(database, settings.model_copy(update={"engine": "dask"}), undisturbed)
