"""The figures for Prometheus: in its format, true, and few."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from chainrule.app.services.tally import LOST
from chainrule.app.store import workers
from chainrule.app.store.database import Database
from tests.app.api.calls import XOR, finished
from tests.conftest import KINDS
from tests.service import serving, working
from tests.waiting import wait_for

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(client: httpx.Client) -> Series:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def figure(series: Series, name: str, **labels: str) -> float:
    return series.get((f"chainrule_{name}", frozenset(labels.items())), 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_counted_with_its_steps_epochs_writes_and_its_wait(fresh: Any, cache_dir: Path, kind: str) -> None:
    with (
        serving(database_url=fresh.url(kind), cache_dir=cache_dir, slots=2) as service,
        service.client() as client,
    ):
        run = finished(client, XOR)
        wait_for(lambda: figure(read(client), "epochs_total"))
        wait_for(lambda: figure(read(client), "attempts_ended_total", status="succeeded"))
        found = read(client)
    assert figure(found, "epochs_total") == run["progress"]["epochs_done"]
    assert figure(found, "steps_total") == run["progress"]["steps_done"]
    assert figure(found, "attempts_ended_total", status="succeeded") == 1
    assert figure(found, "runs", status="succeeded") == 1
    assert figure(found, "run_wait_seconds_count") == 1
    assert figure(found, "run_wait_seconds_bucket", le="+Inf") == 1
    assert 0 < figure(found, "run_wait_seconds_sum") < 180
    assert figure(found, "flush_seconds_count") >= 1
    assert figure(found, "database_up") == 1
    assert figure(found, "slots", state="busy") + figure(found, "slots", state="free") == 2
    assert 1 <= figure(found, "workers") <= 2  # on Dask each slot may be a process of its own


def test_what_another_process_has_trained_is_counted_too(fresh: Any, cache_dir: Path) -> None:
    common = {"database_url": fresh.url("sqlite"), "cache_dir": cache_dir}
    with serving(slots=0, **common) as service, service.client() as client:
        with working(slots=1, **common) as worker:
            run_id = finished(client, XOR)["id"]
            wait_for(lambda: figure(read(client), "epochs_total") == XOR["epochs"])
            assert figure(read(client), "workers") == 1
            worker.stop()
        client.delete(f"/v1/runs/{run_id}")
        after = read(client)
    assert figure(after, "workers") == 0
    assert figure(after, "epochs_total") == XOR["epochs"]  # what was counted stays, whoever is gone
    assert figure(after, "runs", status="succeeded") == 0


def test_totals_add_up_what_is_counted_by_name_and_label(database: Database) -> None:
    with database.writing() as session:
        workers.count(session, {(LOST, "child_lost"): 1})
        workers.count(session, {(LOST, "child_lost"): 2, (LOST, "worker_lost"): 1})
    with database.reading() as session:
        assert workers.totals(session) == {(LOST, "child_lost"): 3, (LOST, "worker_lost"): 1}


def test_requests_are_counted_by_route_and_never_by_id(client: httpx.Client) -> None:
    run = finished(client, XOR)["id"]
    before = read(client)
    for path in (f"/v1/runs/{run}", "/v1/runs/run_nothing", "/v1/runs/latest"):
        client.get(path)
    client.head(f"/v1/runs/{run}")
    client.get("/v1/nowhere/at/all")
    client.request("PROPFIND", f"/v1/runs/{run}")
    after = read(client)

    def grown(**labels: str) -> float:
        return figure(after, "http_requests_total", **labels) - figure(before, "http_requests_total", **labels)

    assert grown(route="/v1/runs/{run_id}", method="GET", status="200") == 2
    assert grown(route="/v1/runs/{run_id}", method="GET", status="404") == 1
    assert grown(route="/v1/runs/{run_id}", method="HEAD", status="200") == 1
    assert grown(route="none", method="GET", status="404") == 1
    assert run not in client.get("/metrics").text
    assert not re.search(r"PROPFIND|nowhere|run_nothing", client.get("/metrics").text)
    counted = figure(after, "http_request_seconds_count", route="/v1/runs/{run_id}", method="GET")
    assert counted - figure(before, "http_request_seconds_count", route="/v1/runs/{run_id}", method="GET") == 3


def test_a_request_that_waits_is_counted_and_not_timed(client: httpx.Client) -> None:
    labels = {"route": "/v1/runs/{run_id}", "method": "GET"}
    run = finished(client, XOR)["id"]
    before = read(client)
    client.get(f"/v1/runs/{run}", headers={"Prefer": "wait=1"})
    after = read(client)
    assert figure(after, "http_requests_total", status="200", **labels) == 1 + figure(
        before, "http_requests_total", status="200", **labels
    )
    assert figure(after, "http_request_seconds_count", **labels) == figure(
        before, "http_request_seconds_count", **labels
    )


def test_open_event_streams_are_counted_while_they_are_open(fresh: Any, cache_dir: Path) -> None:
    with (
        serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=0) as service,
        service.client() as client,
        service.client() as other,
    ):
        run_id = client.post("/v1/runs", json=XOR).json()["id"]
        with other.stream("GET", f"/v1/runs/{run_id}/events") as stream:
            lines = stream.iter_lines()
            next(lines)
            assert figure(read(client), "event_streams") == 1
            assert figure(read(client), "queue_depth") == 1
            assert figure(read(client), "queue_oldest_seconds") > 0
        wait_for(lambda: figure(read(client), "event_streams") == 0)
