"""Checkpoints: which there are, their weights to the bit, and what they predict."""

import hashlib
import io
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from chainrule.app.api.schemas.checkpoints import Checkpoint, CheckpointPage, Predictions, Weights
from chainrule.engine import (
    ClipSpec,
    EarlyStoppingSpec,
    Epoch,
    LayerSpec,
    NetworkSpec,
    OptimizerSpec,
    RegularizationSpec,
    ScheduleSpec,
    TrainingConfig,
    dense,
    digits,
    predict,
    spirals,
    train,
    xor,
)
from tests.app.api.calls import LONG, XOR, finished, refused, stop, submit, upload

Arrays = dict[str, NDArray[Any]]
SAFETENSORS, NPZ, ONNX = "application/x-safetensors", "application/x-npz", "application/x-onnx"
FORMATS = ("safetensors", "npz", "json", "onnx", "torch")


def path(run: dict[str, Any], epoch: int | str = "last") -> str:
    return f"/v1/runs/{run['id']}/checkpoints/{epoch}"


def weights(client: httpx.Client, run: dict[str, Any], epoch: int | str = "last") -> Arrays:
    return safetensors.numpy.load(client.get(f"{path(run, epoch)}/weights").content)


def kept(client: httpx.Client, run: dict[str, Any], **parameters: Any) -> list[Checkpoint]:
    response = client.get(f"/v1/runs/{run['id']}/checkpoints", params=parameters)
    assert response.status_code == 200, response.text
    return CheckpointPage.model_validate(response.json()).items


def same(a: Arrays, b: Arrays) -> bool:
    """Tell whether two sets of arrays are equal, to the bit."""
    return a.keys() == b.keys() and all(
        (a[name].dtype, a[name].shape, a[name].tobytes()) == (b[name].dtype, b[name].shape, b[name].tobytes())
        for name in a
    )


