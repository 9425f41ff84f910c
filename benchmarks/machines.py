"""Throughput of many short runs with one and with two worker machines, a core each, and its ratio.

Run from the checkout: `python -m benchmarks.machines [--runs 200] [--rounds 3]`. A machine is a `chainrule worker` with
one slot, held to a core of its own with all it starts; PostgreSQL and an API without slots take what is left of all
cores. Runs are submitted over HTTP to machines that wait; the time is from the first submission to the last end.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from chainrule.app.store.database import Database
from chainrule.app.store.models import Run, Worker
from tests.postgres import own_server
from tests.service import Service, serving, working

RUN: dict[str, Any] = {
    "dataset": "digits",
    "network": {"layers": [{"units": 32, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "optimizer": {"name": "adam"},
    "epochs": 30,
    "batch_size": 32,
    "checkpoints": {"every": 30},
}
SUBMITTERS = 8
PATIENCE_S = 900.0


def main() -> None:
    """Measure one and two machines in turn; print the runs a second of each, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--unpinned", action="store_true", help="let every machine run on every core")
    arguments = parser.parse_args()
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name, own_server(Path(name)) as server:
        database = Database(server.url)
        with serving(database_url=server.url, cache_dir=Path(name) / "cache", slots=0) as service:
            for _ in range(arguments.rounds):
                for count, found in rates.items():
                    with _machines(server.url, Path(name), count, pinned=not arguments.unpinned):
                        _wait_for(lambda of=count: _workers(database) == of)
                        _train(service, database, 2 * count)  # all that is done once is done
                        found.append(arguments.runs / _train(service, database, arguments.runs))
                    _wait_for(lambda: _workers(database) == 0)
        database.dispose()
    for count, found in rates.items():
        each = ", ".join(f"{rate:.1f}" for rate in found)
        print(f"{count} machine{'s' * (count > 1)}: {statistics.median(found):.1f} runs a second ({each})")
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    print(f"ratio: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


@contextmanager
def _machines(url: str, folder: Path, count: int, *, pinned: bool) -> Iterator[None]:
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        for number in range(count):
            worker = stack.enter_context(working(database_url=url, cache_dir=folder / f"machine{number}", slots=1))
            if pinned:  # before it has started anything
                os.sched_setaffinity(worker.process.pid, {cores[number % len(cores)]})
        yield


def _train(service: Service, database: Database, runs: int) -> float:
    """Submit runs and wait for the end of all; return the seconds that took."""
    with service.client() as client, ThreadPoolExecutor(SUBMITTERS) as threads:
        began = time.monotonic()
        ids = list(threads.map(lambda seed: _submit(client, seed), range(runs)))
        _wait_for(lambda: _unfinished(database) == 0)
        took_s = time.monotonic() - began
    with database.reading() as session:
        succeeded = select(func.count()).where(Run.status == "succeeded", Run.attempts == 1, Run.id.in_(ids))
        assert session.scalar(succeeded) == runs, "not every run succeeded at once"
    return took_s


def _submit(client: httpx.Client, seed: int) -> str:
    answer = client.post("/v1/runs", json=RUN | {"seed": seed}).raise_for_status()
    return str(answer.json()["id"])


def _unfinished(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).where(Run.finished_at.is_(None))) or 0


def _workers(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Worker)) or 0


def _wait_for(what: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


if __name__ == "__main__":
    main()
