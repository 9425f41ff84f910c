"""Metrics over HTTP: recomputed here from the run's own predictions, cacheable, refused with reasons."""

from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import TypeAdapter

from chainrule.app.api.schemas.metrics import (
    ClassificationMetrics,
    Metrics,
    MultiLabelMetrics,
    RegressionMetrics,
)
from chainrule.engine import digits
from tests.app.api.calls import XOR, finished, refused, submit, upload

SHAPE: TypeAdapter[ClassificationMetrics | MultiLabelMetrics | RegressionMetrics] = TypeAdapter(Metrics)


def address(run: dict[str, Any], epoch: int | str = "last") -> str:
    return f"/v1/runs/{run['id']}/checkpoints/{epoch}/metrics"


def read(client: httpx.Client, run: dict[str, Any], epoch: int | str = "last", **query: str) -> Any:
    response = client.get(address(run, epoch), params=query)
    assert response.status_code == 200, response.text
    found = SHAPE.validate_python(response.json())
    assert found.run == run["id"]
    return found


def predicted(client: httpx.Client, run: dict[str, Any], X: Any) -> dict[str, Any]:
    response = client.post(f"/v1/runs/{run['id']}/checkpoints/last/predict", json={"samples": np.asarray(X).tolist()})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def numbers(client: httpx.Client, Y: Any, output: str, cost: str = "mse") -> tuple[dict[str, Any], Any, Any]:
    """Train on two features and as many numeric targets as Y has columns."""
    X = np.random.default_rng(0).normal(size=(len(Y), 2)).round(3)
    body = {"samples": X.tolist(), "targets": np.asarray(Y).tolist()}
    dataset = client.post("/v1/datasets", json=body).json()["id"]
    layers = [{"units": 5, "activation": "tanh"}, {"units": len(Y[0]), "activation": output}]
    run = finished(client, XOR | {"dataset": dataset, "network": {"layers": layers}, "cost": cost, "epochs": 5})
    return run, X, np.asarray(predicted(client, run, X)["outputs"])


def test_a_classifier_is_measured_on_the_samples_held_out_as_training_did(
    client: httpx.Client, digits_run: dict[str, Any]
) -> None:
    for epoch in (0, 1, 12):
        found = read(client, digits_run, epoch)
        checkpoint = client.get(f"/v1/runs/{digits_run['id']}/checkpoints/{epoch}").json()
        assert (found.kind, found.split, found.epoch, found.samples) == ("classification", "validation", epoch, 449)
        assert found.error == checkpoint["validation_error"]
    assert found.error < 0.3
    assert found == read(client, digits_run, "last", split="validation")


@pytest.mark.parametrize("split", ["training", "validation"])
def test_the_confusion_matrix_is_that_of_the_predictions(
    client: httpx.Client, digits_run: dict[str, Any], split: str
) -> None:
    data = digits().split(0.25, 3)[split == "validation"]
    assert data.labels is not None
    said = [int(label) for label in predicted(client, digits_run, data.X)["labels"]]
    counts = np.zeros((10, 10), dtype=int)
    for actual, told in zip(data.labels, said, strict=True):
        counts[actual, told] += 1
    found = read(client, digits_run, split=split)
    assert (found.split, found.samples) == (split, len(said))
    assert found.confusion_matrix == counts.tolist()
    assert [scores.name for scores in found.classes] == list("0123456789")
    for j, scores in enumerate(found.classes):
        assert (scores.support, scores.predicted) == (counts[j].sum(), counts[:, j].sum())
        assert scores.precision == counts[j, j] / counts[:, j].sum()
        assert scores.recall == counts[j, j] / counts[j].sum()
    assert found.macro.recall == pytest.approx(np.mean(counts.diagonal() / counts.sum(axis=1)))


