"""The inspector: walks and the rest, each number recomputed here with NumPy from the fetched weights."""

import io
from typing import Any

import httpx
import numpy as np
import pytest

from chainrule.app.api.schemas.inspection import Coherence, Comparison, Explanation, Walk
from chainrule.engine import digits
from chainrule.engine.pictures import picture
from tests.app.api.calls import DIGITS, FLOWERS, XOR, finished, refused, upload
from tests.app.api.test_gradients import NORMALIZED, Array, backpropagate, one_hot, weights

EXACT = DIGITS | {"dtype": "float64", "epochs": 3, "checkpoints": {}, "gradients": {"every": 0}}


@pytest.fixture(scope="module")
def exact_run(client: httpx.Client) -> dict[str, Any]:
    """A run in float64, with everything kept."""
    return finished(client, EXACT)


def place(run: dict[str, Any], what: str, epoch: int | str = "last") -> str:
    return f"/v1/runs/{run['id']}/checkpoints/{epoch}/{what}"


def read(client: httpx.Client, run: dict[str, Any], what: str, epoch: int | str = "last", **asked: Any) -> Any:
    response = client.get(place(run, what, epoch), params=asked)
    assert response.status_code == 200, response.text
    return response.json()


def post(client: httpx.Client, run: dict[str, Any], what: str, epoch: int | str = "last", **asked: Any) -> Any:
    response = client.post(place(run, what, epoch), json=asked)
    assert response.status_code == 200, response.text
    return response.json()


def arrays_of(answer: dict[str, Any]) -> dict[str, Array]:
    return {name: np.array(one["values"], np.float64) for name, one in answer["arrays"].items()}


def of_rows(client: httpx.Client, run: dict[str, Any], rows: list[int], epoch: int | str = "last") -> dict[str, Array]:
    """Compute every quantity here, of rows of the digits."""
    data = digits()
    assert data.labels is not None
    return backpropagate(weights(client, run, epoch), run, data.X[rows], one_hot(data.labels[rows], 10))


def test_a_walk_has_every_operand_and_every_result(client: httpx.Client, exact_run: dict[str, Any]) -> None:
    answer = read(client, exact_run, "walk", 2, rows="3,10-12")
    Walk.model_validate(answer)
    found, expected = arrays_of(answer), of_rows(client, exact_run, [3, 10, 11, 12], 2)
    for name, array in (expected | weights(client, exact_run, 2)).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-14, err_msg=name)
    assert (answer["epoch"], answer["m"], answer["rows"], answer["reduced"]) == (2, 4, [3, 10, 11, 12], False)
    assert [step["number"] for step in answer["steps"]] == list(range(1, 13))
    for step in answer["steps"]:
        assert step["follows"]
        assert {*step["operands"], *(result["name"] for result in step["results"])} <= found.keys()


