"""Runs: submitted, refused, listed, waited for, cancelled and deleted."""

import importlib.metadata
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chainrule.app.api.schemas.runs import Attempt, Run, RunPage, Validated
from chainrule.app.config import Settings
from chainrule.engine import ACTIVATIONS, COSTS, INITIALIZERS, OPTIMIZERS, SCHEDULES
from tests.app.api.calls import DIGITS, FLOWERS, LONG, XOR, ended, finished, refused, stop, submit, upload
from tests.conftest import KINDS
from tests.inside import inside

TINY = XOR | {"epochs": 1}
HIDDEN = {"units": 4, "activation": "tanh"}
OUTPUT = {"units": 1, "activation": "sigmoid"}
TEN = {"units": 10, "activation": "softmax"}
FULL_BATCH: dict[str, Any] = {"optimizer": {"name": "lbfgs"}}


def layers(*given: dict[str, Any]) -> dict[str, Any]:
    return {"network": {"layers": list(given)}}


@pytest.fixture(scope="module", params=KINDS)
def idle(request: pytest.FixtureRequest, fresh: Any, cache_dir: Path) -> Iterator[httpx.Client]:
    """A client to a service that trains nothing and holds three runs at most."""
    url = fresh.url(request.param)
    with inside(Settings(database_url=url, cache_dir=cache_dir, slots=0, max_queued_runs=3)) as (client, _):
        yield client


def test_a_compiled_run_keeps_its_step_and_names_numba_and_ends_where_numpy_does(client: httpx.Client) -> None:
    pytest.importorskip("numba")
    spec = XOR | {"dtype": "float64"}
    by_numpy, by_compiled = (finished(client, spec | {"step": step}) for step in ("numpy", "compiled"))
    assert by_compiled["status"] == "succeeded"
    assert by_compiled["config"]["step"] == "compiled"
    assert by_compiled["builds"]["numba"] == importlib.metadata.version("numba")
    assert by_compiled["cost"] == pytest.approx(by_numpy["cost"], rel=1e-10)


def test_a_run_that_has_ended_says_everything_about_itself(xor_run: dict[str, Any]) -> None:
    run = Run.model_validate(xor_run)
    assert run.id.startswith("run_")
    assert (run.name, run.dataset, run.parameters, run.priority) == ("xor", "xor", 8 * 3 + 9, 0)
    assert (run.status, run.reason, run.detail, run.done) == ("succeeded", "completed", "", True)
    assert (run.attempts, run.failures, run.cancel_requested) == (1, 0, False)
    progress = run.progress
    assert (progress.epochs_done, progress.epochs_total, progress.steps_done, progress.steps_total) == (20, 20, 20, 20)
    assert (progress.percent, progress.eta_s) == (100.0, 0.0)
    assert run.cost is not None
    assert 0 < run.cost < 1
    assert run.error in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert (run.validation_cost, run.validation_error) == (None, None)
    assert run.builds is not None
    assert {"chainrule", "python", "numpy", "blas", "blas_threads", "machine"} <= set(run.builds)
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.created_at <= run.started_at <= run.finished_at
    assert run.transitions is not None
    assert [(t.status, t.reason) for t in run.transitions] == [
        ("queued", "submitted"),
        ("running", "claimed"),
        ("succeeded", "completed"),
    ]
    assert run.transitions[1].worker == run.worker
    assert [t.at for t in run.transitions] == [run.created_at, run.started_at, run.finished_at]


