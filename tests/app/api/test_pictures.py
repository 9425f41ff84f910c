"""What pages draw, over HTTP, each held against what the other questions answer."""

import io
from typing import Any

import httpx
import numpy as np
import pytest

from chainrule.app.api.schemas.pictures import Attributions, Embedding, NamedArray, Surface
from chainrule.engine import digits, moons
from tests.app.api.calls import DIGITS, finished, refused
from tests.app.api.test_gradients import backpropagate, one_hot, weights

EXACT = DIGITS | {"name": "pictures", "dtype": "float64", "epochs": 3, "checkpoints": {}, "gradients": {"every": 0}}
MOONS: dict[str, Any] = {
    "name": "surface", "dataset": "moons", "epochs": 3, "dtype": "float64", "inputs": {"scaling": "standardize"},
    "network": {"layers": [{"units": 5, "activation": "tanh"}, {"units": 2, "activation": "softmax"}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(client: httpx.Client) -> dict[str, Any]:
    return finished(client, EXACT)


def get(client: httpx.Client, run: dict[str, Any], what: str, epoch: int | str = 3, **asked: Any) -> httpx.Response:
    response = client.get(f"/v1/runs/{run['id']}/checkpoints/{epoch}/{what}", params=asked)
    assert response.status_code == 200, response.text
    return response


@pytest.mark.parametrize("name", ["W1", "b2", "dW1", "Z1", "dA0", "E"])
def test_raw_bytes_are_the_array_that_a_walk_has(client: httpx.Client, run: dict[str, Any], name: str) -> None:
    exact = np.array(get(client, run, "walk", rows="3-7").json()["arrays"][name]["values"])
    raw = get(client, run, "array", rows="3-7", name=name, format="f32")
    assert raw.headers["content-type"] == "application/octet-stream"
    shape = [int(size) for size in raw.headers["x-array-shape"].split(",")]
    assert np.array_equal(np.frombuffer(raw.content, "<f4").reshape(shape), exact.astype(np.float32))
    as_json = get(client, run, "array", rows="3-7", name=name).json()
    NamedArray.model_validate(as_json)
    assert np.array_equal(as_json["values"], exact)
    where = f"/v1/runs/{run['id']}/checkpoints/3/array"
    accepted = client.get(where, params={"rows": "3-7", "name": name}, headers={"Accept": "application/octet-stream"})
    assert accepted.content == raw.content


def test_a_picture_says_what_its_bytes_mean_and_where_the_numbers_are(
    client: httpx.Client, run: dict[str, Any]
) -> None:
    W = weights(client, run, 3)["W1"]
    answer = get(client, run, "array", name="W1", format="u8", size=16)
    assert answer.headers["x-array-full-shape"] == "12,64"
    assert answer.headers["x-array-shape"] == "12,16"
    assert answer.headers["x-array-block"] == "1,4"
    assert answer.headers["x-array-nonfinite"] == "0"
    limit = float(answer.headers["x-array-limit"])
    assert limit == np.abs(W).max()
    code = np.frombuffer(answer.content, np.uint8).reshape(12, 16).astype(float) - 128
    blocks = W.reshape(12, 16, 4)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[..., None], 2)[..., 0]
    np.testing.assert_allclose(np.sign(code) * (code / 127) ** 2 * limit, largest, atol=limit / 100)
    link = answer.headers["link"].partition(">")[0].removeprefix("<")
    assert np.array_equal(np.frombuffer(client.get(link).content, "<f4").reshape(12, 64), W.astype(np.float32))


def test_a_surface_is_what_the_network_predicts(client: httpx.Client) -> None:
    run = finished(client, MOONS)
    answer = get(client, run, "surface", n=7, units=True).json()
    Surface.model_validate(answer)
    x, y, X = np.array(answer["x"]), np.array(answer["y"]), moons().X
    assert x[0] < X[:, 0].min()
    assert y[-1] > X[:, 1].max()
    samples = [[a, b] for b in y for a in x]
    body = {"samples": samples}
    outputs = client.post(f"/v1/runs/{run['id']}/checkpoints/3/predict", json=body).json()["outputs"]
    np.testing.assert_allclose(np.array(answer["outputs"]).reshape(2, -1).T, outputs, rtol=1e-12)
    asked = {"samples": samples, "labels": ["upper"] * 49}
    A1 = client.post(f"/v1/runs/{run['id']}/checkpoints/3/walk", json=asked).json()["arrays"]["A1"]["values"]
    np.testing.assert_allclose(np.array(answer["units"]["A1"]).reshape(5, -1).T, A1, rtol=1e-12)
    packed = dict(np.load(io.BytesIO(get(client, run, "surface", n=7, units=True, format="npz").content)))
    assert packed.keys() == {"x", "y", "outputs", "A1"}
    for name, array in packed.items():
        np.testing.assert_array_equal(array, np.float32(answer["units"]["A1"] if name == "A1" else answer[name]))


def test_a_surface_of_other_features_is_refused(client: httpx.Client, run: dict[str, Any]) -> None:
    where = f"/v1/runs/{run['id']}/checkpoints/3/surface"
    refused(client.get(where), "invalid_input", "", "two numeric features", "has 64")
    refused(client.get(where, params={"n": 1000}), "invalid_input", "/n")


def test_an_embedding_has_the_same_samples_in_the_same_plane_for_all_epochs(
    client: httpx.Client, run: dict[str, Any]
) -> None:
    first, last = (get(client, run, "embedding", epoch, limit=100).json() for epoch in (0, 3))
    Embedding.model_validate(first)
    assert [one["row"] for one in first["items"]] == [one["row"] for one in last["items"]]
    assert first["basis_epoch"] == last["basis_epoch"] == 3
    data, rows = digits(), [one["row"] for one in last["items"]]
    assert data.labels is not None
    assert [one["label"] for one in last["items"]] == [str(label) for label in data.labels[rows]]
    A1 = {
        epoch: backpropagate(weights(client, run, epoch), run, data.X[rows], one_hot(data.labels[rows], 10))["A1"]
        for epoch in (0, 3)
    }
    _, _, V = np.linalg.svd(A1[3] - A1[3].mean(axis=0), full_matrices=False)
    for epoch, answer in ((0, first), (3, last)):
        points = np.array([[one["x"], one["y"]] for one in answer["items"]])
        expected = (A1[epoch] - A1[3].mean(axis=0)) @ V[:2].T
        np.testing.assert_allclose(np.abs(points), np.abs(expected), rtol=1e-6, atol=1e-9)
        shares = points.var(axis=0) / A1[epoch].var(axis=0).sum()
        np.testing.assert_allclose(answer["explained_variance"], shares, rtol=1e-9)


def test_only_an_embedding_of_its_own_basis_is_kept_for_good(client: httpx.Client, run: dict[str, Any]) -> None:
    own, shared = (get(client, run, "embedding", 1, basis=basis) for basis in ("epoch", "last"))
    assert "immutable" in own.headers["cache-control"]
    assert "no-cache" in shared.headers["cache-control"]
    again = client.get(str(shared.url), headers={"If-None-Match": shared.headers["etag"]})
    assert again.status_code == 304
    where = f"/v1/runs/{run['id']}/checkpoints/1/embedding"
    refused(client.get(where, params={"layer": 9}), "invalid_input", "/layer", "0 (the input) to 2")


def test_attributions_add_up_and_name_the_output(client: httpx.Client, run: dict[str, Any]) -> None:
    answer = get(client, run, "attributions", rows="4,9", method="integrated_gradients", steps=400).json()
    Attributions.model_validate(answer)
    samples = client.get(f"/v1/runs/{run['id']}/checkpoints/3/walk", params={"rows": "4,9"}).json()["arrays"]
    A = np.array(samples["A2"]["values"])
    for i, one in enumerate(answer["items"]):
        assert one["unit"] == A[i].argmax()
        assert one["label"] == str(one["unit"])
        assert one["output"] == pytest.approx(A[i].max())
        total = sum(one["values"])
        assert total - (one["output"] - one["baseline_output"]) == pytest.approx(one["residual"], abs=1e-12)
        assert abs(one["residual"]) < 0.01
    from_mean = get(client, run, "attributions", rows="4", method="integrated_gradients", baseline="mean").json()
    assert from_mean["items"][0]["baseline_output"] != answer["items"][0]["baseline_output"]
    saliency = get(client, run, "attributions", rows="4", unit=3).json()["items"][0]
    assert (saliency["unit"], saliency["residual"], min(saliency["values"]) >= 0) == (3, None, True)


def test_what_is_not_there_is_refused(client: httpx.Client, limited: httpx.Client, run: dict[str, Any]) -> None:
    where = f"/v1/runs/{run['id']}/checkpoints/3"
    refused(client.get(f"{where}/array", params={"name": "Q7"}), "invalid_input", "/name", "W1, b1")
    refused(client.get(f"{where}/array", params={"format": "gif"}), "invalid_input", "/format")
    refused(client.get(f"{where}/attributions", params={"unit": 99}), "invalid_input", "/unit", "0 to 9")
    refused(client.get(f"{where}/attributions", params={"rows": "99999"}), "invalid_input", "/rows/0")
    network = {"layers": [{"units": 7, "activation": "tanh"}, {"units": 2, "activation": "softmax"}]}
    small = finished(limited, {k: v for k, v in MOONS.items() if k != "inputs"} | {"epochs": 1, "network": network})
    there = f"/v1/runs/{small['id']}/checkpoints/1"
    refused(limited.get(f"{there}/surface"), "limit_exceeded", "/n")
    for most, setting in ((200, "CHAINRULE_MAX_INSPECT_VALUES"), (90, "CHAINRULE_MAX_METRICS_OPERATIONS")):
        refused(limited.get(f"{there}/embedding", params={"limit": most}), "limit_exceeded", "/limit", setting)
    # One row is one row, however many a limit lets through at once.
    assert limited.get(f"{there}/attributions").status_code == 200
    many: dict[str, Any] = {"method": "integrated_gradients", "steps": 1000}
    refused(limited.get(f"{there}/attributions", params=many), "limit_exceeded", "/rows")


def test_outputs_that_are_not_finite_are_shown_somewhere(client: httpx.Client) -> None:
    wild = MOONS | {
        "dtype": "float32", "epochs": 1, "gradients": {"every": 0}, "optimizer": {"name": "sgd", "learning_rate": 1e38},
        "network": {"layers": [*[{"units": 4, "activation": "relu"}] * 2, {"units": 2, "activation": "softmax"}]},
    }  # fmt: skip
    run = finished(client, wild)
    assert get(client, run, "array", 1, name="A2", split="training").json()["nonfinite"] > 0
    for basis in ("last", "epoch"):
        found = get(client, run, "embedding", 1, layer=2, basis=basis).json()
        Embedding.model_validate(found)
