"""PostgreSQL stopped as by a loss of power, and connections cut, while runs train: nothing comes of it."""

import random
import time
from collections import Counter
from pathlib import Path
from statistics import median

import psycopg

from chainrule.app.store.database import Database
from tests.chaos.fleet import Fleet
from tests.chaos.kills import unfinished
from tests.chaos.oracle import KINDS, Oracle, spec
from tests.postgres import OwnServer
from tests.waiting import wait_for

CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def campaign(folder: Path, server: OwnServer, restarts: int, seed: int, runs: int = 20) -> tuple[str, list[str]]:
    """Stop or cut so many times while runs train; return what was seen, and what is wrong."""
    started, chance = time.monotonic(), random.Random(seed)
    fleet = Fleet(folder, server.url, workers=2, slots=1)
    database = Database(server.url)
    done, recovered_s = Counter[str](), []
    acknowledged = []
    kinds = [kind for kind in KINDS if kind not in ("long epochs", "early stopping")]
    # So long that the last of them ends after the last restart, more or less.
    changes = {"epochs": max(200, 240 * restarts // runs), "checkpoints": {"every": 100}}
    try:
        for number in range(runs):
            body = spec(kinds[number % len(kinds)], number) | changes
            acknowledged.append(fleet.post("/v1/runs", body, f"run-{number}").json()["id"])
        # Whoever starts while there is no database ends, and says so: that is its supervisor's to mend.
        wait_for(lambda: all(worker.children() for worker in fleet.workers))
        while done.total() < restarts:
            time.sleep(chance.uniform(0.3, 1.0))
            if chance.random() < 0.3:
                done["cut"] += 1
                with psycopg.connect(server.url, autocommit=True) as connection:
                    connection.execute(CUT)
                back = time.monotonic()
            else:
                done["stopped"] += 1
                server.stop()
                time.sleep(chance.uniform(0.0, 1.0))
                server.start()
                back = time.monotonic()
            wait_for(fleet.ready)
            recovered_s.append(time.monotonic() - back)
        wait_for(lambda: not unfinished(database), 150, 0.1)
        verdict = Oracle(database, folder).judge(acknowledged)
        wrong = verdict.wrong
        if quoted := fleet.tracebacks():
            wrong.append(quoted)
        took = time.monotonic() - started
        return (
            f"{done.total()} times {dict(done)} in {took:.0f} s, the API answered again after "
            f"{median(recovered_s):.2f} s, {max(recovered_s):.2f} s at most; {verdict}",
            wrong,
        )
    finally:
        if not server.runs():
            server.start()
        fleet.close()
        database.dispose()