def test_a_walk_of_one_sample_is_the_default(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    answer = read(client, xor_run, "walk")
    assert (answer["rows"], answer["m"]) == ([0], 1)
    assert answer["arrays"]["Z1"]["shape"] == [1, 8]


@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_walk_of_a_split_gives_means_over_all_its_samples(
    client: httpx.Client, exact_run: dict[str, Any], split: str
) -> None:
    data = digits()
    assert data.labels is not None
    parts = dict(zip(("training", "validation"), data.split(0.25, 3), strict=True))
    part = parts[split]
    assert part.labels is not None
    answer = read(client, exact_run, "walk", split=split)
    expected = backpropagate(weights(client, exact_run, "last"), exact_run, part.X, one_hot(part.labels, 10))
    assert (answer["m"], answer["rows"], answer["reduced"]) == (part.samples, None, True)
    for name, array in expected.items():
        mean = array if name[:2] in ("dW", "db") else array.mean(axis=0)
        np.testing.assert_allclose(arrays_of(answer)[name], mean, rtol=1e-9, atol=1e-14, err_msg=name)
    follows = {result["name"]: step["follows"] for step in answer["steps"] for result in step["results"]}
    assert follows["Z1"]
    assert not follows["A1"]
    recorded = client.get(f"/v1/runs/{exact_run['id']}/checkpoints/3").json()
    if split == "validation":
        np.testing.assert_allclose(arrays_of(answer)["C"], recorded["validation_cost"], rtol=1e-9)


def test_a_walk_of_samples_sent_along_is_that_of_the_same_rows(client: httpx.Client, exact_run: dict[str, Any]) -> None:
    data = digits()
    assert data.labels is not None
    sent = post(
        client, exact_run, "walk", samples=data.X[[5, 7]].tolist(), labels=[str(data.labels[5]), int(data.labels[7])]
    )
    there = read(client, exact_run, "walk", rows="5,7")
    assert sent["rows"] is None
    assert sent["arrays"] == there["arrays"]
    assert sent["steps"] == there["steps"]
    assert post(client, exact_run, "walk", rows=[5, 7]) == there


def test_a_walk_of_a_network_that_normalizes_says_so(client: httpx.Client) -> None:
    run = finished(client, EXACT | {"network": NORMALIZED})
    used, stepped = (read(client, run, "walk", rows="0-5", mode=mode) for mode in ("evaluation", "training"))
    assert "running" in next(step["note"] for step in used["steps"] if step["operands"][0] == "Z1")
    assert {"running_mean1", "running_var1", "Zhat1", "N1", "dN1", "dgamma1", "dbeta1"} <= used["arrays"].keys()
    found = arrays_of(stepped)
    np.testing.assert_allclose(found["mean1"][0], found["Z1"].mean(axis=0), rtol=1e-12)
    assert "running_mean1" not in found
    means = arrays_of(read(client, run, "walk", rows="0-5", mode="training", reduce="mean"))
    np.testing.assert_allclose(means["Zhat1"], 0, atol=1e-12)
    np.testing.assert_allclose(means["dW1"], found["dW1"], rtol=1e-12)


def test_a_walk_gives_only_the_arrays_that_are_named(client: httpx.Client, exact_run: dict[str, Any]) -> None:
    whole = read(client, exact_run, "walk", rows="1,2")
    some = read(client, exact_run, "walk", rows="1,2", names="dZ1, A0,C")
    assert some["arrays"] == {name: whole["arrays"][name] for name in ("dZ1", "A0", "C")}
    assert some["steps"] == whole["steps"]
    assert post(client, exact_run, "walk", rows=[1, 2], names=["dZ1", "A0", "C"]) == some
    answer = client.get(place(exact_run, "walk"), params={"rows": "1,2", "names": "dZ1", "format": "npz"})
    assert list(np.load(io.BytesIO(answer.content))) == ["dZ1"]
    refused(client.get(place(exact_run, "walk"), params={"names": "A0,dW9"}), "invalid_input", "/names", "'dW9'")


def test_a_walk_as_npz_has_the_same_numbers(client: httpx.Client, exact_run: dict[str, Any]) -> None:
    answer = client.get(place(exact_run, "walk"), params={"rows": "1,2", "format": "npz"})
    with np.load(io.BytesIO(answer.content)) as archive:
        found = {name: archive[name] for name in archive.files}
    as_json = read(client, exact_run, "walk", rows="1,2")
    assert found.keys() == as_json["arrays"].keys()
    for name, array in arrays_of(as_json).items():
        assert np.array_equal(found[name], array)
    shapes = read(client, exact_run, "walk", rows="1,2", values=False)
    assert shapes["arrays"]["dW1"] == {"shape": [12, 64]}


def test_large_matrices_of_a_walk_come_as_pictures_where_they_are_asked_for(client: httpx.Client) -> None:
    layers = [{"units": 160, "activation": "relu"}, {"units": 10, "activation": "softmax"}]
    run = finished(client, DIGITS | {"name": "pictured", "epochs": 1, "network": {"layers": layers}})
    exact, pictured = (
        dict(
            np.load(io.BytesIO(client.get(place(run, "walk"), params={"rows": "0-9", "format": "npz"} | more).content))
        )
        for more in ({}, {"pictures": "80,20"})
    )
    assert exact.keys() - {"W1", "dW1"} == pictured.keys() - {"W1", "dW1", "W1.picture", "dW1.picture"}
    for name in exact.keys() - {"W1", "dW1"}:
        np.testing.assert_array_equal(exact[name], pictured[name])
    for name in ("W1", "dW1"):
        small = picture(exact[name], (80, 20))
        assert small.block == (2, 4)
        np.testing.assert_array_equal(pictured[name], small.codes)
        assert pictured[f"{name}.picture"].tolist() == [160, 64, 2, 4, np.abs(exact[name]).max(), 0]


def test_what_is_asked_by_get_is_kept_for_good(client: httpx.Client, exact_run: dict[str, Any]) -> None:
    for what, asked in (
        ("walk", {"rows": "0"}),
        ("walk", {"split": "validation"}),
        ("explain", {"rows": "0"}),
        ("coherence", {}),
    ):
        first = client.get(place(exact_run, what, 3), params=asked)
        assert first.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert first.headers["content-location"].startswith(place(exact_run, what, 3))
        headers = {"If-None-Match": first.headers["etag"]}
        again = client.get(place(exact_run, what, 3), params=asked, headers=headers)
        assert (again.status_code, again.content) == (304, b"")
        for other in (place(exact_run, what, 2), place(exact_run, what, 3) + "?rows=1"):
            assert client.get(other, headers=headers).status_code == 200
        assert client.get(place(exact_run, what), params=asked).headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"rows": "x"}, "/rows"), ({"rows": "3-1"}, "/rows"), ({"rows": "0-99999999999"}, "/rows"),
        ({"rows": ""}, "/rows"), ({"rows": "1797"}, "/rows/0"), ({"rows": "1", "split": "training"}, "/split"),
        ({"split": "test"}, "/split"), ({"mode": "x"}, "/mode"), ({"reduce": "x"}, "/reduce"),
        ({"format": "csv"}, "/format"), ({"format": "npz", "pictures": "128"}, "/pictures"),
        ({"format": "npz", "pictures": "0,5"}, "/pictures"), ({"pictures": "128,196"}, "/pictures"),
        ({"rows": "\U0001f1fa" * 4001}, "/rows"),
    ],
)  # fmt: skip
def test_a_walk_refuses_what_it_cannot_read(
    client: httpx.Client, exact_run: dict[str, Any], asked: dict[str, str], pointer: str
) -> None:
    refused(client.get(place(exact_run, "walk"), params=asked), "invalid_input", pointer)


