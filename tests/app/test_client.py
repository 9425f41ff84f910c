"""The Python client, against the real service."""

import http.server
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.app.client import Client, ServiceError
from chainrule.engine import LayerSpec, NetworkSpec, OptimizerSpec, TrainingConfig, forward, train, xor
from tests.service import Service

XOR: dict[str, Any] = {
    "name": "client",
    "dataset": "xor",
    "network": {"layers": [{"units": 4, "activation": "tanh"}, {"units": 1, "activation": "sigmoid"}]},
    "optimizer": {"name": "adam", "learning_rate": 0.05},
    "epochs": 30,
    "seed": 3,
}


@pytest.fixture
def client(server: Service) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def test_a_run_is_submitted_waited_for_and_looked_into(client: Client) -> None:
    run = client.wait(client.submit(XOR).id)
    assert (run.status, run["done"], run.progress["epochs_done"]) == ("succeeded", True, 30)
    columns = client.epochs(run.id)
    assert columns["epoch"].tolist() == list(range(31))
    assert columns["cost"][-1] == run.cost < columns["cost"][0]
    assert np.isnan(columns["validation_cost"]).all()
    assert [checkpoint.epoch for checkpoint in client.checkpoints(run.id)] == list(range(31))
    assert {(record.layer, record.gradient) for record in client.gradient_records(run.id, layer=2)} == {
        (2, "dW2"),
        (2, "db2"),
    }


def test_weights_are_those_of_the_bare_engine_to_the_bit(client: Client) -> None:
    run = client.wait(client.submit(XOR).id)
    network = NetworkSpec(2, (LayerSpec(4, "tanh"), LayerSpec(1, "sigmoid")))
    config = TrainingConfig(network, optimizer=OptimizerSpec("adam", 0.05), epochs=30, batch_size=None, seed=3)
    for epoch in train(config, xor()):
        weights = client.weights(run.id, epoch.epoch)
        expected = epoch.network.named()  # type: ignore[union-attr]
        assert list(weights) == ["W1", "b1", "W2", "b2"]
        assert all(np.array_equal(weights[name], expected[name]) for name in expected)
        assert all(weights[name].dtype == np.float32 for name in weights)


def test_waiting_tells_of_progress_until_the_end(client: Client) -> None:
    seen: list[tuple[str, int]] = []
    spec = XOR | {"epochs": 3000, "checkpoints": {"every": 1000}}
    run = client.wait(client.submit(spec).id, progress=lambda now: seen.append((now.status, now.revision)))
    assert seen[-1] == (run.status, run.revision)
    assert run.status == "succeeded"
    assert len(seen) == len(set(seen)) >= 2
    assert [revision for _, revision in seen] == sorted(revision for _, revision in seen)


def test_epochs_are_streamed_as_they_are_recorded_and_from_where_one_left(client: Client) -> None:
    run = client.submit(XOR | {"epochs": 200})
    assert [epoch["epoch"] for epoch in client.stream_epochs(run.id)] == list(range(201))
    assert [epoch["epoch"] for epoch in client.stream_epochs(run.id, after=197)] == [198, 199, 200]
    names = [name for name, _ in client.events(run.id, after=199)]
    assert names == ["epoch", "status", "end"]


def test_gradients_are_arrays_by_name_for_rows_or_samples(client: Client) -> None:
    run = client.wait(client.submit(XOR).id)
    by_row = client.gradients(run.id, epoch=1, rows=[1, 2], names=["dW1", "dA0"])
    sent = client.gradients(
        run.id, epoch=1, samples=[[0, 1], [1, 0]], labels=["1", "1"], names=["dW1", "dA0"], per_sample=True
    )
    assert list(by_row) == ["dW1", "dA0"]
    assert by_row["dA0"].shape == (2, 2)
    np.testing.assert_allclose(sent["dW1"].mean(axis=0), by_row["dW1"], rtol=1e-5)
    explained = client.explain_gradients(run.id, epoch=1, rows=[1, 2], names=["dW1"])
    assert explained.quantities["dW1"]["equation"] == "dW[1] = (1/m)·dZ[1]ᵀ·A[0]"
    assert "values" not in explained.quantities["dW1"]


