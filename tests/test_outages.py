"""The database goes away in the middle: runs train on and lose nothing, clients are told at once, nothing hangs."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.api.calls import last_weights
from tests.postgres import OwnServer, own_folder, own_server
from tests.service import Service, serving, working
from tests.test_flows import LONG, QUICK_RECOVERY, ended, epochs_of, submit, under_way
from tests.waiting import wait_for

RESTARTS = 3
RUNS = 3
SPEC = LONG | {"epochs": 800}
EPOCHS = list(range(801))


@pytest.fixture
def postgresql() -> Iterator[OwnServer]:
    """A PostgreSQL server of the test's own."""
    with own_folder() as folder, own_server(folder) as server:
        yield server


class Poller:
    """Reads again and again, and keeps what it was answered and how long that took."""

    def __init__(self, service: Service, path: str) -> None:
        self.answers: list[tuple[int, float, str]] = []
        self._service, self._path = service, path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        with self._service.client() as client:
            while not self._stop.wait(0.02):
                started = time.monotonic()
                answer = client.get(self._path)
                self.answers.append(
                    (answer.status_code, time.monotonic() - started, answer.headers.get("Retry-After", ""))
                )

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=120)


class Follower:
    """Follows a run's events as a browser does: comes back with the last id when the stream ends."""

    def __init__(self, service: Service, run_id: str) -> None:
        self.epochs: list[int] = []
        self.end: dict[str, Any] | None = None
        self._service, self._run_id = service, run_id
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        with self._service.client() as client:
            while self.end is None:
                headers = {"Last-Event-ID": str(self.epochs[-1])} if self.epochs else {}
                try:
                    with client.stream("GET", f"/v1/runs/{self._run_id}/events", headers=headers) as answer:
                        self._read(answer)
                except httpx.TransportError:
                    time.sleep(0.1)

    def _read(self, answer: httpx.Response) -> None:
        name = ""
        for line in answer.iter_lines():
            kind, _, value = line.partition(": ")
            if kind == "event":
                name = value
            elif kind == "data" and name == "epoch":
                self.epochs.append(json.loads(value)["epoch"])
            elif kind == "data" and name == "end":
                self.end = json.loads(value)

    def wait(self) -> None:
        self._thread.join(timeout=120)


def test_runs_outlive_restarts_of_the_database_without_losing_an_attempt_or_a_bit(
    postgresql: OwnServer, cache_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = {"database_url": postgresql.url, "cache_dir": cache_dir, **QUICK_RECOVERY}
    with serving(slots=1, **common) as service, working(slots=1, **common) as worker, service.client() as client:
        first = submit(client, SPEC)
        assert ended(client, first)["status"] == "succeeded"
        undisturbed = last_weights(client, first)
        run_ids = [submit(client, SPEC) for _ in range(RUNS)]
        poller, follower = Poller(service, f"/v1/runs/{run_ids[0]}"), Follower(service, run_ids[0])
        wait_for(lambda: under_way(client, run_ids[0], 50))
        recovered_s = []
        for _ in range(RESTARTS):
            postgresql.stop()
            time.sleep(0.5)
            postgresql.start()
            started = time.monotonic()
            wait_for(lambda: client.get("/v1/health/ready").status_code == 200)
            recovered_s.append(time.monotonic() - started)
            time.sleep(1.0)
        for run_id in run_ids:
            run = ended(client, run_id)
            assert (run["status"], run["attempts"], run["failures"]) == ("succeeded", 1, 0), run["transitions"]
            assert last_weights(client, run_id) == undisturbed
            assert epochs_of(client, run_id) == EPOCHS
        follower.wait()
        poller.stop()
        assert follower.epochs == EPOCHS
        assert {status for status, _, _ in poller.answers} == {200, 503}
        assert all(retry_after for status, _, retry_after in poller.answers if status == 503)
        assert "Traceback" not in service.log.read_text() + worker.log.read_text()
        longest_s = max(took for _, took, _ in poller.answers)
        refused = sum(status == 503 for status, _, _ in poller.answers)
        with capsys.disabled():
            sys.stdout.write(
                f"\n{RESTARTS} restarts: the API answered again after {max(recovered_s):.1f} s at most; of "
                f"{len(poller.answers)} reads {refused} were 503, the slowest answer took {longest_s:.1f} s\n"
            )
        assert longest_s < 10, "an answer hung"


def test_a_database_that_answers_nothing_is_said_to_be_unavailable_and_hangs_nobody(
    postgresql: OwnServer, cache_dir: Path
) -> None:
    common = {"database_url": postgresql.url, "cache_dir": cache_dir, **QUICK_RECOVERY}
    with serving(slots=1, database_timeout_s=1, **common) as service, service.client() as client:
        run_id = submit(client, SPEC)
        wait_for(lambda: under_way(client, run_id, 50))
        pollers = [Poller(service, f"/v1/runs/{run_id}") for _ in range(60)]  # more than there are threads
        with postgresql.stunned():
            time.sleep(4)
            for _ in range(3):
                answer = client.get("/v1/runs")
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                assert answer.headers["Retry-After"]
                assert client.get("/v1/health/live").status_code == 200
        for poller in pollers:
            poller.stop()
        answers = [answer for poller in pollers for answer in poller.answers]
        assert {status for status, _, _ in answers} == {200, 503}
        assert max(took for _, took, _ in answers) < 10, "an answer hung"
        run = ended(client, run_id)
        assert (run["status"], run["attempts"], run["failures"]) == ("succeeded", 1, 0), run["transitions"]
