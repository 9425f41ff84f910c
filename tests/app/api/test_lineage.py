"""Runs made from runs: extended to the bit, and cloned with changes."""

import math
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chainrule.app.api.schemas.runs import Run, Validated
from chainrule.app.config import Settings
from tests.app.api.calls import DIGITS, LONG, XOR, ended, finished, last_weights, refused, stop, stream, submit
from tests.conftest import KINDS
from tests.inside import inside

MOONS: dict[str, Any] = {
    "dataset": "moons",
    "network": {"layers": [{"units": 6, "activation": "tanh"}, {"units": 2, "activation": "softmax"}]},
    "epochs": 19,
    "batch_size": 64,  # which leaves a smaller last batch
    "seed": 5,
}
STEPPED: dict[str, Any] = {
    "optimizer": {"name": "adam", "learning_rate": 0.02},
    "schedule": {"name": "step", "every": 4, "factor": 0.5, "warmup_epochs": 10},
    "clip": {"norm": 0.1},
    "regularization": {"l2": 0.01, "max_norm": 2.0},
    "dtype": "float64",
}
WATCHED: dict[str, Any] = {
    "network": {"layers": [{"units": 9, "activation": "relu", "dropout": 0.3}, {"units": 2, "activation": "softmax"}]},
    "optimizer": {"name": "adam", "learning_rate": 0.1},
    "schedule": {"name": "plateau", "factor": 0.7, "patience": 1},
    "early_stopping": {"patience": 18, "min_delta": 0.01},
}
NORMALIZED: dict[str, Any] = {
    "network": {
        "layers": [
            {"units": 9, "activation": "relu", "normalization": "batch"},
            {"units": 5, "activation": "tanh", "normalization": "layer"},
            {"units": 2, "activation": "softmax"},
        ]
    },
    "validation": {"fraction": 0.3},
    "early_stopping": {"patience": 18, "min_delta": 0.01},
}
COSINE = MOONS | {"schedule": {"name": "cosine"}}


def extend(client: httpx.Client, run_id: str, **length: int) -> dict[str, Any]:
    """Extend a run and wait for the end."""
    response = client.post(f"/v1/runs/{run_id}/extend", json=length)
    assert response.status_code == 201, response.text
    run: dict[str, Any] = response.json()
    Run.model_validate(run)
    assert response.headers["location"] == f"/v1/runs/{run['id']}"
    assert run["extends"] == run_id != run["id"]
    return ended(client, run["id"])