def test_the_config_of_a_run_has_every_default_filled_in(xor_run: dict[str, Any]) -> None:
    assert xor_run["config"] == {
        "name": "xor",
        "dataset": "xor",
        "validation": None,
        "inputs": None,
        "network": {
            "inputs": 2,
            "layers": [
                {
                    "units": 8,
                    "activation": "tanh",
                    "initializer": "xavier_uniform",
                    "dropout": 0.0,
                    "normalization": None,
                },
                {
                    "units": 1,
                    "activation": "sigmoid",
                    "initializer": "xavier_uniform",
                    "dropout": 0.0,
                    "normalization": None,
                },
            ],
        },
        "cost": "cross_entropy",
        "label_smoothing": 0.0,
        "class_weights": None,
        "sample_weights": True,
        "optimizer": {"name": "adam", "learning_rate": 0.05, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
        "schedule": {"name": "constant", "warmup_epochs": 0},
        "clip": None,
        "regularization": None,
        "early_stopping": None,
        "epochs": 20,
        "batch_size": 4,
        "shuffle": True,
        "seed": 7,
        "dtype": "float32",
        "step": "numpy",
        "shards": 1,
        "shards_even_if_slower": False,
        "checkpoints": {"every": 1, "keep": None},
        "gradients": {"every": 1},
        "priority": 0,
        "max_duration_s": None,
        "max_memory_bytes": None,
    }


def test_a_run_by_l_bfgs_takes_all_samples_at_once_and_learns_in_few_epochs(client: httpx.Client) -> None:
    run = finished(client, XOR | FULL_BATCH | {"batch_size": None, "epochs": 40, "regularization": {"l2": 1e-5}})
    assert run["config"]["optimizer"] == {"name": "lbfgs", "learning_rate": 1.0}
    assert run["progress"]["steps_total"] == 40
    assert run["cost"] < 1e-2
    assert run["error"] == 0


def test_a_config_submitted_again_is_the_same_run(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    again = finished(client, xor_run["config"])
    assert again["config"] == xor_run["config"]
    assert (again["cost"], again["id"]) == (xor_run["cost"], again["id"])
    assert again["id"] > xor_run["id"]


def test_a_run_with_validation_has_its_cost_and_error(digits_run: dict[str, Any]) -> None:
    assert 0 < digits_run["validation_cost"] < 1
    assert 0 < digits_run["validation_error"] < 0.5
    assert digits_run["progress"]["steps_total"] == 12 * 22  # 1348 of 1797 samples in batches of 64


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        (layers(HIDDEN | {"activation": "swish"}, OUTPUT), "/network/layers/0/activation", ["swish", *ACTIVATIONS]),
        (layers(HIDDEN | {"initializer": "ones"}, OUTPUT), "/network/layers/0/initializer", ["ones", *INITIALIZERS]),
        (layers(HIDDEN | {"normalization": "group"}, OUTPUT), "/network/layers/0/normalization", ["layer, batch"]),
        (layers(HIDDEN, OUTPUT | {"normalization": "batch"}), "/network/layers/1/normalization", ["hidden layers"]),
        (layers(HIDDEN | {"normalization": "batch"}, OUTPUT) | {"batch_size": 3}, "/batch_size", ["at least two"]),
        ({"cost": "hinge"}, "/cost", ["hinge", *COSTS]),
        ({"optimizer": {"name": "lion"}}, "/optimizer/name", ["lion", *OPTIMIZERS]),
        ({"dtype": "float16"}, "/dtype", ["float16", "float32", "float64"]),
        (layers(HIDDEN | {"activation": "softmax"}, OUTPUT), "/network/layers/0/activation", ["output layer", "tanh"]),
        (layers(HIDDEN, OUTPUT | {"activation": "tanh"}) | {"cost": "cross_entropy"}, "/cost", ["'mse'", "sigmoid"]),
        (layers(HIDDEN, OUTPUT | {"units": 3}), "/network/layers/1/units", ["2 classes", "1 or 2"]),
        (layers(HIDDEN, OUTPUT | {"activation": "softmax"}), "/network/layers/1/units", ["one unit"]),
        (layers(HIDDEN, OUTPUT) | {"dataset": "digits"}, "/network/layers/1/units", ["10 classes", "set it to 10"]),
        (layers(), "/network/layers", ["at least 1"]),
        (layers(*[HIDDEN] * 101), "/network/layers", ["100"]),
        ({"network": XOR["network"] | {"inputs": 3}}, "/network/inputs", ["2 features", "leave it out"]),
        (layers(HIDDEN | {"units": 0}, OUTPUT), "/network/layers/0/units", ["at least 1"]),
        (layers(HIDDEN | {"units": 10**9 + 1}, OUTPUT), "/network/layers/0/units", ["1000000000"]),
        ({"epochs": 0}, "/epochs", ["at least 1"]),
        ({"batch_size": 0}, "/batch_size", ["at least 1"]),
        ({"seed": -1}, "/seed", ["at least 0"]),
        ({"seed": 2**63}, "/seed", ["at most"]),
        ({"priority": 1001}, "/priority", ["1000"]),
        ({"max_duration_s": 0}, "/max_duration_s", ["0"]),
        ({"shards": 0}, "/shards", ["at least 1"]),
        ({"shards": 65}, "/shards", ["64"]),
        ({"shards": 2}, "/shards", ["slower", "shards_even_if_slower"]),
        ({"max_memory_bytes": 1024}, "/max_memory_bytes", ["67108864"]),
        ({"checkpoints": {"every": 0}}, "/checkpoints/every", ["at least 1"]),
        ({"checkpoints": {"keep": 0}}, "/checkpoints/keep", ["at least 1"]),
        ({"optimizer": {"name": "sgd", "momentum": 0.5}}, "/optimizer/momentum", ["does not use", "learning_rate"]),
        ({"optimizer": {"name": "momentum", "beta1": 0.5}}, "/optimizer/beta1", ["does not use", "momentum"]),
        ({"optimizer": {"name": "adam", "rho": 0.5}}, "/optimizer/rho", ["does not use", "beta1, beta2, epsilon"]),
        ({"optimizer": {"name": "adam", "beta1": 1}}, "/optimizer/beta1", ["less than 1"]),
        ({"optimizer": {"learning_rate": 0}}, "/optimizer/learning_rate", ["more than 0"]),
        ({"optimizer": {"learning_rate": 1e39}}, "/optimizer/learning_rate", ["float32"]),
        ({"optimizer": {"learning_rate": 1e-46}}, "/optimizer/learning_rate", ["float32"]),
        ({"schedule": {"name": "linear"}}, "/schedule/name", ["linear", *SCHEDULES]),
        ({"schedule": {"minimum": 0}}, "/schedule/minimum", ["does not use", "warmup_epochs"]),
        ({"schedule": {"name": "step", "every": 0}}, "/schedule/every", ["at least 1"]),
        ({"schedule": {"name": "step", "factor": 1.1}}, "/schedule/factor", ["at most"]),
        ({"schedule": {"name": "cosine", "minimum": 1}}, "/schedule/minimum", ["at most the learning rate"]),
        ({"schedule": {"warmup_epochs": -1}}, "/schedule/warmup_epochs", ["at least 0"]),
        (FULL_BATCH | {"batch_size": 3}, "/batch_size", ["takes all 4 samples at once", "leave batch_size out"]),
        (FULL_BATCH | {"clip": {"norm": 1}}, "/clip", ["takes no clip"]),
        (FULL_BATCH | {"schedule": {"name": "cosine"}}, "/schedule", ["takes no schedule"]),
        (FULL_BATCH | {"regularization": {"l1": 0.1}}, "/regularization/l1", ["use l2"]),
        (FULL_BATCH | layers(HIDDEN | {"dropout": 0.1}, OUTPUT), "/network/layers/0/dropout", ["takes no dropout"]),
        ({"clip": {}}, "/clip", ["either norm or value"]),
        ({"clip": {"norm": 1, "value": 1}}, "/clip", ["either norm or value"]),
        ({"clip": {"norm": 0}}, "/clip/norm", ["more than 0"]),
        ({"clip": {"norm": 1e20}}, "/clip/norm", ["float32"]),
        ({"regularization": {"l1": -1}}, "/regularization/l1", ["at least 0"]),
        ({"regularization": {"max_norm": 0}}, "/regularization/max_norm", ["more than 0"]),
        ({"regularization": {"dropout": 0.5}}, "/regularization/dropout", ["no such field"]),
        ({"validation": {"fraction": 0}}, "/validation/fraction", ["more than 0"]),
        ({"validation": {"fraction": 1}}, "/validation/fraction", ["less than 1"]),
        ({"validation": {"fraction": 0.1}}, "/validation/fraction", ["0 for validation", "at least one"]),
        ({"validation": {"fraction": 0.9}}, "/validation/fraction", ["0 samples for training", "at least one"]),
        ({"validation": {}}, "/validation", ["fraction", "dataset"]),
        ({"validation": {"fraction": 0.5, "dataset": "xor"}}, "/validation", ["either"]),
        ({"validation": {"dataset": "digits"}}, "/validation/dataset", ["64 features", "10 classes", "2 features"]),
        ({"validation": {"dataset": "moons"}}, "/validation/dataset", ["does not match"]),
        ({"validation": {"dataset": "ds_0"}}, "/validation/dataset", ["ds_0", "GET /v1/datasets"]),
        ({"dataset": "ds_0"}, "/dataset", ["ds_0", "xor, moons", "GET /v1/datasets"]),
        ({"data": "xor"}, "/data", ["no such field"]),
    ],
)  # fmt: skip
def test_a_spec_that_is_wrong_is_refused_at_its_place_with_the_way_out(
    client: httpx.Client, change: dict[str, Any], pointer: str, words: list[str]
) -> None:
    for parameters in ({}, {"validate_only": True}):
        response = client.post("/v1/runs", json=XOR | change, params=parameters)
        refused(response, "invalid_input", pointer, *words)