def test_metrics_come_with_the_confusion_matrix_as_an_array(client: Client) -> None:
    run = client.wait(client.submit(XOR | {"epochs": 500}).id)
    found = client.metrics(run.id)
    assert (found.kind, found.split, found.samples, found.error) == ("classification", "training", 4, 0.0)
    np.testing.assert_array_equal(found.confusion_matrix, [[2, 0], [0, 2]])
    assert client.metrics(run.id, epoch=0, split="training").epoch == 0
    with pytest.raises(ServiceError, match="no validation samples") as refusal:
        client.metrics(run.id, split="validation")
    assert (refusal.value.status, refusal.value.errors[0]["pointer"]) == (422, "/split")


def test_predictions_are_the_networks_outputs_and_class_names(client: Client) -> None:
    run = client.wait(client.submit(XOR | {"epochs": 500}).id)
    found = client.predict(run.id, xor().X)
    assert found.labels == ["0", "1", "1", "0"]
    config = NetworkSpec(2, (LayerSpec(4, "tanh"), LayerSpec(1, "sigmoid")))
    from chainrule.engine import Network

    network = Network.from_named(config, client.weights(run.id))
    np.testing.assert_allclose(found.outputs, forward(network, xor().X)[-1].A, rtol=1e-6)


@pytest.mark.parametrize("ending", ["safetensors", "npz", "json"])
def test_weights_are_saved_in_every_format(client: Client, tmp_path: Path, ending: str) -> None:
    run = client.wait(client.submit(XOR).id)
    path = client.save_weights(run.id, tmp_path / "deep" / f"w.{ending}", format=ending)
    weights = client.weights(run.id)
    if ending == "json":
        stored = {name: np.array(v, np.float32) for name, v in json.loads(path.read_text())["weights"].items()}
    elif ending == "npz":
        stored = dict(np.load(path))
    else:
        from safetensors.numpy import load_file

        stored = load_file(path)
    assert {name: array.tolist() for name, array in stored.items()} == {n: a.tolist() for n, a in weights.items()}


