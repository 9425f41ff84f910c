"""A machine cut off from the database past the time limit, and back: its run ends elsewhere, and it writes nothing.

Two machines that train and the one of PostgreSQL are network namespaces, so that a cable can be pulled. Who writes
what is not asked of those who write: a trigger in the database notes the address each row came from.
"""

import random
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import select, text

from chainrule.app.store.database import Database
from chainrule.app.store.models import Run, RunAttempt, Worker
from tests.chaos.fleet import Fleet, Member
from tests.chaos.kills import unfinished
from tests.chaos.network import DATABASE, HOST, Network
from tests.chaos.oracle import Oracle, spec
from tests.chaos.zombies import CHANGES, TRAINED, WRITTEN
from tests.postgres import OwnServer
from tests.waiting import wait_for

END_S = 240.0
NOTE = """
    CREATE TABLE written (number bigserial PRIMARY KEY, run text, address inet);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            -- An observer writes to some running run what stands there, to see whether hearts can beat.
            IF TG_OP = 'UPDATE' AND to_jsonb(OLD) = to_jsonb(NEW) THEN RETURN NULL; END IF;
            INSERT INTO written (run, address)
            VALUES (to_jsonb(CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END) ->> TG_ARGV[0], inet_client_addr());
            RETURN NULL;
        END
    $$;
"""
TRIGGER = "CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION note('{}')"


def campaign(folder: Path, server: OwnServer, network: Network, partitions: int, seed: int) -> tuple[str, list[str]]:
    """Cut one machine off so many times; return what was seen, and what is wrong."""
    started, chance = time.monotonic(), random.Random(seed)
    server.stop()
    server.start(network.on("database"), list(DATABASE.values()))
    database, fleet = Database(server.url), Fleet(folder, server.url, workers=0, slots=1)
    acknowledged: list[str] = []
    seen, wrong, elsewhere_s = Counter[str](), [], []
    try:
        _note_writes(database)
        machines = {name: _machine(fleet, network, name, folder) for name in HOST}
        while seen["cut off"] < partitions:
            while _at_hand(database) < len(HOST) + 1:
                number = len(acknowledged)
                body = spec(chance.choice(TRAINED), number) | CHANGES
                acknowledged.append(fleet.post("/v1/runs", body, f"run-{number}").json()["id"])
            held = wait_for(lambda: _held(database))
            run_id, number, machine = chance.choice(held)
            time.sleep(chance.uniform(0.0, 0.3))
            network.cut(machine)
            pulled = time.monotonic()
            wait_for(lambda of=run_id, at=number: _over(database, of, at))  # type: ignore[misc]
            if _over(database, run_id, number) != "worker_lost":
                seen["ended before"] += 1
                network.heal(machine)
                continue
            seen["cut off"] += 1
            # Back while another attempt is under way, or after that has ended, or after its connections have.
            if (back := chance.choice(["soon", "late", "very late"])) == "soon":
                time.sleep(chance.uniform(0.0, 1.0))
            else:
                wait_for(lambda of=run_id: _ended(database, of), END_S)  # type: ignore[misc]
                elsewhere_s.append(time.monotonic() - pulled)
                time.sleep(max(0.0, pulled + 15.0 - time.monotonic()) if back == "very late" else 0.0)
            mark = _written(database, "", 0)[1]
            network.heal(machine)
            beats = _beats(database, machine)
            wait_for(lambda of=machine, since=beats: _beats(database, of) > since)  # type: ignore[misc]
            wait_for(lambda of=run_id: _ended(database, of), END_S)  # type: ignore[misc]
            time.sleep(0.5)
            rows, attempts = _written(database, run_id, mark, HOST[machine])[0], _attempts(database, run_id)
            anew = any(worker.startswith(machine) for _, worker, _ in attempts[number:])
            seen["claimed anew"] += anew
            if rows and not anew:
                wrong.append(f"{run_id}: {rows} rows were written by {machine}, which had lost it: {attempts}")
            if not anew and attempts[-1][1].startswith(machine):
                wrong.append(f"{run_id} did not end elsewhere: {attempts}")
            if not all(member.alive for member in machines.values()):
                wrong.append("a worker has ended")
        written = len(wrong)
        wait_for(lambda: not unfinished(database), END_S, 0.1)
        verdict = Oracle(database, folder).judge(acknowledged)
        wrong += verdict.wrong
        if quoted := fleet.tracebacks():
            wrong.append(quoted)
        took, longest = time.monotonic() - started, max(elsewhere_s, default=0.0)
        return (
            f"{dict(seen)} in {took:.0f} s; runs written by who had lost them {written}, ended elsewhere after "
            f"{longest:.1f} s at most; {verdict}",
            wrong,
        )
    finally:
        for name in HOST:
            network.heal(name)
        fleet.close()
        database.dispose()


def _machine(fleet: Fleet, network: Network, name: str, folder: Path) -> Member:
    return fleet.add_worker(
        1,
        within=network.on(name),
        database_url=f"postgresql://postgres@{DATABASE[name]}/postgres",
        cache_dir=folder / name,
    )


def _note_writes(database: Database) -> None:
    with database.writing() as session:
        session.execute(text(NOTE))
        for table in WRITTEN:
            session.execute(text(TRIGGER.format(table, "id" if table == "runs" else "run_id")))


def _written(database: Database, run_id: str, after: int, address: str = "0.0.0.0") -> tuple[int, int]:
    """Count the rows of a run that came from an address; and name the last row of all."""
    query = text(
        "SELECT count(*) FILTER (WHERE run = :run AND address = CAST(:address AS inet) AND number > :after), "
        "coalesce(max(number), 0) FROM written"
    )
    with database.reading() as session:
        rows, last = session.execute(query, {"run": run_id, "address": address, "after": after}).one()
        return rows, last


def _at_hand(database: Database) -> int:
    with database.reading() as session:
        return len(session.scalars(select(Run.id).where(Run.status.in_(["queued", "running"]))).all())


def _held(database: Database) -> list[tuple[str, int, str]]:
    """List runs under way: which, by which attempt, on which machine."""
    with database.reading() as session:
        held = select(RunAttempt.run_id, RunAttempt.number, RunAttempt.worker).where(RunAttempt.ended_at.is_(None))
        return [(run_id, number, worker.partition(":")[0]) for run_id, number, worker in session.execute(held)]


def _over(database: Database, run_id: str, number: int) -> str:
    """Tell why an attempt has ended; nothing if it has not."""
    with database.reading() as session:
        attempt = select(RunAttempt.reason).where(RunAttempt.run_id == run_id, RunAttempt.number == number)
        return session.scalar(attempt.where(RunAttempt.ended_at.is_not(None))) or ""


def _ended(database: Database, run_id: str) -> bool:
    with database.reading() as session:
        return session.scalar(select(Run.finished_at).where(Run.id == run_id)) is not None


def _attempts(database: Database, run_id: str) -> list[tuple[int, str, str | None]]:
    with database.reading() as session:
        found = select(RunAttempt.number, RunAttempt.worker, RunAttempt.reason).where(RunAttempt.run_id == run_id)
        return [(row[0], row[1] or "", row[2]) for row in session.execute(found.order_by(RunAttempt.number))]


def _beats(database: Database, machine: str) -> int:
    with database.reading() as session:
        return session.scalar(select(Worker.heartbeat).where(Worker.host == machine)) or 0
