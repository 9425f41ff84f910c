"""Gradients: recorded, on demand, and checked; each recomputed here from the fetched weights, as the equations say."""

import io
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from chainrule.app.api.schemas.gradients import GradientCheck, GradientRecords, Gradients
from chainrule.engine import ACTIVATIONS, COSTS, Data, digits, xor
from tests.app.api.calls import DIGITS, FLOWERS, XOR, finished, refused, upload

Array = NDArray[Any]
CHECK: dict[str, Any] = {"dataset": "xor", "network": XOR["network"]}


def sigmoid(Z: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-Z)))


def softmax(Z: Array) -> Array:
    e = np.exp(Z - Z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def activate(name: str, Z: Array) -> Array:
    by_name: dict[str, Callable[[Array], Array]] = {
        "tanh": np.tanh,
        "relu": lambda Z: np.asarray(np.maximum(Z, 0)),
        "sigmoid": sigmoid,
        "softmax": softmax,
        "linear": lambda Z: Z,
    }
    return by_name[name](Z)


def slope(name: str, Z: Array) -> Array:
    if name == "tanh":
        return np.asarray(1 - np.tanh(Z) ** 2)
    if name == "sigmoid":
        return np.asarray(sigmoid(Z) * (1 - sigmoid(Z)))
    return np.asarray(Z > 0, float) if name == "relu" else np.ones_like(Z)


def backpropagate(
    weights: dict[str, Array], run: dict[str, Any], X: Array, Y: Array, w: Array | None = None
) -> dict[str, Array]:
    """Compute every quantity in float64, in the order of the equations; w is what the samples' errors weigh."""
    layers, cost = run["config"]["network"]["layers"], run["config"]["cost"]
    names, L, m = [layer["activation"] for layer in layers], len(layers), len(X)
    W = {number: weights[f"W{number}"].astype(np.float64) for number in range(1, L + 1)}
    found: dict[str, Array] = {"A0": np.asarray(X, np.float64)}
    for n in range(1, L + 1):
        found[f"Z{n}"] = found[f"A{n - 1}"] @ W[n].T + weights[f"b{n}"]
        found[f"A{n}"] = activate(names[n - 1], found[f"Z{n}"])
    A = found[f"A{L}"]
    if cost == "mse":
        found[f"dA{L}"] = A - Y
    elif names[-1] == "softmax":
        found[f"dA{L}"] = -Y / A
    else:
        found[f"dA{L}"] = -(Y / A - (1 - Y) / (1 - A))
    if w is not None:
        found[f"dA{L}"] *= w[:, None]
    for n in range(L, 0, -1):
        dA = found[f"dA{n}"]
        if names[n - 1] == "softmax":
            A = found[f"A{n}"]
            found[f"dZ{n}"] = A * (dA - (dA * A).sum(axis=1, keepdims=True))
        else:
            found[f"dZ{n}"] = dA * slope(names[n - 1], found[f"Z{n}"])
        found[f"dW{n}"] = found[f"dZ{n}"].T @ found[f"A{n - 1}"] / m
        found[f"db{n}"] = found[f"dZ{n}"].sum(axis=0) / m
        found[f"dA{n - 1}"] = found[f"dZ{n}"] @ W[n]
    return found


def weights(client: httpx.Client, run: dict[str, Any], epoch: int | str) -> dict[str, Array]:
    return safetensors.numpy.load(client.get(f"/v1/runs/{run['id']}/checkpoints/{epoch}/weights").content)


def one_hot(labels: Array, classes: int) -> Array:
    return np.asarray(np.eye(classes)[labels])


def address(run: dict[str, Any], epoch: int | str = "last") -> str:
    return f"/v1/runs/{run['id']}/checkpoints/{epoch}/gradients"


def ask(client: httpx.Client, run: dict[str, Any], epoch: int | str = "last", **question: Any) -> Gradients:
    response = client.post(address(run, epoch), json=question)
    assert response.status_code == 200, response.text
    return Gradients.model_validate(response.json())


def arrays(answer: Gradients) -> dict[str, Array]:
    return {name: np.array(quantity.values) for name, quantity in answer.quantities.items()}


def agree(found: dict[str, Array], expected: dict[str, Array], *, rtol: float) -> None:
    assert found.keys() == expected.keys()
    for name, array in found.items():
        assert array.shape == expected[name].shape, name
        np.testing.assert_allclose(
            array, expected[name], rtol=rtol, atol=rtol * np.abs(expected[name]).max(), err_msg=name
        )


def records(client: httpx.Client, run: dict[str, Any], **parameters: Any) -> list[dict[str, Any]]:
    response = client.get(f"/v1/runs/{run['id']}/gradients", params=parameters)
    assert response.status_code == 200, response.text
    return [record.model_dump() for record in GradientRecords.model_validate(response.json()).items]


@pytest.fixture(scope="module")
def exact_run(client: httpx.Client) -> dict[str, Any]:
    """A run in float64, with everything kept and recorded."""
    return finished(client, DIGITS | {"dtype": "float64", "epochs": 3, "checkpoints": {}, "gradients": {"every": 1}})


def test_statistics_are_recorded_of_the_first_the_last_and_every_so_many_epochs(
    client: httpx.Client, digits_run: dict[str, Any]
) -> None:
    found = records(client, digits_run)
    assert [(record["epoch"], record["gradient"], record["layer"]) for record in found] == [
        (epoch, name, int(name[2:])) for epoch in (0, 1, 4, 8, 12) for name in ("dW1", "db1", "dW2", "db2")
    ]
    assert all((record["update_ratio"] is None) == (record["epoch"] == 0) for record in found)


def test_statistics_are_not_recorded_when_nobody_wants_them(client: httpx.Client) -> None:
    assert records(client, finished(client, XOR | {"gradients": {"every": 0}})) == []


def test_statistics_of_one_layer(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    everything = records(client, digits_run)
    for layer in (1, 2, 3):
        assert records(client, digits_run, layer=layer) == [record for record in everything if record["layer"] == layer]


def test_statistics_are_read_page_by_page_of_whole_epochs(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    for layer in ({}, {"layer": 2}):
        found, after = list[Any](), -1
        while True:
            parameters = {"after": after, "limit": 2} | layer
            page = client.get(f"/v1/runs/{digits_run['id']}/gradients", params=parameters).json()
            found += page["items"]
            assert len({record["epoch"] for record in page["items"]}) <= 2
            if page["next_after"] is None:
                break
            after = page["next_after"]
        assert found == records(client, digits_run, **layer)


@pytest.mark.parametrize("query", ["layer=0", "layer=x", "layer=99999999999999", "limit=0", "limit=1001", "after=-2"])
def test_a_number_out_of_its_range_is_refused(client: httpx.Client, digits_run: dict[str, Any], query: str) -> None:
    response = client.get(f"/v1/runs/{digits_run['id']}/gradients?{query}")
    refused(response, "invalid_input", f"/{query.partition('=')[0]}")


def statistics_of(G: Array) -> dict[str, float]:
    return {
        "norm": float(np.sqrt((G**2).sum())),
        "mean": float(G.mean()),
        "standard_deviation": float(G.std()),
        "minimum": float(G.min()),
        "maximum": float(G.max()),
        "zeros": float((G == 0).mean()),
    }


NORMALIZED = {
    "layers": [
        {"units": 7, "activation": "tanh", "normalization": "batch"},
        {"units": 6, "activation": "tanh", "normalization": "layer"},
        {"units": 10, "activation": "softmax"},
    ]
}


@pytest.fixture(scope="module")
def normalized_run(client: httpx.Client) -> dict[str, Any]:
    """A run in float64 of a network that normalizes in both ways, with everything kept and recorded."""
    return finished(
        client,
        DIGITS | {"network": NORMALIZED, "dtype": "float64", "epochs": 2, "checkpoints": {}, "gradients": {"every": 1}},
    )


def normalize(Z: Array, w: dict[str, Array], number: int, axis: int) -> tuple[Array, Array, Array]:
    """Compute Ẑ, 1/√(σ² + ε) and N; over units with axis 1, over samples with 0, with running statistics with -1."""
    mean = Z.mean(axis=axis, keepdims=True) if axis >= 0 else w[f"running_mean{number}"]
    variance = Z.var(axis=axis, keepdims=True) if axis >= 0 else w[f"running_var{number}"]
    scale = 1 / np.sqrt(variance + 1e-5)
    Z_hat = (Z - mean) * scale
    return Z_hat, scale, w[f"gamma{number}"] * Z_hat + w[f"beta{number}"]


def denormalize(dN: Array, gamma: Array, Z_hat: Array, scale: Array, axis: int) -> Array:
    """Compute dZ of dN."""
    d = dN * gamma
    if axis < 0:
        return d * scale
    along = (d * Z_hat).mean(axis=axis, keepdims=True)
    return np.asarray((d - d.mean(axis=axis, keepdims=True) - Z_hat * along) * scale)


@pytest.mark.parametrize("mode", ["evaluation", "training"])
def test_every_quantity_of_a_network_that_normalizes_agrees_with_the_equations(
    client: httpx.Client, normalized_run: dict[str, Any], mode: str
) -> None:
    data, rows, m = digits(), list(range(0, 90, 3)), 30
    assert data.labels is not None
    for epoch in (0, 2):
        w = weights(client, normalized_run, epoch)
        over_samples = 0 if mode == "training" else -1
        e: dict[str, Array] = {"A0": data.X[rows]}
        e["Z1"] = e["A0"] @ w["W1"].T + w["b1"]
        Z1_hat, scale1, e["N1"] = normalize(e["Z1"], w, 1, over_samples)
        e["A1"] = np.tanh(e["N1"])
        e["Z2"] = e["A1"] @ w["W2"].T + w["b2"]
        Z2_hat, scale2, e["N2"] = normalize(e["Z2"], w, 2, 1)
        e["A2"] = np.tanh(e["N2"])
        e["Z3"] = e["A2"] @ w["W3"].T + w["b3"]
        e["A3"] = softmax(e["Z3"])
        e["dA3"] = -one_hot(data.labels[rows], 10) / e["A3"]
        e["dZ3"] = e["A3"] - one_hot(data.labels[rows], 10)
        e["dA2"] = e["dZ3"] @ w["W3"]
        e["dN2"] = e["dA2"] * (1 - e["A2"] ** 2)
        e["dZ2"] = denormalize(e["dN2"], w["gamma2"], Z2_hat, scale2, 1)
        e["dA1"] = e["dZ2"] @ w["W2"]
        e["dN1"] = e["dA1"] * (1 - e["A1"] ** 2)
        e["dZ1"] = denormalize(e["dN1"], w["gamma1"], Z1_hat, scale1, over_samples)
        e["dA0"] = e["dZ1"] @ w["W1"]
        for number, Z_hat in ((1, Z1_hat), (2, Z2_hat), (3, None)):
            e[f"dW{number}"] = e[f"dZ{number}"].T @ e[f"A{number - 1}"] / m
            e[f"db{number}"] = e[f"dZ{number}"].mean(axis=0)
            if Z_hat is not None:
                e[f"dgamma{number}"] = (e[f"dN{number}"] * Z_hat).mean(axis=0)
                e[f"dbeta{number}"] = e[f"dN{number}"].mean(axis=0)
        answer = ask(client, normalized_run, epoch, rows=rows, mode=mode)
        assert answer.mode == mode
        found = arrays(answer)
        assert np.abs(found["db1"] - e["db1"]).max() < 1e-14  # in training of rounding alone
        agree(
            {name: G for name, G in found.items() if name != "db1"},
            {name: e[name] for name in found if name != "db1"},
            rtol=1e-9,
        )
        outputs = client.post(
            f"/v1/runs/{normalized_run['id']}/checkpoints/{epoch}/predict", json={"samples": data.X[rows].tolist()}
        ).json()["outputs"]
        assert np.allclose(outputs, e["A3"], rtol=1e-9) == (mode == "evaluation")


def test_statistics_of_a_network_that_normalizes_are_those_asked_for_later(
    client: httpx.Client, normalized_run: dict[str, Any]
) -> None:
    recorded = [record for record in records(client, normalized_run) if record["epoch"] == 2]
    assert [record["gradient"] for record in recorded] == [
        "dW1", "db1", "dbeta1", "dgamma1", "dW2", "db2", "dbeta2", "dgamma2", "dW3", "db3",
    ]  # fmt: skip
    data = digits()
    training = data.split(0.25, 3)[0].X[:512]
    rows = [int(np.flatnonzero((x == data.X).all(axis=1))[0]) for x in training]
    found = arrays(ask(client, normalized_run, 2, rows=rows, names=[record["gradient"] for record in recorded]))
    for record in recorded:
        for name, value in statistics_of(found[record["gradient"]]).items():
            assert record[name] == pytest.approx(value, rel=1e-9, abs=1e-14)


def test_weights_of_a_network_that_normalizes_come_layer_by_layer_in_every_format(
    client: httpx.Client, normalized_run: dict[str, Any]
) -> None:
    path = f"/v1/runs/{normalized_run['id']}/checkpoints/2/weights"
    expected = weights(client, normalized_run, 2)
    names = [
        "W1", "b1", "beta1", "gamma1", "running_mean1", "running_var1", "W2", "b2", "beta2", "gamma2", "W3", "b3",
    ]  # fmt: skip
    assert sorted(expected) == sorted(names)
    with np.load(io.BytesIO(client.get(path, params={"format": "npz"}).content)) as loaded:
        assert list(loaded) == names
        assert all(np.array_equal(loaded[name], expected[name]) for name in names)
    assert list(client.get(path, params={"format": "json"}).json()["weights"]) == names


def test_in_training_no_sample_has_a_gradient_of_its_own_below_batch_normalization(
    client: httpx.Client, normalized_run: dict[str, Any]
) -> None:
    wanted = ["dW2", "dbeta1", "dgamma1", "dW1"]
    question: dict[str, Any] = {"rows": [0, 1, 2], "names": wanted, "per_sample": True}
    refused(
        client.post(address(normalized_run), json=question | {"mode": "training"}), "invalid_input", "/names/3",
        "dW1", "mode evaluation",
    )  # fmt: skip
    own = arrays(ask(client, normalized_run, **question))
    together = arrays(ask(client, normalized_run, **question | {"per_sample": False}))
    above = question | {"names": wanted[:3], "mode": "training"}
    for alone, mean in (
        (own, together),
        (arrays(ask(client, normalized_run, **above)),
         arrays(ask(client, normalized_run, **above | {"per_sample": False}))),
    ):  # fmt: skip
        for name, array in alone.items():
            np.testing.assert_allclose(array.mean(axis=0), mean[name], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("kind", ["layer", "batch"])
def test_the_gradients_of_a_network_that_normalizes_pass_the_check(client: httpx.Client, kind: str) -> None:
    layers = [{"units": 4, "activation": "tanh", "normalization": kind}, {"units": 1, "activation": "sigmoid"}]
    # All units of layer 1 are the same for the sample (0, 0): there the cost bends on a scale of √ε.
    response = client.post("/v1/gradient-checks", json=CHECK | {"network": {"layers": layers}, "h": 1e-6})
    check = GradientCheck.model_validate(response.json())
    assert check.passed
    assert [block.name for block in check.blocks] == ["W1", "b1", "gamma1", "beta1", "W2", "b2"]


@pytest.mark.parametrize("validation", [None, {"fraction": 0.25, "seed": 3}, {"fraction": 0.9, "seed": 1}])
def test_recorded_statistics_are_those_of_the_first_training_samples_at_the_weights_of_the_epoch(
    client: httpx.Client, validation: dict[str, Any] | None
) -> None:
    changes = {"dtype": "float64", "epochs": 2, "checkpoints": {}, "gradients": {"every": 1}, "validation": validation}
    run = finished(client, DIGITS | changes)
    data = digits()
    training = data if validation is None else data.split(validation["fraction"], validation["seed"])[0]
    m = min(512, training.samples)
    assert m == (180 if validation and validation["fraction"] == 0.9 else 512)
    assert training.labels is not None
    X, Y = training.X[:m], one_hot(training.labels[:m], 10)
    rows = [int(np.flatnonzero((x == data.X).all(axis=1))[0]) for x in X]
    recorded = records(client, run)
    for epoch in (0, 1, 2):
        by_hand = backpropagate(weights(client, run, epoch), run, X, Y)
        on_demand = arrays(ask(client, run, epoch, rows=rows, names=["dW1", "db1", "dW2", "db2"]))
        for record in (one for one in recorded if one["epoch"] == epoch):
            for G in (by_hand[record["gradient"]], on_demand[record["gradient"]]):
                for name, value in statistics_of(G).items():
                    assert record[name] == pytest.approx(value, rel=1e-9, abs=1e-14), (epoch, record["gradient"], name)


def test_the_update_ratio_is_that_of_the_last_step(client: httpx.Client) -> None:
    run = finished(client, XOR | {"dtype": "float64", "optimizer": {"name": "sgd", "learning_rate": 0.5}})
    for record in records(client, run):
        if record["epoch"] > 0:
            name = record["gradient"][1:]
            now, then = (weights(client, run, epoch)[name] for epoch in (record["epoch"], record["epoch"] - 1))
            if np.linalg.norm(then) == 0:
                assert record["update_ratio"] is None
            else:  # one step is one epoch here
                ratio = np.linalg.norm(now - then) / np.linalg.norm(then)
                assert record["update_ratio"] == pytest.approx(ratio, rel=1e-9)


def test_every_quantity_of_rows_agrees_with_the_equations(client: httpx.Client, exact_run: dict[str, Any]) -> None:
    rows = [0, 5, 17, 5, 1796]
    data = digits()
    assert data.labels is not None
    X, Y = data.X[rows], one_hot(data.labels[rows], 10)
    for epoch in (0, 1, 3):
        answer = ask(client, exact_run, epoch, rows=rows)
        by_hand = backpropagate(weights(client, exact_run, epoch), exact_run, X, Y)
        agree(arrays(answer), by_hand, rtol=1e-10)
        assert (answer.run, answer.epoch, answer.m, answer.rows) == (exact_run["id"], epoch, 5, rows)
        assert (answer.dtype, answer.per_sample, answer.cost_name) == ("float64", False, "cross_entropy")
        assert answer.cost == pytest.approx(-(Y * np.log(by_hand["A2"])).sum(axis=1).mean(), rel=1e-10)
        for name, quantity in answer.quantities.items():
            assert quantity.shape == list(by_hand[name].shape)
            assert quantity.norm == pytest.approx(np.linalg.norm(by_hand[name]), rel=1e-10)
            assert quantity.equation.startswith(f"{name.rstrip('012')}[{name[-1]}] = ")


def test_every_quantity_in_float32_agrees_as_far_as_float32_goes(
    client: httpx.Client, digits_run: dict[str, Any]
) -> None:
    data = digits()
    assert data.labels is not None
    answer = ask(client, digits_run, 5, rows=[1, 2, 3])
    by_hand = backpropagate(weights(client, digits_run, 5), digits_run, data.X[1:4], one_hot(data.labels[1:4], 10))
    agree(arrays(answer), by_hand, rtol=2e-5)
    assert answer.dtype == "float32"


@pytest.mark.parametrize(
    ("output", "cost"),
    [
        ("sigmoid", "mse"), ("tanh", "mse"), ("linear", "mse"), ("relu", "mse"), ("softmax", "mse"),
        ("sigmoid", "cross_entropy"), ("softmax", "cross_entropy"),
    ],
)  # fmt: skip
def test_every_output_and_cost_agrees_with_the_equations_for_samples_sent_along(
    client: httpx.Client, output: str, cost: str
) -> None:
    hidden = [{"units": 5, "activation": "tanh"}, {"units": 4, "activation": "relu"}]
    network = {"layers": [*hidden, {"units": 2, "activation": output}]}
    run = finished(client, XOR | {"network": network, "cost": cost, "dtype": "float64", "epochs": 5})
    samples, labels = [[0.3, -0.7], [1.5, 0.2], [0.0, 0.9]], ["1", "0", "1"]
    answer = ask(client, run, samples=samples, labels=labels)
    expected = backpropagate(weights(client, run, 5), run, np.array(samples), one_hot(np.array([1, 0, 1]), 2))
    agree(arrays(answer), expected, rtol=1e-9)
    assert (answer.rows, answer.m, answer.cost_name) == (None, 3, cost)
    assert list(answer.quantities)[:4] == ["A0", "dA0", "Z1", "A1"]


def test_one_output_unit_for_two_classes_agrees_with_the_equations(client: httpx.Client) -> None:
    run = finished(client, XOR | {"dtype": "float64"})
    Y = np.array([[0.0], [1.0], [1.0], [0.0]])
    expected = backpropagate(weights(client, run, 20), run, xor().X, Y)
    agree(arrays(ask(client, run, rows=[0, 1, 2, 3])), expected, rtol=1e-9)
    sent = ask(client, run, samples=xor().X.tolist(), labels=[0, 1, "1", 0.0])
    agree(arrays(sent), expected, rtol=1e-9)


def test_numeric_targets_agree_with_the_equations(client: httpx.Client) -> None:
    X, Y = np.array([[0.0, 1.0], [2.0, 3.0], [1.0, -1.0]]), np.array([[1.0, 0.0], [5.0, -1.0], [0.0, 2.0]])
    rows = {"samples": X.tolist(), "targets": Y.tolist()}
    network = {"layers": [{"units": 3, "activation": "tanh"}, {"units": 2, "activation": "linear"}]}
    dataset = client.post("/v1/datasets", json=rows).json()["id"]
    run = finished(client, XOR | {"dataset": dataset, "network": network, "dtype": "float64"})
    expected = backpropagate(weights(client, run, 20), run, X, Y)
    agree(arrays(ask(client, run, rows=[0, 1, 2])), expected, rtol=1e-9)
    agree(arrays(ask(client, run, **rows)), expected, rtol=1e-9)
    refused(
        client.post(address(run), json={"samples": X.tolist(), "labels": ["a"] * 3}),
        "invalid_input",
        "/labels",
        "targets",
    )
    for targets, pointer in (
        ([[1.0]] * 3, "/targets"),
        ([[1, 2]] * 2, "/targets"),
        ([[1, 2], [1], [2, 3]], "/targets/1"),
    ):
        refused(client.post(address(run), json={"samples": X.tolist(), "targets": targets}), "invalid_input", pointer)


def test_the_mean_over_samples_of_a_gradient_per_sample_is_the_gradient(
    client: httpx.Client, exact_run: dict[str, Any]
) -> None:
    names, rows = ["dW1", "db1", "dW2", "db2", "dZ1", "A0"], [3, 1, 4, 1, 5]
    together = arrays(ask(client, exact_run, rows=rows, names=names))
    answer = ask(client, exact_run, rows=rows, names=names, per_sample=True)
    alone = arrays(answer)
    assert answer.per_sample
    assert alone["dW1"].shape == (5, 12, 64)
    for name in names[:4]:
        np.testing.assert_allclose(alone[name].mean(axis=0), together[name], rtol=1e-10, atol=1e-15)
        assert "⁽ⁱ⁾" in answer.quantities[name].equation
    for name in names[4:]:
        assert (alone[name] == together[name]).all()
    for position, row in enumerate(rows):
        of_row = arrays(ask(client, exact_run, rows=[row], names=["dW2"]))
        np.testing.assert_allclose(alone["dW2"][position], of_row["dW2"], rtol=1e-10, atol=1e-15)


def test_quantities_come_in_the_order_asked_for_and_without_values_if_so_wished(
    client: httpx.Client, exact_run: dict[str, Any]
) -> None:
    names = ["dZ2", "A0", "dW1"]
    with_values = ask(client, exact_run, rows=[0], names=names)
    assert list(with_values.quantities) == names
    without = client.post(address(exact_run), json={"rows": [0], "names": names, "values": False}).json()
    for name in names:
        assert set(without["quantities"][name]) == {"equation", "shape", "norm"}
        assert without["quantities"][name]["norm"] == with_values.quantities[name].norm


@pytest.mark.parametrize("per_sample", [False, True])
def test_arrays_are_the_same_in_every_format(
    client: httpx.Client, digits_run: dict[str, Any], per_sample: bool
) -> None:
    question: dict[str, Any] = {"rows": [7, 8], "per_sample": per_sample}
    answer = ask(client, digits_run, **question)
    expected = {name: np.array(quantity.values, np.float32) for name, quantity in answer.quantities.items()}
    npz = client.post(f"{address(digits_run)}?format=npz", json=question)
    tensors = client.post(address(digits_run), json=question, headers={"Accept": "application/x-safetensors"})
    assert npz.headers["content-type"] == "application/x-npz"
    assert tensors.headers["content-type"] == "application/x-safetensors"
    with np.load(io.BytesIO(npz.content), allow_pickle=False) as loaded:
        for found in (dict(loaded), safetensors.numpy.load(tensors.content)):
            assert found.keys() == expected.keys()
            for name, array in found.items():
                assert array.dtype == np.float32
                assert (array == expected[name]).all()
                assert array.shape == expected[name].shape


def test_a_format_that_is_not_offered_is_refused(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    response = client.post(f"{address(digits_run)}?format=csv", json={"rows": [0]})
    refused(response, "invalid_input", "/format", "json, npz, safetensors")
    response = client.post(address(digits_run), json={"rows": [0]}, headers={"Accept": "text/csv"})
    refused(response, "not_acceptable", None, "application/x-npz")


@pytest.mark.parametrize(
    ("question", "pointer", "words"),
    [
        ({}, "", ["either rows", "or samples"]),
        ({"rows": [0], "samples": [[0, 1]], "labels": ["1"]}, "", ["either rows", "or samples"]),
        ({"rows": [0], "labels": ["1"]}, "", ["go with samples"]),
        ({"samples": [[0, 1]]}, "", ["either labels", "or targets"]),
        ({"samples": [[0, 1]], "labels": ["1"], "targets": [[1]]}, "", ["either labels", "or targets"]),
        ({"rows": []}, "/rows", ["at least 1"]),
        ({"rows": [0, 4]}, "/rows/1", ["no row 4", "0 to 3"]),
        ({"rows": [-1]}, "/rows/0", ["no row -1"]),
        ({"rows": [10**30]}, "/rows/0", ["0 to 3"]),
        ({"rows": [0.0]}, "/rows/0", ["whole number"]),
        ({"rows": [True]}, "/rows/0", ["whole number"]),
        ({"rows": [0], "names": []}, "/names", ["at least 1"]),
        ({"rows": [0], "names": ["dW1", "dX1"]}, "/names/1", ["dX1", "A0, dA0, Z1, A1, dA1, dZ1, dW1, db1, Z2"]),
        ({"rows": [0], "names": ["dW3"]}, "/names/0", ["dW3"]),
        ({"rows": [0], "names": ["dW01"]}, "/names/0", ["dW01"]),
        ({"rows": [0], "names": ["dW\u0661"]}, "/names/0", ["dW"]),
        ({"rows": [0], "names": ["Z0"]}, "/names/0", ["Z0"]),
        ({"rows": [0], "names": ["dW1", "A1", "dW1"]}, "/names/2", ["dW1", "twice"]),
        ({"samples": [[0, 1]], "labels": ["2"]}, "/labels/0", ["'2'", "0, 1"]),
        ({"samples": [[0, 1]], "labels": [True]}, "/labels/0", ["'true'"]),
        ({"samples": [[0, 1]], "labels": ["1", "0"]}, "/labels", ["1 samples and 2 labels"]),
        ({"samples": [[0, 1]], "labels": [None]}, "/labels/0", ["label"]),
        ({"samples": [[0, 1]], "labels": ["\x00"]}, "/labels/0", ["0, 1"]),
        ({"samples": [[0, 1]], "targets": [[1]]}, "/targets", ["classifier", "0, 1"]),
        ({"samples": [[0]], "labels": ["1"]}, "/samples/0", ["1 values", "takes 2"]),
        ({"samples": [[0, 1], [0]], "labels": ["1", "1"]}, "/samples/1", ["Row 1"]),
        ({"samples": [[0, 1e39]], "labels": ["1"]}, "/samples/0/1", ["float32"]),
        ({"rows": [0], "epoch": 1}, "/epoch", ["no such field"]),
        ({"rows": [0], "values": 1}, "/values", ["true or false"]),
        ({"rows": [0], "mode": "eval"}, "/mode", ["'eval'", "evaluation, training"]),
        ({"rows": [0], "names": ["dgamma1"]}, "/names/0", ["dgamma1"]),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_at_its_place(
    client: httpx.Client, xor_run: dict[str, Any], question: dict[str, Any], pointer: str, words: list[str]
) -> None:
    refused(client.post(address(xor_run), json=question), "invalid_input", pointer, *words)


def test_a_question_of_too_many_values_is_refused(limited: httpx.Client) -> None:
    run = finished(limited, XOR)
    for question, pointer in (
        ({"rows": [0] * 100}, "/rows"),
        ({"samples": [[0, 1]] * 100, "labels": ["1"] * 100}, "/samples"),
        ({"rows": [0] * 44, "names": ["dW1"], "per_sample": True}, "/rows"),
    ):
        problem = refused(limited.post(address(run), json=question), "limit_exceeded", pointer, "fewer samples")
        assert (problem["limit"], problem["setting"]) == (2000, "CHAINRULE_MAX_INSPECT_VALUES")
        assert problem["value"] > 2000
    assert limited.post(address(run), json={"rows": [0] * 44, "names": ["dW1"]}).status_code == 200


def test_what_overflows_is_null_and_no_failure(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    answer = ask(client, xor_run, samples=[[3e38, 3e38]], labels=["1"])
    assert answer.quantities["A0"].values == [[pytest.approx(3e38)] * 2]
    network = {"layers": [{"units": 4, "activation": "linear"}, {"units": 1, "activation": "linear"}]}
    run = finished(client, XOR | {"network": network})
    answer = ask(client, run, samples=[[3e38, -3e38]], labels=["1"], names=["Z1", "dW1"])
    assert None in np.array(answer.quantities["dW1"].values, object)
    assert answer.cost is None or answer.cost > 0


@pytest.mark.parametrize("hidden", [name for name in ACTIVATIONS if name != "softmax"])
@pytest.mark.parametrize(
    ("output", "units", "cost"),
    [
        ("sigmoid", 1, "cross_entropy"), ("sigmoid", 2, "cross_entropy"), ("softmax", 2, "cross_entropy"),
        ("softmax", 2, "mse"), ("sigmoid", 1, "mse"), ("tanh", 2, "mse"), ("linear", 1, "mse"),
    ],
)  # fmt: skip
def test_a_gradient_check_passes(client: httpx.Client, hidden: str, output: str, units: int, cost: str) -> None:
    network = {"layers": [{"units": 5, "activation": hidden}, {"units": units, "activation": output}]}
    response = client.post(
        "/v1/gradient-checks", json={"dataset": "moons", "network": network, "cost": cost, "seed": 4}
    )
    assert response.status_code == 200, response.text
    check = GradientCheck.model_validate(response.json())
    assert check.passed
    assert (check.samples, check.h) == (32, 1e-5)
    assert [(block.name, block.shape) for block in check.blocks] == [
        ("W1", [5, 2]), ("b1", [5]), ("W2", [units, 5]), ("b2", [units]),
    ]  # fmt: skip
    for block in check.blocks:
        assert block.verdict == "pass"
        assert block.relative_error <= 1e-6
        assert block.checked + block.kinks == np.prod(block.shape)
    assert check.worst_relative_error == max(block.relative_error for block in check.blocks)
    assert "central differences" in check.method


def test_a_gradient_check_shows_the_worst_entry_and_checks_as_many_as_asked(client: httpx.Client) -> None:
    answers = [
        GradientCheck.model_validate(client.post("/v1/gradient-checks", json=CHECK | {"entries": entries}).json())
        for entries in (3, 10**9)
    ]
    assert [[block.checked for block in answer.blocks] for answer in answers] == [[3, 3, 3, 1], [16, 8, 8, 1]]
    for block in answers[1].blocks:
        assert block.worst is not None
        assert len(block.worst.index) == len(block.shape)
        assert all(0 <= place < size for place, size in zip(block.worst.index, block.shape, strict=True))
        assert block.worst.analytic == pytest.approx(block.worst.numeric, rel=1e-3, abs=1e-8)


def test_a_gradient_check_finds_differences_when_it_moves_entries_too_far(client: httpx.Client) -> None:
    check = client.post("/v1/gradient-checks", json=CHECK | {"h": 1}).json()
    assert not check["passed"]
    assert "fail" in [block["verdict"] for block in check["blocks"]]


def test_a_gradient_check_takes_the_rows_it_is_told_to(client: httpx.Client) -> None:
    one, all_rows = (
        client.post("/v1/gradient-checks", json=CHECK | rows).json() for rows in ({"rows": [2]}, {"rows": [0, 1, 2, 3]})
    )
    assert (one["samples"], all_rows["samples"]) == (1, 4)
    assert all_rows == client.post("/v1/gradient-checks", json=CHECK).json()
    assert one["blocks"] != all_rows["blocks"]


def test_a_gradient_check_of_a_dataset_with_words_for_classes(client: httpx.Client) -> None:
    dataset = upload(client, FLOWERS, "flowers.csv")["id"]
    network = {"layers": [{"units": 3, "activation": "softmax"}]}
    check = client.post("/v1/gradient-checks", json={"dataset": dataset, "network": network}).json()
    assert (check["passed"], check["samples"]) == (True, 9)


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"dataset": "nothing"}, "/dataset", ["nothing", "xor"]),
        ({"dataset": "digits"}, "/network/layers/1/units", ["10 classes"]),
        ({"cost": "hinge"}, "/cost", ["hinge", *COSTS]),
        ({"network": {"layers": [{"units": 1, "activation": "linear"}]}, "cost": "cross_entropy"}, "/cost", ["'mse'"]),
        ({"rows": [4]}, "/rows/0", ["0 to 3"]),
        ({"rows": []}, "/rows", ["at least 1"]),
        ({"entries": 0}, "/entries", ["at least 1"]),
        ({"h": 0}, "/h", ["at least"]),
        ({"h": 1e-300}, "/h", ["at least"]),
        ({"h": 2}, "/h", ["at most"]),
        ({"seed": -1}, "/seed", ["at least 0"]),
    ],
)
def test_a_gradient_check_that_makes_no_sense_is_refused_at_its_place(
    client: httpx.Client, change: dict[str, Any], pointer: str, words: list[str]
) -> None:
    refused(client.post("/v1/gradient-checks", json=CHECK | change), "invalid_input", pointer, *words)


def test_a_gradient_check_of_infinite_costs_is_refused_with_the_way_out(client: httpx.Client) -> None:
    rows = {"samples": [[1e300], [-1e300], [1e308]], "targets": [[1e308], [-1e308], [1e308]]}
    dataset = client.post("/v1/datasets", json=rows).json()["id"]
    network = {"layers": [{"units": 4, "activation": "relu"}, {"units": 1, "activation": "linear"}]}
    response = client.post("/v1/gradient-checks", json={"dataset": dataset, "network": network})
    refused(response, "invalid_input", "/dataset", "infinite", "scale")


def test_a_gradient_check_of_too_many_entries_is_refused_until_it_is_fewer(limited: httpx.Client) -> None:
    response = limited.post("/v1/gradient-checks", json=CHECK)
    problem = refused(response, "limit_exceeded", "/entries", "CHAINRULE_MAX_INSPECT_VALUES", "fewer entries")
    assert problem["value"] == (16 + 8 + 8 + 1) * 4 * 4 * 11
    assert limited.post("/v1/gradient-checks", json=CHECK | {"entries": 2, "rows": [0, 1]}).status_code == 200


WEIGHED: dict[str, Any] = {
    "validation": {"fraction": 0.3, "seed": 2},
    "network": {"layers": [{"units": 5, "activation": "tanh", "dropout": 0.4}, {"units": 3, "activation": "softmax"}]},
    "label_smoothing": 0.2,
    "class_weights": "balanced",
    "dtype": "float64",
    "epochs": 3,
    "batch_size": 16,
    "regularization": {"l2": 0.1},
    "seed": 4,
}


@pytest.fixture(scope="module")
def weighed(client: httpx.Client) -> tuple[dict[str, Any], Array, Array, Array]:
    """A run with all that changes C: its X, labels and samples' weights."""
    rng = np.random.default_rng(8)
    X = rng.normal(size=(60, 2))
    labels = np.concatenate([[0, 1, 2], rng.choice(3, 57, p=[0.6, 0.3, 0.1])])
    w = rng.choice([0.0, 0.5, 1, 3], 60)
    body = {"samples": X.tolist(), "labels": [f"c{label}" for label in labels], "weights": w.tolist()}
    response = client.post("/v1/datasets", json=body)
    assert response.status_code in (200, 201), response.text
    return finished(client, WEIGHED | {"dataset": response.json()["id"]}), X, labels, w


def test_quantities_are_those_of_the_runs_own_cost_with_weights_and_smoothing_and_without_dropout(
    client: httpx.Client, weighed: tuple[dict[str, Any], Array, Array, Array]
) -> None:
    run, X, labels, w = weighed
    order = np.arange(60)
    training, _ = Data(X, labels=labels, classes=("c0", "c1", "c2"), weights=order.astype(float)).split(0.3, 2)
    assert training.weights is not None
    rows = training.weights.astype(int)
    balanced = 42 / (3 * np.bincount(labels[rows], minlength=3))
    weight = w[rows] * balanced[labels[rows]]
    Y = 0.8 * one_hot(labels[rows], 3) + 0.2 / 3
    by_hand = backpropagate(weights(client, run, 3), run, X[rows], Y, weight)
    answer = ask(client, run, 3, rows=rows.tolist())
    agree(arrays(answer), by_hand, rtol=1e-10)
    assert answer.weights == pytest.approx(weight.tolist())
    assert answer.cost == pytest.approx((weight * -(Y * np.log(by_hand["A2"])).sum(axis=1)).mean(), rel=1e-12)
    assert answer.quantities["dZ2"].equation.startswith("dZ[2] = w ⊙ (A[2] − Y)")
    assert answer.quantities["dA2"].equation.endswith("times w⁽ⁱ⁾ in row i")
    for record in (one for one in records(client, run) if one["epoch"] == 3):
        for name, value in statistics_of(by_hand[record["gradient"]]).items():
            assert record[name] == pytest.approx(value, rel=1e-9, abs=1e-14), (record["gradient"], name)


def test_the_cost_of_validation_is_that_of_the_rows_held_out(
    client: httpx.Client, weighed: tuple[dict[str, Any], Array, Array, Array]
) -> None:
    run, X, labels, _ = weighed
    _, held_out = Data(X, labels=labels, classes=("c0", "c1", "c2"), weights=np.arange(60.0)).split(0.3, 2)
    assert held_out.weights is not None
    answer = ask(client, run, 3, rows=held_out.weights.astype(int).tolist(), names=["A2"])
    assert answer.cost == pytest.approx(run["validation_cost"], rel=1e-12)


def test_samples_sent_along_weigh_what_their_class_does(
    client: httpx.Client, weighed: tuple[dict[str, Any], Array, Array, Array]
) -> None:
    run, X, labels, w = weighed
    sent = [int(np.flatnonzero((labels == label) & (w == 3))[0]) for label in (0, 1)]
    of_rows = ask(client, run, 2, rows=sent, names=["dA0", "dZ2"])
    of_sent = ask(client, run, 2, samples=X[sent].tolist(), labels=["c0", "c1"], names=["dA0", "dZ2"])
    assert of_rows.weights is not None
    assert of_sent.weights == pytest.approx([weight / 3 for weight in of_rows.weights])
    for name, array in arrays(of_rows).items():
        np.testing.assert_allclose(array, 3 * arrays(of_sent)[name], rtol=1e-12)


def test_a_run_can_leave_the_weights_of_its_samples_out(
    client: httpx.Client, weighed: tuple[dict[str, Any], Array, Array, Array]
) -> None:
    run = finished(client, weighed[0]["config"] | {"sample_weights": False, "class_weights": None})
    answer = ask(client, run, 1, rows=[0, 1, 2])
    assert answer.weights is None
    assert "w" not in answer.quantities["dZ2"].equation.partition(",")[0]


def test_a_gradient_check_is_of_the_weighed_and_smoothed_cost(
    client: httpx.Client, weighed: tuple[dict[str, Any], Array, Array, Array]
) -> None:
    spec = {name: WEIGHED[name] for name in ("network", "label_smoothing", "class_weights")}
    spec |= {"dataset": weighed[0]["config"]["dataset"], "rows": list(range(0, 60, 2))}
    found = []
    for changes in ({}, {"label_smoothing": 0.0}, {"class_weights": [1, 5, 2]}, {"sample_weights": False}):
        response = client.post("/v1/gradient-checks", json=spec | changes)
        assert response.status_code == 200, response.text
        check = GradientCheck.model_validate(response.json())
        assert check.passed
        assert check.blocks[0].worst is not None
        found.append([block.worst and block.worst.numeric for block in check.blocks])
    assert len({str(numbers) for numbers in found}) == 4  # each is another cost
    refused(client.post("/v1/gradient-checks", json=spec | {"class_weights": [1]}), "invalid_input", "/class_weights")


@pytest.mark.parametrize("targets", [[[0.0, 1.0], [1.0, 0.0]], [[0.25, 1.0], [0.5, 0.0]]])
def test_labels_that_each_hold_or_not_agree_with_the_equations(
    client: httpx.Client, targets: list[list[float]]
) -> None:
    made = client.post("/v1/datasets", json={"samples": [[1, 2], [3, -1]], "targets": targets}).json()
    network = {"layers": [{"units": 3, "activation": "tanh"}, {"units": 2, "activation": "sigmoid"}]}
    spec = {"dataset": made["id"], "network": network, "cost": "binary_cross_entropy", "dtype": "float64", "epochs": 2}
    run = finished(client, spec)
    answer = ask(client, run, 2, rows=[0, 1])
    by_hand = backpropagate(weights(client, run, 2), run, np.array([[1.0, 2], [3, -1]]), np.array(targets))
    agree(arrays(answer), by_hand, rtol=1e-10)
    assert answer.quantities["dZ2"].equation.startswith("dZ[2] = A[2] − Y")
    response = client.post(address(run), json={"samples": [[1, 2]], "targets": [[0, 2]]})
    refused(response, "invalid_input", "/targets", "from 0 to 1")
