"""Every request has an id, and a line in the log."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.api.calls import XOR, finished
from tests.service import serving

IDS = re.compile(r"[0-9a-f]{32}")


def test_an_answer_carries_the_id_its_request_came_with(client: httpx.Client) -> None:
    answer = client.get("/v1/runs", headers={"X-Request-Id": "Proxy-1.a_b"})
    assert answer.headers["x-request-id"] == "Proxy-1.a_b"


@pytest.mark.parametrize("given", [None, "", "with space", "a" * 65, 'quote"', "semi;colon", "ü"])
def test_what_is_no_id_is_replaced_by_one(client: httpx.Client, given: str | None) -> None:
    headers = {} if given is None else {b"X-Request-Id": given.encode()}
    answers = [client.get("/v1/health/live", headers=headers) for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert ids[0] != ids[1]
    assert all(IDS.fullmatch(each) for each in ids)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/nothing"), ("PUT", "/v1/runs"), ("HEAD", "/v1/runs")])
def test_refusals_carry_an_id_too(client: httpx.Client, method: str, path: str) -> None:
    assert IDS.fullmatch(client.request(method, path).headers["x-request-id"])


def test_the_log_for_programs_names_request_run_and_attempt(fresh: Any, cache_dir: Path) -> None:
    settings = {"database_url": fresh.url("sqlite"), "cache_dir": cache_dir, "slots": 1}
    with (
        serving(log_format="json", log_level="DEBUG", **settings) as service,
        service.client() as client,
    ):
        client.get("/v1/runs?name=secret", headers={"X-Request-Id": "mine"})
        client.get("/v1/runs/%0Ano%22line")
        run = finished(client, XOR)
        service.stop()
        lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    (mine,) = (line for line in lines if line.get("request_id") == "mine")
    assert (mine["method"], mine["path"], mine["status"]) == ("GET", "/v1/runs", 200)
    assert mine["bytes"] > 0
    assert "secret" not in json.dumps(lines)
    probes = [line for line in lines if line.get("path") == "/v1/health/ready"]
    assert {line["level"] for line in probes} == {"DEBUG"}
    of_run = [line for line in lines if line.get("run_id") == run["id"]]
    assert {"an attempt begins", "the attempt is over: succeeded"} <= {line["message"] for line in of_run}
    (attempt_id,) = {line["attempt_id"] for line in of_run}
    assert IDS.fullmatch(attempt_id)


def test_requests_are_not_logged_where_nobody_wants_it(fresh: Any, cache_dir: Path) -> None:
    settings = {"database_url": fresh.url("sqlite"), "cache_dir": cache_dir, "slots": 0}
    with serving(access_log=False, **settings) as service, service.client() as client:
        client.get("/v1/runs")
        service.stop()
        assert "/v1/runs" not in service.log.read_text()
