"""Inputs of runs: fitted to the training samples, shown, and applied to whatever goes through the network."""

import io
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from chainrule.app.api.schemas.gradients import GradientCheck, Gradients
from chainrule.app.api.schemas.inputs import RunInputs
from chainrule.engine import Data, digits
from chainrule.engine.data import targets
from chainrule.engine.preprocessing import SCALINGS, fit
from tests.app.api.calls import DIGITS, XOR, finished, refused, submit, upload

COLOURS = ["blue", "red", "white"]
SHIRTS = "price,colour,size,sold\n" + "".join(
    f"{1000 + 7 * n},{COLOURS[n % 3]},{n % 5},{'yes' if n % 3 == 1 or n > 40 else 'no'}\n" for n in range(60)
)
RAW = np.array([[1000.0 + 7 * n, n % 3, n % 5] for n in range(60)])
RUN: dict[str, Any] = {
    "validation": {"fraction": 0.25, "seed": 3},
    "inputs": {"scaling": "standardize"},
    "network": {"layers": [{"units": 4, "activation": "tanh"}, {"units": 2, "activation": "softmax"}]},
    "optimizer": {"name": "adam", "learning_rate": 0.05},
    "epochs": 30,
    "batch_size": 8,
    "seed": 5,
    "dtype": "float64",
}


@pytest.fixture(scope="module")
def shirts(client: httpx.Client) -> str:
    dataset_id: str = upload(client, SHIRTS, "shirts.csv")["id"]
    return dataset_id


@pytest.fixture(scope="module")
def run(client: httpx.Client, shirts: str) -> dict[str, Any]:
    return finished(client, RUN | {"dataset": shirts})


def raw(fraction: float = 0.25, seed: int = 3) -> tuple[Data, Data]:
    """Split the samples as the service does."""
    labels = np.array([int(n % 3 == 1 or n > 40) for n in range(60)])
    data = Data(RAW, labels=labels, classes=("no", "yes"), categories=(None, tuple(COLOURS), None))
    return data.split(fraction, seed)


def by_hand(X: NDArray[Any]) -> NDArray[Any]:
    """Standardize with mean and standard deviation of the training samples, and one-hot the colours between."""
    training = raw()[0].X
    mean, deviation = training.mean(axis=0), training.std(axis=0)
    scaled = (X - mean) / deviation
    return np.column_stack([scaled[:, 0], np.eye(3)[X[:, 1].astype(int)], scaled[:, 2]])


def outputs(client: httpx.Client, run: dict[str, Any], inputs: NDArray[Any]) -> NDArray[Any]:
    """Put the network's inputs through its last weights."""
    weights = client.get(f"/v1/runs/{run['id']}/checkpoints/last/weights", params={"format": "npz"}).content
    with np.load(io.BytesIO(weights)) as w:
        e = np.exp(np.tanh(inputs @ w["W1"].T + w["b1"]) @ w["W2"].T + w["b2"])
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def named(X: NDArray[Any]) -> list[list[Any]]:
    """Write samples as a client does, colours by name."""
    return [[price, COLOURS[int(colour)], size] for price, colour, size in X.tolist()]


def test_categories_widen_the_network_and_the_config_says_so(run: dict[str, Any]) -> None:
    assert run["config"]["inputs"] == {"scaling": "standardize", "categorical": "one_hot"}
    assert run["config"]["network"]["inputs"] == 5
    assert run["parameters"] == 4 * 6 + 2 * 5


def test_what_was_fitted_is_that_of_the_training_samples(client: httpx.Client, run: dict[str, Any]) -> None:
    response = client.get(f"/v1/runs/{run['id']}/inputs")
    shown = RunInputs.model_validate(response.json())
    assert (shown.scaling, shown.categorical, shown.features, shown.inputs) == ("standardize", "one_hot", 3, 5)
    assert shown.scaling_equation == SCALINGS["standardize"]
    price, colour, size = response.json()["columns"]
    assert colour == {"name": "colour", "kind": "categorical", "categories": COLOURS}
    training = raw()[0].X
    for column, position in ((price, 0), (size, 2)):
        assert column["offset"] == pytest.approx(training[:, position].mean(), rel=1e-12)
        assert column["scale"] == pytest.approx(1 / training[:, position].std(), rel=1e-12)
    assert price["offset"] == fit(raw()[0], "standardize").offset[0]


