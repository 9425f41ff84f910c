"""Variances against samples' gradients that the service gives one by one."""

import io
from typing import Any

import httpx
import numpy as np
import pytest

from chainrule.app.api.schemas.variances import GradientVariance
from tests.app.api.calls import DIGITS, XOR, finished, refused

SPEC = DIGITS | {
    "dtype": "float64", "epochs": 2, "checkpoints": {}, "gradients": {"every": 0}, "batch_size": 32,
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
}  # fmt: skip
NAMES = ["dW1", "db1", "dW2", "db2"]


@pytest.fixture(scope="module")
def run(client: httpx.Client) -> dict[str, Any]:
    return finished(client, SPEC)


def read(client: httpx.Client, run: dict[str, Any], **asked: Any) -> Any:
    response = client.get(f"/v1/runs/{run['id']}/checkpoints/1/gradient-variance", params=asked)
    assert response.status_code == 200, response.text
    answer = response.json()
    GradientVariance.model_validate(answer)
    return answer


def test_variances_are_those_of_samples_gradients(client: httpx.Client, run: dict[str, Any]) -> None:
    rows = list(range(100))
    asked = {"rows": rows, "names": NAMES, "per_sample": True}
    made = client.post(f"/v1/runs/{run['id']}/checkpoints/1/gradients", json=asked).json()
    each = {name: np.array(one["values"]) for name, one in made["quantities"].items()}
    answer = read(client, run, rows="0-99", values=True)
    ratios, trace = [], 0.0
    for name, G in each.items():
        block = answer["blocks"][name]
        variance = G.var(axis=0, ddof=1)
        np.testing.assert_allclose(block["variance"], variance, rtol=1e-7, atol=1e-13)
        np.testing.assert_allclose(block["mean"], G.mean(axis=0), rtol=1e-9, atol=1e-14)
        varying = np.array(block["variance"]) > 0
        ratios.append(G.mean(axis=0)[varying] ** 2 / variance[varying])
        np.testing.assert_allclose(block["gsnr"], ratios[-1].mean(), rtol=1e-6)
        assert block["constant"] == np.count_nonzero(~varying)
        trace += variance.sum()
    values = {name: one["value"] for name, one in answer["quantities"].items()}
    gsnr = np.concatenate(ratios).mean()
    np.testing.assert_allclose(values["trace_sigma"], trace, rtol=1e-9)
    np.testing.assert_allclose(values["gsnr"], gsnr, rtol=1e-6)
    np.testing.assert_allclose(values["early_stopping"], 1 - 100 * gsnr, rtol=1e-6)
    np.testing.assert_allclose(values["batch_size"], 0.1 * trace / made["cost"], rtol=1e-9)
    flat = np.concatenate([G.reshape(100, -1) for G in each.values()], axis=1)
    means = flat[:96].reshape(3, 32, -1).mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    pairs = (means @ means.T)[np.triu_indices(3, 1)]
    confusion = answer["confusion"]
    assert (confusion["batches"], confusion["batch_size"]) == (3, 32)
    np.testing.assert_allclose([confusion["minimum"], confusion["mean"]], [pairs.min(), pairs.mean()], rtol=1e-9)


def test_all_that_is_trained_on_agrees_with_its_coherence(client: httpx.Client, run: dict[str, Any]) -> None:
    answer = read(client, run)
    coherence = client.get(f"/v1/runs/{run['id']}/checkpoints/1/coherence").json()
    assert answer["m"] == coherence["m"] == 1348
    expected = coherence["quantities"]["trace_sigma"]["value"]
    np.testing.assert_allclose(answer["quantities"]["trace_sigma"]["value"], expected, rtol=1e-9)
    assert "variance" not in answer["blocks"]["dW1"]
    archive = np.load(
        io.BytesIO(client.get(f"/v1/runs/{run['id']}/checkpoints/1/gradient-variance?format=npz").content)
    )  # fmt: skip
    assert sorted(archive.files) == ["var_dW1", "var_dW2", "var_db1", "var_db2"]
    np.testing.assert_allclose(sum(archive[name].sum() for name in archive.files), expected, rtol=1e-9)


def test_what_is_made_for_plain_descent_is_null_for_others_and_says_why(client: httpx.Client) -> None:
    run = finished(client, XOR | {"checkpoints": {}})
    answer = read(client, run)
    for name in ("early_stopping", "batch_size"):
        assert answer["quantities"][name]["value"] is None
        assert "adam" in answer["quantities"][name]["reason"]
    assert answer["confusion"]["minimum"] is None
    assert "two batches" in answer["confusion"]["reason"]


def test_one_sample_has_no_spread(client: httpx.Client, run: dict[str, Any], limited: httpx.Client) -> None:
    place = f"/v1/runs/{run['id']}/checkpoints/1/gradient-variance"
    refused(client.get(place, params={"rows": "3"}), "invalid_input", "/rows", "two or more")
    small = finished(limited, XOR | {"network": {"layers": [{"units": 1, "activation": "sigmoid"}]}, "epochs": 1})
    there = f"/v1/runs/{small['id']}/checkpoints/1/gradient-variance"
    refused(limited.get(there), "limit_exceeded", "/split")
