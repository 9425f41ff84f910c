"""Spectra and distances, recomputed here from the fetched weights."""

from typing import Any

import httpx
import numpy as np
import pytest

from chainrule.app.api.schemas.spectra import Distance, Spectra
from tests.app.api.calls import DIGITS, finished, refused
from tests.app.api.test_gradients import weights

SPEC = DIGITS | {"epochs": 4, "checkpoints": {}, "gradients": {"every": 0}}


@pytest.fixture(scope="module")
def run(client: httpx.Client) -> dict[str, Any]:
    return finished(client, SPEC)


def test_singular_values_are_those_of_the_weights(client: httpx.Client, run: dict[str, Any]) -> None:
    response = client.get(f"/v1/runs/{run['id']}/checkpoints/3/spectrum")
    assert "immutable" in response.headers["cache-control"]
    answer = response.json()
    Spectra.model_validate(answer)
    now = weights(client, run, 3)
    for number, one in answer["layers"].items():
        sigma = np.linalg.svd(now[f"W{number}"].astype(np.float64), compute_uv=False)
        np.testing.assert_allclose(one["singular_values"], sigma, rtol=1e-9)
        np.testing.assert_allclose(one["stable_rank"], np.sum(sigma**2) / sigma[0] ** 2, rtol=1e-9)
        assert one["shape"] == list(now[f"W{number}"].shape)


def test_the_way_of_the_weights_is_that_of_the_checkpoints(client: httpx.Client, run: dict[str, Any]) -> None:
    response = client.get(f"/v1/runs/{run['id']}/distance")
    answer = response.json()
    Distance.model_validate(answer)
    assert (answer["epochs"], answer["sampled"]) == ([0, 1, 2, 3, 4], False)
    vectors = np.array([
        np.concatenate([block.astype(np.float64).ravel() for _, block in sorted(weights(client, run, epoch).items())])
        for epoch in range(5)
    ])  # fmt: skip
    steps = np.diff(vectors, axis=0)
    np.testing.assert_allclose(answer["distance"], np.linalg.norm(vectors - vectors[0], axis=1))
    np.testing.assert_allclose(answer["moved"][1:], np.linalg.norm(steps, axis=1))
    np.testing.assert_allclose(answer["path"][-1], np.linalg.norm(steps, axis=1).sum())
    cosine = steps[3] @ steps[2] / np.linalg.norm(steps[3]) / np.linalg.norm(steps[2])
    np.testing.assert_allclose(answer["cosine"][4], cosine)
    assert answer["cosine"][:2] == [None, None]
    again = client.get(f"/v1/runs/{run['id']}/distance", headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304
    some = client.get(f"/v1/runs/{run['id']}/distance", params={"epochs": "1-4", "at_most": 2}).json()
    assert (some["epochs"], some["kept"], some["sampled"]) == ([1, 4], 4, True)
    np.testing.assert_allclose(some["distance"][1], np.linalg.norm(vectors[4] - vectors[1]))


def test_what_is_not_kept_has_no_way(client: httpx.Client, run: dict[str, Any]) -> None:
    refused(client.get(f"/v1/runs/{run['id']}/distance", params={"epochs": "80-90"}), "not_found", None, "checkpoints")
    refused(client.get(f"/v1/runs/{run['id']}/distance", params={"epochs": "a"}), "invalid_input", "/epochs")
