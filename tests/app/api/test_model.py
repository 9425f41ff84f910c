"""The API against a model of itself: whatever is asked, in whatever order, it answers as a few lawful rules say.

A machine of Hypothesis submits, replays, cancels, pauses, resumes, extends, clones, deletes and restores, uploads and
deletes datasets, and plays the worker, so that states move when it says so. After each step every list is what the
model has.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete

from chainrule.app.config import Settings
from chainrule.app.run_status import Reason, RunStatus, Wish
from chainrule.app.store import attempts, checkpoints, epochs, queue
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database
from chainrule.app.store.models import Dataset, IdempotencyKey
from chainrule.app.store.models import Run as Row
from tests.app.api.calls import events, refused
from tests.app.store.test_database import epoch_row
from tests.conftest import KINDS
from tests.inside import inside

MOST_QUEUED = 4
MAX_FAILURES = 1
NETWORK = {"layers": [{"units": 1, "activation": "sigmoid"}]}
ROWS = [{"samples": [[0.0], [1.0 + number]], "labels": ["a", "b"]} for number in range(2)]
NO_RUN, NO_DATASET = "run_00000000000000000000000000", "ds_nothing"
BUILT_IN = ("xor", "moons")
EXTENDABLE = (Reason.COMPLETED, Reason.CANCEL_REQUESTED, Reason.ATTEMPTS_EXHAUSTED)

which = st.sampled_from(range(12))
rarely = st.sampled_from([False] * 5 + [True])
name = st.sampled_from(["", "a", "b"])
key = st.none() | st.sampled_from(["k1", "k2"])


@dataclass
class Run:
    """What the model knows of a run; `recorded` is its newest epoch, if it has any."""

    id: str
    name: str
    dataset: str
    priority: int
    total: int
    status: RunStatus = RunStatus.QUEUED
    reason: Reason = Reason.SUBMITTED
    cancel: bool = False
    pause: bool = False
    recorded: int | None = None
    attempts: int = 0
    failures: int = 0
    extends: str | None = None
    cloned_from: str | None = None
    deleted: bool = False
    attempt: Attempt | None = None

    @property
    def held(self) -> Attempt:
        """The attempt that trains it."""
        assert self.attempt is not None
        return self.attempt

    def leave(self, status: RunStatus, reason: Reason) -> None:
        """Have its attempt end."""
        self.status, self.reason, self.pause, self.attempt = status, reason, False, None

    def shown(self) -> dict[str, Any]:
        """Write it down as the API shows it."""
        return {
            "id": self.id, "name": self.name, "dataset": self.dataset, "priority": self.priority,
            "status": self.status, "reason": self.reason, "done": self.status.terminal,
            "cancel_requested": self.cancel, "pause_requested": self.pause,
            "epochs": (self.recorded or 0, self.total), "attempts": self.attempts, "failures": self.failures,
            "extends": self.extends, "cloned_from": self.cloned_from, "deleted": self.deleted,
        }  # fmt: skip


def seen(run: dict[str, Any]) -> dict[str, Any]:
    """Write an answer down so that it can be compared with the model."""
    progress = run["progress"]
    return {name: run[name] for name in Run("", "", "", 0, 0).shown() if name in run} | {
        "epochs": (progress["epochs_done"], progress["epochs_total"]),
        "deleted": run["deleted_at"] is not None,
    }


@dataclass
class Model:
    """All there is: runs in the order of submission, those that are gone, datasets by id, and answers by key."""

    runs: dict[str, Run] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    datasets: dict[str, int] = field(default_factory=dict)
    answers: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def queued(self) -> list[Run]:
        """What waits, the best first."""
        waiting = [run for run in self.runs.values() if run.status is RunStatus.QUEUED]
        return sorted(waiting, key=lambda run: (-run.priority, run.id))

    def running(self) -> list[Run]:
        """What is trained."""
        return [run for run in self.runs.values() if run.status is RunStatus.RUNNING]


class Api(RuleBasedStateMachine):
    """Asks the service and the model the same, and compares."""

    def __init__(self, client: httpx.Client, database: Database) -> None:
        super().__init__()
        self.client, self.database, self.model = client, database, Model()
        self.attempts = itertools.count()

    def teardown(self) -> None:
        """Leave nothing to the next one."""
        with self.database.writing() as session:
            for table in (Row, Dataset, IdempotencyKey):
                session.execute(delete(table))

    def ask(self, expected: int | str, method: str, path: str, **given: Any) -> httpx.Response:
        """Ask, and insist on a status, or on a refusal of that code."""
        response = self.client.request(method, path, **given)
        assert response.status_code < 500, response.text
        if isinstance(expected, str):
            refused(response, expected)
        else:
            assert response.status_code == expected, response.text
        return response

    def pick(self, number: int) -> tuple[str, Run | None]:
        """Choose a run, maybe one that is gone or never was; None unless it is there to be asked for."""
        there = list(self.model.runs) if number < 11 else []
        ids = there or [NO_RUN, *self.model.gone]
        chosen = ids[number % len(ids)]
        run = self.model.runs.get(chosen)
        return chosen, None if run is None or run.deleted else run

    def create(
        self, path: str, body: dict[str, Any], key: str | None, refusal: str | None, make: Callable[[str], Run]
    ) -> None:
        """Post what makes a run; `refusal` is why it is refused, but for what a key was answered and the queue."""
        headers = {} if key is None else {"Idempotency-Key": key}
        request = (path, body)
        if key in self.model.answers and key is not None:
            before, run_id = self.model.answers[key]
            if before != request:
                self.ask("idempotency_mismatch", "POST", path, json=body, headers=headers)
                return
            again = self.ask(201, "POST", path, json=body, headers=headers)
            assert again.headers["idempotency-replayed"] == "true"
            assert again.json()["id"] == run_id
            return
        if refusal is None and len(self.model.queued()) >= MOST_QUEUED:
            refusal = "queue_full"
        response = self.ask(refusal or 201, "POST", path, json=body, headers=headers)
        if refusal is None:
            made = make(response.json()["id"])
            assert seen(response.json()) == made.shown()
            assert made.id not in self.model.runs
            self.model.runs[made.id] = made
            if key is not None:
                self.model.answers[key] = (request, made.id)

    @initialize(ways=st.lists(st.sampled_from(["queued", "running", "ended"]), max_size=3))
    def begin(self, ways: list[str]) -> None:
        """Begin with some runs, so that those that have ended are no rarity."""
        for way in ways:
            self.submit(0, "a", 2, 1, None)
            if way != "queued":
                self.claim()
            while way == "ended" and self.model.running():
                self.train(0, 3)

    # What clients do

    @rule(number=which, name=name, epochs=st.integers(1, 3), priority=st.integers(0, 1), key=key)
    def submit(self, number: int, name: str, epochs: int, priority: int, key: str | None) -> None:
        """Submit a run, maybe under a key that was used before, for the same or for another."""
        known = [*BUILT_IN, *self.model.datasets, NO_DATASET]
        dataset = known[number % len(known)]
        spec = {"name": name, "dataset": dataset, "network": NETWORK, "epochs": epochs, "priority": priority}
        refusal = "invalid_input" if dataset == NO_DATASET else None
        validated = self.ask(refusal or 200, "POST", "/v1/runs", params={"validate_only": True}, json=spec)
        assert refusal or validated.json()["config"]["dataset"] == dataset
        self.create("/v1/runs", spec, key, refusal, lambda id_: Run(id_, name, dataset, priority, epochs))

    @rule(key=st.sampled_from(["k1", "k2"]))
    def replay(self, key: str) -> None:
        """Send a request once more under its key."""
        if key in self.model.answers:
            (path, body), _ = self.model.answers[key]
            self.create(path, body, key, None, lambda _: pytest.fail("a replay makes nothing"))

    @rule(number=which, stale=rarely)
    def cancel(self, number: int, stale: bool) -> None:
        """Cancel a run."""

        def decide(run: Run) -> int | str:
            if run.status in (RunStatus.SUCCEEDED, RunStatus.FAILED):
                return "conflict"
            if run.status is RunStatus.RUNNING:
                run.cancel = True
                return 202
            if run.status is not RunStatus.CANCELLED:
                run.status, run.reason, run.cancel = RunStatus.CANCELLED, Reason.CANCEL_REQUESTED, True
            return 200

        self.change("cancel", number, stale, decide)

    @rule(number=which, stale=rarely)
    def pause(self, number: int, stale: bool) -> None:
        """Pause a run."""

        def decide(run: Run) -> int | str:
            if run.status.terminal or run.cancel:
                return "conflict"
            if run.status is RunStatus.RUNNING:
                run.pause = True
                return 202
            if run.status is RunStatus.QUEUED:
                run.status, run.reason = RunStatus.PAUSED, Reason.PAUSE_REQUESTED
            return 200

        self.change("pause", number, stale, decide)

    @rule(number=which, stale=rarely)
    def resume(self, number: int, stale: bool) -> None:
        """Resume a run."""

        def decide(run: Run) -> int | str:
            if run.status.terminal or run.cancel:
                return "conflict"
            if run.status is RunStatus.RUNNING:
                run.pause = False
            elif run.status is RunStatus.PAUSED:
                if len(self.model.queued()) >= MOST_QUEUED:
                    return "queue_full"
                run.status, run.reason = RunStatus.QUEUED, Reason.RESUMED
            return 200

        self.change("resume", number, stale, decide)

    def change(self, what: str, number: int, stale: bool, decide: Callable[[Run], int | str]) -> None:
        """Ask for a change, maybe decided by an older look at the run; `decide` changes the model's, and answers."""
        run_id, run = self.pick(number)
        expected = "not_found" if run is None else "precondition_failed" if stale else decide(run)
        headers = {"If-Match": '"r0"'} if stale else {}
        response = self.ask(expected, "POST", f"/v1/runs/{run_id}/{what}", headers=headers)
        if run is not None and isinstance(expected, int):
            assert seen(response.json()) == run.shown()

    @rule(number=which, epochs=st.integers(1, 2), in_all=st.booleans(), key=key)
    def extend(self, number: int, epochs: int, in_all: bool, key: str | None) -> None:
        """Have a run that has ended go on."""
        run_id, run = self.pick(number)
        refusal, total = None, epochs
        if run is None:
            refusal = "not_found"
        elif not run.status.terminal or run.reason not in EXTENDABLE or run.recorded is None:
            refusal = "conflict"
        else:
            total = epochs if in_all else run.recorded + epochs
            refusal = "invalid_input" if total <= run.recorded else None

        def make(new_id: str) -> Run:
            assert run is not None
            made = Run(new_id, run.name, run.dataset, run.priority, total)
            return replace(made, recorded=run.recorded, extends=run.id)

        self.create(f"/v1/runs/{run_id}/extend", {"to" if in_all else "epochs": epochs}, key, refusal, make)

    @rule(number=which, name=name, key=key)
    def clone(self, number: int, name: str, key: str | None) -> None:
        """Submit a run's config under another name."""
        run_id, run = self.pick(number)

        def make(new_id: str) -> Run:
            assert run is not None
            return Run(new_id, name, run.dataset, run.priority, run.total, cloned_from=run.id)

        refusal = "not_found" if run is None else None
        self.create(f"/v1/runs/{run_id}/clone", {"name": name}, key, refusal, make)

    @rule(number=which, purge=st.booleans())
    def delete_run(self, number: int, purge: bool) -> None:
        """Delete a run, for good or not."""
        run_id, there = self.pick(number)
        run = self.model.runs.get(run_id) if purge else there
        expected: int | str = 204
        if run is None:
            expected = "not_found"
        elif not run.status.terminal:
            expected = "conflict"
        elif purge:
            del self.model.runs[run_id]
            self.model.gone.append(run_id)
        else:
            run.deleted = True
        self.ask(expected, "DELETE", f"/v1/runs/{run_id}", params={"purge": purge})

    @rule(number=which)
    def restore(self, number: int) -> None:
        """Bring a deleted run back."""
        run_id, _ = self.pick(number)
        run = self.model.runs.get(run_id)
        response = self.ask(200 if run else "not_found", "POST", f"/v1/runs/{run_id}/restore")
        if run is not None:
            run.deleted = False
            assert seen(response.json()) == run.shown()

    @rule(content=st.integers(0, len(ROWS) - 1))
    def add_dataset(self, content: int) -> None:
        """Upload samples; the same again are the same dataset."""
        known = [id_ for id_, of in self.model.datasets.items() if of == content]
        response = self.ask(200 if known else 201, "POST", "/v1/datasets", json=ROWS[content])
        assert not known or response.json()["id"] == known[0]
        self.model.datasets[response.json()["id"]] = content

    @rule(number=which)
    def delete_dataset(self, number: int) -> None:
        """Delete a dataset; not while a run uses it, not even a deleted one that may come back."""
        known = [*self.model.datasets, *BUILT_IN, NO_DATASET]
        dataset = known[number % len(known)]
        expected: int | str = 204
        if dataset == NO_DATASET:
            expected = "not_found"
        elif dataset in BUILT_IN or any(run.dataset == dataset for run in self.model.runs.values()):
            expected = "conflict"
        self.ask(expected, "DELETE", f"/v1/datasets/{dataset}")
        if expected == 204:
            del self.model.datasets[dataset]

    # What the worker does

    @rule()
    def claim(self) -> None:
        """Take the best waiting run, or none."""
        best = next(iter(self.model.queued()), None)
        attempt_id = f"a{next(self.attempts)}"
        with self.database.writing() as session:
            claimed = queue.claim(session, attempt_id, "worker:1")
        assert (claimed and claimed.id) == (best and best.id)
        if best is not None:
            best.status, best.reason, best.attempts = RunStatus.RUNNING, Reason.CLAIMED, best.attempts + 1
            best.attempt = Attempt(best.id, attempt_id)

    @precondition(lambda self: self.model.running())
    @rule(number=which, further=st.integers(1, 3))
    def train(self, number: int, further: int) -> None:
        """Record the next epochs of a run, and its end if they were the last."""
        running = self.model.running()
        run = running[number % len(running)]
        before = -1 if run.recorded is None else run.recorded
        run.recorded = min(max(before, 0) + further, run.total)
        with self.database.writing() as session:
            done = {"epochs_done": run.recorded, "steps_done": run.recorded}
            assert attempts.advance(session, run.held, done)
            epochs.add(session, [epoch_row(run.id, epoch) for epoch in range(before + 1, run.recorded + 1)])
            checkpoints.put_resume_point(session, run.id, run.recorded, 0, b"")
            if run.recorded == run.total:
                assert attempts.end_attempt(session, run.held, RunStatus.SUCCEEDED, Reason.COMPLETED)
                run.leave(RunStatus.SUCCEEDED, Reason.COMPLETED)

    @precondition(lambda self: self.model.running())
    @rule(number=which, way=st.sampled_from(["obey", "drain", "lose", "diverge"]))
    def stop(self, number: int, way: str) -> None:
        """End an attempt before its run is over: as is wished, to make room, by a loss, by a fault of the run's."""
        running = self.model.running()
        run = running[number % len(running)]
        attempt = run.held
        wish = Wish.CANCEL if run.cancel else Wish.PAUSE if run.pause else None
        ends = {
            None: (RunStatus.QUEUED, Reason.WORKER_LOST if way == "lose" else Reason.DRAINED),
            Wish.CANCEL: (RunStatus.CANCELLED, Reason.CANCEL_REQUESTED),
            Wish.PAUSE: (RunStatus.PAUSED, Reason.WORKER_LOST if way == "lose" else Reason.PAUSE_REQUESTED),
        }
        status, reason = ends[wish]
        with self.database.writing() as session:
            assert attempts.beat(session, [attempt]) == {run.id: wish}
            if way == "diverge":
                status, reason = RunStatus.FAILED, Reason.DIVERGED
                became = attempts.end_attempt(session, attempt, status, reason)
            elif way == "lose":
                if run.failures >= MAX_FAILURES and wish is not Wish.CANCEL:
                    status, reason = RunStatus.FAILED, Reason.ATTEMPTS_EXHAUSTED
                run.failures += 1
                became = attempts.lose_attempt(session, attempt, Reason.WORKER_LOST, "", max_failures=MAX_FAILURES)
            elif way == "obey" and wish is not None:
                became = attempts.end_attempt(session, attempt, status, reason)
            else:
                became = attempts.end_attempt(session, attempt, RunStatus.QUEUED, Reason.DRAINED)
        assert became is status
        run.leave(status, reason)
        with self.database.writing() as session:  # who has been given up writes nothing
            assert not attempts.advance(session, attempt, {"epochs_done": 99})

    # What everybody sees

    @rule(number=which, after=st.integers(-1, 3), limit=st.integers(1, 3))
    def look(self, number: int, after: int, limit: int) -> None:
        """Look at a run, its epochs, and, where they end, its events."""
        run_id, run = self.pick(number)
        expected = 200 if run else "not_found"
        found = self.ask(expected, "GET", f"/v1/runs/{run_id}")
        page = self.ask(expected, "GET", f"/v1/runs/{run_id}/epochs", params={"after": after, "limit": limit})
        if run is None:
            self.ask("not_found", "GET", f"/v1/runs/{run_id}/events")
            return
        assert seen(found.json()) == run.shown()
        assert found.json()["transitions"][-1]["status"] == run.status
        behind = [] if run.recorded is None else list(range(after + 1, run.recorded + 1))
        assert page.json()["columns"]["epoch"] == behind[:limit]
        assert page.json()["next_after"] == (behind[limit - 1] if len(behind) > limit else None)
        if run.status.terminal:
            told = list(events(self.ask(200, "GET", f"/v1/runs/{run_id}/events", params={"after": after})))
            assert [event.data["epoch"] for event in told if event.name == "epoch"] == behind
            assert (told[-1].name, told[-1].data["status"]) == ("end", run.status)

    @rule(
        status=st.lists(st.sampled_from(list(RunStatus)), max_size=2),
        name=st.none() | name,
        dataset=st.none() | st.sampled_from([*BUILT_IN, NO_DATASET]),
        deleted=st.booleans(),
        newest=st.booleans(),
        limit=st.integers(1, 3),
    )
    def filtered(
        self, status: list[RunStatus], name: str | None, dataset: str | None, deleted: bool, newest: bool, limit: int
    ) -> None:
        """Read a list by pages, through any filters."""
        asked: dict[str, Any] = {"limit": limit, "sort": "-created_at" if newest else "created_at"}
        asked |= {"status": status} if status else {}
        asked |= {key: value for key, value in (("name", name), ("dataset", dataset)) if value is not None}
        expected = [
            run.shown()
            for run in sorted(self.model.runs.values(), key=lambda run: run.id, reverse=newest)
            if run.deleted == deleted
            and (not status or run.status in status)
            and name in (None, run.name)
            and dataset in (None, run.dataset)
        ]
        assert self.pages("/v1/runs", asked | {"deleted": deleted}) == expected

    def pages(self, path: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
        """Read a list of runs to its end."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.ask(200, "GET", path, params=asked).json()
            assert len(page["items"]) <= asked["limit"]
            found += [seen(run) for run in page["items"]]
            if page["next_cursor"] is None:
                return found
            asked = asked | {"cursor": page["next_cursor"]}

    @invariant()
    def lists_are_what_the_model_has(self) -> None:
        """Compare all runs, the deleted ones, and all datasets."""
        for deleted in (False, True):
            expected = [run.shown() for run in self.model.runs.values() if run.deleted == deleted]
            assert self.pages("/v1/runs", {"limit": 200, "sort": "created_at", "deleted": deleted}) == expected
        found = self.ask(200, "GET", "/v1/datasets").json()["items"]
        assert sorted(one["id"] for one in found if not one["builtin"]) == sorted(self.model.datasets)


@pytest.mark.parametrize(("kind", "examples"), list(zip(KINDS, (16, 4), strict=True)), ids=KINDS)
def test_whatever_is_asked_in_whatever_order_the_api_answers_as_its_model_does(
    fresh: Any, cache_dir: Path, kind: str, examples: int
) -> None:
    settings = Settings(
        database_url=fresh.url(kind), cache_dir=cache_dir, slots=0, max_queued_runs=MOST_QUEUED,
        attempt_timeout_s=3600, access_log=False,
    )  # fmt: skip
    with inside(settings) as (client, database):

        class ThisApi(Api):
            def __init__(self) -> None:
                super().__init__(client, database)

        run_state_machine_as_test(
            ThisApi,
            settings=hypothesis_settings(
                max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