def clone(client: httpx.Client, run_id: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Clone a run and wait for the end."""
    response = client.post(f"/v1/runs/{run_id}/clone", json=changes)
    assert response.status_code == 201, response.text
    run: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/v1/runs/{run['id']}"
    assert run["cloned_from"] == run_id != run["id"]
    return ended(client, run["id"])


def recorded(client: httpx.Client, run_id: str) -> tuple[dict[str, Any], dict[int, str], dict[int, list[Any]]]:
    """Read what a run recorded: each epoch but its seconds, the weights' hashes, the gradients."""
    columns = client.get(f"/v1/runs/{run_id}/epochs", params={"limit": 10_000}).json()["columns"]
    del columns["seconds"]
    checkpoints = client.get(f"/v1/runs/{run_id}/checkpoints", params={"limit": 1000}).json()["items"]
    gradients: dict[int, list[Any]] = {}
    for record in client.get(f"/v1/runs/{run_id}/gradients", params={"limit": 1000}).json()["items"]:
        gradients.setdefault(record["epoch"], []).append(record)
    return columns, {found["epoch"]: found["sha256"] for found in checkpoints}, gradients


@pytest.fixture(scope="module", params=KINDS)
def idle(request: pytest.FixtureRequest, fresh: Any, cache_dir: Path) -> Iterator[httpx.Client]:
    """A client to a service that trains nothing and holds two runs at most."""
    url = fresh.url(request.param)
    with inside(Settings(database_url=url, cache_dir=cache_dir, slots=0, max_queued_runs=2)) as (client, _):
        yield client


@pytest.mark.parametrize(
    "spec",
    [
        MOONS | {"optimizer": {"name": "sgd", "learning_rate": 0.3}},
        MOONS | STEPPED,
        MOONS | {"optimizer": {"name": "momentum"}, "validation": {"fraction": 0.3}, "checkpoints": {"keep": 3}},
        XOR | {"epochs": 19, "schedule": {"name": "exponential"}},
        MOONS | {"inputs": {"scaling": "standardize"}, "validation": {"fraction": 0.3}},
        MOONS | WATCHED,
        MOONS | {"optimizer": {"name": "lbfgs"}, "batch_size": None, "regularization": {"l2": 0.001}},
        MOONS | NORMALIZED,
    ],
    ids=[
        "sgd",
        "adam_step_clip_float64",
        "momentum_validation",
        "full_batch",
        "standardized",
        "watched_dropout",
        "lbfgs",
        "batch_normalization",
    ],
)
def test_an_extended_run_is_to_the_bit_what_a_run_of_that_length_is(client: httpx.Client, spec: dict[str, Any]) -> None:
    whole = finished(client, spec)
    first = finished(client, spec | {"epochs": 7})
    extended = extend(client, first["id"], epochs=12)
    assert extended["config"] == whole["config"]
    assert last_weights(client, extended["id"]) == last_weights(client, whole["id"])
    theirs, ours = recorded(client, whole["id"]), recorded(client, extended["id"])
    assert ours[0] == theirs[0]
    assert ours[0]["epoch"] == list(range(20))
    assert ours[1] == theirs[1]
    assert ours[2] == theirs[2]
    names = ("cost", "error", "validation_cost", "validation_error", "parameters")
    assert [extended[name] for name in names] == [whole[name] for name in names]
    assert extended["best_epoch"] == whole["best_epoch"]
    progress = {name: value for name, value in extended["progress"].items() if name != "eta_s"}
    assert progress == {name: value for name, value in whole["progress"].items() if name != "eta_s"}


def test_what_was_recorded_because_it_was_the_end_is_recorded_beside_the_rest(client: httpx.Client) -> None:
    spec = DIGITS | {"epochs": 12}  # checkpoints each 5 epochs, gradients each 4
    whole = recorded(client, finished(client, spec)["id"])
    extended = recorded(client, extend(client, finished(client, spec | {"epochs": 7})["id"], to=12)["id"])
    assert extended[0] == whole[0]
    assert sorted(extended[1]) == [0, 1, 5, 7, 10, 12]
    assert sorted(extended[2]) == [0, 1, 4, 7, 8, 12]
    assert {epoch: extended[1][epoch] for epoch in whole[1]} == whole[1]
    assert {epoch: extended[2][epoch] for epoch in whole[2]} == whole[2]


def test_an_extension_can_be_extended_and_each_stays_as_it_was(client: httpx.Client) -> None:
    spec = MOONS | STEPPED
    first = finished(client, spec | {"epochs": 3})
    second = extend(client, first["id"], to=4)
    third = extend(client, second["id"], epochs=15)
    assert last_weights(client, third["id"]) == last_weights(client, finished(client, spec)["id"])
    assert client.get(f"/v1/runs/{first['id']}").json() == first
    assert client.get(f"/v1/runs/{second['id']}").json() == second
    assert [run["extends"] for run in (first, second, third)] == [None, first["id"], second["id"]]
    assert [run["progress"]["epochs_total"] for run in (first, second, third)] == [3, 4, 19]
    # The same run may be extended twice, in different ways.
    assert last_weights(client, extend(client, first["id"], to=19)["id"]) == last_weights(client, third["id"])


def test_a_cancelled_run_goes_on_from_where_it_was_stopped(client: httpx.Client) -> None:
    run = submit(client, LONG)
    deadline = time.monotonic() + 120
    while client.get(f"/v1/runs/{run['id']}").json()["progress"]["steps_done"] < 30:
        assert time.monotonic() < deadline
    stopped = stop(client, run["id"])
    done = stopped["progress"]["epochs_done"]
    extended = extend(client, run["id"], epochs=3)
    assert extended["progress"]["epochs_total"] == done + 3
    whole = finished(client, stopped["config"] | {"epochs": done + 3})
    assert last_weights(client, extended["id"]) == last_weights(client, whole["id"])
    assert recorded(client, extended["id"])[0] == recorded(client, whole["id"])[0]


def test_the_parent_of_an_extension_may_be_deleted(client: httpx.Client) -> None:
    first = finished(client, MOONS | {"epochs": 4})
    key = {"Idempotency-Key": uuid.uuid4().hex}
    response = client.post(f"/v1/runs/{first['id']}/extend", json={"to": 19}, headers=key)
    assert client.delete(f"/v1/runs/{first['id']}").status_code == 204
    run = ended(client, response.json()["id"])
    assert run["extends"] == first["id"]
    assert last_weights(client, run["id"]) == last_weights(client, finished(client, MOONS)["id"])
    assert recorded(client, run["id"])[0]["epoch"] == list(range(20))
    # The answer to the repeated request does not need it either.
    again = client.post(f"/v1/runs/{first['id']}/extend", json={"to": 19}, headers=key)
    assert (again.status_code, again.json()) == (201, response.json())
    refused(client.post(f"/v1/runs/{first['id']}/extend", json={"to": 20}), "not_found")


def test_whoever_follows_an_extension_sees_its_epochs_from_the_first(client: httpx.Client) -> None:
    first = finished(client, MOONS | {"epochs": 4})
    run_id = client.post(f"/v1/runs/{first['id']}/extend", json={"epochs": 2}).json()["id"]
    found = stream(client, run_id)
    assert [event.data["epoch"] for event in found if event.name == "epoch"] == list(range(7))
    assert found[-1].name == "end"


def test_an_extension_waiting_for_its_turn_shows_what_it_has_already(client: httpx.Client) -> None:
    first = finished(client, MOONS | {"epochs": 4})
    run = client.post(f"/v1/runs/{first['id']}/extend", json={"to": 8}).json()
    names = ("cost", "error", "builds", "dataset", "name", "priority")
    assert [run[name] for name in names] == [first[name] for name in names]
    assert (run["status"], run["attempts"], run["started_at"]) == ("queued", 0, None)
    progress = run["progress"]
    assert (progress["epochs_done"], progress["epochs_total"], progress["percent"]) == (4, 8, 50.0)
    assert progress["eta_s"] is None


@pytest.mark.parametrize("verb", ["extend", "clone"])
def test_a_request_repeated_under_its_key_makes_one_run(client: httpx.Client, verb: str) -> None:
    first = finished(client, XOR)
    key = {"Idempotency-Key": uuid.uuid4().hex}
    path, body = f"/v1/runs/{first['id']}/{verb}", {"epochs": 3}
    made = client.post(path, json=body, headers=key | {"Prefer": "wait=60"})
    assert (made.status_code, made.json()["status"]) == (201, "succeeded")
    again = client.post(path, json=body, headers=key)
    assert (again.json()["id"], again.json()["status"]) == (made.json()["id"], "queued")
    assert again.headers["idempotency-replayed"] == "true"
    refused(client.post(path, json={"epochs": 4}, headers=key), "idempotency_mismatch")
    other = client.post(f"/v1/runs/{made.json()['id']}/{verb}", json=body, headers=key)
    refused(other, "idempotency_mismatch")


def test_null_and_leaving_out_are_different_requests(client: httpx.Client) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    path = f"/v1/runs/{finished(client, XOR)['id']}/clone"
    assert client.post(path, json={}, headers=key).status_code == 201
    refused(client.post(path, json={"seed": None}, headers=key), "idempotency_mismatch")


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({}, "", ["either epochs", "or to"]),
        ({"epochs": 1, "to": 30}, "", ["either epochs", "or to"]),
        ({"epochs": 0}, "/epochs", ["at least 1"]),
        ({"epochs": "3"}, "/epochs", ["whole number"]),
        ({"to": 20}, "/to", ["20 epochs already", "clone"]),
        ({"to": 3}, "/to", ["20 epochs already"]),
        ({"seed": 3}, "/seed", ["no such field"]),
    ],
)
def test_a_length_that_is_none_is_refused(
    client: httpx.Client, xor_run: dict[str, Any], body: dict[str, Any], pointer: str, words: list[str]
) -> None:
    refused(client.post(f"/v1/runs/{xor_run['id']}/extend", json=body), "invalid_input", pointer, *words)


