"""Quotas: what one owner may have is no reason to keep others waiting."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from chainrule.app.config import Settings
from chainrule.app.services import keys
from tests.app.api.calls import FLOWERS, LONG, XOR, bearer, refused, stop, submit, upload
from tests.conftest import KINDS
from tests.inside import another, inside

SWEEP: dict[str, Any] = {"run": XOR, "strategy": {"kind": "seeds", "count": 3}}


@contextmanager
def two_owners(url: str, cache_dir: Path, **limits: Any) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """A service that asks for keys, as alice and bob see it."""
    settings = Settings(database_url=url, cache_dir=cache_dir, auth="keys", **({"slots": 0} | limits))
    with inside(settings) as (client, database):
        shown = [keys.create(database, name, name="", scope="admin")["key"] for name in ("alice", "bob")]
        alice, bob = (another(client, headers=bearer(key)) for key in shown)
        with alice, bob:
            yield alice, bob


def statuses(client: httpx.Client) -> list[str]:
    """Read the states of one's runs, the oldest first."""
    return [run["status"] for run in client.get("/v1/runs", params={"sort": "created_at"}).json()["items"]]


@pytest.mark.parametrize("kind", KINDS)
def test_whose_queue_is_full_is_refused_and_others_are_not(fresh: Any, cache_dir: Path, kind: str) -> None:
    with two_owners(fresh.url(kind), cache_dir, max_queued_per_owner=2, max_queued_runs=3) as (alice, bob):
        first = submit(alice, XOR)["id"]
        assert alice.post(f"/v1/runs/{first}/pause").status_code == 200
        second, _ = submit(alice, XOR)["id"], submit(alice, XOR)
        for response in (
            alice.post("/v1/runs", json=XOR),
            alice.post(f"/v1/runs/{first}/resume"),
            alice.post(f"/v1/runs/{second}/clone", json={}),
        ):
            problem = refused(response, "owner_queue_full", None, "of yours", "CHAINRULE_MAX_QUEUED_PER_OWNER")
            assert (problem["limit"], problem["value"]) == (2, 2)
            assert int(response.headers["retry-after"]) > 0
        too_many = bob.post("/v1/sweeps", json=SWEEP)
        refused(too_many, "owner_queue_full", None, "3 would be added", "submit 2 at once at most")
        assert "retry-after" not in too_many.headers  # waiting would not help
        submit(bob, XOR)
        refused(bob.post("/v1/runs", json=XOR), "queue_full", None, "CHAINRULE_MAX_QUEUED_RUNS")
        stop(alice, second)
        submit(alice, XOR)
        assert (statuses(alice).count("queued"), statuses(bob)) == (2, ["queued"])


@pytest.mark.parametrize("kind", KINDS)
def test_whose_room_is_taken_is_refused_and_others_are_not(fresh: Any, cache_dir: Path, kind: str) -> None:
    with two_owners(fresh.url(kind), cache_dir) as (alice, _):
        size = alice.post("/v1/runs", params={"validate_only": True}, json=XOR).json()["estimate"]["storage_bytes"]
    limit = 2 * size + 10
    with two_owners(fresh.url(kind), cache_dir, max_storage_bytes_per_owner=limit) as (alice, bob):
        first, _ = submit(alice, XOR), submit(alice, XOR)
        problem = refused(alice.post("/v1/runs", json=XOR), "owner_storage_full", None, f"{size:,} bytes", "purge=true")
        assert (problem["limit"], problem["value"]) == (limit, 3 * size)
        assert problem["setting"] == "CHAINRULE_MAX_STORAGE_BYTES_PER_OWNER"
        refused(alice.post("/v1/datasets", files={"file": ("a.csv", FLOWERS)}), "owner_storage_full")
        refused(bob.post("/v1/sweeps", json=SWEEP), "owner_storage_full")
        submit(bob, XOR)
        stop(alice, first["id"])
        assert alice.delete(f"/v1/runs/{first['id']}", params={"purge": True}).status_code == 204
        upload(alice, FLOWERS)
        refused(alice.post("/v1/runs", json=XOR), "owner_storage_full")


@pytest.mark.parametrize("kind", KINDS)
def test_one_owner_takes_no_more_slots_than_each_may(fresh: Any, cache_dir: Path, kind: str) -> None:
    with two_owners(fresh.url(kind), cache_dir, slots=3, max_running_per_owner=1) as (alice, bob):
        mine = [submit(alice, LONG)["id"] for _ in range(3)]
        theirs = submit(bob, LONG)["id"]
        until = time.monotonic() + 60
        while (statuses(alice).count("running"), statuses(bob)) != (1, ["running"]) and time.monotonic() < until:
            assert statuses(alice).count("running") <= 1
            time.sleep(0.05)
        assert statuses(alice) == ["running", "queued", "queued"]
        stop(alice, mine[0])
        while statuses(alice)[1] != "running" and time.monotonic() < until:
            time.sleep(0.05)
        assert statuses(alice) == ["cancelled", "running", "queued"]
        for client, run_id in ((alice, mine[2]), (alice, mine[1]), (bob, theirs)):
            stop(client, run_id)


def test_with_keys_nobody_fills_the_queue_alone_unless_that_is_wanted() -> None:
    assert Settings(max_queued_runs=10).queued_per_owner is None
    assert Settings(max_queued_runs=10, auth="keys").queued_per_owner == 5
    assert Settings(max_queued_runs=1, auth="keys").queued_per_owner == 1
    assert Settings(max_queued_runs=10, auth="keys", max_queued_per_owner=10).queued_per_owner == 10
