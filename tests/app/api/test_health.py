"""Health: for those who run the service."""

import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg

from chainrule.app.api.schemas.monitoring import Live, Ready, Status
from chainrule.app.config import Settings
from tests.app.api.calls import DIGITS, refused
from tests.inside import inside
from tests.service import Service, local_only, serving, working
from tests.waiting import wait_for


def test_the_service_tells_that_it_lives(client: httpx.Client) -> None:
    assert Live.model_validate(client.get("/v1/health/live").json()).status == "live"


def test_the_service_tells_what_it_is_ready_with(client: httpx.Client, server: Service) -> None:
    # A database that is too busy to answer within a second is not ready, for that moment.
    found = wait_for(lambda: answer if (answer := client.get("/v1/health/ready")).status_code == 200 else None)
    ready = Ready.model_validate(found.json())
    assert (ready.status, ready.slots) == ("ready", 2)
    assert ready.database == ("sqlite" if server.database_url.startswith("sqlite") else "postgresql")


def test_a_probe_may_carry_parameters_that_mean_nothing(client: httpx.Client) -> None:
    assert client.get("/v1/health/live?nocache=1").status_code == 200
    wait_for(lambda: client.get("/v1/health/ready?nocache=1").status_code == 200)


def test_a_database_with_another_schema_is_not_ready_but_alive(fresh: Any, cache_dir: Path) -> None:
    url = fresh.url("sqlite")
    with inside(Settings(database_url=url, cache_dir=cache_dir, slots=0)) as (client, _):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
            database.execute("UPDATE alembic_version SET version_num = '0000'")
        database.close()
        refused(client.get("/v1/health/ready"), "unavailable", None, "chainrule migrate")
        assert client.get("/v1/health/live").status_code == 200


def test_a_database_that_hangs_is_not_ready_within_a_second(fresh: Any, cache_dir: Path) -> None:
    url = fresh.url("postgresql")
    with (
        serving(database_url=url, cache_dir=cache_dir, slots=1, database_timeout_s=10) as service,
        service.client() as client,
        psycopg.connect(url) as other,
    ):
        other.execute("LOCK TABLE alembic_version, runs, idempotency_keys, workers IN ACCESS EXCLUSIVE MODE")
        for _ in range(5):
            began = time.monotonic()
            answer = client.get("/v1/health/ready")
            assert time.monotonic() - began < 9.0, "it waited for the database"
            refused(answer, "unavailable", None, "database: There is no answer within 0.8 s.")
            failing = [check["name"] for check in answer.json()["checks"] if not check["ok"]]
            assert failing == ["database"]
        assert answer.headers["retry-after"] == "5"
        assert "chainrule_database_up 0.0" in client.get("/metrics").text
        refused(client.get("/v1/status"), "unavailable", None, "does not answer")
        assert client.get("/v1/health/live").status_code == 200
        other.rollback()
        wait_for(lambda: client.get("/v1/health/ready").status_code == 200)


def test_a_database_that_cannot_be_written_to_is_not_ready(fresh: Any, cache_dir: Path) -> None:
    url = fresh.url("postgresql")
    with inside(Settings(database_url=url, cache_dir=cache_dir, slots=0)) as (client, _):
        wait_for(lambda: client.get("/v1/health/ready").status_code == 200)
        with psycopg.connect(url, autocommit=True) as other:
            name = other.info.dbname
            other.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        refused(client.get("/v1/health/ready"), "unavailable", None, "database: It cannot be used")


@local_only
def test_the_status_shows_the_queue_and_what_each_worker_trains(fresh: Any, cache_dir: Path) -> None:
    common = {"database_url": fresh.url("sqlite"), "cache_dir": cache_dir, "heartbeat_interval_s": 0.2}
    with serving(slots=0, attempt_timeout_s=2.0, **common) as service, service.client() as client:
        runs = [client.post("/v1/runs", json=DIGITS | {"epochs": 20000, "name": "long"}).json()["id"] for _ in range(2)]
        status = Status.model_validate(client.get("/v1/status").json())
        assert (status.queue.waiting, status.workers, status.slots.all) == (2, [], 0)
        assert status.queue.oldest_wait_s is not None
        with working(slots=1, **common) as worker:
            deadline = time.monotonic() + 120
            while not (status.workers and status.workers[0].busy):
                assert time.monotonic() < deadline, "it did not come to work"
                time.sleep(0.05)
                status = Status.model_validate(client.get("/v1/status").json())
            (one,) = status.workers
            assert (one.slots, one.alive, one.draining) == (1, True, False)
            assert one.name == f"{one.host}:{worker.process.pid}"
            assert [(each.run, each.name) for each in one.training] == [(runs[0], "long")]
            assert (status.queue.waiting, status.runs) == (1, {"queued": 1, "running": 1})
            worker.process.kill()
            worker.process.wait()
            while status.workers[0].alive:
                assert time.monotonic() < deadline, "nobody saw that it died"
                time.sleep(0.05)
                status = Status.model_validate(client.get("/v1/status").json())
        assert status.slots.all == 0
        assert status.workers[0].last_seen_s >= 2.0
