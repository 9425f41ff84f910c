"""Exports: files that other programs run, of any checkpoint, and what is said where there can be none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy

import chainrule
from tests.app.api.calls import FLOWERS, XOR, finished, refused, upload
from tests.service import Service, serving

NETWORK = {"layers": [{"units": 6, "activation": "elu"}, {"units": 3, "activation": "softmax"}]}
SPEC: dict[str, Any] = {"network": NETWORK, "epochs": 30, "batch_size": 3, "seed": 4}
COLOURED = "size,colour,price\n" + "".join(f"{n},{('red', 'blue', 'green')[n % 3]},{n * 2.5}\n" for n in range(1, 13))


def weights(run: dict[str, Any], epoch: int | str = "last") -> str:
    return f"/v1/runs/{run['id']}/checkpoints/{epoch}/weights"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("inputs", [None, {"scaling": "standardize"}])
def test_an_onnx_model_answers_what_predict_answers(server: Service, dtype: str, inputs: dict[str, Any] | None) -> None:
    rows = [[1.4, 0.25], [4.6, 1.5], [6.5, 2.0]]
    with server.client() as client:
        dataset = upload(client, FLOWERS, "flowers.csv")["id"]
        run = finished(client, SPEC | {"dataset": dataset, "dtype": dtype} | ({"inputs": inputs} if inputs else {}))
        for epoch in (0, 30):
            answer = client.get(weights(run, epoch), headers={"Accept": "application/x-onnx"})
            assert answer.headers["content-type"] == "application/x-onnx"
            assert answer.headers["content-disposition"].endswith(f'-epoch-{epoch}.onnx"')
            onnx.checker.check_model(onnx.load_from_string(answer.content), full_check=True)
            model = onnxruntime.InferenceSession(answer.content)
            samples = np.array(rows, np.float64 if inputs else dtype)
            outputs, label = model.run(["outputs", "label"], {"samples": samples})
            path = weights(run, epoch).removesuffix("weights")
            predicted = client.post(f"{path}predict", json={"samples": rows}).json()
            about = model.get_modelmeta().custom_metadata_map
            classes = json.loads(about["classes"])
            assert outputs == pytest.approx(np.array(predicted["outputs"]), abs=1e-6 if dtype == "float32" else 1e-12)
            assert [classes[number] for number in label] == predicted["labels"]
            assert (about["run"], about["epoch"]) == (run["id"], str(epoch))
            assert about["weights_sha256"] == client.get(path.rstrip("/")).json()["sha256"]
            assert json.loads(about["features"]) == ["petal_length", "petal_width"]
            assert about["chainrule"] == chainrule.__version__


def test_a_model_with_categories_takes_their_positions(server: Service) -> None:
    network = {"layers": [{"units": 5, "activation": "tanh"}, {"units": 1, "activation": "linear"}]}
    with server.client() as client:
        dataset = upload(client, COLOURED, "coloured.csv", target_columns="price")["id"]
        run = finished(
            client, SPEC | {"dataset": dataset, "network": network, "cost": "mse", "inputs": {"scaling": "min_max"}}
        )
        model = onnxruntime.InferenceSession(client.get(weights(run), params={"format": "onnx"}).content)
        size, colours = json.loads(model.get_modelmeta().custom_metadata_map["categories"])
        assert size is None
        rows = [[3.0, "red"], [7.5, "green"], [9.0, "blue"]]
        samples = np.array([[number, colours.index(colour)] for number, colour in rows])
        (outputs,) = model.run(None, {"samples": samples})
        path = weights(run).removesuffix("weights")
        predicted = client.post(f"{path}predict", json={"samples": rows}).json()["outputs"]
        assert outputs == pytest.approx(np.array(predicted), rel=1e-5)
        refused(client.get(weights(run), params={"format": "torch"}), "not_acceptable", None, "one-hot", "onnx", "npz")


def test_weights_for_torch_say_which_sequential_takes_them(server: Service) -> None:
    with server.client() as client:
        run = finished(client, XOR)
        answer = client.get(weights(run, 7), params={"format": "torch"})
        assert answer.headers["content-type"] == "application/x-safetensors"
        assert answer.headers["content-disposition"].endswith('-epoch-7.torch.safetensors"')
        arrays = safetensors.numpy.load(answer.content)
        kept = safetensors.numpy.load(client.get(weights(run, 7)).content)
        for name, ours in {"0.weight": "W1", "0.bias": "b1", "2.weight": "W2", "2.bias": "b2"}.items():
            assert np.array_equal(arrays.pop(name), kept[ours])
        assert not arrays
        end = 8 + int.from_bytes(answer.content[:8], "little")
        about = json.loads(json.loads(answer.content[8:end])["__metadata__"]["chainrule"])
        assert [name for name, _ in about["sequential"]] == ["Linear", "Tanh", "Linear", "Sigmoid"]
        assert (about["run"], about["epoch"], about["features"]) == (run["id"], 7, ["x1", "x2"])


def test_a_service_without_onnx_says_how_to_get_it(
    fresh: Any, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError(\"No module named 'onnx'\", name='onnx')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=1) as service, service.client() as client:
        run = finished(client, XOR)
        for answer in (
            client.get(weights(run), params={"format": "onnx"}),
            client.get(weights(run), headers={"Accept": "application/x-onnx"}),
        ):
            refused(answer, "not_acceptable", None, "pip install 'chainrule[onnx]'", "package onnx")
        assert client.get(weights(run), params={"format": "torch"}).status_code == 200