def test_what_cannot_go_on_exactly_is_refused_with_the_way_out(client: httpx.Client) -> None:
    running = submit(client, LONG)["id"]
    problem = refused(client.post(f"/v1/runs/{running}/extend", json={"epochs": 1}), "conflict", None, "cancel it")
    assert problem["current_status"] in ("queued", "running")
    stop(client, running)

    linear = {"layers": [{"units": 8, "activation": "relu"}, {"units": 1, "activation": "linear"}]}
    spec = XOR | {"network": linear, "cost": "mse", "optimizer": {"name": "sgd", "learning_rate": 1e6}}
    diverged = finished(client, spec, "failed")["id"]
    response = client.post(f"/v1/runs/{diverged}/extend", json={"epochs": 1})
    refused(response, "conflict", None, "diverged", f"{diverged}/clone", "learning rate")

    cosine = finished(client, COSINE)["id"]
    response = client.post(f"/v1/runs/{cosine}/extend", json={"epochs": 1})
    refused(response, "conflict", None, "'cosine'", "depend on the number of epochs", f"{cosine}/clone")

    for verb in ("extend", "clone"):
        refused(client.post(f"/v1/runs/run_nowhere/{verb}", json={"epochs": 1}), "not_found", None, "run_nowhere")
        response = client.post(f"/v1/runs/{cosine}/{verb}", content="epochs=1")
        refused(response, "unsupported_media_type")


