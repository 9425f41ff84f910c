"""Steps: a replayed epoch ends with the weights the run has kept, and each step is what its equations say."""

import io
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from chainrule.app.api.schemas.steps import CostAlong, StepGradients, Steps
from chainrule.app.config import Settings
from chainrule.app.services.steps import plan
from chainrule.app.services.weights import decode_safetensors
from chainrule.app.store.database import Database
from chainrule.engine import digits
from tests.app.api.calls import DIGITS, XOR, finished, refused
from tests.app.api.test_gradients import NORMALIZED, Array, backpropagate, one_hot, weights
from tests.service import Service

PLAIN = DIGITS | {
    "dtype": "float64", "epochs": 3, "checkpoints": {}, "gradients": {"every": 0},
    "optimizer": {"name": "sgd", "learning_rate": 0.2},
}  # fmt: skip
RICH = PLAIN | {
    "dtype": "float32",
    "epochs": 4,
    "network": {
        "layers": [
            {"units": 12, "activation": "relu", "dropout": 0.3, "normalization": "batch"},
            {"units": 10, "activation": "softmax"},
        ]
    },
    "optimizer": {"name": "adam", "learning_rate": 0.01},
    "clip": {"norm": 0.5},
    "schedule": {"name": "cosine"},
    "regularization": {"l2": 0.001},
}


@pytest.fixture(scope="module")
def plain(client: httpx.Client) -> dict[str, Any]:
    return finished(client, PLAIN)


@pytest.fixture(scope="module")
def rich(client: httpx.Client) -> dict[str, Any]:
    return finished(client, RICH)


def read(client: httpx.Client, run: dict[str, Any], epoch: int | str, what: str = "", **asked: Any) -> Any:
    response = client.get(f"/v1/runs/{run['id']}/epochs/{epoch}/steps{what}", params=asked)
    assert response.status_code == 200, response.text
    return response.json()


def arrays(answer: dict[str, Any]) -> dict[str, Array]:
    return {name: np.array(one["values"]) for name, one in answer["quantities"].items()}


def test_an_epoch_replayed_from_its_weights_ends_with_the_weights_that_are_kept(
    client: httpx.Client, plain: dict[str, Any]
) -> None:
    answer = read(client, plain, 2, rows=True)
    Steps.model_validate(answer)
    assert (answer["steps"], answer["begins_at"], answer["remembers"]) == (22, 1, "")
    assert (answer["verified"], answer["reason"], answer["diverged"]) == (True, "", False)
    assert (answer["nonfinite_step"], answer["nonfinite"]) == (None, None)
    assert answer["sha256"] == client.get(f"/v1/runs/{plain['id']}/checkpoints/2").json()["sha256"]
    columns = answer["columns"]
    assert columns["step"] == list(range(1, 23))
    assert set(columns["learning_rate"]) == {0.2}
    mean = np.dot(columns["cost"], columns["samples"]) / np.sum(columns["samples"])
    recorded = client.get(f"/v1/runs/{plain['id']}/epochs").json()["columns"]["cost"][2]
    np.testing.assert_allclose(mean, recorded, rtol=1e-11)
    rows = np.concatenate(answer["rows"])
    assert len(set(rows.tolist())) == len(rows) == 1348
    assert [len(of_step) for of_step in answer["rows"]] == columns["samples"]


