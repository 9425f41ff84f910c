"""Signals of each layer over HTTP: of any epoch, and of a network before it is trained."""

import io
import math
from typing import Any

import httpx
import numpy as np
import pytest

from tests.app.api.calls import DIGITS, XOR, finished, refused

DEEP: dict[str, Any] = DIGITS | {
    "network": {"layers": [*({"units": 20, "activation": "sigmoid"},) * 6, {"units": 10, "activation": "softmax"}]}
}


def test_layers_of_an_epoch_are_what_the_weights_say(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    path = f"/v1/runs/{xor_run['id']}/checkpoints/7"
    found = client.get(f"{path}/layers")
    assert found.headers["cache-control"] == "private, max-age=31536000, immutable"
    body = found.json()
    assert (body["run"], body["epoch"], body["m"]) == (xor_run["id"], 7, 4)
    weights = np.load(io.BytesIO(client.get(f"{path}/weights?format=npz").content))
    named = client.post(f"{path}/gradients", json={"rows": [0, 1, 2, 3]}).json()["quantities"]
    for layer in body["layers"]:
        number = layer["layer"]
        assert layer["W_norm"] == pytest.approx(np.linalg.norm(weights[f"W{number}"]), rel=1e-6)
        assert layer["dW_norm"] == pytest.approx(named[f"dW{number}"]["norm"], rel=1e-5)
        dZ = np.array(named[f"dZ{number}"]["values"])
        assert layer["dZ_rms"] == pytest.approx(np.sqrt((dZ**2).mean()), rel=1e-5)
    assert client.get(f"{path}/layers", headers={"If-None-Match": found.headers["etag"]}).status_code == 304
    refused(client.get(f"/v1/runs/{xor_run['id']}/checkpoints/99/layers"), "not_found")


def test_a_preview_is_the_network_a_run_begins_with(client: httpx.Client) -> None:
    preview = client.post("/v1/initialization-previews", json=XOR)
    assert preview.status_code == 200, preview.text
    body = preview.json()
    assert body["cost_at_chance"] == pytest.approx(math.log(2))
    run = finished(client, XOR)
    begun = client.get(f"/v1/runs/{run['id']}/checkpoints/0/layers").json()
    for layer, preview_layer in zip(begun["layers"], body["layers"], strict=True):
        assert layer == pytest.approx(preview_layer)
    assert body["cost"] == pytest.approx(begun["cost"])
    assert body["config"] == run["config"]
    assert body["estimate"]["parameters"] == run["parameters"]


def test_a_preview_shows_gradients_that_vanish(client: httpx.Client) -> None:
    layers = client.post("/v1/initialization-previews", json=DEEP).json()["layers"]
    assert layers[0]["dZ_rms"] < 0.01 * layers[-1]["dZ_rms"]
    healthy = client.post("/v1/initialization-previews", json=DIGITS).json()
    assert healthy["layers"][0]["dZ_rms"] > 0.1 * healthy["layers"][-1]["dZ_rms"]
    assert healthy["m"] == 512
    assert healthy["cost_at_chance"] == pytest.approx(math.log(10))


def test_the_cost_at_chance_has_the_weights_that_the_cost_has(client: httpx.Client) -> None:
    weighed = {"class_weights": [3.0] * 10, "optimizer": {"name": "sgd"}}
    body = client.post("/v1/initialization-previews", json=DIGITS | weighed).json()
    assert body["cost_at_chance"] == pytest.approx(3 * math.log(10), rel=1e-6)
    squared = client.post("/v1/initialization-previews", json=DIGITS | weighed | {"cost": "mse"}).json()
    plain = client.post("/v1/initialization-previews", json=DIGITS | {"cost": "mse"}).json()
    assert squared["cost_at_chance"] == pytest.approx(3 * plain["cost_at_chance"], rel=1e-6)
    assert plain["cost_at_chance"] == pytest.approx(0.45, rel=0.02)
    none = client.post("/v1/initialization-previews", json=DIGITS | {"class_weights": [0.0] * 10, "cost": "mse"})
    assert none.status_code == 422 or none.json()["cost_at_chance"] == 0


def test_a_preview_of_a_wrong_spec_names_the_place(client: httpx.Client) -> None:
    wrong = XOR | {"network": {"layers": [{"units": 2, "activation": "sine"}]}}
    refused(client.post("/v1/initialization-previews", json=wrong), "invalid_input", "/network/layers/0/activation")


def test_a_list_gives_some_costs_of_each_run_if_asked_and_is_searched(
    client: httpx.Client, xor_run: dict[str, Any], digits_run: dict[str, Any]
) -> None:
    epochs = {
        r["id"]: client.get(f"/v1/runs/{r['id']}/epochs").json()["columns"]["cost"] for r in (xor_run, digits_run)
    }
    items = client.get("/v1/runs", params={"costs": 5, "limit": 200}).json()["items"]
    listed = {item["id"]: item["costs"] for item in items}
    for run_id, costs in epochs.items():
        last = len(costs) - 1
        assert listed[run_id] == [costs[round(last * part / 4)] for part in range(5)]
    assert "costs" not in client.get("/v1/runs").json()["items"][0]
    found = client.get("/v1/runs", params={"search": "DIGI", "limit": 200}).json()["items"]
    assert digits_run["id"] in [item["id"] for item in found]
    assert all("digi" in item["name"] + item["dataset"] for item in found)
    assert all("%" in item["name"] for item in client.get("/v1/runs", params={"search": "%"}).json()["items"])
    (one,) = client.get("/v1/runs", params={"search": xor_run["id"]}).json()["items"]
    assert one["id"] == xor_run["id"]
