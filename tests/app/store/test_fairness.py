"""Fairness: whose run is claimed next, with several owners and a limit for each, and at what price."""

import itertools
import multiprocessing
import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.store import attempts, queue
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database, from_now, new_id, now
from chainrule.app.store.models import Base, Run

NOTHING_DONE = dict.fromkeys(
    ("steps_inherited", "attempts", "failures", "heartbeat", "epochs_done", "steps_done", "trained_s"), 0
) | {"revision": 1, "cancel_requested": False, "purging": False}  # fmt: skip
_attempts = (f"a{number}" for number in itertools.count())


def waiting(owner: str, priority: int = 0, **values: Any) -> dict[str, Any]:
    """Make the row of a waiting run."""
    return {
        "id": new_id("run"), "owner": owner, "name": "", "status": RunStatus.QUEUED, "reason": Reason.SUBMITTED,
        "detail": "", "priority": priority, "config": {}, "dataset": "xor", "epochs_total": 1, "steps_per_epoch": 1,
        "parameters": 9, "created_at": now(),
    } | values  # fmt: skip


def fill(database: Database, *rows: dict[str, Any]) -> list[str]:
    """Store runs that wait."""
    with database.writing() as session:
        session.add_all(Run(**row) for row in rows)
    return [row["id"] for row in rows]


def claim(database: Database, most_each: int = 0) -> Run | None:
    """Claim a run."""
    with database.writing() as session:
        return queue.claim(session, next(_attempts), "here:1", most_each=most_each)


def end(database: Database, run: Run) -> None:
    """End a claimed run."""
    assert run.attempt_id is not None
    with database.writing() as session:
        attempt = Attempt(run.id, run.attempt_id)
        assert attempts.end_attempt(session, attempt, RunStatus.SUCCEEDED, Reason.COMPLETED) is RunStatus.SUCCEEDED


def owners_of(claimed: list[Run | None]) -> str:
    """Write down whose runs were claimed, in order."""
    return "".join("-" if run is None else run.owner for run in claimed)


def test_who_submits_many_runs_does_not_keep_others_waiting(database: Database) -> None:
    fill(database, *[waiting("a") for _ in range(20)], *[waiting("b") for _ in range(3)], waiting("c"))
    assert owners_of([claim(database) for _ in range(8)]) == "abcababa"


def test_a_run_that_ends_makes_room_for_its_owner(database: Database) -> None:
    fill(database, *[waiting("a") for _ in range(4)], *[waiting("b") for _ in range(4)])
    claimed = [claim(database) for _ in range(4)]
    assert owners_of(claimed) == "abab"
    for run in claimed[1::2]:
        assert run is not None
        end(database, run)
    assert owners_of([claim(database) for _ in range(3)]) == "bba"


def test_of_owners_that_train_equally_many_the_highest_priority_goes_first_then_the_oldest(database: Database) -> None:
    old, urgent, _, young = fill(database, waiting("a"), waiting("b", 5), waiting("b", 9), waiting("c"))
    claimed = [claim(database) for _ in range(5)]
    assert owners_of(claimed) == "bacb-"
    assert [run.id for run in claimed if run][1:] == [old, young, urgent]


def test_runs_that_are_trained_as_one_computation_count_once(database: Database) -> None:
    fill(database, *[waiting("a", stack_key="s") for _ in range(5)], *[waiting("b") for _ in range(3)])
    run = claim(database)
    assert run is not None
    assert run.attempt_id is not None
    with database.writing() as session:
        alike = queue.claim_alike(session, run, 1, 3, run.attempt_id, "here:1", None)
    assert owners_of([run, *alike]) == "aaa"
    assert owners_of([claim(database, 2) for _ in range(5)]) == "bab--"


def test_a_stack_is_of_one_owner(database: Database) -> None:
    fill(database, *[waiting(owner, stack_key="s") for owner in "ababb"])
    run = claim(database)
    assert run is not None
    assert run.attempt_id is not None
    with database.writing() as session:
        alike = queue.claim_alike(session, run, 1, 64, run.attempt_id, "here:1", None)
    assert owners_of([run, *alike]) == "aa"


def test_an_owner_whose_runs_may_not_begin_yet_holds_nobody_up(database: Database) -> None:
    fill(database, *[waiting("a") for _ in range(2)], *[waiting("b") for _ in range(2)])
    with database.writing() as session:
        session.execute(update(Run).where(Run.owner == "a").values(not_before=from_now(queue.LONGEST_WAIT_S - 5)))
    assert owners_of([claim(database) for _ in range(3)]) == "bb-"


def test_nobody_trains_more_than_each_may(database: Database) -> None:
    fill(database, *[waiting("a", 9) for _ in range(5)], *[waiting("b") for _ in range(3)])

    def claimable() -> list[int]:
        with database.reading() as session:
            return [queue.count_claimable(session, limit, most_each=2) for limit in (1, 3, 9)]

    assert claimable() == [1, 3, 4]
    claimed = [claim(database, 2) for _ in range(3)]
    assert owners_of(claimed) == "aba"
    assert claimable() == [1, 1, 1]
    assert owners_of([claim(database, 2) for _ in range(2)]) == "b-"
    assert claimable() == [0, 0, 0]
    assert claimed[0] is not None
    end(database, claimed[0])
    assert claimable() == [1, 1, 1]
    assert owners_of([claim(database, 2) for _ in range(2)]) == "a-"