def test_numeric_targets_take_no_cross_entropy_and_as_many_units_as_targets(client: httpx.Client) -> None:
    rows = {"samples": [[0], [1], [2]], "targets": [[0, 1], [1, 2], [2, 3]]}
    spec = TINY | {"dataset": client.post("/v1/datasets", json=rows).json()["id"]}
    for activation in ("sigmoid", "softmax"):
        output = {"units": 2, "activation": activation}
        response = client.post("/v1/runs", json=spec | layers(HIDDEN, output) | {"cost": "cross_entropy"})
        refused(response, "invalid_input", "/cost", "class labels", "'mse'")
    response = client.post("/v1/runs", json=spec | layers(HIDDEN, {"units": 1, "activation": "linear"}))
    refused(response, "invalid_input", "/network/layers/1/units", "2 targets", "set it to 2")
    run = finished(client, spec | layers(HIDDEN, {"units": 2, "activation": "linear"}))
    assert (run["config"]["cost"], run["error"]) == ("mse", None)


@pytest.mark.parametrize(
    ("change", "setting", "pointer"),
    [
        (layers(HIDDEN | {"units": 501}, OUTPUT), "PARAMETERS", "/network"),
        (layers(HIDDEN | {"units": 10**9}, HIDDEN | {"units": 10**9}, OUTPUT), "PARAMETERS", "/network"),
        ({"epochs": 5001}, "STEPS", "/epochs"),
        ({"epochs": 10**9, "batch_size": 1}, "STEPS", "/epochs"),
        ({"dataset": "digits", "epochs": 1} | layers(TEN), "MEMORY_BYTES", "/network"),
        (layers(HIDDEN | {"units": 400}, OUTPUT) | {"epochs": 400}, "STORAGE_BYTES", "/checkpoints/every"),
    ],
)  # fmt: skip
def test_a_run_over_a_limit_is_refused_with_limit_value_and_setting_and_not_stored(
    limited: httpx.Client, change: dict[str, Any], setting: str, pointer: str
) -> None:
    before = limited.get("/v1/runs").json()
    problem = refused(limited.post("/v1/runs", json=XOR | change), "limit_exceeded", pointer)
    assert problem["setting"] == f"CHAINRULE_MAX_{setting}"
    assert problem["value"] > problem["limit"]
    for part in (f"{problem['limit']:,}", f"{problem['value']:,}", problem["setting"]):
        assert part in problem["detail"]
    assert limited.get("/v1/runs").json() == before


