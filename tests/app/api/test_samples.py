"""Samples over HTTP, each number recomputed here from the fetched weights."""

from typing import Any

import httpx
import numpy as np
import pytest

from chainrule.app.api.schemas.samples import SampleList
from chainrule.engine import digits
from tests.app.api.calls import DIGITS, FLOWERS, finished, refused, upload
from tests.app.api.test_gradients import backpropagate, one_hot, weights

EXACT = DIGITS | {"name": "samples", "dtype": "float64", "epochs": 3, "checkpoints": {}, "gradients": {"every": 0}}


@pytest.fixture(scope="module")
def run(client: httpx.Client) -> dict[str, Any]:
    return finished(client, EXACT)


def read(client: httpx.Client, run: dict[str, Any], **asked: Any) -> dict[str, Any]:
    response = client.get(f"/v1/runs/{run['id']}/checkpoints/last/samples", params=asked)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    SampleList.model_validate(answer)
    return answer


def test_what_is_said_of_a_sample_is_what_numpy_says(client: httpx.Client, run: dict[str, Any]) -> None:
    data = digits()
    assert data.labels is not None
    answer = read(client, run, limit=7, features=True)
    rows = [one["row"] for one in answer["items"]]
    found = backpropagate(weights(client, run, "last"), run, data.X[rows], one_hot(data.labels[rows], 10))
    A, dZ1, dZ2, A1 = found["A2"], found["dZ1"], found["dZ2"], found["A1"]
    squares = np.sum(dZ2**2, 1) * (np.sum(A1**2, 1) + 1) + np.sum(dZ1**2, 1) * (np.sum(data.X[rows] ** 2, 1) + 1)
    for i, one in enumerate(answer["items"]):
        label = int(data.labels[rows[i]])
        assert one["target"] == str(label)
        assert one["prediction"] == str(int(A[i].argmax()))
        assert one["wrong"] == (one["target"] != one["prediction"])
        assert one["probability"] == pytest.approx(A[i].max(), rel=1e-9)
        assert one["target_probability"] == pytest.approx(A[i, label], rel=1e-7)
        assert one["cost"] == pytest.approx(-np.log(A[i, label]), rel=1e-7)
        assert one["gradient_norm"] == pytest.approx(float(np.sqrt(squares[i])), rel=1e-7)
        assert one["features"] == data.X[rows[i]].tolist()
    assert answer["feature_names"][0] == "pixel_0_0"
    costs = [one["cost"] for one in answer["items"]]
    assert costs == sorted(costs, reverse=True)
    assert (answer["split"], answer["m"], answer["order"]) == ("validation", 449, "largest")


@pytest.mark.parametrize(
    ("sort", "name"), [("cost", "cost"), ("confidence", "probability"), ("gradient_norm", "gradient_norm"),
                       ("index", "index")],
)  # fmt: skip
def test_pages_in_either_order_have_every_sample_once(
    client: httpx.Client, run: dict[str, Any], sort: str, name: str
) -> None:
    first, second = (read(client, run, sort=sort, offset=offset, limit=300)["items"] for offset in (0, 300))
    values = [one[name] for one in first + second]
    assert values == sorted(values, reverse=sort != "index")
    assert sorted(one["index"] for one in first + second) == list(range(449))
    turned = read(client, run, sort=sort, order="smallest", limit=5)["items"]
    assert [one[name] for one in turned] == pytest.approx(sorted(values)[:5], rel=1e-9)


def test_filters_choose_a_cell_of_the_confusion_matrix(client: httpx.Client, run: dict[str, Any]) -> None:
    metrics = client.get(f"/v1/runs/{run['id']}/checkpoints/last/metrics").json()
    confusion = np.array(metrics["confusion_matrix"])
    wrong = read(client, run, wrong=True, limit=1000, sort="index")
    assert wrong["matching"] == len(wrong["items"]) == confusion.sum() - np.trace(confusion)
    assert all(one["wrong"] for one in wrong["items"])
    for a, b in ((4, 4), (8, 1), (9, 3)):
        cell = read(client, run, **{"class": str(a), "predicted": str(b)})
        assert cell["matching"] == confusion[a, b]
        assert {(one["target"], one["prediction"]) for one in cell["items"]} <= {(str(a), str(b))}
    assert read(client, run, split="training", wrong=False, limit=1)["m"] == 1348


def test_categories_are_shown_by_name_and_numeric_targets_as_they_are(client: httpx.Client) -> None:
    colours = "colour,size,y\n" + "\n".join(f"{c},{s},{s * 2}" for s in range(1, 5) for c in ("red", "blue"))
    dataset = upload(client, colours, "colours.csv", target_columns="y")["id"]
    spec = {
        "dataset": dataset,
        "epochs": 2,
        "cost": "mse",
        "network": {"layers": [{"units": 1, "activation": "linear"}]},
    }
    run = finished(client, spec)
    answer = read(client, run, sort="index", features=True)
    assert answer["items"][1]["features"] == ["blue", 1.0]
    assert answer["items"][1]["target"] == [2.0]
    assert {answer["items"][1][name] for name in ("wrong", "probability", "target_probability")} == {None}
    where = f"/v1/runs/{run['id']}/checkpoints/last/samples"
    refused(client.get(where, params={"sort": "confidence"}), "invalid_input", "/sort")
    refused(client.get(where, params={"wrong": True}), "invalid_input", "/wrong")
    refused(client.get(where, params={"class": "red"}), "invalid_input", "/class", "it has none")


def test_what_cannot_be_listed_is_refused(
    client: httpx.Client, limited: httpx.Client, run: dict[str, Any], xor_run: dict[str, Any]
) -> None:
    where = f"/v1/runs/{run['id']}/checkpoints/last/samples"
    refused(client.get(where, params={"class": "ten"}), "invalid_input", "/class", "the classes are 0, 1")
    refused(client.get(where, params={"sort": "beauty"}), "invalid_input", "/sort")
    refused(client.get(where, params={"limit": 5000}), "invalid_input", "/limit")
    refused(
        client.get(f"/v1/runs/{xor_run['id']}/checkpoints/last/samples", params={"split": "validation"}),
        "invalid_input", "/split",
    )  # fmt: skip
    dataset = upload(limited, FLOWERS, "flowers.csv")["id"]
    layers = [{"units": 9, "activation": "tanh"}, {"units": 3, "activation": "softmax"}]
    spec = {"dataset": dataset, "epochs": 1, "network": {"layers": layers}}
    small = finished(limited, spec)
    refused(limited.get(f"/v1/runs/{small['id']}/checkpoints/last/samples"), "limit_exceeded", "/split")


def test_an_answer_is_kept_for_good_where_the_epoch_is_named(client: httpx.Client, run: dict[str, Any]) -> None:
    first = client.get(f"/v1/runs/{run['id']}/checkpoints/3/samples")
    assert first.headers["cache-control"] == "private, max-age=31536000, immutable"
    headers = {"If-None-Match": first.headers["etag"]}
    assert client.get(f"/v1/runs/{run['id']}/checkpoints/3/samples", headers=headers).status_code == 304