@given(
    queue=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2)), max_size=12),
    most_each=st.integers(0, 3),
    ended=st.lists(st.integers(0, 11), max_size=12),
)
@hypothesis_settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_claims_are_what_the_rule_says(
    database: Database, queue: list[tuple[str, int]], most_each: int, ended: list[int]
) -> None:
    with database.writing() as session:
        session.execute(delete(Run))
    left = [waiting(owner, priority) for owner, priority in queue]
    fill(database, *left)
    training: list[Run] = []
    for turn in [*ended, *[99] * (len(queue) + 1)]:
        count = Counter(run.owner for run in training)
        allowed = [row for row in left if not most_each or count[row["owner"]] < most_each]
        expected = min(allowed, key=lambda row: (count[row["owner"]], -row["priority"], row["id"]), default=None)
        run = claim(database, most_each)
        assert (run and run.id) == (expected and expected["id"])
        if run is not None and expected is not None:
            left.remove(expected)
            training.append(run)
        if turn < len(training):
            end(database, training.pop(turn))


def claim_while_it_lasts(url: str, name: str, most_each: int, results: "multiprocessing.Queue[list[str]]") -> None:
    database = Database(url)
    taken: list[str] = []
    for number in range(40):
        with database.writing() as session:
            run = queue.claim(session, f"{name}-{number}", name, most_each=most_each)
        if run is not None:
            taken.append(run.owner)
    results.put(taken)


def test_several_processes_together_claim_no_more_than_each_may_have(database: Database, database_url: str) -> None:
    fill(database, *[waiting(owner) for owner in "abc" * 30])
    context = multiprocessing.get_context("forkserver")
    results = context.Queue()
    processes = [
        context.Process(target=claim_while_it_lasts, args=(database_url, f"p{n}", 7, results), daemon=True)
        for n in range(4)
    ]
    for process in processes:
        process.start()
    taken = Counter(owner for _ in processes for owner in results.get(timeout=180))
    for process in processes:
        process.join()
    assert taken == {"a": 7, "b": 7, "c": 7}


def test_a_run_that_somebody_is_about_to_claim_is_passed_over(fresh: Any) -> None:
    database = Database(fresh.url("postgresql"))
    only, _, other = fill(database, waiting("a", 9), waiting("b", 5), waiting("b"))
    with database.writing() as session:
        # Claimed and not committed yet, maybe by somebody who was stopped in between.
        run = queue.claim(session, next(_attempts), "there:1")
        assert run is not None
        assert run.id == only
        assert owners_of([claim(database), claim(database), claim(database)]) == "bb-"
    assert claim(database) is None
    with database.reading() as session:
        assert session.get_one(Run, other).status == RunStatus.RUNNING
    database.dispose()


def test_who_is_stopped_with_the_turn_to_claim_loses_it(fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "TURN_S", 1)
    database = Database(fresh.url("postgresql"))
    fill(database, waiting("a"), waiting("a"))
    stopped, over = threading.Event(), threading.Event()
    lost: list[DBAPIError] = []

    def claim_and_stop() -> None:
        try:
            with database.writing() as session:
                queue.claim(session, "stopped", "there:1", most_each=1)
                stopped.set()
                over.wait(60)
        except DBAPIError as error:
            lost.append(error)

    thread = threading.Thread(target=claim_and_stop)
    thread.start()
    assert stopped.wait(60)
    run = claim(database, 1)
    over.set()
    thread.join()
    assert len(lost) == 1
    assert run is not None
    assert claim(database, 1) is None
    database.dispose()


@pytest.mark.parametrize("owners", [1, 100])
def test_of_ten_thousand_waiting_runs_a_claim_looks_at_each_owners_best(database: Database, owners: int) -> None:
    rows = [{**waiting(f"o{number % owners:03}", number % 3), **NOTHING_DONE} for number in range(10_000)]
    with database.writing() as session:
        session.connection().execute(insert(Base.metadata.tables[Run.__tablename__]), rows)
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    if not database.sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE runs"))
    event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.writing() as session:
            assert queue.claim(session, next(_attempts), "here:1", most_each=2) is not None
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    ((statement, parameters),) = [one for one in asked if "UPDATE runs" in one[0]]
    with database.engine.connect() as connection:
        explain = "EXPLAIN QUERY PLAN" if database.sqlite else "EXPLAIN (ANALYZE, FORMAT TEXT)"
        steps = connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
        connection.rollback()
    plan = "\n".join(str(row[-1]) for row in steps)
    assert "ix_runs_waiting_of_owner" in plan
    assert "ix_runs_running_of_owner" in plan
    # No step of the plan goes through the queue: neither in a search by the status alone, nor in a scan of all rows.
    for step in plan.splitlines():
        assert "Seq Scan on runs" not in step, plan
        assert "SCAN runs" not in step, plan
        assert "ix_runs_status_id (status=?)" not in step, plan
    with database.reading() as session:
        assert session.scalar(select(Run.owner).where(Run.status == RunStatus.RUNNING)) is not None