def test_a_walk_of_samples_that_do_not_fit_is_refused(client: httpx.Client, flowers: str) -> None:
    run = finished(client, XOR | {"dataset": flowers, "network": {"layers": [{"units": 3, "activation": "softmax"}]}})
    refused(client.get(place(run, "walk"), params={"split": "validation"}), "invalid_input", "/split")
    for asked, pointer in (
        ({}, ""), ({"rows": [0], "split": "training"}, ""), ({"split": "x"}, ""),
        ({"samples": [[1, 2]]}, ""), ({"samples": [[1]], "labels": ["setosa"]}, "/samples/0"),
        ({"samples": [[1, 2]], "labels": ["rose"]}, "/labels/0"), ({"rows": [9]}, "/rows/0"),
        ({"rows": [0], "mode": "x"}, "/mode"), ({"rows": [0], "reduce": "x"}, "/reduce"),
    ):  # fmt: skip
        refused(client.post(place(run, "walk"), json=asked), "invalid_input", pointer)
    refused(client.get("/v1/runs/run_none/checkpoints/1/walk"), "not_found")


def test_a_walk_too_large_for_one_answer_is_refused_with_the_way_out(limited: httpx.Client) -> None:
    dataset = upload(limited, FLOWERS, "flowers.csv")["id"]
    layers = [{"units": 60, "activation": "tanh"}, {"units": 3, "activation": "softmax"}]
    run = finished(limited, XOR | {"dataset": dataset, "network": {"layers": layers}, "epochs": 1})
    refused(limited.get(place(run, "walk"), params={"rows": "0-8"}), "limit_exceeded", "/rows", "means")
    refused(limited.get(place(run, "walk"), params={"split": "training"}), "limit_exceeded", "/split")


def add_up(answer: dict[str, Any]) -> float:
    return float(sum(term["contribution"] for term in answer["terms"]) + answer["rest"]["sum"])


def test_a_gradient_is_explained_by_the_samples_of_a_split(client: httpx.Client, exact_run: dict[str, Any]) -> None:
    data = digits()
    assert data.labels is not None
    training, _ = data.split(0.25, 3)
    assert training.labels is not None
    answer = read(client, exact_run, "explain", split="training", name="dW2", index="4,5", top=3)
    Explanation.model_validate(answer)
    expected = backpropagate(weights(client, exact_run, "last"), exact_run, training.X, one_hot(training.labels, 10))
    products = expected["dZ2"][:, 4] * expected["A1"][:, 5] / training.samples
    assert answer["equation"] == "dW[2][4,5] = (1/m) Σᵢ dZ[2][i,4]·A[1][i,5]"
    assert (answer["over"], answer["m"], answer["rest"]["count"]) == ("samples", 1348, 1345)
    np.testing.assert_allclose(answer["value"], expected["dW2"][4, 5], rtol=1e-9)
    np.testing.assert_allclose(add_up(answer), answer["value"], rtol=1e-11)
    order = np.argsort(-np.abs(products), kind="stable")[:3]
    for term, i in zip(answer["terms"], order, strict=True):
        assert (term["sample"], term["unit"]) == (i, None)
        assert np.array_equal(data.X[term["row"]], training.X[i])
        np.testing.assert_allclose(term["contribution"], products[i], rtol=1e-9)
        np.testing.assert_allclose(np.prod(list(term["factors"].values())) / 1348, products[i], rtol=1e-9)


