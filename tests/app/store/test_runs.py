"""The queue: claims, fencing, transitions."""

import multiprocessing
import time
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import update

from chainrule.app.run_status import TRANSITIONS, Reason, RunStatus, Wish
from chainrule.app.store import attempts, checkpoints, queue, runs
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database, from_now, new_id, now
from chainrule.app.store.models import Run


def queued_run(database: Database, *, priority: int = 0) -> str:
    run = Run(
        id=new_id("run"),
        name="",
        status=RunStatus.QUEUED,
        reason=Reason.SUBMITTED,
        detail="",
        priority=priority,
        config={},
        dataset="xor",
        epochs_total=10,
        steps_per_epoch=1,
        parameters=9,
        created_at=now(),
    )
    with database.writing() as session:
        runs.add(session, run)
    return run.id


def claim(database: Database, attempt_id: str = "a1") -> Attempt | None:
    with database.writing() as session:
        run = queue.claim(session, attempt_id, "here:1")
        return None if run is None else Attempt(run.id, attempt_id)


def status_of(database: Database, run_id: str) -> tuple[str, str]:
    with database.reading() as session:
        run = session.get_one(Run, run_id)
        return run.status, run.reason


def claim_until_empty(url: str, name: str, results: "multiprocessing.Queue[list[str]]") -> None:
    database = Database(url)
    taken: list[str] = []
    while (attempt := claim(database, f"{name}-{len(taken)}")) is not None:
        taken.append(attempt.run_id)
    results.put(taken)


def test_claim_takes_the_highest_priority_then_the_oldest(database: Database) -> None:
    first, second = queued_run(database), queued_run(database)
    urgent = queued_run(database, priority=5)
    taken = [claim(database, f"a{n}") for n in range(4)]
    assert [attempt.run_id if attempt else None for attempt in taken] == [urgent, first, second, None]


def test_several_processes_claim_each_run_exactly_once(database: Database, database_url: str) -> None:
    expected = {queued_run(database) for _ in range(120)}
    context = multiprocessing.get_context("forkserver")
    results = context.Queue()
    processes = [
        context.Process(target=claim_until_empty, args=(database_url, f"p{n}", results), daemon=True) for n in range(4)
    ]
    for process in processes:
        process.start()
    taken = Counter(run_id for _ in processes for run_id in results.get(timeout=180))
    for process in processes:
        process.join()
    assert set(taken) == expected
    assert set(taken.values()) == {1}


def test_a_run_is_not_claimed_before_its_time(database: Database) -> None:
    run_id = queued_run(database)
    with database.writing() as session:
        session.execute(update(Run).where(Run.id == run_id).values(not_before=from_now(queue.LONGEST_WAIT_S - 5)))
    assert claim(database) is None
    with database.writing() as session:
        session.execute(update(Run).where(Run.id == run_id).values(not_before=from_now(-0.001)))
    assert claim(database) is not None


def test_a_run_does_not_wait_for_hours_because_the_clock_of_the_database_was_put_back(database: Database) -> None:
    run_id = queued_run(database)
    with database.writing() as session:
        session.execute(update(Run).where(Run.id == run_id).values(not_before=from_now(3600.0)))
    assert claim(database) is not None


