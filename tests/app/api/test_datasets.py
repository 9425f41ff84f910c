"""Datasets: uploaded as files or as rows, described, listed and deleted."""

import gzip
import io
import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from chainrule.app.api.schemas.datasets import Dataset, DatasetPage, Preview
from chainrule.app.config import Settings
from chainrule.engine import BUILT_IN
from tests.app.api.calls import FLOWERS, LONG, XOR, finished, refused, stop, submit, upload
from tests.conftest import KINDS
from tests.inside import inside

ROWS: dict[str, Any] = {
    "name": "rows",
    "samples": [[0, 1.5], [2, -3], [4, 0.25]],
    "labels": ["b", "a", "b"],
    "feature_names": ["left", "right"],
}


def unique(labels: bool = True) -> str:
    """Make a CSV that nobody has uploaded before."""
    number = uuid.uuid4().int % 10**12
    return f"x,y,class\n{number},1,a\n2,3,{'b' if labels else 4}\n"


def test_a_file_with_words_for_classes_is_read_and_reported_on(client: httpx.Client) -> None:
    response = client.post("/v1/datasets", files={"file": ("flowers.csv", FLOWERS)}, data={"name": "Flowers"})
    assert response.status_code in (200, 201)
    found = Dataset.model_validate(response.json())
    assert response.headers["location"] == f"/v1/datasets/{found.id}"
    assert (found.samples, found.features, found.targets, found.builtin) == (9, 2, 1, False)
    assert found.classes == ["setosa", "versicolor", "virginica"]
    assert found.created_at is not None
    report = found.report
    assert (report["format"], report["task"], report["header"]) == ("csv", "classification", True)
    assert report["feature_names"] == ["petal_length", "petal_width"]
    assert report["classes"] == [{"name": name, "samples": 3} for name in found.classes]
    assert report["ranges"][0] == {
        "feature": "petal_length", "minimum": 1.3, "maximum": 6.0, "mean": pytest.approx(3.922222),
    }  # fmt: skip
    assert all(isinstance(note, str) for note in report["notes"])
    assert client.get(f"/v1/datasets/{found.id}").json() == response.json()


def test_the_same_content_is_the_same_dataset(client: httpx.Client) -> None:
    content = unique()
    first = client.post("/v1/datasets", files={"file": ("one.csv", content)})
    again = client.post("/v1/datasets", files={"file": ("two.csv", content)}, data={"name": "another"})
    zipped = client.post("/v1/datasets", files={"file": ("one.csv.gz", gzip.compress(content.encode()))})
    assert (first.status_code, again.status_code, zipped.status_code) == (201, 200, 200)
    assert first.json() == again.json() == zipped.json()
    assert first.json()["name"] == "one.csv"
    assert again.headers["location"] == first.headers["location"]


def test_rows_are_taken_as_json(client: httpx.Client) -> None:
    response = client.post("/v1/datasets", json=ROWS)
    found = Dataset.model_validate(response.json())
    assert (found.samples, found.features, found.classes) == (3, 2, ["a", "b"])
    shown = Preview.model_validate(client.get(f"/v1/datasets/{found.id}/preview").json())
    assert shown.model_dump() == {
        "feature_names": ["left", "right"], "rows": ROWS["samples"], "labels": ["b", "a", "b"], "targets": None,
        "weights": None,
    }  # fmt: skip


def test_labels_may_be_numbers_and_truths(client: httpx.Client) -> None:
    rows = {"samples": [[1], [2], [3], [4], [5]], "labels": [1, 1.0, "1", True, 2.5]}
    found = client.post("/v1/datasets", json=rows).json()
    shown = client.get(f"/v1/datasets/{found['id']}/preview").json()
    assert shown["labels"] == ["1", "1", "1", "true", "2.5"]


def test_numeric_targets_are_taken_as_json(client: httpx.Client) -> None:
    rows = {"samples": [[0], [1]], "targets": [[0.5, 1], [2, -1.5]]}
    found = client.post("/v1/datasets", json=rows).json()
    assert (found["classes"], found["targets"], found["report"]["task"]) == ([], 2, "regression")
    shown = Preview.model_validate(client.get(f"/v1/datasets/{found['id']}/preview").json())
    assert (shown.labels, shown.targets) == (None, [[0.5, 1.0], [2.0, -1.5]])