@pytest.mark.parametrize("name", ["Z1", "A1", "Z2", "A2", "dA2", "dZ2", "dA1", "dZ1", "dA0", "A0", "E", "C", "db1"])
def test_any_number_is_explained_to_the_digit(client: httpx.Client, exact_run: dict[str, Any], name: str) -> None:
    rows = [3, 10, 11]
    index = {"C": [], "E": [2], "db1": [1]}.get(name, [2, 5])
    answer = post(client, exact_run, "explain", rows=rows, name=name, index=index, top=4)
    Explanation.model_validate(answer)
    np.testing.assert_allclose(answer["recomputed"], answer["value"], rtol=1e-10, atol=1e-14)
    expected = of_rows(client, exact_run, rows)
    if name in expected:
        np.testing.assert_allclose(answer["value"], expected[name][tuple(index)], rtol=1e-9, atol=1e-14)
    if answer["over"]:
        np.testing.assert_allclose(add_up(answer), answer["value"], rtol=1e-10, atol=1e-14)
    else:
        assert answer["operands"] or name == "A0"
    asked: dict[str, Any] = {"rows": "3,10,11", "name": name, "index": ",".join(map(str, index)), "top": 4}
    assert read(client, exact_run, "explain", **asked) == answer


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"name": "W1"}, "/name"), ({"name": "dW1"}, "/index"), ({"name": "dW1", "index": "99,0"}, "/index"),
        ({"name": "dW1", "index": "x"}, "/index"), ({"name": "dW1", "index": "0,-1"}, "/index"),
        ({"top": "1001"}, "/top"), ({"name": "Z1", "index": "1,0"}, "/index"),
    ],
)  # fmt: skip
def test_what_is_no_number_of_the_network_is_refused(
    client: httpx.Client, exact_run: dict[str, Any], asked: dict[str, str], pointer: str
) -> None:
    refused(client.get(place(exact_run, "explain"), params=asked), "invalid_input", pointer)


def npz_of(gradients: dict[str, Array]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **gradients)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def tanh_run(client: httpx.Client) -> dict[str, Any]:
    """A run of three layers in float64; every quantity of it is recomputed here."""
    layers = [{"units": 12, "activation": "tanh"}, {"units": 8, "activation": "tanh"}]
    network = {"layers": [*layers, {"units": 10, "activation": "softmax"}]}
    return finished(client, EXACT | {"network": network})


def by_hand(client: httpx.Client, run: dict[str, Any], rows: list[int], **wrong: Any) -> dict[str, Array]:
    """Compute gradients of rows of the digits, as a student might, with something wrong if it is asked for."""
    w, q = weights(client, run, "last"), of_rows(client, run, rows)
    dZ, found = q["A3"] - one_hot(np.asarray(digits().labels)[rows], 10), dict[str, Array]()
    for n in (3, 2, 1):
        found[f"dW{n}"] = dZ.T @ q[f"{wrong.get('below', 'A')}{n - 1}" if n > 1 else "A0"] / len(rows)
        found[f"db{n}"] = dZ.mean(axis=0)
        if n > 1:
            dZ = dZ @ w[f"W{n}"] * (1 if wrong.get("without_slope") else 1 - q[f"A{n - 1}"] ** 2)
    return found


ROWS = [3, 10, 11, 12, 40]


def one_row_wrong(G: Array) -> Array:
    G = G.copy()
    G[1] *= 1.5
    return G