def test_a_run_over_the_limit_of_storage_fits_by_the_proposal(limited: httpx.Client) -> None:
    spec = XOR | layers(HIDDEN | {"units": 400}, OUTPUT) | {"epochs": 400}
    refused(limited.post("/v1/runs", json=spec), "limit_exceeded", None, "checkpoints.every", "checkpoints.keep")
    for checkpoints in ({"every": 50}, {"keep": 5}):
        response = limited.post("/v1/runs", json=spec | {"checkpoints": checkpoints}, params={"validate_only": True})
        assert response.status_code == 200, response.text


def test_validate_only_tells_what_a_run_takes_and_submits_nothing(client: httpx.Client) -> None:
    before = client.get("/v1/runs").json()
    response = client.post("/v1/runs", json=DIGITS, params={"validate_only": True})
    assert response.status_code == 200
    found = Validated.model_validate(response.json())
    assert found.valid
    assert (found.estimate.parameters, found.estimate.steps) == (12 * 65 + 10 * 13, 12 * 22)
    assert found.estimate.memory_bytes > 0
    assert found.estimate.storage_bytes > 0
    assert client.get("/v1/runs").json() == before


@pytest.mark.parametrize("epochs", [1, 10, 1000, 100_000])
def test_by_default_gradients_are_recorded_at_five_epochs_to_a_hundred(client: httpx.Client, epochs: int) -> None:
    response = client.post("/v1/runs", json=XOR | {"epochs": epochs}, params={"validate_only": True})
    every = response.json()["config"]["gradients"]["every"]
    assert min(epochs, 5) <= epochs / every <= 100


def test_a_queue_that_is_full_is_told_when_to_try_again(idle: httpx.Client) -> None:
    runs = [submit(idle, XOR)["id"] for _ in range(3)]
    before = idle.get("/v1/runs").json()
    response = idle.post("/v1/runs", json=XOR)
    problem = refused(response, "queue_full", None, "CHAINRULE_MAX_QUEUED_RUNS")
    assert (problem["limit"], problem["value"]) == (3, 3)
    assert int(response.headers["retry-after"]) > 0
    assert idle.get("/v1/runs").json() == before
    stop(idle, runs[0])
    runs.append(submit(idle, XOR)["id"])
    for run_id in runs[1:]:
        stop(idle, run_id)


def test_a_request_repeated_under_its_key_is_answered_with_the_same_run(client: httpx.Client) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = client.post("/v1/runs", json=TINY, headers=key)
    assert first.status_code == 201
    assert "idempotency-replayed" not in first.headers
    ended(client, first.json()["id"])
    again = client.post("/v1/runs", json=TINY | {"seed": 7}, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    waited = client.post("/v1/runs", json=TINY, headers=key | {"Prefer": "wait=10"}).json()
    assert (waited["id"], waited["status"]) == (first.json()["id"], "succeeded")


def test_a_key_used_with_another_body_or_for_something_else_is_refused(client: httpx.Client) -> None:
    key = uuid.uuid4().hex
    headers = {"Idempotency-Key": key}
    submit(client, TINY, **headers)
    refused(client.post("/v1/runs", json=TINY | {"seed": 8}, headers=headers), "idempotency_mismatch", None, key)
    rows = {"samples": [[0], [1]], "labels": ["a", "b"]}
    refused(client.post("/v1/datasets", json=rows, headers=headers), "idempotency_mismatch", None, key)


def test_a_refused_request_does_not_use_its_key_up(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    refused(client.post("/v1/runs", json=TINY | {"cost": "hinge"}, headers=headers), "invalid_input")
    submit(client, TINY, **headers)


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, b"\xe9"])
def test_a_key_that_is_none_is_refused(client: httpx.Client, key: str | bytes) -> None:
    response = client.post(
        "/v1/runs", json=TINY, headers={b"Idempotency-Key": key if isinstance(key, bytes) else key.encode()}
    )
    refused(response, "invalid_input", "/Idempotency-Key")


def test_requests_at_once_under_one_key_make_one_run(client: httpx.Client) -> None:
    name = uuid.uuid4().hex
    answers: list[httpx.Response] = []

    def post() -> None:
        with httpx.Client(base_url=client.base_url, timeout=30) as own:
            answers.append(own.post("/v1/runs", json=TINY | {"name": name}, headers={"Idempotency-Key": name}))

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    for answer in answers:
        if answer.status_code != 201:
            refused(answer, "idempotency_in_flight", None, name)
    assert [run["id"] for run in client.get("/v1/runs", params={"name": name}).json()["items"]] == list(made)
    assert len(made) == 1