def test_the_steps_of_sgd_add_up_to_what_the_epoch_did(client: httpx.Client, plain: dict[str, Any]) -> None:
    before, after = weights(client, plain, 0), weights(client, plain, 1)
    steps = read(client, plain, 1)
    moved = {name: np.zeros_like(W) for name, W in before.items()}
    data = digits()
    assert data.labels is not None
    for number in range(1, 23):
        answer = read(client, plain, 1, f"/{number}/gradients")
        StepGradients.model_validate(answer)
        found = arrays(answer)
        if number == 1:
            expected = backpropagate(
                before, plain, data.X[answer["rows"]], one_hot(data.labels[answer["rows"]], 10)
            )  # fmt: skip
            assert expected.keys() == found.keys()
            for name, array in expected.items():
                np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-14, err_msg=name)
        at = number - 1
        for name in moved:
            moved[name] -= 0.2 * found[f"d{name}"]
            norm = steps["blocks"][name]["gradient_norm"][at]
            np.testing.assert_allclose(norm, np.linalg.norm(found[f"d{name}"]), rtol=1e-9)
            np.testing.assert_allclose(steps["blocks"][name]["update_norm"][at], 0.2 * norm, rtol=1e-9)
        np.testing.assert_allclose(answer["cost"], steps["columns"]["cost"][at], rtol=1e-12)
    for name, W in before.items():
        np.testing.assert_allclose(W + moved[name], after[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_all_that_a_step_may_have_is_replayed_to_the_bit(
    client: httpx.Client, rich: dict[str, Any], epoch: int
) -> None:
    answer = read(client, rich, epoch)
    Steps.model_validate(answer)
    assert answer["verified"] is True
    assert (answer["begins_at"], "adam" in answer["remembers"]) == (0, True)
    assert read(client, rich, epoch) == answer  # also from what is remembered by now
    step = read(client, rich, epoch, "/2/gradients")
    found, mask = arrays(step), np.array(step["masks"]["mask1"])
    A1, dA1 = found["A1"], found["dA1"]
    assert set(np.unique(mask)) <= {0, np.float32(2**16 / (2**16 - round(0.3 * 2**16)))}
    np.testing.assert_allclose(found["dW2"], found["dZ2"].T @ (A1 * mask) / step["m"], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found["dN1"], dA1 * mask * (found["N1"] > 0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found["db1"], 0, atol=1e-12)
    equations = {name: one["equation"] for name, one in step["quantities"].items()}
    assert equations["dW2"] == "dW[2] = (1/m)·dZ[2]ᵀ·(A[1] ⊙ mask[1])"
    assert equations["Z2"] == "Z[2] = (A[1] ⊙ mask[1])·W[2]ᵀ + b[2]"
    assert equations["dN1"].startswith("dN[1] = dA[1] ⊙ mask[1] ⊙ g′(N[1])")


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": {"name": "plateau", "patience": 1, "factor": 0.5}},
        {"early_stopping": {"patience": 2}, "network": NORMALIZED},
        {"batch_size": None},
        {"checkpoints": {"every": 2}},
        {"sample_weights": False, "class_weights": "balanced", "label_smoothing": 0.1},
    ],
    ids=["plateau", "early stopping", "one batch", "not every epoch kept", "class weights"],
)
def test_however_a_run_is_trained_its_last_epoch_is_verified(client: httpx.Client, changes: dict[str, Any]) -> None:
    run = finished(client, PLAIN | {"epochs": 6, "optimizer": {"name": "sgd", "learning_rate": 1.0}} | changes)
    last = run["progress"]["epochs_done"]
    answer = read(client, run, last)
    assert answer["verified"] is True, answer["reason"]
    assert answer["begins_at"] == (4 if "checkpoints" in changes else last - 1)
    rates = client.get(f"/v1/runs/{run['id']}/epochs").json()["columns"]["learning_rate"]
    assert set(answer["columns"]["learning_rate"]) == {rates[last]}


def test_a_member_of_a_sweep_trained_as_a_stack_is_replayed_alone(client: httpx.Client) -> None:
    spec = XOR | {"checkpoints": {}, "optimizer": {"name": "sgd", "learning_rate": 0.5}, "batch_size": 2}
    sweep = {"run": spec, "strategy": {"kind": "seeds", "count": 3}}
    made = client.post("/v1/sweeps", json=sweep, headers={"Prefer": "wait=60"}, timeout=90).json()
    assert made["done"]
    members = client.get(f"/v1/sweeps/{made['id']}/members").json()["items"]
    for member in members:
        assert read(client, {"id": member["run"]}, 20)["verified"] is True


def test_a_run_that_diverged_shows_the_step_where_it_did(client: httpx.Client) -> None:
    wild = PLAIN | {"optimizer": {"name": "sgd", "learning_rate": 1e30}, "epochs": 20, "cost": "mse",
                    "network": {"layers": [{"units": 10, "activation": "linear"}]}}  # fmt: skip
    run = finished(client, wild, "failed")
    epoch = run["progress"]["epochs_done"] + 1
    answer = read(client, run, epoch)
    Steps.model_validate(answer)
    assert (answer["diverged"], answer["verified"]) == (True, None)
    assert 1 <= answer["nonfinite_step"] <= 22
    assert None in answer["columns"]["cost"] + answer["columns"]["update_norm"]
    assert re.fullmatch(r"C|(Z|A|dZ|dW|db|W|b)1|‖[dΔ][Wb]1‖", answer["nonfinite"])
    found = client.get(f"/v1/runs/{run['id']}/diagnoses").json()["items"]
    (verdict,) = [one for one in found if one["rule"] == "nonfinite"]
    assert verdict["link"] == f"/v1/runs/{run['id']}/epochs/{epoch}/steps"
    refused(client.get(f"/v1/runs/{run['id']}/epochs/{epoch}/steps/22/cost-along"), "conflict")
    refused(client.get(f"/v1/runs/{run['id']}/epochs/{epoch + 1}/steps"), "not_found")


def test_steps_come_in_pages(client: httpx.Client, plain: dict[str, Any]) -> None:
    whole = read(client, plain, 1)
    after, costs = 0, list[float]()
    while after is not None:
        page = read(client, plain, 1, after=after, limit=9)
        assert page["verified"] is True
        costs += page["columns"]["cost"]
        after = page["next_after"]
    assert costs == whole["columns"]["cost"]
    beyond = read(client, plain, 1, after=22)
    Steps.model_validate(beyond)
    assert (beyond["columns"]["step"], beyond["blocks"], beyond["next_after"]) == ([], {}, None)


def test_the_cost_along_a_step_goes_through_the_costs_of_this_step_and_its_end(
    client: httpx.Client, plain: dict[str, Any]
) -> None:
    found = read(client, plain, 2, "/5/cost-along")
    CostAlong.model_validate(found)
    steps = read(client, plain, 2)
    at = dict(zip(np.round(found["s"], 3), found["costs"], strict=True))
    np.testing.assert_allclose(at[0.0], steps["columns"]["cost"][4], rtol=1e-12)
    gradient = steps["columns"]["gradient_norm"][4]
    np.testing.assert_allclose(found["slope_before"], -0.2 * gradient**2, rtol=1e-9)  # Δ = −η·∇C
    assert at[0.0] > at[1.0]
    assert found["weighted"]
    c = found["parabola"]
    np.testing.assert_allclose(found["alpha"], -2 * c["c2"] / c["c1"] - 1 if c["c2"] > 0 else -1, rtol=1e-12)


def test_a_step_in_other_formats_has_the_same_numbers(client: httpx.Client, rich: dict[str, Any]) -> None:
    place = f"/v1/runs/{rich['id']}/epochs/2/steps/3/gradients"
    shown = client.get(place, params={"names": "dW1,Z2"}).json()
    archive = np.load(io.BytesIO(client.get(place, params={"names": "dW1,Z2", "format": "npz"}).content))
    assert sorted(archive.files) == ["Z2", "dW1", "mask1"]
    for name, one in shown["quantities"].items():
        np.testing.assert_array_equal(archive[name], np.array(one["values"], np.float32))
    content = client.get(
        place, params={"names": "dW1,Z2"}, headers={"Accept": "application/x-safetensors"}
    ).content  # fmt: skip
    for name, array in decode_safetensors(content).items():
        np.testing.assert_array_equal(array, archive[name])
    bare = client.get(place, params={"names": "dW1", "values": False}).json()
    assert "values" not in bare["quantities"]["dW1"]


def test_what_is_replayed_is_kept_for_good(client: httpx.Client, plain: dict[str, Any]) -> None:
    for what in ("", "/1/gradients", "/1/cost-along"):
        place = f"/v1/runs/{plain['id']}/epochs/3/steps{what}"
        first = client.get(place)
        assert first.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert first.headers["content-location"] == place
        again = client.get(place, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        named = client.get(f"/v1/runs/{plain['id']}/epochs/last/steps{what}")
        assert named.headers["content-location"] == place
        assert "no-cache" in named.headers["cache-control"]


def test_what_other_builds_replay_is_not_taken_for_what_happened(server: Service, plain: dict[str, Any]) -> None:
    database = Database(server.database_url)
    try:
        here, elsewhere = (
            plan(database, Settings(database_url=server.database_url, blas_threads=threads), plain["id"], "3")
            for threads in (1, 2)
        )
    finally:
        database.dispose()
    assert (here.alike, elsewhere.alike) == (True, False)
    assert here.builds != elsewhere.builds


def test_what_cannot_be_replayed_is_refused(client: httpx.Client, plain: dict[str, Any], limited: httpx.Client) -> None:
    place = f"/v1/runs/{plain['id']}/epochs"
    refused(client.get(f"{place}/0/steps"), "not_found", None, "untrained")
    refused(client.get(f"{place}/4/steps"), "not_found", None, "3 of 3")
    refused(client.get(f"{place}/1/steps/23/gradients"), "not_found", None, "22 steps")
    refused(client.get(f"{place}/1/steps/1/gradients", params={"names": "W1"}), "invalid_input", "/names/0", "dW1")
    refused(client.get(f"{place}/1/steps", params={"limit": 0}), "invalid_input", "/limit")
    refused(client.get("/v1/runs/run_01m87we6w9qp3ar0nqxq113x7y/epochs/1/steps"), "not_found")
    small = XOR | {"network": {"layers": [{"units": 1, "activation": "sigmoid"}]}, "epochs": 3}
    run = finished(limited, small)
    there = f"/v1/runs/{run['id']}/epochs"
    assert limited.get(f"{there}/1/steps").status_code == 200
    refused(limited.get(f"{there}/3/steps"), "limit_exceeded", None, "CHAINRULE_MAX_REPLAY_OPERATIONS", "adam")
    verification = client.post(f"/v1/runs/{plain['id']}/verify", json={}, headers={"Prefer": "wait=60"}).json()
    refused(client.get(f"/v1/runs/{verification['id']}/epochs/1/steps"), "conflict", None, plain["id"])


def test_steps_asked_for_by_many_at_once_are_all_answered(client: httpx.Client, rich: dict[str, Any]) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda epoch: read(client, rich, epoch), [4, 2, 3, 4, 2, 3]))
    assert all(answer["verified"] for answer in answers)
    assert answers[:3] == answers[3:]