WRONG: dict[str, tuple[str, dict[str, Any], Any, set[str]]] = {
    "a sum in place of the mean": ("summed", {}, lambda G: G * len(ROWS), set()),
    "1/m taken twice": ("averaged_twice", {}, lambda G: G / len(ROWS), set()),
    "the sign": ("sign_flipped", {}, lambda G: -G, set()),
    "twice too large": ("doubled", {}, lambda G: 2 * G, set()),
    "columns as samples": ("transposed", {}, lambda G: G.T if G.ndim == 2 else G, {"db1", "db2", "db3"}),
    "no slope": ("slope_missing", {"without_slope": True}, lambda G: G, {"dW3", "db3"}),
    "Z in place of A": ("before_activation", {"below": "Z"}, lambda G: G, {"dW1", "db1", "db2", "db3"}),
    "one unit": ("one_row", {}, lambda G: one_row_wrong(G) if G.ndim == 2 else G, {"db1", "db2", "db3"}),
}


@pytest.mark.parametrize("form", ["json", "npz"])
@pytest.mark.parametrize("wrong", WRONG)
def test_the_mistake_of_each_of_eight_wrong_gradients_is_named(
    client: httpx.Client, tanh_run: dict[str, Any], wrong: str, form: str
) -> None:
    mistake, how, change, right = WRONG[wrong]
    sent = {name: change(G) for name, G in by_hand(client, tanh_run, ROWS, **how).items()}
    if form == "json":
        lists = {name: G.tolist() for name, G in sent.items()}
        answer = post(client, tanh_run, "gradient-comparisons", rows=ROWS, gradients=lists)
    else:
        asked: dict[str, Any] = {"rows": ",".join(map(str, ROWS))}
        headers = {"Content-Type": "application/x-npz"}
        there = place(tanh_run, "gradient-comparisons")
        answer = client.post(there, params=asked, content=npz_of(sent), headers=headers).json()
    Comparison.model_validate(answer)
    named = {block["name"]: block["mistakes"] for block in answer["blocks"]}
    assert named == {name: ([] if name in right else [mistake]) for name in sent}
    assert (answer["verdict"], answer["missing"], answer["m"]) == ("different", [], 5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_is_said_of_gradients_that_are_right(
    client: httpx.Client, tanh_run: dict[str, Any], dtype: str
) -> None:
    run = (
        tanh_run
        if dtype == "float64"
        else finished(client, EXACT | {"dtype": dtype, "network": tanh_run["config"]["network"]})
    )
    mine = {name: G.tolist() for name, G in by_hand(client, run, ROWS).items()}
    answer = post(client, run, "gradient-comparisons", rows=ROWS, gradients=mine)
    assert answer["verdict"] in ("close", "exact")
    assert all(block["mistakes"] == [] and block["relative_error"] < 1e-6 for block in answer["blocks"])
    theirs = post(client, run, "gradients", rows=ROWS, names=["dW1", "db3"])["quantities"]
    same = {name: one["values"] for name, one in theirs.items()}
    answer = post(client, run, "gradient-comparisons", rows=ROWS, gradients=same)
    assert answer["verdict"] == "exact"
    assert answer["missing"] == ["db1", "dW2", "db2", "dW3"]


def test_gradients_that_cannot_be_compared_are_refused(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    there = place(xor_run, "gradient-comparisons")
    for gradients, pointer in (
        ({"dW9": [1]}, "/gradients"), ({}, "/gradients"), ({"db1": [[1], [1, 2]]}, "/gradients/db1"),
        ({"db1": ["x"]}, "/gradients/db1"), ({"db1": [True]}, "/gradients/db1"), ({"db1": 1}, "/gradients/db1"),
    ):  # fmt: skip
        refused(client.post(there, json={"rows": [0], "gradients": gradients}), "invalid_input", pointer)
    refused(client.post(there, json={"gradients": {"db1": [1]}}), "invalid_input")
    refused(client.post(there, params={"rows": "0"}, json={"rows": [0], "gradients": {"db1": [1]}}), "invalid_input")
    refused(client.post(there, content=b"{", headers={"Content-Type": "text/plain"}), "unsupported_media_type")
    npz = {"Content-Type": "application/x-npz"}
    refused(client.post(there, content=b"PK", headers=npz), "invalid_input")
    refused(client.post(there, content=npz_of({}), headers=npz), "invalid_input", "/gradients")
    texts = npz_of({"db1": np.array(["x"])})
    refused(client.post(there, content=texts, headers=npz), "invalid_input", "/gradients/db1")
    answer = client.post(there, content=npz_of({"db2": np.array([np.inf])}), headers=npz).json()
    assert answer["blocks"][0]["mistakes"] == ["not_finite"]
    assert answer["blocks"][0]["worst"]["theirs"] is None


def test_samples_own_gradients_are_measured_as_if_they_were_made(
    client: httpx.Client, exact_run: dict[str, Any]
) -> None:
    rows = list(range(200))
    made = post(client, exact_run, "gradients", rows=rows, names=["dW1", "db1", "dW2", "db2"], per_sample=True)
    G = np.concatenate([np.array(q["values"]).reshape(200, -1) for q in made["quantities"].values()], axis=1)
    answer = read(client, exact_run, "coherence", rows="0-199", gram=True, top=3)
    Coherence.model_validate(answer)
    norms, mean = np.linalg.norm(G, axis=1), G.mean(axis=0)
    np.testing.assert_allclose(answer["norms"], norms, rtol=1e-9)
    np.testing.assert_allclose(answer["pairs"]["gram"], G @ G.T, rtol=1e-7, atol=1e-10)
    trace, square = ((G - mean) ** 2).sum() / 199, mean @ mean
    values = {name: one["value"] for name, one in answer["quantities"].items()}
    np.testing.assert_allclose(values["trace_sigma"], trace, rtol=1e-9)
    np.testing.assert_allclose(values["signal"], square - trace / 200, rtol=1e-8)
    np.testing.assert_allclose(values["coherence"], 200 * square / (norms**2).mean(), rtol=1e-9)
    if square > trace / 200:
        np.testing.assert_allclose(values["noise_scale"], trace / (square - trace / 200), rtol=1e-7)
    else:
        assert "|G|²" in answer["quantities"]["noise_scale"]["reason"]
    order = np.argsort(-norms, kind="stable")[:3]
    assert [one["row"] for one in answer["largest"]] == order.tolist()
    assert [one["label"] for one in answer["largest"]] == [str(np.asarray(digits().labels)[i]) for i in order]
    np.testing.assert_allclose(
        [one["cosine"] for one in answer["largest"]], [G[i] @ mean / norms[i] / square**0.5 for i in order], rtol=1e-9
    )
    assert answer["pairs"]["batch_size"] == 64
    assert np.array(answer["pairs"]["batches"]).shape == (3, 3)
    assert np.array(answer["pairs"]["classes"]).shape == (10, 10)
    assert post(client, exact_run, "coherence", rows=rows, gram=True, top=3) == answer
    for less in (read(client, exact_run, "coherence", rows="0-199", classes=True, top=3),
                 post(client, exact_run, "coherence", rows=rows, classes=True, top=3)):  # fmt: skip
        assert less["pairs"] == {**answer["pairs"], "gram": None, "cosines": None}


def test_all_that_is_trained_on_is_measured_unless_asked_otherwise(
    client: httpx.Client, exact_run: dict[str, Any]
) -> None:
    answer = read(client, exact_run, "coherence")
    assert (answer["m"], len(answer["norms"]), answer["pairs"]) == (1348, 1348, None)
    one = read(client, exact_run, "coherence", rows="7")
    assert one["quantities"]["noise_scale"]["value"] is None
    assert "two or more" in one["quantities"]["noise_scale"]["reason"]
    assert one["quantities"]["coherence"]["value"] == pytest.approx(1)


def test_in_a_step_batch_normalization_leaves_no_sample_a_gradient_of_its_own(client: httpx.Client) -> None:
    run = finished(client, EXACT | {"network": NORMALIZED})
    stepped = read(client, run, "coherence", rows="0-5", mode="training", gram=True)
    Coherence.model_validate(stepped)
    for one in stepped["quantities"].values():
        assert one["value"] is None
        assert "Batch normalization" in one["reason"]
    assert (stepped["norms"], stepped["largest"], stepped["pairs"]) == (None, [], None)
    used = read(client, run, "coherence", rows="0-5")
    assert used["quantities"]["trace_sigma"]["value"] > 0


def test_pairs_of_too_many_samples_are_refused(limited: httpx.Client) -> None:
    run = finished(limited, XOR | {"network": {"layers": [{"units": 1, "activation": "sigmoid"}]}, "epochs": 1})
    rows = "0-3" + ",0-3" * 5
    assert limited.get(place(run, "coherence"), params={"rows": "0-3"}).status_code == 200
    refused(
        limited.get(place(run, "coherence"), params={"rows": rows, "gram": True}), "limit_exceeded", "/rows", "gram"
    )
