"""Random `kill -9` while runs of every kind are submitted and trained: nothing is lost, doubled or different."""

import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
from sqlalchemy import func, select

from chainrule.app.store.database import Database
from chainrule.app.store.models import Run
from tests.chaos.fleet import Fleet, wait_for
from tests.chaos.oracle import KINDS, SWEEP, Oracle, long_rows, spec

LEAST_S, MOST_S = 0.05, 0.45
"""Between two kills."""
WAITING = 24
"""At most so many runs wait, so that whoever is killed has something to lose; no more than there are kills."""
VICTIMS = {"child": 75, "fork server": 5, "worker": 9, "api": 6, "worker with all it started": 4, "everything": 1}
END_S = 150.0


class Submitter:
    """Submits runs and sweeps, each under a key of its own, until told to stop; some of them twice at once."""

    def __init__(self, fleet: Fleet, database: Database, seed: int, waiting: int) -> None:
        self.acknowledged: dict[str, str] = {}
        self.problems: list[str] = []
        self._fleet, self._database, self._random = fleet, database, random.Random(seed)
        self._stopping, self._most = threading.Event(), waiting
        self._sent: dict[str, tuple[str, object]] = {}
        self._long = fleet.post("/v1/datasets", long_rows(), f"long-{seed}").json()["id"]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._stopping.is_set():
            with suppress(Exception), self._database.reading() as session:
                waiting = select(func.count()).where(Run.status.in_(["queued", "running"]))
                if (session.scalar(waiting) or 0) >= self._most:
                    self._stopping.wait(0.05)
                    continue
            number += 1
            try:
                self._submit(number)
            except Exception as error:
                self.problems.append(f"submission {number}: {error!r}")

    def _submit(self, number: int) -> None:
        key = f"key-{number}"
        if self._random.random() < 0.05:
            path, body = "/v1/sweeps", dict(SWEEP)
        else:
            kind = self._random.choice(list(KINDS))
            path, body = "/v1/runs", spec(kind, self._random.randrange(100))
            if kind == "long epochs":
                body |= {"dataset": self._long, "network": {"layers": [{"units": 8, "activation": "tanh"},
                         {"units": 3, "activation": "softmax"}]}}  # fmt: skip
        self._sent[key] = (path, body)
        twice: list[str] = []
        if self._random.random() < 0.2:
            other = threading.Thread(target=lambda: twice.append(self._fleet.post(path, body, key).json()["id"]))
            other.start()
            self.acknowledged[key] = self._fleet.post(path, body, key).json()["id"]
            other.join()
        else:
            self.acknowledged[key] = self._fleet.post(path, body, key).json()["id"]
        if twice not in ([], [self.acknowledged[key]]):
            self.problems.append(f"{key} was acknowledged as {twice} and as {self.acknowledged[key]}")

    def finish(self) -> None:
        """Submit no more, and repeat all that was submitted: each must be what it was."""
        self._stopping.set()
        self._thread.join()
        for key, (path, body) in self._sent.items():
            again = self._fleet.post(path, body, key)
            if again.json()["id"] != self.acknowledged[key] or "idempotency-replayed" not in again.headers:
                self.problems.append(f"{key} was {self.acknowledged[key]} and is {again.json()['id']} when repeated")


def _strike(fleet: Fleet, chance: random.Random) -> str | None:
    """Kill somebody; None if nobody was there to be killed."""
    what = chance.choices(list(VICTIMS), list(VICTIMS.values()))[0]
    worker = chance.choice(fleet.workers)
    with suppress(psutil.Error, ProcessLookupError):
        match what:
            case "child" | "fork server":
                children = worker.children()
                if not children:
                    return None
                busy = [child for child in children if child.status() == psutil.STATUS_RUNNING] or children
                victim = chance.choice(busy)
                (victim if what == "child" else victim.parent() or victim).kill()
            case "worker" | "worker with all it started" if not worker.children():
                return None  # it has only just been started: there is nothing to lose
            case "worker":
                worker.kill()
            case "api":
                fleet.api.kill()
            case "worker with all it started":
                worker.kill_all()
            case _:
                for member in fleet.members():
                    member.send_all(signal.SIGKILL)
                wait_for(lambda: not any(member.alive for member in fleet.members()))
        return what
    return None


def campaign(folder: Path, database_url: str, kills: int, seed: int) -> tuple[str, list[str]]:
    """Kill so many times; return what was seen, and what is wrong."""
    started, chance = time.monotonic(), random.Random(seed)
    database = Database(database_url)
    fleet = Fleet(folder, database_url, workers=2, slots=2)
    struck = Counter[str]()
    try:
        submitter = Submitter(fleet, database, seed, min(WAITING, kills))
        while struck.total() < kills:
            time.sleep(chance.uniform(LEAST_S, MOST_S))
            if (what := _strike(fleet, chance)) is not None:
                struck[what] += 1
            for member in fleet.members():
                if not member.alive:
                    member.start()
        wait_for(fleet.ready)
        submitter.finish()
        wait_for(lambda: not unfinished(database), END_S, 0.1)
        verdict = Oracle(database, folder).judge(runs_of(database, submitter.acknowledged.values()))
        wrong = [*verdict.wrong, *submitter.problems, *_uninvited(database, submitter.acknowledged.values())]
        if quoted := fleet.tracebacks():
            wrong.append(quoted)
        took = time.monotonic() - started
        return f"{struck.total()} kills {dict(struck)} in {took:.0f} s; {verdict}", wrong
    finally:
        fleet.close()
        database.dispose()


def unfinished(database: Database) -> int:
    """Count the runs that have not ended."""
    with database.reading() as session:
        return session.scalar(select(func.count()).where(Run.finished_at.is_(None))) or 0


def runs_of(database: Database, acknowledged: object) -> list[str]:
    """Name the runs acknowledged, those of sweeps in their place."""
    names = set(acknowledged)  # type: ignore[call-overload]
    with database.reading() as session:
        members = {
            sweep: list(session.scalars(select(Run.id).where(Run.sweep_id == sweep)))
            for sweep in names
            if sweep.startswith("sweep")
        }
    return sorted(run for name in names for run in members.get(name, [name]))


def _uninvited(database: Database, acknowledged: object) -> list[str]:
    """Name the runs that nobody was told of: all submissions were acknowledged at last, so there are none."""
    with database.reading() as session:
        there = set(session.scalars(select(Run.id)))
    return [f"{run} was never acknowledged" for run in there - set(runs_of(database, acknowledged))]