def test_when_a_run_is_tried_again_does_not_depend_on_the_clocks_of_workers(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = held(database)
    for module in (attempts, queue):
        monkeypatch.setattr(module, "now", lambda: now() + timedelta(days=1))  # this worker's clock is wrong
    with database.writing() as session:
        session.execute(update(Run).values(failures=2))
        attempts.lose_attempt(session, attempt, Reason.WORKER_LOST, "", max_failures=9)
        assert queue.count_claimable(session, 9) == 0
    assert claim(database) is None
    with database.reading() as session:
        not_before = session.get_one(Run, attempt.run_id).not_before
    assert not_before is not None
    assert not_before - now() < timedelta(seconds=5)


def test_an_attempt_that_lost_its_run_writes_nothing(database: Database) -> None:
    queued_run(database)
    zombie = claim(database, "zombie")
    assert zombie is not None
    with database.writing() as session:
        assert attempts.lose_attempt(session, zombie, Reason.WORKER_LOST, "", max_failures=3) is RunStatus.QUEUED
    winner = claim(database, "winner")
    assert winner is not None
    with database.writing() as session:
        assert not attempts.advance(session, zombie, {"epochs_done": 99})
        assert attempts.beat(session, [zombie]) == {}
        assert not attempts.end_attempt(session, zombie, RunStatus.SUCCEEDED, Reason.COMPLETED)
        assert attempts.lose_attempt(session, zombie, Reason.CHILD_LOST, "", max_failures=3) is None
    with database.reading() as session:
        run = session.get_one(Run, winner.run_id)
        assert (run.attempt_id, run.epochs_done, run.attempts, run.failures) == ("winner", 0, 2, 1)


def test_an_observer_does_not_take_a_run_whose_heart_has_beaten_meanwhile(database: Database) -> None:
    queued_run(database)
    attempt = claim(database)
    assert attempt is not None
    with database.writing() as session:
        assert attempts.beat(session, [attempt]) == {attempt.run_id: None}
    with database.writing() as session:
        lost = attempts.lose_attempt(session, attempt, Reason.WORKER_LOST, "", max_failures=3, heartbeat=0)
    assert lost is None
    assert status_of(database, attempt.run_id)[0] == "running"


def test_a_run_that_loses_too_many_attempts_fails(database: Database) -> None:
    run_id = queued_run(database)
    for number in range(3):
        attempt = claim(database, f"a{number}")
        assert attempt is not None
        with database.writing() as session:
            attempts.lose_attempt(session, attempt, Reason.CHILD_LOST, "killed", max_failures=2)
            session.execute(update(Run).values(not_before=None))
    assert status_of(database, run_id) == ("failed", "attempts_exhausted")


def test_a_lost_attempt_whose_run_was_to_be_cancelled_is_not_queued_again(database: Database) -> None:
    run_id = queued_run(database)
    attempt = claim(database)
    assert attempt is not None
    with database.writing() as session:
        assert runs.request_cancel(session, run_id)
        assert not runs.request_cancel(session, run_id)
        assert attempts.beat(session, [attempt]) == {attempt.run_id: Wish.CANCEL}
        attempts.lose_attempt(session, attempt, Reason.WORKER_LOST, "", max_failures=3)
    assert status_of(database, run_id) == ("cancelled", "cancel_requested")


def test_a_run_that_was_to_be_cancelled_is_not_queued_again_when_its_worker_drains(database: Database) -> None:
    run_id = queued_run(database)
    attempt = claim(database)
    assert attempt is not None
    with database.writing() as session:
        assert runs.request_cancel(session, run_id)
    with database.writing() as session:
        ended = attempts.end_attempt(session, attempt, RunStatus.QUEUED, Reason.DRAINED)
    assert ended is RunStatus.CANCELLED
    assert status_of(database, run_id) == ("cancelled", "cancel_requested")


def test_however_often_a_run_is_lost_it_waits_for_a_minute_at_most(database: Database) -> None:
    run_id = queued_run(database)
    for number in range(3):
        with database.writing() as session:
            session.execute(update(Run).values(failures=20 * number, not_before=None))
        attempt = claim(database, f"a{number}")
        assert attempt is not None
        with database.writing() as session:
            attempts.lose_attempt(session, attempt, Reason.WORKER_LOST, "", max_failures=1000)
    with database.reading() as session:
        not_before = session.get_one(Run, run_id).not_before
        assert not_before is not None
        assert timedelta(seconds=50) < not_before - now() < timedelta(seconds=61)


@pytest.mark.parametrize("way", ["cancelled_waiting", "cancelled_lost", "exhausted"])
def test_a_run_that_has_ended_keeps_its_resume_point(database: Database, way: str) -> None:
    run_id = queued_run(database)
    attempt = claim(database)
    assert attempt is not None
    with database.writing() as session:
        checkpoints.put_resume_point(session, run_id, 3, 0, b"old")
        checkpoints.put_resume_point(session, run_id, 4, 0, b"new")
        assert checkpoints.get_resume_point(session, run_id) == b"new"
    with database.writing() as session:
        if way == "cancelled_waiting":
            attempts.end_attempt(session, attempt, RunStatus.QUEUED, Reason.DRAINED)
            assert checkpoints.get_resume_point(session, run_id) == b"new"
            assert runs.cancel_queued(session, run_id)
        elif way == "cancelled_lost":
            assert runs.request_cancel(session, run_id)
            attempts.lose_attempt(session, attempt, Reason.CHILD_LOST, "", max_failures=3)
        else:
            attempts.lose_attempt(session, attempt, Reason.CHILD_LOST, "", max_failures=0)
    with database.reading() as session:
        assert checkpoints.get_resume_point(session, run_id) == b"new"
        assert RunStatus(session.get_one(Run, run_id).status).terminal


def test_a_waiting_run_is_cancelled_at_once_and_never_claimed(database: Database) -> None:
    run_id = queued_run(database)
    with database.writing() as session:
        assert runs.cancel_queued(session, run_id)
        assert not runs.cancel_queued(session, run_id)
    assert claim(database) is None
    assert status_of(database, run_id) == ("cancelled", "cancel_requested")


def held(database: Database, attempt_id: str = "a1") -> Attempt:
    """Claim a new run."""
    queued_run(database)
    attempt = claim(database, attempt_id)
    assert attempt is not None
    return attempt


def test_a_waiting_run_is_paused_at_once_and_never_claimed_until_it_is_resumed(database: Database) -> None:
    run_id = queued_run(database)
    with database.writing() as session:
        assert runs.pause_queued(session, run_id)
        assert not runs.pause_queued(session, run_id)
        assert not runs.request_pause(session, run_id)
    assert status_of(database, run_id) == ("paused", "pause_requested")
    assert claim(database) is None
    with database.writing() as session:
        assert runs.resume(session, run_id)
        assert not runs.resume(session, run_id)
    assert status_of(database, run_id) == ("queued", "resumed")
    assert claim(database) is not None


def test_a_paused_run_is_cancelled_at_once(database: Database) -> None:
    run_id = queued_run(database)
    with database.writing() as session:
        assert runs.pause_queued(session, run_id)
        assert runs.cancel_queued(session, run_id)
        assert not runs.resume(session, run_id)
    assert status_of(database, run_id) == ("cancelled", "cancel_requested")


@pytest.mark.parametrize("way", ["paused", "drained", "lost"])
def test_a_wish_to_pause_outlives_whatever_ends_the_attempt(database: Database, way: str) -> None:
    attempt = held(database)
    with database.writing() as session:
        assert runs.request_pause(session, attempt.run_id)
        assert not runs.request_pause(session, attempt.run_id)
        assert attempts.beat(session, [attempt]) == {attempt.run_id: Wish.PAUSE}
        if way == "lost":
            attempts.lose_attempt(session, attempt, Reason.WORKER_LOST, "", max_failures=3)
        else:
            status = RunStatus.PAUSED if way == "paused" else RunStatus.QUEUED
            assert attempts.end_attempt(session, attempt, status, Reason.DRAINED) is RunStatus.PAUSED
    reason = "worker_lost" if way == "lost" else "pause_requested"
    assert status_of(database, attempt.run_id) == ("paused", reason)
    with database.writing() as session:
        run = session.get_one(Run, attempt.run_id)
        assert (run.failures, run.pause_requested, run.attempt_id) == (int(way == "lost"), False, None)
        assert runs.resume(session, attempt.run_id)
    again = claim(database, "a2")
    assert again is not None
    with database.writing() as session:
        assert attempts.beat(session, [again]) == {again.run_id: None}


def test_a_run_that_was_resumed_before_it_had_stopped_is_queued_again(database: Database) -> None:
    attempt = held(database)
    with database.writing() as session:
        assert runs.request_pause(session, attempt.run_id)
        assert runs.resume(session, attempt.run_id)
        assert attempts.end_attempt(session, attempt, RunStatus.PAUSED, Reason.PAUSE_REQUESTED) is RunStatus.QUEUED
    assert status_of(database, attempt.run_id) == ("queued", "resumed")


def test_a_wish_to_cancel_goes_before_one_to_pause(database: Database) -> None:
    attempt = held(database)
    with database.writing() as session:
        assert runs.request_pause(session, attempt.run_id)
        assert runs.request_cancel(session, attempt.run_id)
        assert attempts.beat(session, [attempt]) == {attempt.run_id: Wish.CANCEL}
        assert attempts.end_attempt(session, attempt, RunStatus.PAUSED, Reason.PAUSE_REQUESTED) is RunStatus.CANCELLED


def test_every_transition_is_recorded_in_order(database: Database) -> None:
    run_id = queued_run(database)
    attempt = claim(database)
    assert attempt is not None
    with database.writing() as session:
        attempts.end_attempt(session, attempt, RunStatus.QUEUED, Reason.DRAINED)
    attempt = claim(database, "a2")
    assert attempt is not None
    with database.writing() as session:
        attempts.end_attempt(session, attempt, RunStatus.SUCCEEDED, Reason.COMPLETED)
    with database.reading() as session:
        history = [(t.status, t.reason) for t in runs.transitions(session, run_id)]
    assert history == [
        ("queued", "submitted"),
        ("running", "claimed"),
        ("queued", "drained"),
        ("running", "claimed"),
        ("succeeded", "completed"),
    ]


def test_attempts_are_kept_with_where_they_began_and_ended_and_why(database: Database) -> None:
    run_id = queued_run(database)
    first = claim(database, "first")
    assert first is not None
    with database.writing() as session:
        attempts.advance(session, first, {"epochs_done": 3, "steps_done": 31})
    with database.writing() as session:
        attempts.lose_attempt(session, first, Reason.WORKER_LOST, "no heartbeat", max_failures=3)
    second = claim(database, "second")
    assert second is not None
    with database.reading() as session:
        lost, open_ = runs.attempts(session, run_id)
    assert (lost.number, lost.attempt_id, lost.worker) == (1, "first", "here:1")
    assert (lost.started_epoch, lost.started_steps, lost.ended_epoch, lost.ended_steps) == (0, 0, 3, 31)
    assert (lost.status, lost.reason, lost.detail) == ("queued", "worker_lost", "no heartbeat")
    assert lost.ended_at is not None
    assert (open_.number, open_.attempt_id, open_.started_epoch, open_.started_steps) == (2, "second", 3, 31)
    assert (open_.ended_at, open_.ended_epoch, open_.ended_steps, open_.status, open_.reason) == (None,) * 5
    with database.writing() as session:
        assert attempts.end_attempt(session, first, RunStatus.SUCCEEDED, Reason.COMPLETED) is None
        attempts.end_attempt(session, second, RunStatus.SUCCEEDED, Reason.COMPLETED, progress={"steps_done": 100})
    with database.reading() as session:
        assert [(a.reason, a.ended_steps) for a in runs.attempts(session, run_id)] == [
            ("worker_lost", 31),
            ("completed", 100),
        ]


def test_no_transition_is_dated_before_the_one_before_it(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = queued_run(database)
    earlier = now() - timedelta(hours=1)
    monkeypatch.setattr(queue, "now", lambda: earlier)
    assert claim(database) is not None
    with database.reading() as session:
        queued, running = runs.transitions(session, run_id)
    assert (running.status, running.at) == (RunStatus.RUNNING, queued.at)


def test_only_lawful_transitions_are_taken(database: Database) -> None:
    queued_run(database)
    attempt = claim(database)
    assert attempt is not None
    with database.writing() as session, pytest.raises(ValueError, match="cannot become"):
        attempts.end_attempt(session, attempt, RunStatus.RUNNING, Reason.CLAIMED)
    assert all(not TRANSITIONS[status] for status in RunStatus if status.terminal)


def test_ids_sort_by_time_of_making() -> None:
    made = [new_id("run") for _ in range(3)]
    assert len(set(made)) == 3
    assert all(len(run_id) == 30 and run_id.startswith("run_") for run_id in made)


def test_a_clock_that_is_put_back_changes_no_order(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    first, then = queued_run(database), time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: then - 3600 * 10**9)
    assert first < queued_run(database) < queued_run(database)
