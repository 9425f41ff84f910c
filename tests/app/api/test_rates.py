"""Rates: who asks too often is told when to come back; streams and slow bodies are bounded."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chainrule.app.api import bodies, rates
from chainrule.app.api.rates import Buckets
from chainrule.app.config import Settings
from tests.app.api.calls import XOR, finished, refused
from tests.inside import inside
from tests.service import Service, serving


@pytest.fixture(scope="module")
def narrow(fresh: Any, cache_dir: Path) -> Iterator[Service]:
    """A service that lets in little."""
    limits = {"max_streams": 3, "max_streams_per_client": 2}
    with serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=1, **limits) as service:
        yield service


def test_tokens_come_back_evenly() -> None:
    buckets = Buckets(60)
    assert [buckets.take("a", 0.0)[0] for _ in range(61)] == [True] * 60 + [False]
    assert buckets.take("a", 0.0) == (False, 0, 1)
    assert buckets.take("b", 0.0) == (True, 59, 0)
    assert buckets.take("a", 1.5) == (True, 0, 1)
    assert buckets.take("a", 1000.0) == (True, 59, 0)


def test_clients_that_are_many_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_CLIENTS", 3)
    buckets = Buckets(1)
    for client in "abcd":
        assert buckets.take(client, 0.0)[0]
    assert not buckets.take("d", 0.0)[0]
    assert buckets.take("a", 0.0)[0]


def test_who_asks_too_often_is_told_when_to_come_back(fresh: Any, cache_dir: Path) -> None:
    settings = Settings(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=0, rate_limit=30)
    with inside(settings) as (client, _):
        answers = [client.get("/v1/runs")]
        while answers[-1].status_code == 200 and len(answers) < 1000:  # half a one comes back each second meanwhile
            answers.append(client.get("/v1/runs"))
        assert answers[0].headers["RateLimit-Policy"] == '"requests";q=30;w=60'
        assert answers[0].headers["RateLimit"] == '"requests";r=29;t=0'
        problem = answers[-1]
        refused(problem, "too_many_requests", None, "CHAINRULE_RATE_LIMIT")
        assert 1 <= int(problem.headers["Retry-After"]) <= 2
        assert client.get("/v1/health/live").status_code == 200
        time.sleep(2.1)
        assert client.get("/v1/runs").status_code == 200


def test_streams_are_bounded_and_their_places_come_back(narrow: Service) -> None:
    with narrow.client() as client:
        running = client.post("/v1/runs", json=XOR | {"epochs": 300_000, "checkpoints": {"every": 100_000}}).json()
        path = f"/v1/runs/{running['id']}/events"
        with client.stream("GET", path), client.stream("GET", path):
            problem = client.get(path)
            refused(problem, "too_many_requests", None, "CHAINRULE_MAX_STREAMS_PER_CLIENT")
            assert int(problem.headers["Retry-After"]) > 0
        client.post(f"/v1/runs/{running['id']}/cancel")
        finished(client, XOR)
        deadline = time.monotonic() + 120
        while client.get(path).status_code == 429:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_body_that_does_not_come_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # In this process: half a minute would be long.
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.3)
    answer = _answer_to_half_a_body()
    assert answer["status"] == 408
    assert (b"connection", b"close") in answer["headers"]


def test_a_body_that_is_too_large_and_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.3)
    limit = Settings().max_request_bytes
    answer = _answer_to_half_a_body((b"content-length", str(limit + 1).encode()))
    assert answer["status"] == 413
    assert (b"connection", b"close") in answer["headers"]


def _answer_to_half_a_body(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    sent: list[dict[str, Any]] = []
    parts = [{"type": "http.request", "body": b'{"dataset"', "more_body": True}]

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] == "http.request":
            pass
        await send({"type": "http.response.start", "status": 400, "headers": []})

    scope = {"type": "http", "method": "POST", "path": "/v1/runs", "headers": list(headers)}
    asyncio.run(bodies.LimitBodies(app, Settings())(scope, receive, send))
    return sent[0]