def test_files_and_rows_become_datasets(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "fruit.csv"
    lines = [f"{n},{n % 2},{'apple' if n % 2 else 'pear'}" for n in range(20)]
    path.write_text("\n".join(["weight,round,fruit", *lines]))
    dataset = client.upload(path, label_column="fruit", name="fruit")
    assert (dataset.name, dataset.classes, dataset.samples) == ("fruit", ["apple", "pear"], 20)
    with path.open("rb") as file:
        assert client.upload(file, label_column="fruit").id == dataset.id
    assert client.dataset(dataset.id).sha256 == dataset.sha256
    assert dataset.id in [found.id for found in client.datasets()]
    regression = client.upload_rows(np.eye(3), targets=[0.1, 0.2, 0.3])
    assert (regression.targets, regression.classes) == (1, [])


def test_submitting_again_under_a_key_gives_the_same_run(client: Client) -> None:
    first = client.submit(XOR, idempotency_key="client-test-key")
    assert client.submit(XOR, idempotency_key="client-test-key").id == first.id
    with pytest.raises(ServiceError) as refused:
        client.submit(XOR | {"seed": 4}, idempotency_key="client-test-key")
    assert (refused.value.status, refused.value.code) == (422, "idempotency_mismatch")


def test_runs_are_extended_and_cloned(client: Client) -> None:
    first = client.wait(client.submit(XOR).id)
    longer = client.wait(client.extend(first.id, epochs=5).id)
    whole = client.wait(client.clone(first.id, {"epochs": 35}).id)
    assert (longer.extends, whole.cloned_from) == (first.id, first.id)
    assert client.checkpoint(longer.id).sha256 == client.checkpoint(whole.id).sha256
    same = client.wait(client.clone(first.id, idempotency_key=f"clone-{first.id}").id)
    assert client.clone(first.id, idempotency_key=f"clone-{first.id}").id == same.id
    assert client.checkpoint(same.id).sha256 == client.checkpoint(first.id).sha256
    with pytest.raises(ServiceError, match="30 epochs already"):
        client.extend(first.id, to=30)


def test_runs_are_verified(client: Client) -> None:
    run = client.wait(client.submit(XOR).id)
    found = client.wait(client.verify(run.id, to=5).id)
    assert (found.verifies, found.verification["equal"], found.verification["epochs"]) == (run.id, True, 6)
    assert [one.id for one in client.runs(verifies=run.id)] == [found.id]


def test_a_refusal_says_where_and_why(client: Client) -> None:
    with pytest.raises(ServiceError, match="Unknown activation 'swish'; known: sigmoid") as refused:
        client.submit(XOR | {"network": {"layers": [{"units": 4, "activation": "swish"}]}})
    assert refused.value.errors[0]["pointer"] == "/network/layers/0/activation"
    with pytest.raises(ServiceError, match="There is no run 'run_nowhere'"):
        client.run("run_nowhere")


def test_validating_submits_nothing(client: Client) -> None:
    before = client.run(client.submit(XOR).id).id
    assert client.validate(XOR).estimate["parameters"] == 17
    assert next(iter(client.runs(name="client"))).id == before


def test_runs_are_listed_cancelled_and_deleted(client: Client) -> None:
    endless = XOR | {"name": "endless", "epochs": 10**7, "checkpoints": {"every": 10**6}}
    run = client.submit(endless)
    assert run.id in [found.id for found in client.runs(name="endless", limit=1)]
    with pytest.raises(TimeoutError):
        client.wait(run.id, timeout_s=0.2)
    client.cancel(run.id)
    assert client.wait(run.id).status == "cancelled"
    client.delete(run.id)
    with pytest.raises(ServiceError):
        client.run(run.id)


def test_attempts_are_listed(client: Client) -> None:
    run = client.wait(client.submit(XOR).id)
    (attempt,) = client.attempts(run.id)
    assert (attempt.number, attempt.worker, attempt.reason) == (1, run.worker, "completed")


def test_a_busy_service_is_asked_again_and_a_key_makes_that_harmless() -> None:
    keys: list[str] = []

    class Busy(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            keys.append(self.headers["Idempotency-Key"])
            body = b'{"id": "run_1"}' if len(keys) == 3 else b'{"code": "unavailable", "detail": "later"}'
            self.send_response(201 if len(keys) == 3 else 503)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as busy:
        threading.Thread(target=busy.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{busy.server_port}") as client:
            assert client.submit({}).id == "run_1"
        busy.shutdown()
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_a_service_that_is_not_there_is_not_ready() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with Client(f"http://127.0.0.1:{taken.getsockname()[1]}") as client:
            assert not client.ready()


def test_the_client_works_without_the_packages_of_the_service() -> None:
    script = (
        "import sys\n"
        "for name in ('fastapi', 'pydantic', 'sqlalchemy', 'safetensors', 'typer', 'rich'):\n"
        "    sys.modules[name] = None\n"
        "from chainrule.app.client import Client\n"
        "print(Client('http://127.0.0.1:1').url)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "http://127.0.0.1:1\n", done.stderr


def test_categories_are_sent_as_texts_and_their_map_is_fetched(client: Client) -> None:
    samples = [[float(n), ["red", "blue"][n % 2]] for n in range(20)]
    dataset = client.upload_rows(samples, labels=["ab"[n % 2] for n in range(20)], feature_names=["length", "colour"])
    run = client.submit(XOR | {"dataset": dataset.id, "inputs": {"scaling": "min_max"}})
    run = client.wait(run.id)
    length, colour = client.inputs(run.id)["columns"]
    assert (length["name"], length["offset"], length["scale"]) == ("length", 0, 1 / 19)
    assert colour["categories"] == ["blue", "red"]
    plain = client.predict(run.id, samples)
    mixed = client.predict(run.id, np.array(samples, dtype=object))
    assert np.array_equal(plain.outputs, mixed.outputs)
    for wrong in ([[1.0, "red"], [2.0]], [[1.0, None]]):
        with pytest.raises(ValueError, match="rows of numbers or categories"):
            client.predict(run.id, wrong)


def test_weights_of_samples_are_sent_and_the_final_weights_are_the_best_ones(client: Client) -> None:
    dataset = client.upload_rows([[0.0], [1.0], [2.0]], labels=["a", "b", "a"], weights=np.array([1, 0, 2]))
    assert dataset.report["weights"]["maximum"] == 2.0
    layers = [{"units": 2, "activation": "softmax"}]
    spec = {"dataset": dataset.id, "network": {"layers": layers}, "epochs": 20, "early_stopping": {"min_delta": 1e9}}
    run = client.wait(client.submit(spec).id)
    # Nothing is better by so much: the untrained network stays the best.
    assert (run.reason, run.best_epoch, run.progress["epochs_done"]) == ("early_stopped", 0, 10)
    assert client.checkpoint(run.id).epoch == client.metrics(run.id).epoch == client.predict(run.id, [[1.0]]).epoch == 0
    assert client.checkpoint(run.id, "last").epoch == 10
