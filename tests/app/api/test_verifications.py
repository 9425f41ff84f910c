"""Runs trained once more and compared with what they stored."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from chainrule.app.api.schemas.runs import Run
from chainrule.app.config import Settings
from chainrule.app.store import models
from chainrule.app.store.database import Database
from chainrule.app.store.models import Checkpoint, Epoch
from tests.app.api.calls import DIGITS, LONG, XOR, ended, finished, refused, stop, submit
from tests.conftest import KINDS
from tests.inside import inside
from tests.service import Service, serving

MOONS: dict[str, Any] = {
    "dataset": "moons",
    "network": {"layers": [{"units": 6, "activation": "tanh"}, {"units": 2, "activation": "softmax"}]},
    "epochs": 19,
    "batch_size": 64,
    "seed": 5,
}
DROPPED: dict[str, Any] = {
    "network": {
        "layers": [
            {"units": 9, "activation": "relu", "dropout": 0.3, "normalization": "batch"},
            {"units": 2, "activation": "softmax"},
        ]
    },
    "validation": {"fraction": 0.3},
}
PATIENT: dict[str, Any] = {
    "optimizer": {"name": "adam", "learning_rate": 0.1},
    "early_stopping": {"patience": 3, "min_delta": 0.001},
    "epochs": 500,
}


def asked(client: httpx.Client, run_id: str, **which: int) -> dict[str, Any]:
    """Ask for a verification."""
    response = client.post(f"/v1/runs/{run_id}/verify", json=which)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    Run.model_validate(made)
    assert response.headers["location"] == f"/v1/runs/{made['id']}"
    assert made["verifies"] == run_id != made["id"]
    assert made["verification"]["equal"] is None
    return made


def verified(client: httpx.Client, run_id: str, **which: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Verify a run; give the verification and what it came to."""
    run = ended(client, asked(client, run_id, **which)["id"])
    return run, run["verification"]


@pytest.mark.parametrize(
    "spec",
    [
        XOR,
        DIGITS,
        MOONS | DROPPED,
        MOONS | PATIENT,
        MOONS | {"schedule": {"name": "cosine"}, "inputs": {"scaling": "standardize"}},
        MOONS | {"optimizer": {"name": "lbfgs"}, "batch_size": None},
    ],
    ids=["xor", "digits", "dropout_batch_normalization", "early_stopping", "cosine_standardized", "lbfgs"],
)
def test_a_run_trained_once_more_is_equal_to_what_is_stored(client: httpx.Client, spec: dict[str, Any]) -> None:
    first = finished(client, spec)
    kept = client.get(f"/v1/runs/{first['id']}/checkpoints", params={"limit": 1000}).json()["items"]
    run, found = verified(client, first["id"])
    epochs = first["progress"]["epochs_done"]
    assert (run["reason"], found["equal"], found["difference"]) == ("verified", True, None)
    assert (found["first"], found["last"], found["epochs"], found["weights"]) == (0, epochs, epochs + 1, len(kept))
    assert found["builds"] == first["builds"] == run["builds"]
    assert found["changed_builds"] == []
    assert run["progress"]["percent"] == 100
    assert (run["config"], run["cost"]) == (first["config"], first["cost"])


def test_an_extended_run_is_verified_from_the_start_and_from_where_it_was_extended(client: httpx.Client) -> None:
    first = finished(client, XOR)
    extension = client.post(f"/v1/runs/{first['id']}/extend", json={"epochs": 10}).json()["id"]
    ended(client, extension)
    assert verified(client, extension)[1]["epochs"] == 31
    _, found = verified(client, extension, after=20)
    assert (found["equal"], found["first"], found["last"], found["epochs"]) == (True, 21, 30, 10)


def test_of_sgd_any_checkpoint_is_a_place_to_begin_at(client: httpx.Client) -> None:
    spec = DIGITS | {"optimizer": {"name": "sgd"}, "checkpoints": {"every": 3}}
    run = finished(client, spec)
    _, found = verified(client, run["id"], after=6, to=11)
    assert (found["equal"], found["first"], found["last"], found["weights"]) == (True, 7, 11, 1)
    refused(
        client.post(f"/v1/runs/{run['id']}/verify", json={"after": 7}), "conflict", None, "no checkpoint of epoch 7"
    )
    normalized = finished(client, MOONS | DROPPED | {"optimizer": {"name": "sgd", "learning_rate": 0.1}})
    assert verified(client, normalized["id"], after=5)[1]["equal"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": {"name": "momentum"}}, "optimizer 'momentum' remembers earlier steps"),
        ({"schedule": {"name": "plateau"}}, "schedule 'plateau' remembers earlier costs"),
        ({"early_stopping": {"patience": 50}}, "early stopping remembers earlier costs"),
    ],
    ids=["momentum", "plateau", "early_stopping"],
)
def test_where_training_remembers_more_than_weights_a_checkpoint_is_no_place_to_begin_at(
    client: httpx.Client, changes: dict[str, Any], words: str
) -> None:
    run = finished(client, MOONS | {"optimizer": {"name": "sgd"}} | changes)
    answer = client.post(f"/v1/runs/{run['id']}/verify", json={"after": 5})
    refused(answer, "conflict", None, words, "leave after out")
    assert verified(client, run["id"])[1]["equal"]


