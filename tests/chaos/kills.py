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
from tests.chaos.fleet import Fleet
from tests.chaos.oracle import KINDS, SWEEP, Oracle, long_rows, spec
from tests.chaos.uploads import Uploader
from tests.waiting import wait_for

LEAST_S, MOST_S = 0.05, 0.45
"""Between two kills."""
WAITING = 24
"""At most so many runs wait, so that whoever is killed has something to lose; no more than there are kills."""
VICTIMS = {
    "local": {"child": 75, "fork server": 5, "worker": 9, "api": 6, "worker with all it started": 4, "everything": 1},
    # The API is the client of the cluster; of a worker with a nanny it is the worker that is killed.
    "dask": {"child": 60, "fork server": 4, "worker": 12, "api": 8, "scheduler": 8, "worker with all it started": 5,
             "everything": 3},
}  # fmt: skip
END_S = 300.0


class Submitter:
    """Submits runs and sweeps, each under a key of its own, until told to stop; some of them twice at once."""

    def __init__(self, fleet: Fleet, database: Database, seed: int, waiting: int) -> None:
        self.acknowledged: dict[str, str] = {}
        self.problems: list[str] = []
        self.doubled = self.repeated = 0
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
            self.doubled += 1
            other = threading.Thread(target=lambda: twice.append(self._fleet.post(path, body, key).json()["id"]))
            other.start()
            self.acknowledged[key] = self._fleet.post(path, body, key).json()["id"]
            other.join()
        else:
            self.acknowledged[key] = self._fleet.post(path, body, key).json()["id"]
        if twice not in ([], [self.acknowledged[key]]):
            self.problems.append(f"{key} was acknowledged as {twice} and as {self.acknowledged[key]}")
        if self._random.random() < 0.2:
            self._repeat(self._random.choice(list(self._sent)))

    def _repeat(self, key: str) -> None:
        self.repeated += 1
        again = self._fleet.post(*self._sent[key], key)
        if again.json()["id"] != self.acknowledged[key] or "idempotency-replayed" not in again.headers:
            self.problems.append(f"{key} was {self.acknowledged[key]} and is {again.json()['id']} when repeated")

    def finish(self) -> None:
        """Submit no more, and repeat all that was submitted: each must be what it was."""
        self._stopping.set()
        self._thread.join()
        for key in self._sent:
            self._repeat(key)


def _strike(fleet: Fleet, chance: random.Random) -> str | None:
    """Kill somebody; None if nobody was there to be killed."""
    victims = VICTIMS[fleet.engine]
    what = chance.choices(list(victims), list(victims.values()))[0]
    worker = chance.choice(fleet.workers)
    if not any(one.children() for one in fleet.workers):
        return None  # all have only just been started: there is nothing to lose
    with suppress(psutil.Error, ProcessLookupError):
        match what:
            case "child" | "fork server":
                children = worker.children() if what == "child" else worker.fork_servers()
                if not children:
                    return None
                busy = [child for child in children if child.status() == psutil.STATUS_RUNNING] or children
                chance.choice(busy).kill()
            case "worker" | "worker with all it started" if not worker.children():
                return None  # it has only just been started: there is nothing to lose
            case "worker":
                (worker.hosts() or worker).kill()
            case "scheduler" if fleet.scheduler:
                fleet.scheduler.kill()
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


def campaign(folder: Path, database_url: str, kills: int, seed: int, engine: str = "local") -> tuple[str, list[str]]:
    """Kill so many times; return what was seen, and what is wrong."""
    started, chance = time.monotonic(), random.Random(seed)
    database = Database(database_url)
    fleet = Fleet(folder, database_url, workers=2, slots=2, engine=engine)
    struck = Counter[str]()
    try:
        submitter, uploader = Submitter(fleet, database, seed, min(WAITING, kills)), Uploader(fleet, seed)
        while struck.total() < kills:
            time.sleep(chance.uniform(LEAST_S, MOST_S))
            if (what := _strike(fleet, chance)) is not None:
                struck[what] += 1
            fleet.mend()
        wait_for(lambda: fleet.mend() and fleet.ready())
        submitter.finish()
        uploader.finish()
        wait_for(lambda: fleet.mend() and not unfinished(database), END_S, 0.1)
        verdict = Oracle(database, folder).judge(runs_of(database, submitter.acknowledged.values()))
        wrong = [*verdict.wrong, *submitter.problems, *_uninvited(database, submitter.acknowledged.values())]
        wrong += uploader.judge(database, folder, others=1)
        if quoted := fleet.tracebacks():
            wrong.append(quoted)
        took = time.monotonic() - started
        sent = f"sent twice at once {submitter.doubled}, repeated {submitter.repeated}"
        sent += f", uploads cut {uploader.cut}, then whole {uploader.whole}"
        return f"{struck.total()} kills {dict(struck)} in {took:.0f} s; {sent}; {verdict}", wrong
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