def test_a_repeated_request_for_a_run_that_is_deleted_is_answered_as_the_first(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex, "Prefer": "wait=60"}
    first = submit(client, TINY, **headers)
    assert first["status"] == "succeeded"
    assert client.delete(f"/v1/runs/{first['id']}").status_code == 204
    again = submit(client, TINY, **headers)
    assert (again["id"], again["status"]) == (first["id"], "queued")
    refused(client.get(f"/v1/runs/{first['id']}"), "not_found")


def test_a_submission_may_wait_for_the_end(client: httpx.Client) -> None:
    response = client.post("/v1/runs", json=TINY, headers={"Prefer": "respond-async, wait=30"})
    run = response.json()
    assert (response.status_code, run["status"]) == (201, "succeeded")
    assert response.headers["preference-applied"] == "wait=30"
    assert response.headers["etag"] == f'"r{run["revision"]}"'
    assert client.get(f"/v1/runs/{run['id']}").json() == run


def test_a_submission_that_has_waited_in_vain_shows_the_run_as_it_stands(client: httpx.Client) -> None:
    response = client.post("/v1/runs", json=LONG, headers={"Prefer": "wait=2"})
    run = response.json()
    stop(client, run["id"])
    assert (response.status_code, response.headers["preference-applied"]) == (201, "wait=2")
    assert (run["status"], run["attempts"]) in (("running", 1), ("queued", 0))


@pytest.mark.parametrize("preference", ["wait=0", "wait=-1", "wait", "wait=soon", "nowait=5", "respond-async", ""])
def test_a_preference_that_asks_for_no_wait_is_not_waited_for(client: httpx.Client, preference: str) -> None:
    run_id = submit(client, LONG)["id"]
    response = client.get(f"/v1/runs/{run_id}", headers={"Prefer": preference})
    assert response.status_code == 200
    assert "preference-applied" not in response.headers
    assert not response.json()["done"]
    stop(client, run_id)