def test_a_preview_is_as_long_as_asked(client: httpx.Client) -> None:
    for limit in (1, 10, 100):
        shown = Preview.model_validate(client.get("/v1/datasets/digits/preview", params={"limit": limit}).json())
        assert len(shown.rows) == len(shown.labels or ()) == limit
    for wrong in ("0", "101", "x"):
        refused(client.get(f"/v1/datasets/digits/preview?limit={wrong}"), "invalid_input", "/limit")


def test_the_label_column_may_be_named_or_numbered(client: httpx.Client) -> None:
    content = f"kind,size\na,{uuid.uuid4().int % 10**9}\nb,2\n"
    for column in ("kind", "0"):
        found = upload(client, content, label_column=column)
        assert (found["classes"], found["report"]["feature_names"]) == (["a", "b"], ["size"])
    response = client.post("/v1/datasets", files={"file": ("a.csv", content)}, data={"label_column": "colour"})
    refused(response, "invalid_input", "/label_column", "colour", "kind, size")


def test_target_columns_make_a_regression_that_can_be_trained(client: httpx.Client) -> None:
    content = "a,b,sum,difference\n" + "".join(f"{a},{b},{a + b},{a - b}\n" for a in range(5) for b in range(5))
    together = upload(client, content, target_columns="sum, difference")
    differently: tuple[Any, ...] = (["sum", "difference"], "sum,difference")
    for fields in ({"target_columns": columns} for columns in differently):
        response = client.post("/v1/datasets", files={"file": ("data.csv", content)}, data=fields)
        assert response.json()["id"] == together["id"]
    assert (together["features"], together["targets"], together["classes"]) == (2, 2, [])
    network = {"layers": [{"units": 2, "activation": "linear"}]}
    optimizer = {"name": "adam", "learning_rate": 0.05}
    spec = {"dataset": together["id"], "network": network, "optimizer": optimizer, "epochs": 600}
    run = finished(client, spec)
    assert run["config"]["cost"] == "mse"
    weights = client.get(f"/v1/runs/{run['id']}/checkpoints/last/weights?format=json").json()["weights"]
    np.testing.assert_allclose(weights["W1"], [[1, 1], [1, -1]], atol=0.1)
    shown = client.get(f"/v1/datasets/{together['id']}/preview?limit=2").json()
    assert (shown["rows"], shown["targets"]) == ([[0.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [1.0, -1.0]])


def test_a_header_may_be_denied_and_features_divided(client: httpx.Client) -> None:
    number = uuid.uuid4().int % 10**9
    found = upload(client, f"{number},8,a\n2,4,b\n", header="false", divide_by="2")
    shown = client.get(f"/v1/datasets/{found['id']}/preview").json()
    assert shown["rows"] == [[number / 2, 4.0], [1.0, 2.0]]
    for fields, pointer in (
        ({"header": "perhaps"}, "/header"), ({"divide_by": "0"}, "/divide_by"), ({"divide_by": "nan"}, "/divide_by"),
        ({"divide_by": "two"}, "/divide_by"),
    ):  # fmt: skip
        response = client.post("/v1/datasets", files={"file": ("a.csv", FLOWERS)}, data=fields)
        refused(response, "invalid_input", pointer)


def test_arrays_are_taken_as_npz(client: httpx.Client) -> None:
    buffer = io.BytesIO()
    X = np.random.default_rng(uuid.uuid4().int).normal(size=(6, 3))
    np.savez(buffer, X=X, y=np.array([0, 1, 2, 0, 1, 2]))
    found = upload(client, buffer.getvalue(), "arrays.npz")
    assert (found["samples"], found["features"], found["classes"]) == (6, 3, ["0", "1", "2"])
    assert client.get(f"/v1/datasets/{found['id']}/preview").json()["rows"] == X.tolist()


def test_a_file_in_another_format_is_refused_with_those_that_are_read(client: httpx.Client) -> None:
    for name, content in (("a.parquet", b"PAR1" + bytes(100)), ("a.pkl", b"\x80\x04" + bytes(100))):
        response = client.post("/v1/datasets", files={"file": (name, content)})
        refused(response, "unsupported_media_type", None, "CSV, NPY, NPZ, IDX")
    response = client.post("/v1/datasets", files={"file": ("a.csv", FLOWERS)}, data={"format": "parquet"})
    refused(response, "unsupported_media_type", None, "parquet", "csv, npy, npz, idx")


@pytest.mark.parametrize(
    ("files", "fields", "pointer", "words"),
    [
        ({"file": ("a.csv", FLOWERS)}, {"colour": "red"}, "/colour", ["known", "label_column"]),
        ({"labels_file": ("a", b"x")}, {}, "/file", ["curl -F file=@"]),
        ({"file": ("a.csv", b"")}, {}, "/file", ["empty"]),
        ({"file": ("a.csv", b"a,b,c\n")}, {}, "/file", ["no samples"]),
        ({"file": ("a.csv", FLOWERS)}, {"name": "a\x00b"}, "/name", ["NUL"]),
        ({"file": ("a.csv", FLOWERS)}, {"label_column": "a\x00b"}, "/label_column", ["NUL"]),
        ({"file": ("a.csv", FLOWERS)}, {"name": ["one", "two"]}, "/name", ["more than once"]),
        ({"file": (None, "text")}, {}, "/file", ["file"]),
        ({"file": ("a.csv", FLOWERS), "name": ("n", b"x")}, {}, "/name", ["text"]),
        ({"file": ("a.csv", "x,y\n1,2\n3\n")}, {}, "/file", ["3"]),
        ({"file": ("a.csv.gz", gzip.compress(FLOWERS.encode())[:-9])}, {}, "/file", ["gzip"]),
    ],
)  # fmt: skip
def test_a_form_that_makes_no_sense_is_refused_at_its_place(
    client: httpx.Client, files: dict[str, Any], fields: dict[str, Any], pointer: str, words: list[str]
) -> None:
    refused(client.post("/v1/datasets", files=files, data=fields), "invalid_input", pointer, *words)


def test_a_file_given_twice_is_refused(client: httpx.Client) -> None:
    files = [("file", ("a.csv", FLOWERS)), ("file", ("b.csv", FLOWERS))]
    refused(client.post("/v1/datasets", files=files), "invalid_input", "/file", "more than once")


@pytest.mark.parametrize(
    ("given", "content"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=abc", b"x"),
        ("multipart/form-data; boundary=abc", b"--abc\r\nContent-Disposition: form-data\r\n\r\nx\r\n--abc--"),
    ],
)
def test_a_form_that_cannot_be_read_is_malformed(client: httpx.Client, given: str, content: bytes) -> None:
    response = client.post("/v1/datasets", content=content, headers={"Content-Type": given})
    assert ".." not in refused(response, "malformed")["detail"]


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"labels": ["a", "b"]}, "/labels", ["3 samples and 2 labels"]),
        ({"labels": None}, "/labels", ["either labels or targets"]),
        ({"targets": [[1], [2], [3]]}, "/labels", ["either labels or targets"]),
        ({"labels": ["a", "a", "a"]}, "/labels", ["'a'", "two classes"]),
        ({"labels": ["a", None, "b"]}, "/labels/1", ["label"]),
        ({"labels": ["a", "", "b"]}, "/labels/1", ["label"]),
        ({"labels": ["a", "x" * 201, "b"]}, "/labels/1", ["200"]),
        ({"labels": ["a", "b\x00", "b"]}, "/labels", ["cannot be stored"]),
        ({"samples": [[0, 1], [2], [4, 5]]}, "/samples/1", ["Row 1"]),
        ({"samples": []}, "/samples", ["at least 1"]),
        ({"samples": [[0, 1], [2, "3"], [4, 5]]}, "/samples/1/1", ["number"]),
        ({"samples": [[0, 1], [2, None], [4, 5]]}, "/samples/1/1", ["number"]),
        ({"feature_names": ["left"]}, "/feature_names", ["2 features and 1 names"]),
        ({"feature_names": ["left", "left"]}, "/feature_names", ["'left'"]),
        ({"feature_names": ["left", "\x00"]}, "/feature_names/1", ["not allowed"]),
        ({"name": "x" * 201}, "/name", ["200"]),
        ({"rows": 1}, "/rows", ["no such field"]),
    ],
)
def test_rows_that_do_not_fit_together_are_refused_at_their_place(
    client: httpx.Client, change: dict[str, Any], pointer: str, words: list[str]
) -> None:
    refused(client.post("/v1/datasets", json=ROWS | change), "invalid_input", pointer, *words)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "1" + "0" * 400])
