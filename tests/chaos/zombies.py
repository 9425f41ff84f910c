"""Workers stopped (SIGSTOP) past the time limit and continued: what was given up writes nothing any more."""

import random
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from chainrule.app.store.database import Database
from chainrule.app.store.models import Base, Run, RunAttempt
from tests.chaos.fleet import Fleet
from tests.chaos.kills import unfinished
from tests.chaos.oracle import BASE, Oracle, spec
from tests.waiting import wait_for

SLOTS = 4
LIMIT_S = 1.5
CHANGES: dict[str, Any] = {"epochs": 500, "checkpoints": {"every": 200}, "gradients": {"every": 100}}
"""So long that there is time to stop it."""
BETTER: dict[str, Any] = {
    "epochs": 1_000_000, "priority": 1000, "checkpoints": {"every": 1_000_000}, "gradients": {"every": 0},
}  # fmt: skip
TRAINED = ("sgd", "adam", "dropout", "batch norm")
WAYS = ("supervisor", "supervisor and training")
WRITTEN = (
    "runs",
    "run_transitions",
    "attempts",
    "epochs",
    "checkpoints",
    "gradient_records",
    "probe_records",
    "resume_points",
)


def campaign(folder: Path, database_url: str, zombies: int, seed: int) -> tuple[str, list[str]]:
    """Stop so many attempts past the time limit, a few at once; return what was seen, and what is wrong.

    A second worker observes and takes the runs away. Its one slot has something better to do, so that each run
    waits, and whatever of it changes then was written by the attempt that had lost it.
    """
    started, chance = time.monotonic(), random.Random(seed)
    database = Database(database_url)
    quick: dict[str, Any] = {"heartbeat_interval_s": 0.1, "attempt_timeout_s": LIMIT_S}
    fleet = Fleet(folder, database_url, workers=1, slots=1, **quick)
    observer = fleet.workers[0]
    acknowledged: list[str] = []
    lost, wrong = Counter[str](), list[str]()
    try:
        better = fleet.post("/v1/runs", BASE | BETTER, "better").json()["id"]
        wait_for(lambda: _status(database, [better]) == {"running"})
        zombie = fleet.add_worker(SLOTS)
        while sum(lost[way] for way in WAYS) < zombies:
            number = len(acknowledged)
            for more in range(max(0, SLOTS + 1 - _waiting(database))):
                kind = chance.choice(TRAINED)
                body = spec(kind, 0) | CHANGES | {"priority": min(number, 900)}
                acknowledged.append(fleet.post("/v1/runs", body, f"{number}-{more}").json()["id"])
            held = wait_for(lambda: _held(database, better))
            time.sleep(chance.uniform(0.0, 0.3))
            way = chance.choice(WAYS)
            zombie.freeze(everything=way != WAYS[0])
            if _locked(database):
                # Stopped in the middle of a write, it keeps all others from writing: nobody is judged meanwhile.
                zombie.send_all(signal.SIGCONT)
                lost["holding the lock"] += 1
                continue
            held = _held(database, better)
            wait_for(lambda: not _held(database, better), 180)
            taken = [run_id for run_id in held if _lost(database, run_id)]  # the others ended first
            before = _everything(database, taken)
            time.sleep(0.1)
            zombie.send(signal.SIGTERM)  # heard when it goes on: it drains, and would write where its runs stand
            zombie.send_all(signal.SIGCONT)
            zombie.wait()
            after = _everything(database, taken)
            # Who goes on may claim a run anew before it hears that it is to end: that attempt has the run.
            anew = [run for run in taken if len(after[run]["attempts"]) > len(before[run]["attempts"])]
            lost["claimed anew"] += len(anew)
            taken = [run for run in taken if run not in anew]
            lost[way] += len(taken)
            wrong += [_difference(run, before[run], after[run]) for run in taken if before[run] != after[run]]
            zombie.start()
        with suppress(httpx.TransportError):
            httpx.post(f"{fleet.url}/v1/runs/{better}/cancel", timeout=20)
        wait_for(lambda: not unfinished(database), 1800, 0.1)
        late = len(wrong)
        verdict = Oracle(database, folder).judge(acknowledged)
        wrong += verdict.wrong
        if quoted := fleet.tracebacks():
            wrong.append(quoted)
        took = time.monotonic() - started
        seen = f"{dict(lost)} stopped in {took:.0f} s, runs written after their loss {late}; {verdict}"
        return seen, wrong
    finally:
        observer.send_all(signal.SIGCONT)
        fleet.close()
        database.dispose()


def _locked(database: Database) -> bool:
    """Whether nobody can write for a while: only where a file is the database, and who was stopped has its lock."""
    if not database.sqlite:
        return False
    with closing(sqlite3.connect(str(database.url.database), timeout=2, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


def _difference(run_id: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    changed = {name: [row for row in after[name] if row not in before[name]] for name in WRITTEN}
    return f"{run_id}: written after the loss: { ({name: rows[:2] for name, rows in changed.items() if rows}) }"


def _waiting(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).where(Run.status == "queued", Run.failures == 0)) or 0


def _status(database: Database, run_ids: list[str]) -> set[str]:
    with database.reading() as session:
        return set(session.scalars(select(Run.status).where(Run.id.in_(run_ids))))


def _held(database: Database, but: str) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(Run.id).where(Run.status == "running", Run.id != but)))


def _lost(database: Database, run_id: str) -> bool:
    with database.reading() as session:
        newest = select(RunAttempt.reason).where(RunAttempt.run_id == run_id).order_by(RunAttempt.number.desc())
        return session.scalars(newest).first() == "worker_lost"


def _everything(database: Database, run_ids: list[str]) -> dict[str, dict[str, Any]]:
    """Read all that is stored of runs."""
    found: dict[str, dict[str, Any]] = {}
    with database.reading() as session:
        for run_id in run_ids:
            found[run_id] = {}
            for name in WRITTEN:
                table = Base.metadata.tables[name]
                key = table.c.id if name == "runs" else table.c.run_id
                rows = session.execute(select(table).where(key == run_id)).all()
                found[run_id][name] = sorted(str(tuple(row)) for row in rows)
    return found