def test_each_metric_comes_with_its_equation(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    found = read(client, digits_run)
    assert found.equations["precision"] == "M[j,j] / Σₖ M[k,j]"
    assert {"error", "confusion_matrix", "recall", "f1", "macro"} <= set(found.equations)


def test_a_class_that_is_never_predicted_has_no_precision(client: httpx.Client) -> None:
    rows = "".join(f"{n % 7},{'rare' if n == 0 else 'common'}\n" for n in range(40))
    dataset = upload(client, f"x,label\n{rows}", "rare.csv")["id"]
    layers = [{"units": 2, "activation": "softmax"}]
    run = finished(client, XOR | {"dataset": dataset, "network": {"layers": layers}, "epochs": 60})
    common, rare = read(client, run).classes
    assert (common.name, common.support, common.predicted, common.recall) == ("common", 39, 40, 1.0)
    assert (rare.name, rare.support, rare.predicted) == ("rare", 1, 0)
    assert (rare.precision, rare.recall, rare.f1) == (None, 0.0, 0.0)


def test_without_validation_the_training_samples_are_measured(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    found = read(client, xor_run)
    assert (found.split, found.samples) == ("training", 4)
    problem = refused(client.get(address(xor_run), params={"split": "validation"}), "invalid_input", "/split")
    assert "split=training" in problem["detail"]


def test_a_validation_dataset_of_its_own_is_measured_whole(client: httpx.Client, flowers: str) -> None:
    other = upload(
        client, "petal_length,petal_width,species\n1.4,0.2,setosa\n4.6,1.4,versicolor\n6,2,virginica\n", "f.csv"
    )
    layers = [{"units": 3, "activation": "softmax"}]
    run = finished(
        client,
        XOR | {"dataset": flowers, "validation": {"dataset": other["id"]}, "network": {"layers": layers}, "epochs": 2},
    )
    assert read(client, run).samples == 3
    assert read(client, run, split="training").samples == 9


def test_a_regression_is_measured_by_distance(client: httpx.Client) -> None:
    Y = np.random.default_rng(1).normal(size=(30, 2)) * [1, 50]
    run, _, outputs = numbers(client, Y.tolist(), "linear")
    found = read(client, run)
    squares, spread = (outputs - Y) ** 2, (Y - Y.mean(axis=0)) ** 2
    assert found.kind == "regression"
    assert found.rmse == pytest.approx(np.sqrt(squares.mean()), rel=1e-5)
    assert found.mae == pytest.approx(np.abs(outputs - Y).mean(), rel=1e-5)
    assert found.r2 == pytest.approx(1 - squares.sum() / spread.sum(), rel=1e-4, abs=1e-5)
    for j, scores in enumerate(found.targets):
        assert scores.name == f"y{j + 1}"
        assert scores.rmse == pytest.approx(np.sqrt(squares[:, j].mean()), rel=1e-5)
        assert scores.r2 == pytest.approx(1 - squares[:, j].sum() / spread[:, j].sum(), rel=1e-4, abs=1e-5)


def test_a_target_that_does_not_vary_has_no_r2(client: httpx.Client) -> None:
    run, _, _ = numbers(client, [[0.1]] * 12, "linear")
    found = read(client, run)
    assert (found.r2, found.targets[0].r2) == (None, None)
    assert found.rmse > 0


def test_zeros_and_ones_are_labels_by_binary_cross_entropy_and_numbers_by_another_cost(client: httpx.Client) -> None:
    Y = np.random.default_rng(2).integers(0, 2, (40, 3))
    assert read(client, numbers(client, Y.tolist(), "sigmoid")[0]).kind == "regression"
    run, _, outputs = numbers(client, Y.tolist(), "sigmoid", "binary_cross_entropy")
    found = read(client, run)
    wrong = (outputs > 0.5) != (Y == 1)
    assert found.kind == "multi_label"
    assert found.error == wrong.any(axis=1).mean()
    assert found.label_error == pytest.approx(wrong.mean())
    assert [scores.error for scores in found.labels] == wrong.mean(axis=0).tolist()
    assert [scores.support for scores in found.labels] == Y.sum(axis=0).tolist()


def test_numbers_are_measured_after_preprocessing_as_training_sees_them(client: httpx.Client) -> None:
    rows = "".join(f"{1000 + n},{'ab'[n % 2]},{'yes' if n % 2 else 'no'}\n" for n in range(40))
    dataset = upload(client, f"x,letter,label\n{rows}", "scaled.csv")["id"]
    layers = [{"units": 2, "activation": "softmax"}]
    spec = XOR | {"dataset": dataset, "network": {"layers": layers}, "inputs": {"scaling": "standardize"}}
    run = finished(client, spec | {"epochs": 40, "validation": {"fraction": 0.25}})
    found = read(client, run)
    assert found.error == run["validation_error"] == 0


def test_metrics_of_a_numbered_epoch_last_and_are_not_computed_for_those_who_have_them(
    client: httpx.Client, digits_run: dict[str, Any]
) -> None:
    first = client.get(address(digits_run, 5))
    etag = first.headers["etag"]
    checkpoint = client.get(f"/v1/runs/{digits_run['id']}/checkpoints/5").json()
    assert checkpoint["sha256"] in etag
    assert "immutable" in first.headers["cache-control"]
    assert first.headers["content-location"] == f"{address(digits_run, 5)}?split=validation"
    again = client.get(address(digits_run, 5), headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    for other in (client.get(address(digits_run, 5), params={"split": "training"}), client.get(address(digits_run, 1))):
        assert other.status_code == 200
        assert other.headers["etag"] != etag
    assert client.get(address(digits_run, 5), params={"split": "training"}, headers={"If-None-Match": etag}).is_success


def test_metrics_under_a_name_that_moves_are_asked_for_again(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    numbered = client.get(address(digits_run, 12))
    for epoch in ("last", "best"):
        assert client.get(address(digits_run, epoch)).headers["cache-control"] == "private, no-cache"
    assert client.get(address(digits_run, "last")).headers["etag"] == numbered.headers["etag"]
    finished(client, XOR)
    assert client.get(address({"id": "latest"}, 0)).headers["cache-control"] == "private, no-cache"


def test_what_is_not_there_is_refused_as_by_the_other_readings(
    client: httpx.Client, digits_run: dict[str, Any]
) -> None:
    refused(client.get(address({"id": "run_none"})), "not_found")
    refused(client.get(address(digits_run, 2)), "not_found", None, "12 of 12 epochs")
    refused(client.get(address(digits_run, "first")), "not_found", None, "`last`", "`best`")
    problem = refused(client.get(address(digits_run), params={"split": "test"}), "invalid_input", "/split")
    assert "'training' or 'validation'" in problem["detail"]
    refused(client.get(address(digits_run), params={"part": "training"}), "invalid_input", "/part", "split")


def test_more_than_the_service_wants_to_compute_is_refused_with_the_limit(limited: httpx.Client) -> None:
    run = submit(limited, XOR)
    limited.get(f"/v1/runs/{run['id']}", headers={"Prefer": "wait=60"})
    problem = refused(limited.get(address(run)), "limit_exceeded", "/split", "CHAINRULE_MAX_METRICS_OPERATIONS")
    # 4 samples x (33 parameters + 100 x 9 units)
    assert (problem["value"], problem["limit"]) == (4 * (33 + 900), 3000)