def test_a_cancelled_run_with_a_cosine_can_be_finished_as_it_was_meant(client: httpx.Client) -> None:
    spec = LONG | {"schedule": {"name": "cosine"}, "epochs": 400, "batch_size": 16}
    run = submit(client, spec)
    while client.get(f"/v1/runs/{run['id']}").json()["progress"]["steps_done"] < 1:
        time.sleep(0.002)
    stop(client, run["id"])
    refused(client.post(f"/v1/runs/{run['id']}/extend", json={"to": 401}), "conflict", None, "'cosine'")
    extended = extend(client, run["id"], to=400)
    assert last_weights(client, extended["id"]) == last_weights(client, finished(client, spec)["id"])


def test_a_run_that_was_cancelled_before_it_began_is_cloned_and_not_extended(idle: httpx.Client) -> None:
    run = submit(idle, XOR)["id"]
    refused(idle.post(f"/v1/runs/{run}/extend", json={"epochs": 1}), "conflict", None, "queued")
    stop(idle, run)
    refused(idle.post(f"/v1/runs/{run}/extend", json={"epochs": 1}), "conflict", None, "before it had begun", "/clone")
    cloned = idle.post(f"/v1/runs/{run}/clone", json={})
    assert cloned.status_code == 201
    stop(idle, cloned.json()["id"])


def test_the_queue_is_as_long_for_clones(idle: httpx.Client) -> None:
    runs = [submit(idle, XOR)["id"]]
    runs.append(idle.post(f"/v1/runs/{runs[0]}/clone", json={"seed": 2}).json()["id"])
    refused(idle.post(f"/v1/runs/{runs[0]}/clone", json={"seed": 3}), "queue_full")
    for run_id in runs:
        stop(idle, run_id)


def test_the_limits_are_those_of_the_whole_run(limited: httpx.Client) -> None:
    run = finished(limited, XOR)["id"]
    problem = refused(limited.post(f"/v1/runs/{run}/extend", json={"epochs": 4981}), "limit_exceeded", "/epochs")
    assert (problem["setting"], problem["value"], problem["limit"]) == ("CHAINRULE_MAX_STEPS", 5001, 5000)
    refused(limited.post(f"/v1/runs/{run}/extend", json={"to": 5001}), "limit_exceeded", "/to")
    refused(limited.post(f"/v1/runs/{run}/clone", json={"epochs": 5001}), "limit_exceeded", "/epochs")


def test_a_clone_without_a_change_ends_with_the_same_weights(client: httpx.Client) -> None:
    for spec in (XOR, MOONS | STEPPED, DIGITS, COSINE, MOONS | {"inputs": {"scaling": "min_max"}}):
        run = finished(client, spec)
        cloned = clone(client, run["id"], {})
        assert cloned["config"] == run["config"]
        assert recorded(client, cloned["id"]) == recorded(client, run["id"])
        assert (cloned["extends"], run["cloned_from"]) == (None, None)