def test_the_first_epoch_whose_weights_differ_is_named_with_both_hashes(client: httpx.Client, server: Service) -> None:
    run = finished(client, XOR)
    true = client.get(f"/v1/runs/{run['id']}/checkpoints/9").json()["sha256"]
    change(server, update(Checkpoint).where(Checkpoint.run_id == run["id"], Checkpoint.epoch >= 9), sha256="0" * 64)
    made, found = verified(client, run["id"])
    assert (made["status"], made["reason"], found["equal"]) == ("succeeded", "different", False)
    assert found["epochs"] == found["weights"] == 9
    differing = [{"name": "weights", "expected": "0" * 64, "found": true}]
    assert found["difference"] == {"epoch": 9, "quantities": differing}
    assert "epoch 9" in made["detail"]
    assert verified(client, run["id"], to=8)[1]["equal"]


def test_costs_are_compared_where_no_weights_are_kept(client: httpx.Client, server: Service) -> None:
    run = finished(client, DIGITS)
    change(server, update(Epoch).where(Epoch.run_id == run["id"], Epoch.epoch == 7), validation_cost=0.5)
    difference = verified(client, run["id"])[1]["difference"]
    assert difference["epoch"] == 7
    (one,) = difference["quantities"]
    assert (one["name"], one["expected"]) == ("validation_cost", 0.5)


def change(server: Service, statement: Any, **values: Any) -> None:
    """Change what is stored behind the service's back."""
    database = Database(server.database_url)
    with database.writing() as session:
        session.execute(statement.values(**values))
    database.dispose()


def test_a_training_that_ends_before_the_stored_one_did_is_a_difference(client: httpx.Client, server: Service) -> None:
    run = finished(client, MOONS | PATIENT)
    done = run["progress"]["epochs_done"]
    row = {"cost": 1.0, "learning_rate": 0.1, "seconds": 0.0}
    database = Database(server.database_url)
    with database.writing() as session:
        session.add(Epoch(run_id=run["id"], epoch=done + 1, **row))
        session.execute(update(models.Run).where(models.Run.id == run["id"]).values(epochs_done=done + 1))
    database.dispose()
    difference = verified(client, run["id"])[1]["difference"]
    quantities = [{"name": "epoch", "expected": "recorded", "found": "ended before"}]
    assert difference == {"epoch": done + 1, "quantities": quantities}


def test_a_run_that_diverged_or_was_cancelled_is_verified_up_to_what_it_recorded(client: httpx.Client) -> None:
    wild = MOONS | {"optimizer": {"name": "sgd", "learning_rate": 1e30}, "epochs": 50}
    spec = wild | {"cost": "mse", "network": {"layers": [{"units": 2, "activation": "linear"}]}}
    diverged = finished(client, spec, "failed")
    assert diverged["reason"] == "diverged"
    if diverged["progress"]["epochs_done"]:
        assert verified(client, diverged["id"])[1]["equal"]
    run_id = submit(client, LONG)["id"]
    until(client, run_id, 30)
    cancelled = stop(client, run_id)
    _, found = verified(client, run_id)
    assert (found["equal"], found["last"]) == (True, cancelled["progress"]["epochs_done"])


def test_a_run_under_way_is_verified_up_to_what_it_has_recorded(client: httpx.Client) -> None:
    run_id = submit(client, LONG)["id"]
    done = until(client, run_id, 30)
    _, found = verified(client, run_id)
    stop(client, run_id)
    assert found["equal"]
    assert found["last"] >= done


def until(client: httpx.Client, run_id: str, epochs: int) -> int:
    """Wait until a run has recorded so many epochs."""
    while (done := client.get(f"/v1/runs/{run_id}").json()["progress"]["epochs_done"]) < epochs:
        time.sleep(0.05)
    return int(done)