def test_predict_takes_raw_samples_and_maps_them_as_training_did(client: httpx.Client, run: dict[str, Any]) -> None:
    query = {"samples": named(RAW)}
    found = client.post(f"/v1/runs/{run['id']}/checkpoints/last/predict", json=query).json()
    expected = outputs(client, run, by_hand(RAW))
    assert np.array(found["outputs"]) == pytest.approx(expected, rel=1e-9)
    assert found["labels"] == [["no", "yes"][n] for n in expected.argmax(axis=1)]
    # The cost and error the run recorded are those of what predict answers for the validation samples, sent raw.
    held_out = raw()[1]
    query = {"samples": named(held_out.X)}
    found = client.post(f"/v1/runs/{run['id']}/checkpoints/last/predict", json=query).json()
    A, Y = np.array(found["outputs"]), targets(held_out, 2)
    assert run["validation_cost"] == pytest.approx(-np.mean(np.sum(Y * np.log(A), axis=1)), rel=1e-9)
    assert run["validation_error"] == pytest.approx(np.mean(A.argmax(axis=1) != held_out.labels))


def test_gradients_are_the_same_for_rows_and_for_the_raw_samples_in_them(
    client: httpx.Client, run: dict[str, Any]
) -> None:
    place, rows = f"/v1/runs/{run['id']}/checkpoints/last/gradients", [0, 7, 41]
    by_row = client.post(place, json={"rows": rows}).json()
    Gradients.model_validate(by_row)
    labels = [["no", "yes"][int(n % 3 == 1 or n > 40)] for n in rows]
    sent = client.post(place, json={"samples": named(RAW[rows]), "labels": labels}).json()
    assert sent["quantities"] == by_row["quantities"]
    found = by_row["quantities"]
    assert np.array(found["A0"]["values"]) == pytest.approx(by_hand(RAW[rows]), rel=1e-12, abs=1e-12)
    assert found["A0"]["equation"] == (f"A[0] = X′, the features after preprocessing: GET /v1/runs/{run['id']}/inputs")
    assert found["dA0"]["equation"] == "dA[0] = dZ[1]·W[1], with respect to the features after preprocessing"
    assert found["dA0"]["shape"] == [3, 5]


def test_categories_are_one_hot_without_being_asked_for(client: httpx.Client, shirts: str) -> None:
    spec = {name: value for name, value in RUN.items() if name != "inputs"} | {"dataset": shirts, "epochs": 2}
    run = finished(client, spec)
    assert run["config"]["inputs"] == {"scaling": "none", "categorical": "one_hot"}
    found = client.post(f"/v1/runs/{run['id']}/checkpoints/0/gradients", json={"rows": [4], "names": ["A0"]}).json()
    assert found["quantities"]["A0"]["values"] == [[1028, 0, 1, 0, 4]]


def test_scaled_pixels_are_trained_on_to_the_same_bytes_as_the_bare_engine_is(client: httpx.Client) -> None:
    from chainrule.app.services.training import engine_config
    from chainrule.engine import Epoch, train

    run = finished(client, DIGITS | {"inputs": {"scaling": "min_max"}, "epochs": 2, "checkpoints": {}})
    training, held_out = digits().split(0.25, 3)
    fitted = fit(training, "min_max")
    config = engine_config(run["config"], 64)
    made = [
        event for event in train(config, fitted.transform(training, np.float32), fitted.transform(held_out, np.float32))
        if isinstance(event, Epoch)
    ]  # fmt: skip
    weights = client.get(f"/v1/runs/{run['id']}/checkpoints/2/weights", params={"format": "npz"}).content
    with np.load(io.BytesIO(weights)) as w:
        for name, array in made[-1].network.named().items():
            assert np.array_equal(array, w[name]), name
    assert run["validation_cost"] == made[-1].validation_cost