def test_a_wait_is_at_most_a_minute(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    response = client.get(f"/v1/runs/{xor_run['id']}", headers={"Prefer": "wait=999999"})
    assert response.headers["preference-applied"] == "wait=60"


def test_a_run_that_has_not_changed_is_not_sent_again(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    path = f"/v1/runs/{xor_run['id']}"
    etag = client.get(path).headers["etag"]
    assert etag == f'"r{xor_run["revision"]}"'
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = client.get(path, headers={"If-None-Match": given})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
    for given in ('"r0"', etag.strip('"'), "nonsense"):
        assert client.get(path, headers={"If-None-Match": given}).status_code == 200


def test_a_poll_with_the_etag_at_hand_is_answered_when_the_run_changes(client: httpx.Client) -> None:
    run_id = submit(client, LONG)["id"]
    path, seen, etag = f"/v1/runs/{run_id}", set[int](), '"r0"'
    for _ in range(5):
        response = client.get(path, headers={"If-None-Match": etag, "Prefer": "wait=20"})
        assert response.status_code == 200
        assert response.headers["etag"] != etag
        etag = response.headers["etag"]
        seen.add(response.json()["revision"])
    assert len(seen) == 5
    stop(client, run_id)


def test_a_poll_in_vain_is_answered_304_when_its_time_is_up(idle: httpx.Client) -> None:
    run = submit(idle, XOR)
    headers = {"If-None-Match": f'"r{run["revision"]}"', "Prefer": "wait=1"}
    started = time.monotonic()
    assert idle.get(f"/v1/runs/{run['id']}", headers=headers).status_code == 304
    assert time.monotonic() - started >= 1
    stop(idle, run["id"])


def test_a_waiting_run_is_cancelled_at_once_and_repeating_it_is_harmless(idle: httpx.Client) -> None:
    run_id = submit(idle, XOR)["id"]
    first = idle.post(f"/v1/runs/{run_id}/cancel")
    run = Run.model_validate(first.json())
    assert (first.status_code, run.status, run.reason, run.done) == (200, "cancelled", "cancel_requested", True)
    assert run.finished_at is not None
    again = idle.post(f"/v1/runs/{run_id}/cancel")
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["etag"] == first.headers["etag"]


def test_a_running_run_that_is_to_be_cancelled_says_so_until_it_has_stopped(client: httpx.Client) -> None:
    run_id = submit(client, LONG, Prefer="wait=1")["id"]
    first = client.post(f"/v1/runs/{run_id}/cancel")
    assert (first.status_code, first.json()["cancel_requested"]) == (202, True)
    assert client.post(f"/v1/runs/{run_id}/cancel").status_code in (200, 202)
    run = ended(client, run_id, "cancelled")
    assert (run["reason"], run["cancel_requested"]) == ("cancel_requested", True)


def test_a_run_that_has_succeeded_cannot_be_cancelled(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    problem = refused(client.post(f"/v1/runs/{xor_run['id']}/cancel"), "conflict", None, "succeeded")
    assert problem["current_status"] == "succeeded"
    assert client.get(f"/v1/runs/{xor_run['id']}").json() == xor_run


def test_a_waiting_run_is_paused_and_resumed_and_repeating_both_is_harmless(idle: httpx.Client) -> None:
    path = f"/v1/runs/{submit(idle, XOR)['id']}"
    for _ in range(2):
        paused = idle.post(f"{path}/pause")
        run = Run.model_validate(paused.json())
        assert (paused.status_code, run.status, run.reason) == (200, "paused", "pause_requested")
        assert (run.done, run.pause_requested) == (False, False)
    assert [item["id"] for item in idle.get("/v1/runs", params={"status": "paused"}).json()["items"]] == [run.id]
    refused(idle.delete(path), "conflict", None, "paused")
    refused(idle.post(f"{path}/resume", headers={"If-Match": '"r1"'}), "precondition_failed")
    for _ in range(2):
        resumed = idle.post(f"{path}/resume")
        assert (resumed.status_code, resumed.json()["status"], resumed.json()["reason"]) == (200, "queued", "resumed")
    assert [t["status"] for t in resumed.json()["transitions"]] == ["queued", "paused", "queued"]
    idle.post(f"{path}/pause")
    stop(idle, run.id)


def test_a_running_run_is_paused_and_goes_on_where_it_stopped(client: httpx.Client) -> None:
    spec = LONG | {"epochs": 600, "checkpoints": {"every": 100}}
    undisturbed = finished(client, spec)
    run_id = submit(client, spec)["id"]
    path = f"/v1/runs/{run_id}"
    while client.get(path).json()["progress"]["epochs_done"] < 5:
        time.sleep(0.01)
    assert client.post(f"{path}/pause").status_code in (200, 202)
    while (run := client.get(path).json())["status"] == "running":
        time.sleep(0.01)
    assert (run["status"], run["reason"]) == ("paused", "pause_requested")
    (attempt,) = client.get(f"{path}/attempts").json()["items"]
    assert (attempt["status"], attempt["reason"]) == ("paused", "pause_requested")
    assert client.post(f"{path}/resume").json()["status"] == "queued"
    run = ended(client, run_id)
    assert (run["attempts"], run["failures"]) == (2, 0)
    again = client.get(f"{path}/attempts").json()["items"][1]
    assert again["started_steps"] == attempt["ended_steps"]
    weights = [client.get(f"/v1/runs/{each['id']}/checkpoints/last").json()["sha256"] for each in (undisturbed, run)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_run_that_has_ended_or_is_to_be_cancelled_is_neither_paused_nor_resumed(
    client: httpx.Client, xor_run: dict[str, Any], verb: str
) -> None:
    problem = refused(client.post(f"/v1/runs/{xor_run['id']}/{verb}"), "conflict", None, "succeeded")
    assert problem["current_status"] == "succeeded"
    assert client.get(f"/v1/runs/{xor_run['id']}").json() == xor_run
    refused(client.post(f"/v1/runs/run_nowhere/{verb}"), "not_found", None, "run_nowhere")


def test_a_paused_run_does_not_come_back_into_a_queue_that_is_full(fresh: Any, cache_dir: Path) -> None:
    settings = Settings(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=0, max_queued_runs=1)
    with inside(settings) as (own, _):
        first = submit(own, XOR)["id"]
        assert own.post(f"/v1/runs/{first}/pause").status_code == 200
        submit(own, XOR)
        refused(own.post(f"/v1/runs/{first}/resume"), "queue_full")


def test_the_attempts_at_a_run_are_listed_with_their_ends(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    (attempt,) = client.get(f"/v1/runs/{xor_run['id']}/attempts").json()["items"]
    Attempt.model_validate(attempt)
    assert (attempt["number"], attempt["worker"]) == (1, xor_run["worker"])
    assert (attempt["started_at"], attempt["ended_at"]) == (xor_run["started_at"], xor_run["finished_at"])
    assert (attempt["started_epoch"], attempt["started_steps"]) == (0, 0)
    assert (attempt["ended_epoch"], attempt["ended_steps"]) == (XOR["epochs"], XOR["epochs"])
    assert (attempt["status"], attempt["reason"]) == ("succeeded", "completed")


def test_a_run_nobody_has_taken_has_no_attempts(idle: httpx.Client) -> None:
    run_id = submit(idle, XOR)["id"]
    assert idle.get(f"/v1/runs/{run_id}/attempts").json() == {"items": []}
    stop(idle, run_id)


def test_a_run_that_has_not_ended_cannot_be_deleted(idle: httpx.Client) -> None:
    run_id = submit(idle, XOR)["id"]
    problem = refused(idle.delete(f"/v1/runs/{run_id}"), "conflict", None, "queued", "cancel it")
    assert problem["current_status"] == "queued"
    stop(idle, run_id)
    assert idle.delete(f"/v1/runs/{run_id}").status_code == 204


def test_a_deleted_run_is_gone_with_all_it_recorded(client: httpx.Client) -> None:
    run_id = finished(client, TINY)["id"]
    response = client.delete(f"/v1/runs/{run_id}")
    assert (response.status_code, response.content) == (204, b"")
    parts = ("", "/attempts", "/epochs", "/events", "/checkpoints", "/checkpoints/0", "/checkpoints/0/weights",
             "/gradients")  # fmt: skip
    for path in parts:
        refused(client.get(f"/v1/runs/{run_id}{path}"), "not_found", None, run_id)
    refused(client.delete(f"/v1/runs/{run_id}"), "not_found", None, run_id)
    refused(client.post(f"/v1/runs/{run_id}/cancel"), "not_found", None, run_id)


def test_who_decided_by_an_older_version_changes_nothing(idle: httpx.Client) -> None:
    run = submit(idle, XOR)
    path, etag = f"/v1/runs/{run['id']}", f'"r{run["revision"]}"'
    for stale in ('"r999"', '"r0"', '"other"', '""', '"r8", W/"r9"', '"r99999999999999999999"'):
        refused(idle.post(f"{path}/cancel", headers={"If-Match": stale}), "precondition_failed")
    for malformed in ("r1", "", '"r1', '"r1" "r2"', "*, *", '"a"b"'):
        refused(idle.post(f"{path}/cancel", headers={"If-Match": malformed}), "invalid_input", "/If-Match")
    assert idle.get(path).json()["status"] == "queued"
    cancelled = idle.post(f"{path}/cancel", headers={"If-Match": f'"r99", {etag}'})
    assert cancelled.status_code == 200
    refused(idle.delete(path, headers={"If-Match": etag}), "precondition_failed", None, cancelled.headers["etag"])
    assert idle.delete(path, headers={"If-Match": cancelled.headers["etag"]}).status_code == 204


def test_what_is_asked_is_judged_before_what_it_was_decided_by(idle: httpx.Client) -> None:
    path = f"/v1/runs/{submit(idle, XOR)['id']}"
    stale = {"If-Match": '"r999"'}
    refused(idle.delete(path, params={"purge": 7}, headers=stale), "invalid_input", "/purge")
    refused(idle.delete(f"{path}x", headers=stale), "not_found")
    refused(idle.delete(path, headers=stale), "precondition_failed")


def test_latest_names_the_run_submitted_last_and_only_for_reading(client: httpx.Client) -> None:
    run_id = submit(client, TINY, Prefer="wait=30")["id"]
    for path in ("", "/epochs", "/checkpoints/last", "/checkpoints/last/weights?format=json"):
        body = client.get(f"/v1/runs/latest{path}").json()
        assert run_id in (body.get("id"), body.get("run"))
    refused(client.post("/v1/runs/latest/cancel"), "not_found", None, "latest")
    refused(client.delete("/v1/runs/latest"), "not_found", None, "latest")
    assert client.get(f"/v1/runs/{run_id}").status_code == 200


def test_latest_of_none_says_how_to_submit_one(fresh: Any, cache_dir: Path) -> None:
    with inside(Settings(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=0)) as (client, _):
        refused(client.get("/v1/runs/latest"), "not_found", None, "POST /v1/runs")
        assert client.get("/v1/runs").json() == {"items": [], "next_cursor": None}


def walk(client: httpx.Client, between: Any = None, **parameters: Any) -> list[dict[str, Any]]:
    """Read a list page by page."""
    found, cursor = [], None
    while True:
        given = parameters | ({} if cursor is None else {"cursor": cursor})
        page = RunPage.model_validate(client.get("/v1/runs", params=given).json())
        assert len(page.items) <= parameters.get("limit", 50)
        found += [run.model_dump() for run in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found
        if between is not None:
            between()


@pytest.mark.parametrize("sort", ["created_at", "-created_at"])
def test_paging_meets_each_run_exactly_once_while_new_ones_are_submitted(client: httpx.Client, sort: str) -> None:
    name = uuid.uuid4().hex
    spec = TINY | {"name": name}
    first = [submit(client, spec)["id"] for _ in range(7)]
    later: list[str] = []

    def submit_another() -> None:
        if len(later) < 5:
            later.append(submit(client, spec)["id"])

    found = [run["id"] for run in walk(client, submit_another, name=name, sort=sort, limit=2)]
    assert len(found) == len(set(found))
    assert set(first) <= set(found)
    assert found == sorted(found, reverse=sort == "-created_at")
    if sort == "created_at":
        assert found == sorted([*first, *later])
    else:
        assert not set(later) & set(found)


def test_a_list_is_searched_by_what_a_name_has_in_it(client: httpx.Client) -> None:
    known = uuid.uuid4().hex
    run = finished(client, TINY | {"name": f"Über 100%_{known}"})["id"]
    for search in (f"Über 100%_{known}", f"BER 100%_{known}", f"%_{known.upper()}"):
        assert [found["id"] for found in walk(client, search=search)] == [run], search
    for search in (f"%{known}", f"ber_{known}", f"/{known}", f"über-{known}"):
        assert walk(client, search=search) == [], search


def test_a_list_is_filtered_by_status_name_and_dataset(client: httpx.Client, flowers: str) -> None:
    name = uuid.uuid4().hex
    output = {"units": 3, "activation": "softmax"}
    of_flowers = finished(client, TINY | {"name": name, "dataset": flowers} | layers(output))["id"]
    of_xor = finished(client, TINY | {"name": name})["id"]
    running = submit(client, LONG | {"name": name})["id"]
    assert [run["id"] for run in walk(client, name=name)] == [running, of_xor, of_flowers]
    assert [run["id"] for run in walk(client, name=name, status=["succeeded", "failed"])] == [of_xor, of_flowers]
    assert [run["id"] for run in walk(client, name=name, status=["queued", "running"])] == [running]
    assert [run["id"] for run in walk(client, name=name, dataset=flowers)] == [of_flowers]
    assert [run["id"] for run in walk(client, name=name, dataset=flowers, status="cancelled")] == []
    stop(client, running)


def test_a_list_shows_runs_as_they_are_without_their_history(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while not found:
        page = client.get("/v1/runs", params={"limit": 200, **cursor}).json()
        found = [run for run in page["items"] if run["id"] == xor_run["id"]]
        cursor = {"cursor": page["next_cursor"] or "none left"}
    (listed,) = found
    assert listed == {name: value for name, value in xor_run.items() if name != "transitions"}


@pytest.mark.parametrize("cursor", ["", "!", "abc", "%00", "a" * 150, "cnVuXzAxAA", "8J+OiA", "eA=="])
def test_a_cursor_of_somebody_else_is_refused(client: httpx.Client, cursor: str) -> None:
    if cursor == "eA==":  # "x", which might be an id
        assert client.get(f"/v1/runs?cursor={cursor}").status_code == 200
    else:
        refused(client.get(f"/v1/runs?cursor={cursor}"), "invalid_input", "/cursor", "next_cursor")


def test_a_list_that_has_not_changed_is_not_sent_again(client: httpx.Client) -> None:
    name = uuid.uuid4().hex
    finished(client, TINY | {"name": name})
    etag = client.get("/v1/runs", params={"name": name}).headers["etag"]
    again = client.get("/v1/runs", params={"name": name}, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    finished(client, TINY | {"name": name})
    changed = client.get("/v1/runs", params={"name": name}, headers={"If-None-Match": etag})
    assert (changed.status_code, len(changed.json()["items"])) == (200, 2)


def test_runs_of_a_higher_priority_are_trained_first(client: httpx.Client) -> None:
    blockers = [submit(client, LONG)["id"] for _ in range(2)]
    for run_id in blockers:
        while client.get(f"/v1/runs/{run_id}").json()["status"] == "queued":
            time.sleep(0.05)
    waiting = [submit(client, TINY | {"priority": priority})["id"] for priority in (0, 5, -5)]
    stop(client, blockers[0])  # one slot for the three, so that they are started one after another
    started = sorted(waiting, key=lambda run_id: str(ended(client, run_id)["started_at"]))
    stop(client, blockers[1])
    assert started == [waiting[1], waiting[0], waiting[2]]


def test_a_run_that_diverges_ends_with_the_advice_it_needs(client: httpx.Client) -> None:
    spec = XOR | layers({"units": 8, "activation": "relu"}, {"units": 1, "activation": "linear"})
    run = finished(client, spec | {"cost": "mse", "optimizer": {"name": "sgd", "learning_rate": 1e6}}, "failed")
    assert run["reason"] == "diverged"
    assert "smaller learning rate" in run["detail"]


def test_a_dataset_with_words_for_classes_is_trained_from_end_to_end(client: httpx.Client) -> None:
    dataset = upload(client, FLOWERS, "flowers.csv")["id"]
    run = finished(
        client,
        XOR | {"dataset": dataset, "validation": {"dataset": dataset}} | layers({"units": 3, "activation": "softmax"}),
    )
    assert run["validation_cost"] is not None


@pytest.mark.parametrize(
    ("changes", "pointer", "words"),
    [
        (layers(HIDDEN | {"dropout": 1.0}, OUTPUT), "/network/layers/0/dropout", "less than 1"),
        (layers(HIDDEN, OUTPUT | {"dropout": 0.5}), "/network/layers/1/dropout", "output layer has no dropout"),
        ({"class_weights": "even"}, "/class_weights", "one for each class, or 'balanced'"),
        ({"class_weights": [1, -1]}, "/class_weights", "one for each class, or 'balanced'"),
        (
            {"class_weights": [1, 2, 3]},
            "/class_weights",
            "There are 3 weights and 2 classes; give one for each of 0, 1",
        ),
        ({"label_smoothing": 1}, "/label_smoothing", "less than 1"),
        ({"early_stopping": {"patience": 0}}, "/early_stopping/patience", "at least 1"),
        ({"early_stopping": {"min_delta": -0.1}}, "/early_stopping/min_delta", "at least 0"),
        ({"schedule": {"name": "plateau", "minimum": 1.0}}, "/schedule/minimum", "at most the learning rate"),
        ({"sample_weights": "no"}, "/sample_weights", ""),
    ],
)
def test_costs_weights_and_stopping_are_refused_at_their_place(
    client: httpx.Client, changes: dict[str, Any], pointer: str, words: str
) -> None:
    refused(client.post("/v1/runs", json=TINY | changes), "invalid_input", pointer, words)
