"""Health: for those who run the service."""

import sqlite3
from pathlib import Path
from typing import Any

import httpx

from chainrule.app.api.health import Live, Ready
from tests.app.api.calls import refused
from tests.service import Service, serving


def test_the_service_tells_that_it_lives(client: httpx.Client) -> None:
    assert Live.model_validate(client.get("/v1/health/live").json()).status == "live"


def test_the_service_tells_what_it_is_ready_with(client: httpx.Client, server: Service) -> None:
    ready = Ready.model_validate(client.get("/v1/health/ready").json())
    assert (ready.status, ready.slots) == ("ready", 2)
    assert ready.database == ("sqlite" if server.database_url.startswith("sqlite") else "postgresql")


def test_a_probe_may_carry_parameters_that_mean_nothing(client: httpx.Client) -> None:
    assert client.get("/v1/health/live?nocache=1").status_code == 200
    assert client.get("/v1/health/ready?nocache=1").status_code == 200


def test_a_database_with_another_schema_is_not_ready_but_alive(fresh: Any, cache_dir: Path) -> None:
    url = fresh.url("sqlite")
    with serving(database_url=url, cache_dir=cache_dir, slots=0) as service, service.client() as client:
        with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
            database.execute("UPDATE alembic_version SET version_num = '0000'")
        database.close()
        refused(client.get("/v1/health/ready"), "unavailable", None, "chainrule migrate")
        assert client.get("/v1/health/live").status_code == 200
