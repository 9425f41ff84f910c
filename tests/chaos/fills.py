"""The disk under PostgreSQL is full for a while, its log's too, while runs train: they wait, and lose nothing.

The server's folder is a small disk of its own, which is filled to the last byte and has room again later. PostgreSQL
refuses what needs a new page, and stops altogether where its log has no room; then it is started again.
"""

import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg

from chainrule.app.store.database import Database
from tests.chaos.fleet import Fleet
from tests.chaos.kills import unfinished
from tests.chaos.oracle import KINDS, Oracle, spec
from tests.disks import fill
from tests.postgres import OwnServer
from tests.waiting import wait_for

DISK_MB = 200
FULL_S = 60.0
END_S = 300.0
CHANGES = {"epochs": 200, "checkpoints": {"every": 1}, "gradients": {"every": 1}}
"""So that there is much to write."""


def campaign(folder: Path, disk: Path, server: OwnServer, fills: int, seed: int) -> tuple[str, list[str]]:
    """Fill the disk so many times; return what was seen, and what is wrong."""
    started, chance = time.monotonic(), random.Random(seed)
    # To start the server again may take a busy machine some seconds, and to connect some more.
    fleet = Fleet(folder, server.url, workers=2, slots=1, min_free_bytes=0, attempt_timeout_s=10.0)
    database = Database(server.url)
    acknowledged: list[str] = []
    answers, stopped = Counter[str](), 0
    kinds = [kind for kind in KINDS if kind not in ("long epochs", "early stopping")]

    def refused() -> bool:
        with suppress(httpx.TransportError):
            answer = httpx.post(f"{fleet.url}/v1/runs", json=spec("sgd", 0), timeout=20)
            if answer.status_code == 201:
                acknowledged.append(answer.json()["id"])
                return False
            answers[f"{answer.status_code} {answer.json().get('cause', answer.json()['code'])}"] += 1
            return answer.status_code in (503, 507)
        return False

    try:
        for number in range(fills):
            for more in range(max(0, 3 - unfinished(database))):
                body = spec(chance.choice(kinds), number) | CHANGES
                acknowledged.append(fleet.post("/v1/runs", body, f"run-{number}-{more}").json()["id"])
            wait_for(lambda: all(worker.children() for worker in fleet.workers))
            time.sleep(chance.uniform(0.2, 1.0))
            filler = fill(disk)
            if chance.random() < 0.5:
                _use_log_up(server.url)
            wait_for(refused, FULL_S, 0.2)
            time.sleep(chance.uniform(0.0, 3.0))
            filler.unlink()
            if not server.runs():
                stopped += 1
                server.start()
            wait_for(lambda: not refused(), FULL_S, 0.2)
        wait_for(lambda: not unfinished(database), END_S, 0.1)
        verdict = Oracle(database, folder).judge(acknowledged)
        wrong = verdict.wrong
        if verdict.lost_attempts:
            wrong.append(f"attempts were given up for want of room: {dict(verdict.reasons)}")
        if others := [answer for answer in answers if answer.partition(" ")[0] not in ("503", "507")]:
            wrong.append(f"answers that are none: {others}")
        if quoted := fleet.tracebacks():
            wrong.append(quoted)
        took = time.monotonic() - started
        seen = f"full {fills} times in {took:.0f} s, the server stopped {stopped} times, answers {dict(answers)}"
        return f"{seen}; {verdict}", wrong
    finally:
        for filler in disk.glob("filler"):
            filler.unlink()
        if not server.runs():
            server.start()
        fleet.close()
        database.dispose()


def _use_log_up(url: str) -> None:
    """Have the write-ahead log need another file, for which there is no room."""
    for _ in range(8):
        with suppress(psycopg.Error), psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("CREATE TABLE IF NOT EXISTS filled (number int)")
            connection.execute("INSERT INTO filled VALUES (1)")
