"""Histograms: each count recounted here from the fetched weights and gradients."""

from typing import Any

import httpx
import numpy as np
import pytest

from chainrule.app.api.schemas.histograms import Histograms, JointHistograms
from chainrule.engine import digits
from tests.app.api.calls import DIGITS, XOR, finished, refused
from tests.app.api.test_gradients import Array, backpropagate, one_hot, weights

SPEC = DIGITS | {"dtype": "float64", "epochs": 4, "checkpoints": {}, "gradients": {"every": 0}}


@pytest.fixture(scope="module")
def run(client: httpx.Client) -> dict[str, Any]:
    return finished(client, SPEC)


def read(client: httpx.Client, run: dict[str, Any], **asked: Any) -> Any:
    response = client.get(f"/v1/runs/{run['id']}/histograms", params=asked)
    assert response.status_code == 200, response.text
    answer = response.json()
    Histograms.model_validate(answer)
    return answer


def recounted(array: Array, edges: list[float | None]) -> tuple[list[int], int]:
    """Count the numbers between each two edges; the edge nearer to 0 belongs to the bin."""
    bounds = [-np.inf, *edges[1:-1], np.inf]
    middle = len(bounds) // 2
    counts = []
    for i in range(len(bounds) - 1):
        low, high = bounds[i], bounds[i + 1]
        assert low is not None
        assert high is not None
        inside = (array >= low) & (array < high) if i >= middle else (array > low) & (array <= high)
        counts.append(int(np.count_nonzero(inside & (array != 0))))
    return counts, int(np.count_nonzero(array == 0))


def probe(split: str | None = None) -> tuple[Array, Array]:
    data = digits()
    part = data.split(0.25, 3)[split == "validation"]
    assert part.labels is not None
    most = None if split else 512
    return part.X[:most], one_hot(part.labels[:most], 10)


def test_every_count_is_that_of_the_array(client: httpx.Client, run: dict[str, Any]) -> None:
    answer = read(client, run, names="W,b,Z,A,dA,dZ,dW,db,update", epochs="1-3")
    assert (answer["epochs"], answer["before"], answer["sampled"]) == ([1, 2, 3], [0, 1, 2], False)
    assert answer["samples"] == 512
    X, Y = probe()
    for at, epoch in enumerate(answer["epochs"]):
        now, before = weights(client, run, epoch), weights(client, run, epoch - 1)
        arrays = now | backpropagate(now, run, X, Y)
        arrays |= {f"update{l}": now[f"W{l}"] - before[f"W{l}"] for l in (1, 2)}  # noqa: E741
        assert len(answer["histograms"]) == 18
        for name, found in answer["histograms"].items():
            counts, zeros = recounted(arrays[name], answer["edges"])
            assert sum(counts) + zeros == arrays[name].size
            # What is computed here may differ in the last bit, and lie on the other side of an edge.
            assert np.abs(np.subtract(found["counts"][at], counts)).sum() <= 4, name
            assert sum(found["counts"][at]) + found["zeros"][at] == arrays[name].size
            assert found["nan"][at] == found["positive_infinite"][at] == found["negative_infinite"][at] == 0


def test_a_whole_split_is_counted_block_by_block(client: httpx.Client, run: dict[str, Any]) -> None:
    answer = read(client, run, names="Z,dW", epochs="4", split="training", layers="2")
    assert (answer["samples"], list(answer["histograms"])) == (1348, ["Z2", "dW2"])
    arrays = backpropagate(weights(client, run, 4), run, *probe("training"))
    for name, found in answer["histograms"].items():
        counts, _ = recounted(arrays[name], answer["edges"])
        assert np.abs(np.subtract(found["counts"][0], counts)).sum() <= 4
    assert answer["histograms"]["dW2"]["equation"] == "dW[2] = (1/m)·dZ[2]ᵀ·A[1]"


def test_of_many_epochs_some_are_looked_at_and_that_is_said(client: httpx.Client, run: dict[str, Any]) -> None:
    answer = read(client, run, names="W", at_most=3)
    assert (answer["epochs"], answer["kept"], answer["sampled"], answer["samples"]) == ([0, 2, 4], 5, True, 0)
    first = read(client, run, names="update", epochs="0,1")
    assert first["before"] == [None, 0]
    assert first["histograms"]["update1"]["counts"][0] is None
    assert first["histograms"]["update1"]["zeros"][0] is None
    assert first["histograms"]["update1"]["counts"][1] is not None


def test_an_answer_is_asked_for_once(client: httpx.Client, run: dict[str, Any]) -> None:
    first = client.get(f"/v1/runs/{run['id']}/histograms")
    again = client.get(f"/v1/runs/{run['id']}/histograms", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get(
        f"/v1/runs/{run['id']}/histograms?layers=1", headers={"If-None-Match": first.headers["etag"]}
    )  # fmt: skip
    assert other.status_code == 200


def test_pairs_of_weight_and_gradient_are_counted_in_two_dimensions(client: httpx.Client, run: dict[str, Any]) -> None:
    response = client.get(f"/v1/runs/{run['id']}/checkpoints/2/joint-histogram")
    assert "immutable" in response.headers["cache-control"]
    answer = response.json()
    JointHistograms.model_validate(answer)
    now = weights(client, run, 2)
    arrays = now | backpropagate(now, run, *probe())
    edges = answer["edges"]
    for number, one in answer["layers"].items():
        cells = np.array(one["cells"])
        assert cells[:, 2].sum() == now[f"W{number}"].size
        for axis, name in enumerate((f"W{number}", f"dW{number}")):
            counts, zeros = recounted(arrays[name], edges)
            marginal = np.bincount(cells[:, axis] + 1, cells[:, 2], minlength=len(edges))
            assert np.abs(marginal - [zeros, *counts]).sum() <= 4


def test_what_is_not_there_is_refused(client: httpx.Client, run: dict[str, Any], limited: httpx.Client) -> None:
    place = f"/v1/runs/{run['id']}/histograms"
    refused(client.get(place, params={"names": "W,dV"}), "invalid_input", "/names", "dV")
    refused(client.get(place, params={"layers": "3"}), "invalid_input", "/layers", "1 to 2")
    refused(client.get(place, params={"layers": "x"}), "invalid_input", "/layers")
    for epochs in ("9-7", "²-5", "0-²", "1-", "-1", "٣", ""):
        refused(client.get(place, params={"epochs": epochs}), "invalid_input", "/epochs")
    refused(client.get(place, params={"epochs": "70-90"}), "not_found", None, "checkpoints")
    refused(client.get(f"/v1/runs/{run['id']}/checkpoints/1/joint-histogram?layers=0"), "invalid_input", "/layers")
    small = finished(limited, XOR | {"network": {"layers": [{"units": 1, "activation": "sigmoid"}]}, "epochs": 3})
    refused(limited.get(f"/v1/runs/{small['id']}/histograms"), "limit_exceeded", "/at_most")
    refused(
        limited.get(f"/v1/runs/{small['id']}/histograms", params={"names": "Z,dW"}), "limit_exceeded", None, "samples"
    )
    sigmoid = [{"units": units, "activation": "sigmoid"} for units in (5, 1)]
    wide = finished(limited, XOR | {"network": {"layers": sigmoid}, "epochs": 1})
    refused(
        limited.get(f"/v1/runs/{wide['id']}/histograms", params={"names": "W", "layers": "1"}), "limit_exceeded",
        "/at_most", "CHAINRULE_MAX_METRICS_OPERATIONS",
    )  # fmt: skip
