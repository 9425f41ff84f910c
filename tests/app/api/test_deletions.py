"""Deleting with a way back."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from chainrule.app.client import Client, ServiceError
from tests.app.api.calls import XOR, finished, refused
from tests.app.api.test_lineage import recorded
from tests.conftest import KINDS
from tests.service import Service, serving

SWEEP: dict[str, Any] = {"run": XOR, "strategy": {"kind": "seeds", "count": 3}}


def test_a_deleted_run_is_restored_with_all_it_recorded(client: httpx.Client) -> None:
    run = finished(client, XOR | {"name": "dear"})
    path, before = f"/v1/runs/{run['id']}", recorded(client, run["id"])
    assert client.delete(path).status_code == 204
    refused(client.get(path), "not_found", None, "was deleted at", f"POST {path}/restore")
    refused(client.post(f"{path}/clone", json={}), "not_found", None, "restore")
    assert client.get("/v1/runs", params={"name": "dear"}).json()["items"] == []
    (listed,) = client.get("/v1/runs", params={"name": "dear", "deleted": True}).json()["items"]
    assert listed["id"] == run["id"]
    assert listed["deleted_at"] is not None
    for _ in range(2):
        restored = client.post(f"{path}/restore")
        assert restored.status_code == 200
        assert restored.json() == client.get(path).json()
    changed = {"revision": restored.json()["revision"]}
    assert restored.json() == run | changed
    assert recorded(client, run["id"]) == before
    assert client.get("/v1/runs", params={"name": "dear", "deleted": True}).json()["items"] == []


def test_a_purged_run_does_not_come_back(client: httpx.Client) -> None:
    for deleted_before in (False, True):
        path = f"/v1/runs/{finished(client, XOR)['id']}"
        if deleted_before:
            assert client.delete(path).status_code == 204
            refused(client.delete(path), "not_found", None, "restore")
        assert client.delete(path, params={"purge": True}).status_code == 204
        refused(client.post(f"{path}/restore"), "not_found")
        refused(client.delete(path, params={"purge": True}), "not_found")
    refused(client.post("/v1/runs/latest/restore"), "not_found", None, "by its id")


def test_a_deleted_sweep_is_restored_with_its_runs(server: Service, client: httpx.Client) -> None:
    with Client(server.url) as service:
        sweep = service.wait_sweep(service.submit_sweep(SWEEP).id)
        gone, *others = [one["run"] for one in service.members(sweep.id)]
        service.delete(gone)
        service.delete_sweep(sweep.id)
        with pytest.raises(ServiceError, match="restore"):
            service.sweep(sweep.id)
        assert sweep.id in [one.id for one in service.sweeps(deleted=True)]
        assert sweep.id not in [one.id for one in service.sweeps()]
        restored = service.restore_sweep(sweep.id)
        assert (restored.status, restored.members) == ("succeeded", 2)
        assert [one["run"] for one in service.members(sweep.id)] == others
        service.restore(gone)
        assert service.sweep(sweep.id).best == sweep.best
        service.delete_sweep(sweep.id, purge=True)
        with pytest.raises(ServiceError, match="There is no sweep"):
            service.restore_sweep(sweep.id)
    refused(client.post(f"/v1/runs/{gone}/restore"), "not_found")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_deleted_is_removed_by_the_service_when_its_time_is_over(
    fresh: Any, cache_dir: Path, kind: str
) -> None:
    settings = {"database_url": fresh.url(kind), "cache_dir": cache_dir, "slots": 1, "deleted_retention_s": 0.5}
    with serving(**settings) as service, service.client() as client:
        path = f"/v1/runs/{finished(client, XOR)['id']}"
        client.delete(path)
        deadline = time.monotonic() + 120
        while "was deleted" in client.get(path).json()["detail"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        refused(client.post(f"{path}/restore"), "not_found", None, "There is no run")