def test_verifications_are_listed_for_their_run_and_nowhere_else(client: httpx.Client) -> None:
    run = finished(client, XOR | {"name": "listed"})
    first, second = (verified(client, run["id"])[0]["id"] for _ in range(2))
    listed = client.get("/v1/runs", params={"verifies": run["id"]}).json()["items"]
    assert [one["id"] for one in listed] == [second, first]
    named = client.get("/v1/runs", params={"name": "listed"}).json()["items"]
    assert [one["id"] for one in named] == [run["id"]]
    assert client.get("/v1/runs/latest").json()["id"] == run["id"]
    assert client.delete(f"/v1/runs/{first}").status_code == 204
    refused(client.get(f"/v1/runs/{second}/checkpoints/last"), "not_found", None, run["id"])
    refused(client.post(f"/v1/runs/{second}/extend", json={"epochs": 1}), "conflict", None, run["id"])
    refused(client.post(f"/v1/runs/{second}/verify", json={}), "conflict", None, run["id"])
    assert client.get(f"/v1/runs/{second}/epochs").json()["columns"]["epoch"] == []


def test_what_cannot_be_verified_is_refused_with_the_reason(client: httpx.Client) -> None:
    run = finished(client, XOR)
    refused(client.post(f"/v1/runs/{run['id']}/verify", json={"to": 21}), "invalid_input", "/to", "20")
    refused(client.post(f"/v1/runs/{run['id']}/verify", json={"after": 20}), "invalid_input", "/after")
    refused(client.post(f"/v1/runs/{run['id']}/verify", json={"after": 0}), "invalid_input", "/after")
    refused(client.post("/v1/runs/run_0/verify", json={}), "not_found")


def test_a_verification_repeated_under_its_key_is_the_same(client: httpx.Client) -> None:
    run = finished(client, XOR)
    headers = {"Idempotency-Key": f"verify-{run['id']}", "Prefer": "wait=60"}
    answers = [client.post(f"/v1/runs/{run['id']}/verify", json={}, headers=headers) for _ in range(2)]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[0].json()["verification"]["equal"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_verification_goes_on_after_the_service_was_killed(fresh: Any, cache_dir: Path, kind: str) -> None:
    settings = {
        "database_url": fresh.url(kind), "cache_dir": cache_dir, "slots": 1, "flush_interval_s": 0.05,
        "attempt_timeout_s": 1, "heartbeat_interval_s": 0.2,
    }  # fmt: skip
    with serving(**settings) as service, service.client() as client:
        run = finished(client, LONG | {"epochs": 300, "checkpoints": {"every": 1}})
        made = asked(client, run["id"])["id"]
        until(client, made, 10)
        service.process.kill()
        service.process.wait()
    with serving(**settings | {"slots": 0}) as service, service.client() as client:
        again = client.get(f"/v1/runs/{made}").json()
        assert not again["done"]
        assert again["verification"]["epochs"] == again["progress"]["epochs_done"] + 1 >= 11
    with serving(**settings) as service, service.client() as client:
        found = ended(client, made)
        assert found["attempts"] > 1
        assert found["verification"]["equal"]
        assert (found["verification"]["epochs"], found["verification"]["weights"]) == (301, 301)


def test_with_its_run_deleted_a_verification_says_that_there_is_nothing_to_compare(fresh: Any, cache_dir: Path) -> None:
    url = fresh.url("sqlite")
    with serving(database_url=url, cache_dir=cache_dir, slots=1) as service, service.client() as client:
        run = finished(client, XOR)
    with inside(Settings(database_url=url, cache_dir=cache_dir, slots=0)) as (client, _):
        made = asked(client, run["id"])["id"]
        assert client.delete(f"/v1/runs/{run['id']}", params={"purge": True}).status_code == 204
    with serving(database_url=url, cache_dir=cache_dir, slots=1) as service, service.client() as client:
        found = ended(client, made, "failed")
        assert found["reason"] == "nothing_to_compare"
        assert found["verification"]["equal"] is None


def test_where_blas_chooses_other_code_the_difference_is_found_and_named(
    fresh: Any, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh.url("sqlite")
    with serving(database_url=url, cache_dir=cache_dir, slots=1) as service, service.client() as client:
        run = finished(client, DIGITS)
    if run["builds"].get("blas_kernel") in (None, "Nehalem"):
        pytest.skip("BLAS here cannot be told to choose other code")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    with serving(database_url=url, cache_dir=cache_dir, slots=1) as service, service.client() as client:
        made, found = verified(client, run["id"])
    assert found["changed_builds"] == ["blas_kernel"]
    assert made["builds"]["blas_kernel"] == "Nehalem"
    assert found["equal"] is False
    assert "cost" in [one["name"] for one in found["difference"]["quantities"]]
