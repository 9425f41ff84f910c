"""Limits of what is kept: room for all, and what is left after a while."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from chainrule.app.config import Settings
from tests.app.api.calls import FLOWERS, XOR, finished, refused, submit, upload
from tests.conftest import KINDS
from tests.inside import inside
from tests.service import serving

SWEEP: dict[str, Any] = {"run": XOR, "strategy": {"kind": "seeds", "count": 40}}


@pytest.mark.parametrize("kind", KINDS)
def test_with_no_room_left_runs_sweeps_and_datasets_are_refused_until_something_is_purged(
    fresh: Any, cache_dir: Path, kind: str
) -> None:
    settings = Settings(database_url=fresh.url(kind), cache_dir=cache_dir, slots=0)
    with inside(settings) as (client, _):
        size = client.post("/v1/runs", params={"validate_only": True}, json=XOR).json()["estimate"]["storage_bytes"]
    with inside(settings.model_copy(update={"max_total_storage_bytes": 2 * size + 100})) as (client, _):
        first, _ = submit(client, XOR), submit(client, XOR)
        problem = refused(client.post("/v1/runs", json=XOR), "storage_full", None, f"{size:,} bytes", "purge=true")
        assert (problem["limit"], problem["value"]) == (2 * size + 100, 3 * size)
        assert problem["setting"] == "CHAINRULE_MAX_TOTAL_STORAGE_BYTES"
        refused(client.post("/v1/sweeps", json=SWEEP), "storage_full")
        refused(client.post("/v1/datasets", files={"file": ("a.csv", FLOWERS)}), "storage_full")
        client.post(f"/v1/runs/{first['id']}/cancel")
        client.delete(f"/v1/runs/{first['id']}")
        refused(client.post("/v1/runs", json=XOR), "storage_full")  # it may be restored
        client.delete(f"/v1/runs/{first['id']}", params={"purge": True})
        upload(client, FLOWERS)
        refused(client.post("/v1/runs", json=XOR), "storage_full")


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_thinned_says_so_when_it_is_asked_for(fresh: Any, cache_dir: Path, kind: str) -> None:
    settings = {
        "database_url": fresh.url(kind), "cache_dir": cache_dir, "slots": 1,
        "bulk_retention_s": 0.1, "deleted_retention_s": 0.5,
    }  # fmt: skip
    with serving(**settings) as service, service.client() as client:
        run_id = finished(client, XOR)["id"]
        final = client.get(f"/v1/runs/{run_id}/checkpoints/final").json()
        run = thinned(client, run_id)
        refused(
            client.get(f"/v1/runs/{run_id}/checkpoints/7"), "not_found", None, run["thinned_at"], "BULK_RETENTION_S"
        )
        assert client.get(f"/v1/runs/{run_id}/checkpoints/final").json() == final
        statistics = client.get(f"/v1/runs/{run_id}/gradients").json()
        assert statistics["thinned_at"] == run["thinned_at"]
        assert {one["epoch"] for one in statistics["items"]} <= {final["epoch"], best(client, run_id)}
        assert len(client.get(f"/v1/runs/{run_id}/epochs").json()["columns"]["epoch"]) == 21
        longer = client.post(f"/v1/runs/{run_id}/extend", json={"epochs": 2}, headers={"Prefer": "wait=60"}).json()
        assert longer["status"] == "succeeded"
        verified = client.post(f"/v1/runs/{run_id}/verify", json={}, headers={"Prefer": "wait=60"}).json()
        assert verified["verification"]["equal"]


def thinned(client: httpx.Client, run_id: str) -> dict[str, Any]:
    """Wait until a run has been thinned."""
    deadline = time.monotonic() + 120
    while (run := client.get(f"/v1/runs/{run_id}").json())["thinned_at"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return dict(run)


def best(client: httpx.Client, run_id: str) -> int:
    return int(client.get(f"/v1/runs/{run_id}/checkpoints/best").json()["epoch"])
