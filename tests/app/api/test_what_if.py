"""What if: both sides recomputed here from the fetched weights, the step from its equation."""

from typing import Any

import httpx
import numpy as np
import pytest

from chainrule.app.api.schemas.what_if import WhatIf
from chainrule.engine import digits
from tests.app.api.calls import DIGITS, XOR, finished, refused, upload
from tests.app.api.test_gradients import Array, backpropagate, one_hot, weights

SPEC = DIGITS | {
    "dtype": "float64", "epochs": 2, "checkpoints": {}, "gradients": {"every": 0},
    "optimizer": {"name": "sgd", "learning_rate": 0.1}, "schedule": {"name": "step", "every": 1, "factor": 0.5},
}  # fmt: skip
ROWS = [4, 9, 77]


@pytest.fixture(scope="module")
def run(client: httpx.Client) -> dict[str, Any]:
    return finished(client, SPEC)


def ask(client: httpx.Client, run: dict[str, Any], epoch: int = 1, **query: Any) -> dict[str, Any]:
    response = client.post(f"/v1/runs/{run['id']}/checkpoints/{epoch}/what-if", json=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    WhatIf.model_validate(answer)
    return answer


def computed(run: dict[str, Any], w: dict[str, Array], X: Array) -> dict[str, Array]:
    labels = np.asarray(digits().labels)[ROWS]
    return backpropagate(w, run, X, one_hot(labels, 10))


def cost_of(found: dict[str, Array]) -> float:
    labels = np.asarray(digits().labels)[ROWS]
    return float(-np.log(found["A2"][np.arange(3), labels]).mean())


def test_a_changed_weight_and_a_changed_input_change_what_the_equations_say(
    client: httpx.Client, run: dict[str, Any]
) -> None:
    answer = ask(
        client, run, rows=ROWS, parameters=[{"name": "W2", "index": [3, 5], "value": 1.5}, {"name": "b1", "index": [2],
        "value": -1.0}], inputs=[{"sample": 1, "feature": 20, "value": 0.75}],
    )  # fmt: skip
    X = np.array(digits().X[ROWS], np.float64)
    w = weights(client, run, 1)
    sides = [computed(run, w, X)]
    was = float(X[1, 20]), float(w["W2"][3, 5]), float(w["b1"][2])
    X[1, 20], w["W2"][3, 5], w["b1"][2] = 0.75, 1.5, -1.0
    sides.append(computed(run, w, X))
    for side, found in zip((answer["before"], answer["after"]), sides, strict=True):
        np.testing.assert_allclose(side["outputs"], found["A2"], rtol=1e-9)
        np.testing.assert_allclose(side["cost"], cost_of(found), rtol=1e-9)
        np.testing.assert_allclose(np.mean(side["errors"]), side["cost"], rtol=1e-12)
        for name, norm in side["gradient_norms"].items():
            np.testing.assert_allclose(norm, np.linalg.norm(found[name]), rtol=1e-9)
        assert side["step"] is None
        assert side["labels"] == [str(n) for n in found["A2"].argmax(axis=1)]
    assert [(one["name"], one["before"], one["after"]) for one in answer["changes"]] == [
        ("x", was[0], 0.75),
        ("W2", was[1], 1.5),
        ("b1", was[2], -1.0),
    ]


def test_a_step_is_taken_from_both_sides_with_the_rate_of_each(client: httpx.Client, run: dict[str, Any]) -> None:
    answer = ask(client, run, rows=ROWS, learning_rate=0.4, step=True)
    rate = client.get(f"/v1/runs/{run['id']}/epochs").json()["columns"]["learning_rate"][2]
    X, w = np.array(digits().X[ROWS], np.float64), weights(client, run, 1)
    G = computed(run, w, X)
    for side, eta in ((answer["before"], rate), (answer["after"], 0.4)):
        assert side["step"]["learning_rate"] == eta
        led = {name: block - eta * G[f"d{name}"] for name, block in w.items()}
        np.testing.assert_allclose(side["step"]["state"]["outputs"], computed(run, led, X)["A2"], rtol=1e-9)
        np.testing.assert_allclose(side["step"]["update_norm"], eta * side["gradient_norm"], rtol=1e-9)
    assert answer["before"]["cost"] == answer["after"]["cost"]
    assert answer["note"] == ""


def test_a_step_of_a_rate_that_has_come_to_nothing_leads_nowhere(client: httpx.Client) -> None:
    run = finished(client, XOR | {"epochs": 3, "schedule": {"name": "exponential", "factor": 1e-300}})
    step = ask(client, run, 2, rows=[0, 1], step=True)["before"]["step"]
    assert (step["learning_rate"], step["update_norm"]) == (0, 0)


def test_nothing_is_stored(client: httpx.Client, run: dict[str, Any]) -> None:
    before = client.get(f"/v1/runs/{run['id']}/checkpoints/1").json()
    first = ask(client, run, rows=[0], parameters=[{"name": "W1", "index": [0, 0], "value": 9.0}])
    again = ask(client, run, rows=[0])
    assert again["before"] == again["after"] == first["before"]
    assert again["changes"] == []
    assert client.get(f"/v1/runs/{run['id']}/checkpoints/1").json() == before


def test_features_are_changed_before_they_are_preprocessed(client: httpx.Client) -> None:
    rows = "\n".join(f"{i % 7},{'red' if i % 2 else 'blue'},{'yes' if i % 3 else 'no'}" for i in range(30))
    dataset = upload(client, f"size,colour,label\n{rows}\n", "colours.csv", categorical_columns="colour")["id"]
    spec = XOR | {"dataset": dataset, "inputs": {"scaling": "standardize"}, "checkpoints": {}, "dtype": "float64"}
    run = finished(client, spec)
    changes = [{"sample": 0, "feature": 0, "value": 3.0}, {"sample": 0, "feature": 1, "value": "blue"}]
    found = ask(client, run, rows=[1], inputs=changes)
    assert [(one["before"], one["after"]) for one in found["changes"]] == [(1.0, 3.0), ("red", "blue")]
    sent = ask(client, run, samples=[[1.0, "red"]], labels=["yes"], inputs=changes)
    assert (sent["before"], sent["after"]) == (found["before"], found["after"])
    predicted = client.post(
        f"/v1/runs/{run['id']}/checkpoints/1/predict", json={"samples": [[3.0, "blue"]]}
    ).json()["outputs"]  # fmt: skip
    np.testing.assert_allclose(found["after"]["outputs"], predicted, rtol=1e-12)
    with_step = ask(client, run, rows=[1, 2], step=True)
    assert "adam" in with_step["note"]
    place = f"/v1/runs/{run['id']}/checkpoints/1/what-if"
    for wrong in ({"feature": 1, "value": "green"}, {"feature": 0, "value": "red"}):
        bad = {"rows": [1], "inputs": [{"sample": 0} | wrong]}
        refused(client.post(place, json=bad), "invalid_input", "/inputs/0/value")


def test_what_is_not_there_cannot_be_changed(client: httpx.Client, run: dict[str, Any], limited: httpx.Client) -> None:
    place = f"/v1/runs/{run['id']}/checkpoints/1/what-if"
    for query, pointer in (
        ({"parameters": [{"name": "W9", "index": [0, 0], "value": 1.0}]}, "/parameters/0/name"),
        ({"parameters": [{"name": "W1", "index": [12, 0], "value": 1.0}]}, "/parameters/0/index"),
        ({"parameters": [{"name": "b1", "index": [0, 0], "value": 1.0}]}, "/parameters/0/index"),
        ({"inputs": [{"sample": 3, "feature": 0, "value": 1.0}]}, "/inputs/0/sample"),
        ({"inputs": [{"sample": 0, "feature": 64, "value": 1.0}]}, "/inputs/0/feature"),
        ({"learning_rate": 0.0}, "/learning_rate"),
    ):
        refused(client.post(place, json={"rows": ROWS} | query), "invalid_input", pointer)
    split = {"split": "training", "inputs": [{"sample": 0, "feature": 0, "value": 1.0}]}
    refused(client.post(place, json=split), "invalid_input", "/inputs")
    lbfgs = finished(client, XOR | {"optimizer": {"name": "lbfgs"}, "batch_size": None, "checkpoints": {}})
    there = f"/v1/runs/{lbfgs['id']}/checkpoints/1/what-if"
    refused(client.post(there, json={"rows": [0], "step": True}), "invalid_input", "/step", "lbfgs")
    small = finished(limited, XOR | {"network": {"layers": [{"units": 1, "activation": "sigmoid"}]}, "epochs": 1})
    many = {"rows": [0, 1, 2, 3] * 20}
    refused(limited.post(f"/v1/runs/{small['id']}/checkpoints/1/what-if", json=many), "limit_exceeded", "/rows")
