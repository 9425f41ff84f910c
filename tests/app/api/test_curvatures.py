"""Curvature: λ_max and the trace against finite differences of gradients that the service gives."""

from typing import Any

import httpx
import numpy as np
import pytest

from chainrule.app.api.schemas.curvatures import Curvature
from tests.app.api.calls import DIGITS, XOR, finished, refused
from tests.app.api.test_gradients import NORMALIZED, Array, backpropagate, weights

SPEC = XOR | {
    "dtype": "float64", "checkpoints": {}, "epochs": 3, "optimizer": {"name": "sgd", "learning_rate": 0.5},
    "network": {"layers": [{"units": 3, "activation": "tanh"}, {"units": 1, "activation": "sigmoid"}]},
    "regularization": {"l2": 0.01},
}  # fmt: skip
X, Y = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]]), np.array([[0], [1], [1], [0.0]])


@pytest.fixture(scope="module")
def run(client: httpx.Client) -> dict[str, Any]:
    return finished(client, SPEC)


def read(client: httpx.Client, run: dict[str, Any], epoch: int = 2, **asked: Any) -> Any:
    response = client.get(f"/v1/runs/{run['id']}/checkpoints/{epoch}/curvature", params=asked)
    assert response.status_code == 200, response.text
    answer = response.json()
    Curvature.model_validate(answer)
    return answer


def hessian(run: dict[str, Any], w: dict[str, Array]) -> Array:
    """Differentiate gradients that are computed here, by central differences, with the penalty's."""
    names, h = list(w), 1e-5
    columns = []
    for name in names:
        for at in np.ndindex(w[name].shape):
            sides = []
            for sign in (1, -1):
                moved = {key: block.copy() for key, block in w.items()}
                moved[name][at] += sign * h
                found = backpropagate(moved, run, X, Y)
                G = [found[f"d{key}"] + (0.01 * moved[key] if key[0] == "W" else 0) for key in names]
                sides.append(np.concatenate([g.ravel() for g in G]))
            columns.append((sides[0] - sides[1]) / (2 * h))
    return np.array(columns)


def test_lambda_max_and_trace_are_those_of_the_hessian(client: httpx.Client, run: dict[str, Any]) -> None:
    H = hessian(run, weights(client, run, 2))
    answer = read(client, run, rows="0-3", probes=500)
    top = answer["largest"]
    assert top["converged"]
    np.testing.assert_allclose(top["value"], np.linalg.eigvalsh(H)[-1], rtol=1e-5)
    assert abs(answer["trace"]["value"] - np.trace(H)) < 5 * answer["trace"]["standard_error"]
    np.testing.assert_allclose(sum(top["layers"].values()), 1)
    assert (answer["parameters"], answer["m"], answer["edge"], answer["note"]) == (13, 4, 4.0, "")
    assert answer["products"] <= 13 + 500
    assert read(client, run, rows="0-3", probes=500) == answer
    assert read(client, run, probes=0)["trace"] is None


def test_where_two_over_eta_is_a_guide_only_it_is_said(client: httpx.Client) -> None:
    run = finished(client, SPEC | {"optimizer": {"name": "adam"}, "batch_size": 2})
    assert "adam over batches" in read(client, run)["note"]


def test_a_network_that_normalizes_over_its_units_is_measured(client: httpx.Client) -> None:
    layers = [{"units": 4, "activation": "tanh", "normalization": "layer"}, {"units": 1, "activation": "sigmoid"}]
    top = read(client, finished(client, SPEC | {"network": {"layers": layers}}))["largest"]
    assert top["converged"]
    np.testing.assert_allclose(sum(top["layers"].values()), 1)


def test_the_rate_is_that_of_the_steps_that_follow_also_before_they_are_taken(client: httpx.Client) -> None:
    spec = SPEC | {"epochs": 9, "schedule": {"name": "plateau", "patience": 1}, "optimizer": {"learning_rate": 30.0}}
    run = finished(client, spec)
    recorded = client.get(f"/v1/runs/{run['id']}/epochs").json()["columns"]["learning_rate"]
    assert len(set(recorded)) > 1
    shorter = client.post(f"/v1/runs/{run['id']}/clone", json={"epochs": 4}, headers={"Prefer": "wait=60"}).json()
    for epoch in (2, 3, 4):
        rates = {read(client, which, epoch, products=1, probes=0)["learning_rate"] for which in (run, shorter)}
        assert rates == {recorded[epoch + 1]}


def test_without_a_learning_rate_there_is_no_edge(client: httpx.Client) -> None:
    run = finished(client, SPEC | {"schedule": {"name": "exponential", "factor": 1e-300}})
    assert read(client, run, 1)["edge"] > 0
    answer = read(client, run, 2)
    assert (answer["learning_rate"], answer["edge"]) == (0, None)


def test_what_is_undefined_is_refused_by_name(client: httpx.Client, run: dict[str, Any], limited: httpx.Client) -> None:
    penalized = finished(client, SPEC | {"regularization": {"l1": 0.01}})
    refused(client.get(f"/v1/runs/{penalized['id']}/checkpoints/1/curvature"), "invalid_input", None, "l1")
    mixed = finished(client, DIGITS | {"network": NORMALIZED, "epochs": 1, "checkpoints": {}})
    refused(client.get(f"/v1/runs/{mixed['id']}/checkpoints/1/curvature"), "invalid_input", None, "normalization")
    small = finished(limited, XOR | {"network": {"layers": [{"units": 1, "activation": "sigmoid"}]}, "epochs": 1})
    there = f"/v1/runs/{small['id']}/checkpoints/1/curvature"
    refused(limited.get(there), "limit_exceeded", None, "CHAINRULE_MAX_METRICS_OPERATIONS")
    assert limited.get(there, params={"products": 1, "probes": 0, "rows": "0"}).status_code == 200