def test_a_run_without_preprocessing_shows_that_too(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    assert xor_run["config"]["inputs"] is None
    shown = client.get(f"/v1/runs/{xor_run['id']}/inputs").json()
    assert (shown["scaling"], shown["features"], shown["inputs"]) == ("none", 2, 2)
    assert shown["columns"] == [{"name": name, "kind": "numeric", "offset": 0.0, "scale": 1.0} for name in ("x1", "x2")]
    plain = finished(client, XOR | {"inputs": {"scaling": "none"}, "epochs": 1})
    assert plain["config"]["inputs"] is None
    refused(client.get("/v1/runs/run_nobody/inputs"), "not_found")


def test_a_validation_dataset_may_know_fewer_categories(client: httpx.Client, shirts: str) -> None:
    fewer = upload(client, "price,colour,size,sold\n1100,white,2,no\n1200,red,1,yes\n1300,white,1,yes\n", "few.csv")
    run = finished(client, RUN | {"dataset": shirts, "validation": {"dataset": fewer["id"]}, "epochs": 3})
    query = {"samples": [[1100, "white", 2], [1200, "red", 1], [1300, "white", 1]]}
    found = client.post(f"/v1/runs/{run['id']}/checkpoints/last/predict", json=query).json()
    A = np.array(found["outputs"])
    assert run["validation_cost"] == pytest.approx(-np.mean(np.log(A[[0, 1, 2], [0, 1, 1]])), rel=1e-9)
    other = upload(client, "price,colour,size,sold\n1100,green,2,no\n1200,red,1,yes\n", "other.csv")
    response = client.post("/v1/runs", json=RUN | {"dataset": shirts, "validation": {"dataset": other["id"]}})
    refused(response, "invalid_input", "/validation/dataset", "'green'", "blue, red, white")


@pytest.mark.parametrize(
    ("sample", "pointer", "says"),
    [
        ([1000, "green", 1], "/samples/0/1", "Column colour has no category 'green'; it has blue, red, white."),
        ([1000, 0, 1], "/samples/0/1", "Column colour has no category '0'"),
        (["x", "red", 1], "/samples/0/0", "'x'; the column holds numbers."),
        ([1000, "red"], "/samples/0", "The samples have 2 values and the dataset has 3."),
        ([1000, "red", None], "/samples/0/2", "This must be a finite number, or the name of a category."),
        ([1.7e308, "red", 1e306], "/samples/0/0", "too large for float32"),
        ([1000, "red", 1e306], "/samples/0/2", "too large for float32"),
    ],
)
def test_samples_that_do_not_fit_are_refused_by_place(
    client: httpx.Client, shirts: str, sample: list[Any], pointer: str, says: str
) -> None:
    run = finished(client, RUN | {"dataset": shirts, "epochs": 1, "dtype": "float32"})
    place = f"/v1/runs/{run['id']}/checkpoints/last"
    refused(client.post(f"{place}/predict", json={"samples": [sample]}), "invalid_input", pointer, says)
    query = {"samples": [sample], "labels": ["no"]}
    refused(client.post(f"{place}/gradients", json=query), "invalid_input", pointer, says)


@pytest.mark.parametrize(
    ("changes", "pointer", "says"),
    [
        ({"inputs": {"scaling": "robust"}}, "/inputs/scaling", "known: none, standardize, min_max"),
        ({"inputs": {"categorical": "codes"}}, "/inputs/categorical", "known: one_hot"),
        ({"inputs": {"scale": "none"}}, "/inputs/scale", "There is no such field; known: scaling, categorical."),
        ({"network": RUN["network"] | {"inputs": 3}}, "/network/inputs", "3 features, which one-hot columns make 5"),
    ],
)
def test_specs_that_make_no_sense_are_refused_by_place(
    client: httpx.Client, shirts: str, changes: dict[str, Any], pointer: str, says: str
) -> None:
    for parameters in ({}, {"validate_only": True}):
        response = client.post("/v1/runs", json=RUN | {"dataset": shirts} | changes, params=parameters)
        refused(response, "invalid_input", pointer, says)


def test_a_column_too_wide_to_be_scaled_is_refused(client: httpx.Client) -> None:
    wide = upload(client, "x,label\n-1e308,a\n1e308,b\n", "wide.csv")
    spec = RUN | {"dataset": wide["id"], "validation": None}
    refused(client.post("/v1/runs", json=spec), "invalid_input", "/inputs/scaling", "further than a number can hold")


def test_gradient_checks_look_at_preprocessed_rows(client: httpx.Client, shirts: str) -> None:
    check = {"dataset": shirts, "network": RUN["network"], "inputs": {"scaling": "standardize"}}
    found = GradientCheck.model_validate(client.post("/v1/gradient-checks", json=check).json())
    assert found.passed
    assert found.blocks[0].shape == [4, 5]


def test_metrics_are_those_of_preprocessed_samples(client: httpx.Client, run: dict[str, Any]) -> None:
    found = client.get(f"/v1/runs/{run['id']}/checkpoints/last/metrics", params={"split": "validation"}).json()
    assert found["error"] == run["validation_error"]


def test_rows_as_json_may_hold_texts(client: httpx.Client) -> None:
    body = {"samples": [[1, "red"], [2, "blue"], [3, "red"], [4, "blue"]], "labels": ["a", "b", "a", "b"]}
    made = client.post("/v1/datasets", json=body).json()
    assert made["report"]["columns"][1] == {"name": "x2", "kind": "categorical", "categories": ["blue", "red"]}
    assert client.get(f"/v1/datasets/{made['id']}/preview").json()["rows"] == body["samples"]
    run = submit(client, RUN | {"dataset": made["id"], "epochs": 1})
    assert run["config"]["network"]["inputs"] == 3
    body["samples"] = [[1, "red"], [2, 3], [3, "red"], [4, "blue"]]
    refused(client.post("/v1/datasets", json=body), "invalid_input", "/samples/1/1", "send all its categories as texts")


def test_the_form_takes_categorical_columns(client: httpx.Client) -> None:
    made = upload(client, SHIRTS, "shirts.csv", categorical_columns="size, price")
    assert [column["kind"] for column in made["report"]["columns"]] == ["categorical"] * 3
    response = client.post(
        "/v1/datasets", files={"file": ("shirts.csv", SHIRTS)}, data={"categorical_columns": "sleeve"}
    )
    refused(response, "invalid_input", "/categorical_columns", "There is no column 'sleeve'")


def test_what_was_fitted_goes_with_the_run(client: httpx.Client, shirts: str) -> None:
    run = finished(client, RUN | {"dataset": shirts, "epochs": 1})
    assert client.delete(f"/v1/runs/{run['id']}").status_code == 204
    refused(client.get(f"/v1/runs/{run['id']}/inputs"), "not_found")


def test_extended_and_cloned_runs_map_their_features_as_the_run_did(client: httpx.Client, run: dict[str, Any]) -> None:
    shown = client.get(f"/v1/runs/{run['id']}/inputs").json()
    whole = finished(client, RUN | {"dataset": run["dataset"], "epochs": 33})
    for verb, body in (("extend", {"epochs": 3}), ("clone", {"epochs": 33})):
        made = client.post(f"/v1/runs/{run['id']}/{verb}", json=body).json()
        assert client.get(f"/v1/runs/{made['id']}/inputs").json() == shown | {"run": made["id"]}
        ended = client.get(f"/v1/runs/{made['id']}", headers={"Prefer": "wait=60"}, timeout=90).json()
        assert ended["status"] == "succeeded"
        hashes = [client.get(f"/v1/runs/{r}/checkpoints/33").json()["sha256"] for r in (made["id"], whole["id"])]
        assert hashes[0] == hashes[1]
    other = client.post(f"/v1/runs/{run['id']}/clone", json={"inputs": {"scaling": "min_max"}}).json()
    assert client.get(f"/v1/runs/{other['id']}/inputs").json()["scaling"] == "min_max"