def test_the_first_the_last_and_every_so_many_epochs_are_kept(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    assert [checkpoint.epoch for checkpoint in kept(client, digits_run)] == [0, 1, 5, 10, 12]


def test_only_so_many_of_the_newest_are_kept_and_the_first(client: httpx.Client) -> None:
    run = finished(client, XOR | {"checkpoints": {"every": 3, "keep": 2}})
    assert [checkpoint.epoch for checkpoint in kept(client, run)] == [0, 18, 20]


def test_checkpoints_are_listed_page_by_page(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    found, after = list[int](), -1
    while True:
        response = client.get(f"/v1/runs/{xor_run['id']}/checkpoints", params={"after": after, "limit": 4})
        page = CheckpointPage.model_validate(response.json())
        found += [checkpoint.epoch for checkpoint in page.items]
        if page.next_after is None:
            break
        after = page.next_after
    assert found == list(range(21))


def test_a_checkpoint_says_what_its_epoch_came_to(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    columns = client.get(f"/v1/runs/{digits_run['id']}/epochs").json()["columns"]
    for listed in kept(client, digits_run):
        found = Checkpoint.model_validate(client.get(path(digits_run, listed.epoch)).json())
        assert found == listed
        assert found.run == digits_run["id"]
        for name in ("cost", "error", "validation_cost", "validation_error"):
            assert getattr(found, name) == columns[name][found.epoch]


def test_the_best_has_the_lowest_validation_cost_of_those_kept(
    client: httpx.Client, digits_run: dict[str, Any]
) -> None:
    best = min(kept(client, digits_run), key=lambda checkpoint: checkpoint.validation_cost or 0.0)
    assert Checkpoint.model_validate(client.get(path(digits_run, "best")).json()) == best


def test_the_best_is_not_the_last_when_training_makes_it_worse(client: httpx.Client) -> None:
    run = finished(client, XOR | {"optimizer": {"name": "sgd", "learning_rate": 30}, "epochs": 50})
    found = kept(client, run)
    best = client.get(path(run, "best")).json()
    assert best["cost"] == min(checkpoint.cost for checkpoint in found)
    assert best["epoch"] == next(checkpoint.epoch for checkpoint in found if checkpoint.cost == best["cost"])
    assert client.get(path(run, "last")).json()["epoch"] == 50


def test_an_epoch_that_is_not_kept_says_what_there_is(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    for epoch in (2, 13, 10**12):
        for response in (
            client.get(path(digits_run, epoch)),
            client.get(f"{path(digits_run, epoch)}/weights"),
            client.post(f"{path(digits_run, epoch)}/predict", json={"samples": [[0.0] * 64]}),
            client.post(f"{path(digits_run, epoch)}/gradients", json={"rows": [0]}),
        ):
            problem = refused(response, "not_found", None, f"epoch {epoch}", "12 of 12 epochs", "every is 5")
            assert f"/v1/runs/{digits_run['id']}/checkpoints" in problem["detail"]


@pytest.mark.parametrize("epoch", ["first", "-1", "01", "1.0", "1e1", "%00", "last%0a", "9" * 40, "Last"])
def test_an_epoch_that_is_none_is_told_how_epochs_are_named(
    client: httpx.Client, xor_run: dict[str, Any], epoch: str
) -> None:
    refused(client.get(f"{path(xor_run, epoch)}/weights"), "not_found", None, "number", "`last`", "`best`")


def test_a_run_that_has_no_checkpoint_yet_says_where_it_stands(client: httpx.Client) -> None:
    blockers = [submit(client, LONG) for _ in range(2)]
    run = submit(client, XOR)
    refused(client.get(path(run, "best")), "not_found", None, "queued")
    refused(client.get(path(run, 0)), "not_found", None, "0 of 20")
    assert kept(client, run) == []
    for one in (run, *blockers):
        stop(client, one["id"])


def test_the_weights_of_a_running_run_can_be_fetched(client: httpx.Client) -> None:
    run = submit(client, LONG, Prefer="wait=1")
    while not kept(client, run):
        pass
    assert weights(client, run, 0)["W1"].shape == (12, 64)
    stop(client, run["id"])


def test_the_file_has_the_hash_that_the_checkpoint_and_the_etag_say(
    client: httpx.Client, digits_run: dict[str, Any]
) -> None:
    for checkpoint in kept(client, digits_run):
        response = client.get(f"{path(digits_run, checkpoint.epoch)}/weights")
        assert hashlib.sha256(response.content).hexdigest() == checkpoint.sha256
        assert response.headers["etag"] == f'"{checkpoint.sha256}"'
        assert (len(response.content), response.headers["content-type"]) == (checkpoint.size_bytes, SAFETENSORS)
        assert response.headers["content-location"] == f"{path(digits_run, checkpoint.epoch)}/weights"
        assert digits_run["id"] in response.headers["content-disposition"]


def test_weights_have_a_row_for_each_unit_in_every_format(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    found = weights(client, digits_run)
    shapes = {"W1": (12, 64), "b1": (12,), "W2": (10, 12), "b2": (10,)}
    assert {name: array.shape for name, array in found.items()} == shapes
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    with np.load(io.BytesIO(client.get(f"{path(digits_run)}/weights?format=npz").content), allow_pickle=False) as npz:
        assert list(npz) == list(shapes)
        assert same(dict(npz), found)
    answer = Weights.model_validate(client.get(f"{path(digits_run)}/weights?format=json").json())
    assert list(answer.weights) == list(shapes)
    assert same({name: np.array(rows, np.float32) for name, rows in answer.weights.items()}, found)
    assert (answer.run, answer.epoch) == (digits_run["id"], 12)
    assert answer.sha256 == client.get(path(digits_run)).json()["sha256"]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", SAFETENSORS), ("*/*", SAFETENSORS), ("application/*", SAFETENSORS),
        ("application/octet-stream", SAFETENSORS), (ONNX, ONNX),
        (NPZ, NPZ), ("application/json", "application/json"), (f"{NPZ};q=0.5, application/json;q=0.1", NPZ),
        ("text/html, application/json;q=0.9, */*;q=0.8", "application/json"),
    ],
)  # fmt: skip
def test_weights_come_in_the_format_that_accept_asks_for(
    client: httpx.Client, xor_run: dict[str, Any], accept: str, media_type: str
) -> None:
    response = client.get(f"{path(xor_run)}/weights", headers={"Accept": accept})
    assert (response.status_code, response.headers["content-type"]) == (200, media_type)
    assert {"Accept", "Authorization"} <= set(response.headers["vary"].split(", "))


def test_a_format_that_is_not_offered_is_refused(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    for accept in ("text/html", "application/json;q=0", "*/*;q=0", "application/x-npz;q=x"):
        response = client.get(f"{path(xor_run)}/weights", headers={"Accept": accept})
        refused(response, "not_acceptable", None, accept, SAFETENSORS, NPZ, "application/json")
    for given in ("pickle", "", "NPZ"):
        response = client.get(f"{path(xor_run)}/weights", params={"format": given})
        refused(response, "invalid_input", "/format", "safetensors, npz, json, onnx, torch")
    assert client.get(f"{path(xor_run)}/weights?format=npz", headers={"Accept": "text/html"}).status_code == 200


@pytest.mark.parametrize("form", FORMATS)
def test_weights_that_are_there_already_are_not_sent_again(
    client: httpx.Client, xor_run: dict[str, Any], form: str
) -> None:
    first = client.get(f"{path(xor_run, 5)}/weights", params={"format": form})
    assert "immutable" in first.headers["cache-control"]
    assert "no-cache" in client.get("/v1/runs/latest/checkpoints/0/weights").headers["cache-control"]
    again = client.get(
        f"{path(xor_run, 5)}/weights", params={"format": form}, headers={"If-None-Match": first.headers["etag"]}
    )
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    other = client.get(
        f"{path(xor_run, 6)}/weights", params={"format": form}, headers={"If-None-Match": first.headers["etag"]}
    )
    assert other.status_code == 200
    assert (
        client.get(f"{path(xor_run)}/weights", params={"format": form}).headers["cache-control"] == "private, no-cache"
    )


def test_formats_have_etags_of_their_own(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    etags = {client.head(f"{path(xor_run)}/weights?format={form}").headers["etag"] for form in FORMATS}
    assert len(etags) == len(FORMATS)


@pytest.mark.parametrize("form", ["safetensors", "npz", "onnx", "torch"])
def test_a_range_of_bytes_is_served(client: httpx.Client, xor_run: dict[str, Any], form: str) -> None:
    address = f"{path(xor_run)}/weights?format={form}"
    whole = client.get(address)
    size, etag = len(whole.content), whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, first, last in (
        ("bytes=0-9", 0, 9),
        ("bytes=10-", 10, size - 1),
        ("bytes=-5", size - 5, size - 1),
        ("bytes=0-0", 0, 0),
        (f"bytes=5-{10 * size}", 5, size - 1),
        (f"bytes=-{10 * size}", 0, size - 1),
    ):
        for condition in ({}, {"If-Range": etag}):
            part = client.get(address, headers={"Range": asked} | condition)
            assert part.status_code == 206
            assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
            assert part.content == whole.content[first : last + 1]
            assert part.headers["etag"] == etag


def test_a_range_that_cannot_be_served_is_answered_with_the_size_or_with_all(
    client: httpx.Client, xor_run: dict[str, Any]
) -> None:
    address = f"{path(xor_run)}/weights"
    whole = client.get(address).content
    for asked in (f"bytes={len(whole)}-", "bytes=5-2", "bytes=-0", "bytes=99999999-999999999"):
        response = client.get(address, headers={"Range": asked})
        refused(response, "range_not_satisfiable", None, asked, str(len(whole)))
        assert response.headers["content-range"] == f"bytes */{len(whole)}"
    for headers in (
        {"Range": "bytes=0-9", "If-Range": '"another"'},
        {"Range": "bytes=0-1,4-5"},
        {"Range": "bytes=-"},
        {"Range": "lines=0-9"},
        {"Range": "bytes=" + "9" * 100 + "-"},
    ):
        response = client.get(address, headers=headers)
        assert (response.status_code, response.content) == (200, whole)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("validation", [None, {"fraction": 0.3, "seed": 5}, {"dataset": "spirals"}])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_weights_of_every_epoch_are_those_of_the_bare_engine_to_the_bit(
    client: httpx.Client, dtype: str, validation: dict[str, Any] | None, optimizer: str
) -> None:
    run = finished(
        client,
        {
            "dataset": "spirals",
            "validation": validation,
            "network": {"layers": [{"units": 16, "activation": "relu"}, {"units": 3, "activation": "softmax"}]},
            "optimizer": {"name": optimizer, "learning_rate": 0.02},
            "epochs": 6,
            "batch_size": 32,
            "seed": 9,
            "dtype": dtype,
        },
    )
    data, held_out = spirals(), None
    if validation is not None:
        data, held_out = data.split(0.3, 5) if "fraction" in validation else (data, data)
    config = TrainingConfig(
        NetworkSpec(2, (LayerSpec(16, "relu"), LayerSpec(3, "softmax"))),
        optimizer=OptimizerSpec(optimizer, 0.02),
        epochs=6,
        batch_size=32,
        seed=9,
        dtype=dtype,
    )
    columns = client.get(f"/v1/runs/{run['id']}/epochs").json()["columns"]
    recorded = 0
    for epoch in train(config, data, held_out):
        assert isinstance(epoch, Epoch)
        assert same(weights(client, run, epoch.epoch), epoch.network.named())
        for name in ("cost", "error", "validation_cost", "validation_error"):
            assert columns[name][epoch.epoch] == getattr(epoch, name)
        recorded += 1
    assert recorded == len(columns["epoch"]) == 7


def test_the_weights_of_a_run_with_a_schedule_clipping_and_regularization_are_those_of_the_bare_engine(
    client: httpx.Client,
) -> None:
    shaped_by: dict[str, Any] = {
        "schedule": {"name": "cosine", "minimum": 0.001, "warmup_epochs": 3},
        "clip": {"norm": 0.5},
        "regularization": {"l1": 0.0001, "l2": 0.001, "max_norm": 1.5},
    }
    network = {"layers": [{"units": 16, "activation": "relu"}, {"units": 3, "activation": "softmax"}]}
    spec = {"dataset": "spirals", "network": network, "epochs": 6, "batch_size": 32, "seed": 9, **shaped_by}
    run = finished(client, spec)
    assert {kind: run["config"][kind] for kind in shaped_by} == shaped_by
    config = TrainingConfig(
        dense(2, (16, "relu"), (3, "softmax")),
        epochs=6,
        seed=9,
        schedule=ScheduleSpec("cosine", minimum=0.001, warmup_epochs=3),
        clip=ClipSpec(norm=0.5),
        regularization=RegularizationSpec(0.0001, 0.001, 1.5),
    )
    columns = client.get(f"/v1/runs/{run['id']}/epochs").json()["columns"]
    for epoch in train(config, spirals()):
        assert isinstance(epoch, Epoch)
        assert same(weights(client, run, epoch.epoch), epoch.network.named())
        assert columns["learning_rate"][epoch.epoch] == epoch.learning_rate
        assert columns["cost"][epoch.epoch] == epoch.cost


def test_a_prediction_is_the_output_of_the_network_and_its_class_by_name(
    client: httpx.Client, digits_run: dict[str, Any]
) -> None:
    X = digits().X[:50]
    response = client.post(f"{path(digits_run)}/predict", json={"samples": X.tolist()})
    found = Predictions.model_validate(response.json())
    arrays = weights(client, digits_run)
    Z = np.maximum(X @ arrays["W1"].T + arrays["b1"], 0) @ arrays["W2"].T + arrays["b2"]
    A = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.array(found.outputs, float), A, rtol=1e-4, atol=1e-6)
    assert found.labels == [str(number) for number in A.argmax(axis=1)]
    assert found.classes == list("0123456789")
    assert (found.run, found.epoch) == (digits_run["id"], 12)


def test_classes_are_called_as_the_file_calls_them(client: httpx.Client, flowers: str) -> None:
    network = {"layers": [{"units": 8, "activation": "tanh"}, {"units": 3, "activation": "softmax"}]}
    run = finished(client, XOR | {"dataset": flowers, "network": network, "epochs": 300})
    response = client.post(f"{path(run)}/predict", json={"samples": [[1.5, 0.2], [4.6, 1.4], [5.8, 2.2]]})
    found = Predictions.model_validate(response.json())
    assert found.labels == ["setosa", "versicolor", "virginica"]
    assert found.classes == ["setosa", "versicolor", "virginica"]


def test_one_output_unit_tells_two_classes_apart(client: httpx.Client) -> None:
    run = finished(client, XOR | {"epochs": 500})
    found = client.post(f"{path(run)}/predict", json={"samples": [[0, 0], [0, 1], [1, 0], [1, 1]]}).json()
    assert found["labels"] == ["0", "1", "1", "0"]
    first = client.post(f"{path(run, 0)}/predict", json={"samples": [[0, 0]]}).json()
    assert first["epoch"] == 0


def test_a_regression_predicts_numbers_and_no_classes(client: httpx.Client) -> None:
    rows = "\n".join(["x,y,sum", *(f"{x},{y},{x + y}" for x in range(6) for y in range(6))])
    dataset = upload(client, rows, "sums.csv", target_columns="sum")
    assert (dataset["classes"], dataset["targets"], dataset["features"]) == ([], 1, 2)
    run = finished(
        client,
        {
            "dataset": dataset["id"],
            "network": {"layers": [{"units": 1, "activation": "linear"}]},
            "optimizer": {"name": "adam", "learning_rate": 0.1},
            "epochs": 400,
            "dtype": "float64",
        },
    )
    assert (run["error"], run["config"]["cost"]) == (None, "mse")
    assert run["cost"] < 1e-3
    found = Predictions.model_validate(client.post(f"{path(run)}/predict", json={"samples": [[2, 3], [1, 1]]}).json())
    np.testing.assert_allclose(np.array(found.outputs, float), [[5], [2]], atol=0.1)
    assert (found.labels, found.classes) == (None, [])


def test_an_output_too_large_for_a_number_is_null(client: httpx.Client) -> None:
    rows = {"samples": [[0], [1]], "targets": [[0], [100]]}
    spec = {
        "dataset": client.post("/v1/datasets", json=rows).json()["id"],
        "network": {"layers": [{"units": 1, "activation": "linear"}]},
        "epochs": 5,
    }
    run = finished(client, spec)
    found = Predictions.model_validate(client.post(f"{path(run)}/predict", json={"samples": [[3e38], [1]]}).json())
    assert found.outputs[0] == [None]
    assert found.outputs[1][0] is not None


@pytest.mark.parametrize(
    ("samples", "pointer", "words"),
    [
        ([[1]], "/samples/0", ["1 values", "takes 2"]),
        ([[1, 2, 3]], "/samples/0", ["3 values", "takes 2"]),
        ([[1, 2], [3]], "/samples/1", ["Row 1 has 1", "row 0 has 2"]),
        ([[]], "/samples/0", ["empty"]),
        ([], "/samples", ["at least 1"]),
        ([[1, 1e39]], "/samples/0/1", ["too large for float32"]),
        ([[0, 0], [-1e300, 0]], "/samples/1/0", ["too large for float32"]),
        ([["1", 2]], "/samples/0/0", ["number"]),
        ([[None, 2]], "/samples/0/0", ["number"]),
        ([[True, 2]], "/samples/0/0", ["number"]),
        ([[[1], 2]], "/samples/0/0", ["number"]),
        ([1, 2], "/samples/0", ["list"]),
        ("[[1, 2]]", "/samples", ["list"]),
    ],
)
def test_samples_that_do_not_fit_are_refused_at_their_place(
    client: httpx.Client, xor_run: dict[str, Any], samples: Any, pointer: str, words: list[str]
) -> None:
    response = client.post(f"{path(xor_run)}/predict", json={"samples": samples})
    refused(response, "invalid_input", pointer, *words)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
def test_samples_that_are_not_finite_are_refused(client: httpx.Client, xor_run: dict[str, Any], number: str) -> None:
    response = client.post(
        f"{path(xor_run)}/predict",
        content=f'{{"samples": [[0, {number}]]}}',
        headers={"Content-Type": "application/json"},
    )
    refused(response, "invalid_input", "/samples/0/1", "number")


def test_a_prediction_of_too_many_samples_is_refused(limited: httpx.Client) -> None:
    run = finished(limited, XOR)
    most = 2000 // (2 + 8 + 1)
    assert limited.post(f"{path(run)}/predict", json={"samples": [[0, 1]] * most}).status_code == 200
    response = limited.post(f"{path(run)}/predict", json={"samples": [[0, 1]] * (most + 1)})
    problem = refused(response, "limit_exceeded", "/samples", "CHAINRULE_MAX_INSPECT_VALUES", "fewer samples")
    assert (problem["limit"], problem["value"]) == (2000, 11 * (most + 1))


def test_the_engine_predicts_what_the_service_predicts(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    (last,) = [
        epoch
        for epoch in train(
            TrainingConfig(
                NetworkSpec(2, (LayerSpec(8, "tanh"), LayerSpec(1, "sigmoid"))),
                optimizer=OptimizerSpec("adam", 0.05),
                epochs=20,
                batch_size=4,
                seed=7,
            ),
            xor(),
        )
        if isinstance(epoch, Epoch) and epoch.epoch == 20
    ]
    X = xor().X
    found = client.post(f"{path(xor_run)}/predict", json={"samples": X.tolist()}).json()
    assert found["outputs"] == predict(last.network, X.astype(np.float32)).tolist()


STOPPING: dict[str, Any] = {
    "dataset": "spirals",
    "validation": {"fraction": 0.3, "seed": 5},
    "network": {"layers": [{"units": 16, "activation": "tanh", "dropout": 0.2}, {"units": 3, "activation": "softmax"}]},
    "optimizer": {"name": "adam", "learning_rate": 0.2},
    "schedule": {"name": "plateau", "factor": 0.5, "patience": 2},
    "label_smoothing": 0.1,
    "class_weights": [1.0, 2.0, 0.5],
    "early_stopping": {"patience": 4, "min_delta": 0.001},
    "epochs": 300,
    "batch_size": 32,
    "seed": 9,
    "checkpoints": {"every": 1000, "keep": 1},
}
"""Stops early, after a few dozen epochs."""


def test_a_run_stops_early_where_the_bare_engine_does_and_keeps_its_best_weights(client: httpx.Client) -> None:
    run = finished(client, STOPPING)
    config = TrainingConfig(
        NetworkSpec(2, (LayerSpec(16, "tanh", dropout=0.2), LayerSpec(3, "softmax"))),
        optimizer=OptimizerSpec("adam", 0.2),
        schedule=ScheduleSpec("plateau", factor=0.5, patience=2),
        label_smoothing=0.1,
        class_weights=(1.0, 2.0, 0.5),
        early_stopping=EarlyStoppingSpec(4, 0.001),
        epochs=300,
        batch_size=32,
        seed=9,
    )
    data, held_out = spirals().split(0.3, 5)
    epochs = [epoch for epoch in train(config, data, held_out) if isinstance(epoch, Epoch)]
    last = epochs[-1]
    assert last.last
    assert last.best_epoch is not None
    assert 4 < last.epoch < 300

    best = last.best_epoch
    assert (run["reason"], run["best_epoch"]) == ("early_stopped", best)
    assert f"than {best} in the 4" in run["detail"]
    progress = run["progress"]
    assert (progress["epochs_done"], progress["epochs_total"], progress["percent"]) == (last.epoch, 300, 100.0)
    columns = client.get(f"/v1/runs/{run['id']}/epochs").json()["columns"]
    for name in ("cost", "error", "validation_cost", "validation_error", "learning_rate"):
        assert columns[name] == [getattr(epoch, name) for epoch in epochs]
    assert len(set(columns["learning_rate"])) > 1

    assert [checkpoint.epoch for checkpoint in kept(client, run)] == [0, best, last.epoch]
    assert last.best is not None
    assert same(weights(client, run, "final"), last.best.named())
    assert same(weights(client, run, "last"), last.network.named())
    final = client.get(path(run, "final")).json()
    assert (final["epoch"], final["validation_cost"]) == (best, epochs[best].validation_cost)
    assert not same(weights(client, run, "final"), weights(client, run, "last"))


def test_final_is_what_everything_asks_for_by_the_weights_a_run_ended_with(
    client: httpx.Client, digits_run: dict[str, Any]
) -> None:
    stopped = finished(client, STOPPING)
    for run, epoch in ((digits_run, 12), (stopped, stopped["best_epoch"])):
        width = run["config"]["network"]["inputs"]
        for answer in (
            client.get(path(run, "final")),
            client.get(f"{path(run, 'final')}/metrics"),
            client.post(f"{path(run, 'final')}/predict", json={"samples": [[0.5] * width]}),
            client.post(f"{path(run, 'final')}/gradients", json={"rows": [0], "names": ["dW1"]}),
        ):
            assert (answer.status_code, answer.json()["epoch"]) == (200, epoch)
        fetched = client.get(f"{path(run, 'final')}/weights")
        assert fetched.headers["content-location"] == f"{path(run, epoch)}/weights"
        assert fetched.headers["cache-control"] == "private, no-cache"
        assert fetched.headers["etag"] == client.get(f"{path(run, epoch)}/weights").headers["etag"]
    assert digits_run["best_epoch"] is None


def test_several_labels_that_each_hold_or_not_are_learnt_and_measured(client: httpx.Client) -> None:
    rng = np.random.default_rng(3)
    X = rng.uniform(-1, 1, (120, 2))
    Y = np.column_stack([X[:, 0] > 0, X[:, 1] > 0, X.sum(axis=1) > 0]).astype(float)
    made = client.post("/v1/datasets", json={"samples": X.tolist(), "targets": Y.tolist()}).json()
    run = finished(
        client,
        {
            "dataset": made["id"], "cost": "binary_cross_entropy", "dtype": "float64", "epochs": 40, "batch_size": 10,
            "network": {"layers": [{"units": 8, "activation": "tanh"}, {"units": 3, "activation": "sigmoid"}]},
            "optimizer": {"name": "adam", "learning_rate": 0.05}, "validation": {"dataset": made["id"]},
        },
    )  # fmt: skip
    predicted = client.post(f"{path(run, 'final')}/predict", json={"samples": X.tolist()}).json()
    A = np.array(predicted["outputs"])
    assert run["validation_error"] == pytest.approx(((A > 0.5) != (Y > 0.5)).any(axis=1).mean())
    assert run["validation_error"] < 0.2
    assert run["validation_cost"] == pytest.approx(-(Y * np.log(A) + (1 - Y) * np.log(1 - A)).sum(axis=1).mean())
    metrics = client.get(f"{path(run, 'final')}/metrics").json()
    assert (metrics["kind"], metrics["error"]) == ("multi_label", run["validation_error"])