def test_a_change_replaces_a_field_as_a_whole(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    sgd = clone(client, xor_run["id"], {"optimizer": {"name": "sgd"}, "seed": 2})
    config = xor_run["config"]
    assert sgd["config"] == config | {"optimizer": {"name": "sgd", "learning_rate": 0.1}, "seed": 2}
    network = {"layers": [{"units": 3, "activation": "relu"}, {"units": 1, "activation": "sigmoid"}]}
    other = clone(client, sgd["id"], {"network": network})["config"]
    assert [layer["initializer"] for layer in other["network"]["layers"]] == ["he_normal", "xavier_uniform"]
    assert (other["network"]["inputs"], other["seed"]) == (2, 2)


def test_null_takes_a_field_back_to_its_default(client: httpx.Client) -> None:
    run = finished(client, MOONS | STEPPED | {"validation": {"fraction": 0.2}, "name": "m", "priority": 3})
    optional = [name for name in run["config"] if name not in ("dataset", "network", "epochs")]
    cloned = clone(client, run["id"], dict.fromkeys(optional))["config"]
    required = {name: MOONS[name] for name in ("dataset", "network", "epochs")}
    assert cloned == finished(client, required)["config"]


def test_a_clone_on_another_dataset_takes_inputs_of_its_width(client: httpx.Client, flowers: str) -> None:
    run = finished(client, MOONS | {"network": {"layers": [{"units": 3, "activation": "softmax"}]}, "dataset": flowers})
    network = {"layers": [{"units": 10, "activation": "softmax"}]}
    found = clone(client, run["id"], {"dataset": "digits", "network": network, "epochs": 1})
    assert found["config"]["network"]["inputs"] == 64
    refused(
        client.post(f"/v1/runs/{run['id']}/clone", json={"dataset": "digits"}),
        "invalid_input", "/network/layers/0/units", "set it to 10",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        ({"epochs": 0}, "/epochs", ["at least 1"]),
        ({"epochs": None}, "/epochs", ["whole number"]),
        ({"network": None}, "/network", ["JSON object"]),
        ({"dataset": None}, "/dataset", ["text"]),
        ({"seed": "2"}, "/seed", ["whole number"]),
        ({"optimizer": {"name": "lion"}}, "/optimizer/name", ["lion", "sgd"]),
        ({"optimizer": {"name": "sgd", "beta1": 0.5}}, "/optimizer/beta1", ["does not use"]),
        ({"clip": {}}, "/clip", ["either norm or value"]),
        ({"validation": {"dataset": "ds_0"}}, "/validation/dataset", ["ds_0"]),
        ({"status": "queued"}, "/status", ["no such field"]),
    ],
)
def test_a_change_that_is_wrong_is_refused_as_in_a_submission(
    client: httpx.Client, xor_run: dict[str, Any], changes: dict[str, Any], pointer: str, words: list[str]
) -> None:
    for parameters in ({}, {"validate_only": True}):
        response = client.post(f"/v1/runs/{xor_run['id']}/clone", json=changes, params=parameters)
        refused(response, "invalid_input", pointer, *words)


def test_a_clone_can_be_tried_without_being_submitted(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    before = client.get("/v1/runs").json()
    path, parameters = f"/v1/runs/{xor_run['id']}/clone", {"validate_only": True}
    response = client.post(path, json={"epochs": 30, "seed": 1}, params=parameters)
    assert response.status_code == 200
    found = Validated.model_validate(response.json())
    assert response.json()["config"] == xor_run["config"] | {"epochs": 30, "seed": 1}
    assert found.estimate.steps == 30
    assert client.get("/v1/runs").json() == before


def test_a_run_that_has_not_ended_can_be_cloned(client: httpx.Client) -> None:
    running = submit(client, LONG)["id"]
    cloned = clone(client, running, {"epochs": 2, "name": "short"})
    assert (cloned["name"], cloned["progress"]["epochs_done"]) == ("short", 2)
    stop(client, running)
    assert client.delete(f"/v1/runs/{running}").status_code == 204
    assert client.get(f"/v1/runs/{cloned['id']}").json()["cloned_from"] == running


def test_runs_made_from_runs_are_listed_as_every_other(client: httpx.Client) -> None:
    name = uuid.uuid4().hex
    first = finished(client, XOR | {"name": name})
    made = [first["id"], extend(client, first["id"], epochs=1)["id"], clone(client, first["id"], {})["id"]]
    listed = client.get("/v1/runs", params={"name": name, "sort": "created_at"}).json()["items"]
    assert [run["id"] for run in listed] == made
    assert [(run["extends"], run["cloned_from"]) for run in listed] == [
        (None, None), (first["id"], None), (None, first["id"]),
    ]  # fmt: skip
    assert all(math.isfinite(run["cost"]) for run in listed)


def test_a_run_that_stopped_early_is_cloned_with_more_patience_and_not_extended(client: httpx.Client) -> None:
    spec = MOONS | WATCHED | {"early_stopping": {"patience": 2, "min_delta": 0.5}, "epochs": 40}
    stopped = finished(client, spec)
    assert stopped["reason"] == "early_stopped"
    last = stopped["progress"]["epochs_done"]
    assert last == stopped["best_epoch"] + 2 < 40
    # One that had come to its end just then would have stopped there too.
    at_its_end = finished(client, spec | {"epochs": last})
    assert at_its_end["reason"] == "completed"
    for run in (stopped, at_its_end):
        response = client.post(f"/v1/runs/{run['id']}/extend", json={"epochs": 5})
        words = ("stopped early", "in 2 epochs", f"{run['id']}/clone", "early_stopping.patience")
        assert refused(response, "conflict", None, *words)["current_status"] == "succeeded"
    longer = clone(client, stopped["id"], {"early_stopping": {"patience": 30}})
    assert longer["progress"]["epochs_done"] > last
    whole = clone(client, stopped["id"], {"early_stopping": None})
    assert (whole["progress"]["epochs_done"], whole["best_epoch"], whole["reason"]) == (40, None, "completed")