def test_rows_that_are_not_finite_are_refused(client: httpx.Client, number: str) -> None:
    content = json.dumps(ROWS).replace("-3", number)
    response = client.post("/v1/datasets", content=content, headers={"Content-Type": "application/json"})
    refused(response, "invalid_input", "/samples/1/1", "finite")


def test_a_dataset_over_the_limit_of_values_is_refused(limited: httpx.Client) -> None:
    rows = {"samples": [[0, 1, 2]] * 101, "labels": ["a", "b"] * 50 + ["a"]}
    problem = refused(limited.post("/v1/datasets", json=rows), "limit_exceeded", "/samples")
    assert (problem["limit"], problem["value"], problem["setting"]) == (300, 303, "CHAINRULE_MAX_DATASET_VALUES")
    bomb = gzip.compress(b"0,1,a\n" * 10_000)
    assert len(bomb) < 4096
    response = limited.post("/v1/datasets", files={"file": ("bomb.csv.gz", bomb)})
    refused(response, "limit_exceeded", "/file", "CHAINRULE_MAX_UPLOAD_BYTES")


def test_an_upload_repeated_under_its_key_is_answered_as_the_first(client: httpx.Client) -> None:
    key, content = {"Idempotency-Key": uuid.uuid4().hex}, unique()
    answers = [client.post("/v1/datasets", files={"file": ("a.csv", content)}, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    other = client.post("/v1/datasets", files={"file": ("a.csv", unique())}, headers=key)
    refused(other, "idempotency_mismatch")
    other = client.post("/v1/datasets", files={"file": ("a.csv", content)}, data={"header": "true"}, headers=key)
    refused(other, "idempotency_mismatch")


def test_built_in_datasets_are_there_from_the_start(client: httpx.Client) -> None:
    for name in BUILT_IN:
        found = Dataset.model_validate(client.get(f"/v1/datasets/{name}").json())
        assert (found.id, found.builtin, found.created_at) == (name, True, None)
        assert found.report["notes"]
        data = BUILT_IN[name]()
        assert (found.samples, found.features, tuple(found.classes)) == (data.samples, data.features, data.classes)
        assert client.get(f"/v1/datasets/{name}/preview?limit=3").json()["rows"] == data.X[:3].tolist()
        refused(client.delete(f"/v1/datasets/{name}"), "conflict", None, name, "built in")


def test_a_dataset_that_is_not_there_is_not_found(client: httpx.Client) -> None:
    for response in (
        client.get("/v1/datasets/ds_0"), client.get("/v1/datasets/ds_0/preview"), client.delete("/v1/datasets/ds_0"),
    ):  # fmt: skip
        refused(response, "not_found", None, "ds_0", "xor, moons, circles, spirals, digits")


def test_a_dataset_that_is_there_already_is_not_sent_again(client: httpx.Client, flowers: str) -> None:
    for dataset_id in (flowers, "digits"):
        first = client.get(f"/v1/datasets/{dataset_id}")
        etag = first.headers["etag"]
        assert etag == f'"{first.json()["sha256"]}"'
        again = client.get(f"/v1/datasets/{dataset_id}", headers={"If-None-Match": etag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert client.get(f"/v1/datasets/{dataset_id}", headers={"If-None-Match": '"x"'}).status_code == 200


def test_paging_meets_each_dataset_exactly_once_the_built_in_ones_first(client: httpx.Client) -> None:
    uploaded = {upload(client, unique())["id"] for _ in range(4)}
    for limit in (1, 3, 5, 7, 200):
        found, cursor = list[str](), None
        while True:
            parameters = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
            page = DatasetPage.model_validate(client.get("/v1/datasets", params=parameters).json())
            assert len(page.items) <= limit
            found += [dataset.id for dataset in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found[:5] == list(BUILT_IN)
        assert found[5:] == sorted(set(found[5:]))
        assert uploaded <= set(found)
    for cursor in ("", "!", "abc", "%00"):
        refused(client.get(f"/v1/datasets?cursor={cursor}"), "invalid_input", "/cursor", "next_cursor")


def test_a_deleted_dataset_is_gone_and_may_come_back(client: httpx.Client) -> None:
    content = unique()
    dataset_id = upload(client, content)["id"]
    response = client.delete(f"/v1/datasets/{dataset_id}")
    assert (response.status_code, response.content) == (204, b"")
    refused(client.get(f"/v1/datasets/{dataset_id}"), "not_found")
    refused(client.delete(f"/v1/datasets/{dataset_id}"), "not_found")
    refused(client.post("/v1/runs", json=XOR | {"dataset": dataset_id}), "invalid_input", "/dataset", dataset_id)
    assert client.post("/v1/datasets", files={"file": ("a.csv", content)}).status_code == 201
    assert client.get(f"/v1/datasets/{dataset_id}/preview").status_code == 200


def test_a_dataset_that_a_run_uses_cannot_be_deleted_until_the_run_is(client: httpx.Client) -> None:
    learned, judged = upload(client, unique())["id"], upload(client, unique())["id"]
    run = submit(client, LONG)
    waiting = submit(client, XOR | {"dataset": learned, "validation": {"dataset": judged}}, Prefer="wait=30")
    assert waiting["status"] == "succeeded"
    for dataset_id in (learned, judged):
        refused(client.delete(f"/v1/datasets/{dataset_id}"), "conflict", None, dataset_id, "delete them first")
    assert client.delete(f"/v1/runs/{waiting['id']}").status_code == 204
    for dataset_id in (learned, judged):  # without it the run could not be restored
        refused(client.delete(f"/v1/datasets/{dataset_id}"), "conflict", None, f"deleted=true&dataset={dataset_id}")
    assert client.delete(f"/v1/runs/{waiting['id']}", params={"purge": True}).status_code == 204
    for dataset_id in (learned, judged):
        assert client.delete(f"/v1/datasets/{dataset_id}").status_code == 204
    stop(client, run["id"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_outlives_its_local_copies_and_the_service(fresh: Any, tmp_path: Path, kind: str) -> None:
    url = fresh.url(kind)
    with inside(Settings(database_url=url, cache_dir=tmp_path / "one", slots=0)) as (client, _):
        dataset_id = upload(client, FLOWERS)["id"]
        shown = client.get(f"/v1/datasets/{dataset_id}/preview").json()
    with inside(Settings(database_url=url, cache_dir=tmp_path / "another", slots=0)) as (client, _):
        assert client.get(f"/v1/datasets/{dataset_id}/preview").json() == shown
        for copy in (tmp_path / "another").iterdir():
            copy.write_bytes(b"damaged")
        assert client.get(f"/v1/datasets/{dataset_id}/preview").json() == shown


def test_samples_can_have_weights_from_a_column_or_beside_rows(client: httpx.Client) -> None:
    found = upload(client, "x,w,class\n1,0.5,a\n2,2,b\n", weight_column="w")
    assert (found["features"], found["report"]["weight_column"]) == (1, "w")
    assert found["report"]["weights"] == {"minimum": 0.5, "maximum": 2.0, "mean": 1.25, "zeros": 0}
    shown = client.get(f"/v1/datasets/{found['id']}/preview").json()
    assert Preview.model_validate(shown).weights == [0.5, 2.0]
    body = ROWS | {"weights": [1, 0, 2.5]}
    sent = client.post("/v1/datasets", json=body).json()
    assert client.get(f"/v1/datasets/{sent['id']}/preview").json()["weights"] == [1.0, 0.0, 2.5]
    assert sent["id"] != client.post("/v1/datasets", json=ROWS).json()["id"]
    for weights, pointer in (([1, -1, 1], "/weights/1"), ([1, 2], "/weights"), ([0, 0, 0], "/weights")):
        refused(client.post("/v1/datasets", json=ROWS | {"weights": weights}), "invalid_input", pointer)
    archive = io.BytesIO()
    np.savez(archive, X=np.eye(2), y=np.array([0, 1]))
    response = client.post(
        "/v1/datasets", files={"file": ("data.npz", archive.getvalue())}, data={"weight_column": "w"}
    )
    refused(response, "invalid_input", "/weight_column", "goes with CSV")
