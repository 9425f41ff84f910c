"""Guessed keys: who shows too many is told to wait, and who shares the address with him need not."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from chainrule.app.api import guesses, rates
from chainrule.app.api.guesses import Guesses
from chainrule.app.config import Settings
from chainrule.app.errors import TooManyRequests
from chainrule.app.services import keys
from chainrule.app.store.database import Database
from tests.app.api.calls import bearer, refused
from tests.conftest import KINDS
from tests.inside import inside

LIMIT = 30


@pytest.fixture(params=KINDS)
def guarded(request: pytest.FixtureRequest, fresh: Any, cache_dir: Path) -> Iterator[tuple[httpx.Client, Database]]:
    """A service that asks for keys, all requests to which come from one address, and its database."""
    url = fresh.url(request.param)
    settings = Settings(database_url=url, cache_dir=cache_dir, slots=0, auth="keys", guess_limit=LIMIT)
    with inside(settings) as parts:
        yield parts


def new_key(database: Database) -> str:
    """Make a key."""
    shown: str = keys.create(database, "alice", name="", scope="read")["key"]
    return shown


def test_who_guesses_keys_is_told_to_wait_without_the_database_being_asked(
    guarded: tuple[httpx.Client, Database],
) -> None:
    client, database = guarded
    used, fresh_one = new_key(database), new_key(database)
    assert client.get("/v1/runs", headers=bearer(used)).status_code == 200
    answers = [client.get("/v1/runs", headers=bearer(f"{used[:-3]}{number:03}")) for number in range(LIMIT)]
    for response in answers:
        refused(response, "unauthenticated")
    asked: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    guess = client.get("/v1/runs", headers=bearer(used[:-1]))
    while guess.status_code == 401:  # on a slow machine some tokens have come back meanwhile
        asked.clear()
        guess = client.get("/v1/runs", headers=bearer(used[:-1]))
    assert not any("api_keys" in statement for statement in asked)
    problem = refused(guess, "too_many_requests", None, "CHAINRULE_GUESS_LIMIT")
    assert problem["limit"] == LIMIT
    # A key that was used before is good as ever, and one that was not is when its turn comes.
    assert client.get("/v1/runs", headers=bearer(used)).status_code == 200
    assert client.get("/v1/health/live").status_code == 200
    refused(client.get("/v1/runs"), "unauthenticated")
    time.sleep(int(guess.headers["retry-after"]))
    assert client.get("/v1/runs", headers=bearer(fresh_one)).status_code == 200
    # Keys that are right cost nothing, and are looked up each time.
    for _ in range(2 * LIMIT):
        assert client.get("/v1/runs", headers=bearer(fresh_one)).status_code == 200


def test_a_key_that_is_revoked_is_let_through_no_longer(guarded: tuple[httpx.Client, Database]) -> None:
    client, database = guarded
    key = keys.create(database, "alice", name="", scope="read")
    assert client.get("/v1/runs", headers=bearer(key["key"])).status_code == 200
    keys.revoke(database, key["id"])
    for _ in range(LIMIT):
        refused(client.get("/v1/runs", headers=bearer(key["key"])), "unauthenticated")
    for _ in range(LIMIT):
        if client.get("/v1/runs", headers=bearer(key["key"])).status_code == 429:
            return
    raise AssertionError("a revoked key is looked up without end")


def over(counted: Guesses, address: str, shown: str = "wrong") -> bool:
    """Tell whether a key may not be looked up."""
    try:
        counted.permit(address, shown)
    except TooManyRequests as refusal:
        return int(refusal.headers["Retry-After"]) >= 1
    return False


def fail(counted: Guesses, address: str, times: int) -> None:
    """Show keys that are not valid."""
    for number in range(times):
        counted.failed(address, f"wrong {number}")


def test_addresses_are_counted_apart_and_those_of_one_network_of_version_6_together() -> None:
    counted = Guesses(2)
    fail(counted, "192.0.2.1", 2)
    fail(counted, "2001:db8::1", 1)
    fail(counted, "2001:db8::ffff:2", 1)
    fail(counted, "::ffff:192.0.2.7", 2)
    fail(counted, "a name", 2)
    assert all(over(counted, address) for address in ("192.0.2.1", "2001:db8::3", "192.0.2.7", "a name"))
    assert not any(over(counted, address) for address in ("192.0.2.2", "2001:db8:0:1::1", "::1", "another name"))


def test_without_a_limit_nobody_is_refused() -> None:
    counted = Guesses(0)
    fail(counted, "192.0.2.1", 1000)
    assert not over(counted, "192.0.2.1")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "MOST_KEYS", 10)
    monkeypatch.setattr(rates, "MOST_CLIENTS", 10)
    counted = Guesses(1)
    for number in range(100):
        counted.succeeded(f"key {number}")
        fail(counted, f"192.0.2.{number}", 1)
    assert over(counted, "192.0.2.99", "key 89")
    assert not over(counted, "192.0.2.99", "key 90")
    assert over(counted, "192.0.2.90")
    assert not over(counted, "192.0.2.89")
