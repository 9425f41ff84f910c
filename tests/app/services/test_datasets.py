"""Datasets: one for each content, described, opened from a local copy."""

import hashlib
import io
import json
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainrule.app.config import Settings
from chainrule.app.errors import Conflict, IdempotencyInFlight, IdempotencyMismatch, InvalidInput, NotFound
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services import datasets, idempotency
from chainrule.app.services.dataset_files import CHUNK_BYTES
from chainrule.app.services.formats import Options
from chainrule.app.store import datasets as store
from chainrule.app.store import runs
from chainrule.app.store.database import Database, new_id, now
from chainrule.app.store.models import Run
from chainrule.engine import BUILT_IN

FLOWERS = b"length,width,species\n1.5,2,setosa\n3,4.25,virginica\n5,6,setosa\n"


def upload(
    database: Database,
    config: Settings,
    content: bytes = FLOWERS,
    *,
    name: str = "flowers",
    key: Any = None,
    **said: Any,
) -> datasets.Created:
    sent = datasets.Upload(io.BytesIO(content), Options(filename="flowers.csv", **said), name)
    return datasets.create_from_upload(database, config, sent, key=key)


def rows(
    database: Database,
    config: Settings,
    samples: Any = ((1.0,), (2.0,)),
    *,
    labels: Any = ("a", "b"),
    targets: Any = None,
    names: Any = None,
    name: str = "rows",
    key: idempotency.Key | None = None,
) -> datasets.Created:
    return datasets.create_from_rows(
        database,
        config,
        name=name,
        samples=samples,
        targets=targets,
        labels=None if targets is not None else labels,
        feature_names=names,
        key=key,
    )


def stored_run(database: Database, dataset: str, *, validation: str | None = None) -> None:
    run = Run(
        id=new_id("run"),
        name="",
        status=RunStatus.QUEUED,
        reason=Reason.SUBMITTED,
        detail="",
        priority=0,
        config={},
        dataset=dataset,
        validation_dataset=validation,
        epochs_total=1,
        steps_per_epoch=1,
        parameters=1,
        created_at=now(),
    )
    with database.writing() as session:
        runs.add(session, run)


def copy_of(config: Settings, dataset_id: str) -> Path:
    return config.cache_dir / f"{dataset_id}.safetensors"


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path) -> Settings:
    """The same settings with an empty cache of their own."""
    return settings.model_copy(update={"cache_dir": tmp_path / "cache"})


def test_a_dataset_is_described_and_read_back(database: Database, settings: Settings) -> None:
    made = upload(database, settings)
    assert made.created
    shown = made.dataset
    assert datasets.get(database, shown["id"]) == shown
    assert shown["id"] == f"ds_{shown['sha256'][:24]}"
    assert (shown["name"], shown["builtin"], shown["samples"], shown["features"]) == ("flowers", False, 3, 2)
    assert (shown["targets"], shown["classes"]) == (1, ["setosa", "virginica"])
    assert shown["report"] == {
        "format": "csv",
        "delimiter": ",",
        "header": True,
        "label_column": "species",
        "feature_names": ["length", "width"],
        "columns": [{"name": "length", "kind": "numeric"}, {"name": "width", "kind": "numeric"}],
        "task": "classification",
        "classes": [{"name": "setosa", "samples": 2}, {"name": "virginica", "samples": 1}],
        "ranges": [
            {"feature": "length", "minimum": 1.5, "maximum": 5.0, "mean": pytest.approx(9.5 / 3)},
            {"feature": "width", "minimum": 2.0, "maximum": 6.0, "mean": pytest.approx(12.25 / 3)},
        ],
        "notes": [
            "The first line is a header (inferred).",
            "Column 'species' holds class labels: the last column, and its values are words.",
        ],
    }
    data = datasets.open_data(database, settings, shown["id"])
    assert data.X.tolist() == [[1.5, 2], [3, 4.25], [5, 6]]
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 0]
    assert data.Y is None
    assert (data.classes, data.feature_names) == (("setosa", "virginica"), ("length", "width"))
    assert not data.X.flags.writeable
    info = datasets.DatasetInfo(shown["id"], 3, 2, 1, ("setosa", "virginica"), (None, None))
    assert datasets.describe(database, shown["id"]) == info


def test_the_identity_of_numbers_is_that_of_names_and_bytes(database: Database, settings: Settings) -> None:
    shown = upload(database, settings).dataset
    with database.reading() as session:
        stored = b"".join(store.chunks(session, shown["id"]))
    names = json.dumps([["setosa", "virginica"], ["length", "width"]]).encode()
    assert shown["sha256"] == hashlib.sha256(names + stored).hexdigest()


def test_categories_are_described_shown_by_name_and_read_back(database: Database, settings: Settings) -> None:
    content = b"size,colour,label\n1.5,red,a\n2,blue,b\n3,red,a\n"
    shown = upload(database, settings, content).dataset
    assert shown["report"]["columns"] == [
        {"name": "size", "kind": "numeric"},
        {"name": "colour", "kind": "categorical", "categories": ["blue", "red"]},
    ]
    assert [entry["feature"] for entry in shown["report"]["ranges"]] == ["size"]
    assert datasets.preview(database, settings, shown["id"], 2)["rows"] == [[1.5, "red"], [2, "blue"]]
    data = datasets.open_data(database, settings, shown["id"])
    assert data.X.tolist() == [[1.5, 1], [2, 0], [3, 1]]
    assert data.categories == datasets.describe(database, shown["id"]).categories == (None, ("blue", "red"))
    renamed = upload(database, settings, content.replace(b"red", b"green")).dataset
    assert renamed["id"] != upload(database, settings, content.replace(b"red", b"white")).dataset["id"]
    assert upload(database, settings, content).dataset["id"] == shown["id"]


def test_a_regression_is_described_and_read_back(database: Database, settings: Settings) -> None:
    shown = rows(database, settings, [[1, 2], [3, 4]], targets=[[5.5, 6, 7], [8, 9, 10]]).dataset
    assert (shown["targets"], shown["classes"], shown["report"]["task"]) == (3, [], "regression")
    assert "classes" not in shown["report"]
    data = datasets.open_data(database, settings, shown["id"])
    assert data.labels is None
    assert data.Y is not None
    assert data.Y.tolist() == [[5.5, 6, 7], [8, 9, 10]]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    samples=st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=2, max_size=9
    )
)
def test_every_number_is_read_back_to_the_bit(
    samples: list[list[float]], database: Database, settings: Settings
) -> None:
    shown = rows(database, settings, samples, targets=samples).dataset
    json.dumps(shown, allow_nan=False)
    data = datasets.open_data(database, settings, shown["id"])
    assert data.Y is not None
    assert data.X.tobytes() == data.Y.tobytes() == np.array(samples).tobytes()


def test_the_same_content_is_one_dataset_whatever_it_is_called_and_however_it_is_sent(
    database: Database, settings: Settings
) -> None:
    first = upload(database, settings)
    again = upload(database, settings, FLOWERS.replace(b",", b";"), name="other")
    sent = rows(
        database,
        settings,
        [[1.5, 2], [3, 4.25], [5, 6]],
        labels=["setosa", "virginica", "setosa"],
        names=["length", "width"],
    )
    assert (first.created, again.created, sent.created) == (True, False, False)
    assert again.dataset == sent.dataset == first.dataset


def test_other_numbers_classes_or_names_are_another_dataset(database: Database, settings: Settings) -> None:
    made = [
        rows(database, settings),
        rows(database, settings, [[1.0], [2.5]]),
        rows(database, settings, labels=["a", "c"]),
        rows(database, settings, labels=["b", "a"]),
        rows(database, settings, names=["width"]),
        rows(database, settings, targets=[[0.0], [1.0]]),
    ]
    assert all(one.created for one in made)
    assert len({one.dataset["id"] for one in made}) == len(made)


def test_a_content_uploaded_many_times_at_once_is_stored_once(database: Database, settings: Settings) -> None:
    start = threading.Barrier(6)
    content = b"a,b,label\n" + b"".join(b"%d,%d,%d\n" % (n, n * n, n % 2) for n in range(20_000))

    def send(number: int) -> datasets.Created:
        start.wait()
        return upload(database, settings, content, key=idempotency.Key(f"key {number}", "same"))

    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(send, range(6)))
    assert sum(one.created for one in made) == 1
    assert len({one.dataset["id"] for one in made}) == 1
    assert len(datasets.page(database, 100, None)) == len(BUILT_IN) + 1
    # Each was answered for good, so a repetition under its key is answered the same.
    for number, one in enumerate(made):
        assert upload(database, settings, content, key=idempotency.Key(f"key {number}", "same")) == replace(
            one, replayed=True
        )
    assert len(datasets.open_data(database, settings, made[0].dataset["id"]).X) == 20_000


def test_a_repeated_key_is_answered_the_same_and_creates_nothing(database: Database, settings: Settings) -> None:
    key = idempotency.Key("mine", "hash of the request")
    first = rows(database, settings, key=key)
    assert rows(database, settings, key=key) == replace(first, replayed=True)
    assert first.created
    datasets.delete(database, first.dataset["id"])
    assert rows(database, settings, key=key) == replace(first, replayed=True)
    assert len(datasets.page(database, 100, None)) == len(BUILT_IN)


def test_a_key_used_with_another_request_is_refused(database: Database, settings: Settings) -> None:
    rows(database, settings, key=idempotency.Key("mine", "one"))
    with pytest.raises(IdempotencyMismatch):
        rows(database, settings, [[3.0], [4.0]], key=idempotency.Key("mine", "two"))
    assert len(datasets.page(database, 100, None)) == len(BUILT_IN) + 1


def test_a_key_of_a_refused_request_can_be_used_again(database: Database, settings: Settings) -> None:
    key = idempotency.Key("mine", "one")
    with pytest.raises(InvalidInput):
        rows(database, settings, labels=["a", "a"], key=key)
    assert rows(database, settings, key=key).created


def test_a_key_held_by_another_request_is_in_flight(database: Database, settings: Settings) -> None:
    key = idempotency.Key("mine", "one")
    with idempotency.in_flight(key), pytest.raises(IdempotencyInFlight):
        rows(database, settings, key=key)


@pytest.mark.parametrize(
    ("name", "kept"), [("", "rows"), ("a\0b\ud800c\n", "abc"), ("ü" * 300, "ü" * 200), ("my data.csv", "my data.csv")]
)
def test_a_name_that_could_not_be_stored_is_made_so(
    database: Database, settings: Settings, name: str, kept: str
) -> None:
    shown = rows(database, settings, name=name).dataset
    assert shown["name"] == (kept if name else "dataset")
    assert datasets.get(database, shown["id"])["name"] == shown["name"]


def test_an_upload_without_a_name_is_called_by_its_file(database: Database, settings: Settings) -> None:
    assert upload(database, settings, name="").dataset["name"] == "flowers.csv"


def test_a_refused_file_leaves_nothing_behind(database: Database, settings: Settings) -> None:
    with pytest.raises(InvalidInput, match="Line 3"):
        upload(database, settings, b"a,label\n1,x\n?,y\n")
    assert len(datasets.page(database, 100, None)) == len(BUILT_IN)


def test_ranges_of_the_largest_numbers_are_finite(database: Database, settings: Settings) -> None:
    most = 1.7976931348623157e308
    shown = rows(
        database, settings, [[most, most, 1.0], [most, -most, 2.0], [most, most, 3.0]], labels=[1, 2, 1]
    ).dataset
    means = [feature["mean"] for feature in shown["report"]["ranges"]]
    assert means == [pytest.approx(most), pytest.approx(most / 3), pytest.approx(2)]
    assert datasets.get(database, shown["id"]) == shown


def test_ranges_are_listed_for_the_first_thousand_features(database: Database, settings: Settings) -> None:
    shown = rows(database, settings, [list(range(1001)), list(range(1001))]).dataset
    assert len(shown["report"]["ranges"]) == datasets.MOST_RANGES == 1000
    assert "Ranges are listed for the first 1000 features." in shown["report"]["notes"]


def test_a_preview_shows_the_first_samples(database: Database, settings: Settings) -> None:
    labels = upload(database, settings).dataset["id"]
    assert datasets.preview(database, settings, labels, 2) == {
        "feature_names": ["length", "width"],
        "rows": [[1.5, 2.0], [3.0, 4.25]],
        "labels": ["setosa", "virginica"],
        "targets": None,
        "weights": None,
    }
    assert len(datasets.preview(database, settings, labels, 100)["rows"]) == 3
    targets = rows(database, settings, targets=[[5.0], [6.0]]).dataset["id"]
    assert datasets.preview(database, settings, targets, 1) == {
        "feature_names": ["x1"],
        "rows": [[1.0]],
        "labels": None,
        "targets": [[5.0]],
        "weights": None,
    }
    assert datasets.preview(database, settings, "xor", 2)["labels"] == ["0", "1"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_datasets_are_there_from_the_start(database: Database, settings: Settings, name: str) -> None:
    shown = datasets.get(database, name)
    data = datasets.open_data(database, settings, name)
    assert (shown["builtin"], shown["created_at"]) == (True, None)
    assert (shown["samples"], shown["features"]) == data.X.shape
    assert shown["classes"] == list(data.classes)
    assert sum(one["samples"] for one in shown["report"]["classes"]) == data.samples
    assert shown["report"]["notes"][0].endswith(".")
    info = datasets.DatasetInfo(name, data.samples, data.features, 1, data.classes, (None,) * data.features)
    assert datasets.describe(database, name) == info
    with pytest.raises(Conflict, match="built in"):
        datasets.delete(database, name)


def test_a_built_in_dataset_sent_as_rows_has_the_same_hash(database: Database, settings: Settings) -> None:
    xor = BUILT_IN["xor"]()
    assert xor.labels is not None
    same = rows(database, settings, xor.X.tolist(), labels=xor.labels.tolist(), names=xor.feature_names).dataset
    assert same["sha256"] == datasets.get(database, "xor")["sha256"]
    assert same["size_bytes"] == datasets.get(database, "xor")["size_bytes"]


def test_a_dataset_that_is_not_there_is_not_found(database: Database, settings: Settings) -> None:
    for missing in ("ds_none", "XOR", ""):
        for call in (
            lambda missing=missing: datasets.get(database, missing),
            lambda missing=missing: datasets.delete(database, missing),
            lambda missing=missing: datasets.describe(database, missing),
            lambda missing=missing: datasets.open_data(database, settings, missing),
            lambda missing=missing: datasets.preview(database, settings, missing, 1),
        ):
            with pytest.raises(NotFound, match="built in are xor, moons"):
                call()


def test_a_deleted_dataset_is_gone_with_its_bytes_and_can_be_uploaded_again(
    database: Database, settings: Settings
) -> None:
    dataset_id = upload(database, settings).dataset["id"]
    datasets.open_data(database, settings, dataset_id)
    datasets.delete(database, dataset_id)
    with database.reading() as session:
        assert list(store.chunks(session, dataset_id)) == []
    with pytest.raises(NotFound):
        datasets.open_data(database, settings, dataset_id)
    assert upload(database, settings).created
    assert datasets.open_data(database, settings, dataset_id).samples == 3


def test_a_dataset_a_run_trains_or_validates_on_is_not_deleted(database: Database, settings: Settings) -> None:
    trained = rows(database, settings).dataset["id"]
    validated = rows(database, settings, [[3.0], [4.0]]).dataset["id"]
    unused = rows(database, settings, [[5.0], [6.0]]).dataset["id"]
    stored_run(database, trained, validation=validated)
    for used in (trained, validated):
        with pytest.raises(Conflict, match="used by runs"):
            datasets.delete(database, used)
        assert datasets.get(database, used)["id"] == used
    datasets.delete(database, unused)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7, 20])
def test_pages_hold_every_dataset_once_built_in_ones_first(database: Database, settings: Settings, limit: int) -> None:
    made = sorted(rows(database, settings, [[float(n)], [0.5]]).dataset["id"] for n in range(6))
    seen: list[str] = []
    while page := datasets.page(database, limit, seen[-1] if seen else None):
        assert len(page) <= limit
        seen += [dataset["id"] for dataset in page]
    assert seen == [*BUILT_IN, *made]


def test_what_is_behind_a_deleted_dataset_is_still_listed(database: Database, settings: Settings) -> None:
    made = sorted(rows(database, settings, [[float(n)], [0.5]]).dataset["id"] for n in range(3))
    datasets.delete(database, made[1])
    assert [dataset["id"] for dataset in datasets.page(database, 9, made[1])] == [made[2]]


def test_bytes_are_stored_in_chunks(database: Database, settings: Settings) -> None:
    X = np.random.default_rng(0).normal(size=(150_001, 2)).astype(np.float32)
    archive = io.BytesIO()
    np.savez(archive, X=X, y=np.arange(150_001) % 3)
    shown = upload(database, settings, archive.getvalue()).dataset
    with database.reading() as session:
        chunks = list(store.chunks(session, shown["id"]))
    assert len(chunks) == 4
    assert max(map(len, chunks)) == CHUNK_BYTES
    assert sum(map(len, chunks)) == shown["size_bytes"]
    assert np.array_equal(datasets.open_data(database, settings, shown["id"]).X, X)


def test_30_megabytes_are_stored_and_read_back_without_several_copies(database: Database, elsewhere: Settings) -> None:
    X = np.random.default_rng(0).normal(size=(30_000, 125))
    sent = io.BytesIO()
    np.save(sent, X)
    size = X.nbytes
    tracemalloc.start()
    try:
        made = datasets.create_from_upload(
            database, elsewhere, datasets.Upload(sent, Options(target_columns=("0",)), "large")
        )
        _, stored = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        data = datasets.open_data(database, elsewhere, made.dataset["id"])
        _, opened = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # What was read, and its features apart from its targets: twice the file.
    assert stored < 2.3 * size
    # Mapped and not read; SQLite and PostgreSQL hand out a few chunks at a time.
    assert opened - before < 0.5 * size
    assert data.Y is not None
    assert np.array_equal(data.X, X[:, 1:])
    assert np.array_equal(data.Y[:, 0], X[:, 0])


def test_the_local_copy_is_fetched_once(database: Database, elsewhere: Settings) -> None:
    dataset_id = upload(database, elsewhere).dataset["id"]
    assert not copy_of(elsewhere, dataset_id).exists()
    datasets.open_data(database, elsewhere, dataset_id)
    first = copy_of(elsewhere, dataset_id).stat().st_mtime_ns
    datasets.open_data(database, elsewhere, dataset_id)
    assert copy_of(elsewhere, dataset_id).stat().st_mtime_ns == first
    assert [path.name for path in elsewhere.cache_dir.iterdir()] == [f"{dataset_id}.safetensors"]


def test_opened_data_outlives_its_local_copy(database: Database, elsewhere: Settings) -> None:
    dataset_id = upload(database, elsewhere).dataset["id"]
    data = datasets.open_data(database, elsewhere, dataset_id)
    copy_of(elsewhere, dataset_id).unlink()
    assert data.X.tolist() == [[1.5, 2], [3, 4.25], [5, 6]]
    assert datasets.open_data(database, elsewhere, dataset_id).X.tolist() == data.X.tolist()
    assert copy_of(elsewhere, dataset_id).exists()


@pytest.mark.parametrize("damage", ["empty", "truncated", "longer", "one bit", "other content", "header"])
def test_a_damaged_local_copy_is_fetched_again(database: Database, elsewhere: Settings, damage: str) -> None:
    dataset_id = upload(database, elsewhere).dataset["id"]
    before = datasets.open_data(database, elsewhere, dataset_id).X.tolist()
    path = copy_of(elsewhere, dataset_id)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-20] ^= 1
    content = {
        "empty": b"",
        "truncated": whole[:-1],
        "longer": whole + b"\0",
        "one bit": bytes(flipped),
        "other content": bytes(len(whole)),
        "header": b"\xff" * 8 + whole[8:],
    }[damage]
    # Written beside and moved there, as another process would; the file a reader has mapped stays as it is.
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(path)
    assert datasets.open_data(database, elsewhere, dataset_id).X.tolist() == before
    assert path.read_bytes() == whole


def test_a_local_copy_another_process_left_is_compared_and_kept(
    database: Database, elsewhere: Settings, tmp_path: Path
) -> None:
    dataset_id = upload(database, elsewhere).dataset["id"]
    datasets.open_data(database, elsewhere, dataset_id)
    whole = copy_of(elsewhere, dataset_id).read_bytes()
    fresh = elsewhere.model_copy(update={"cache_dir": tmp_path / "other"})
    fresh.cache_dir.mkdir()
    copy_of(fresh, dataset_id).write_bytes(whole)
    left = copy_of(fresh, dataset_id).stat()
    assert datasets.open_data(database, fresh, dataset_id).samples == 3
    assert copy_of(fresh, dataset_id).stat().st_ino == left.st_ino


def test_many_readers_at_once_see_the_whole_of_it(database: Database, elsewhere: Settings) -> None:
    dataset_id = upload(database, elsewhere).dataset["id"]
    start = threading.Barrier(6)

    def look(_: int) -> list[list[float]]:
        start.wait()
        seen: list[list[float]] = datasets.open_data(database, elsewhere, dataset_id).X.tolist()
        return seen

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(look, range(6))) == [[[1.5, 2], [3, 4.25], [5, 6]]] * 6
    assert [path.name for path in elsewhere.cache_dir.iterdir()] == [f"{dataset_id}.safetensors"]


def test_weights_belong_to_a_dataset_and_to_its_identity(database: Database, settings: Settings) -> None:
    content = b"length,weight,species\n1.5,2,setosa\n3,0,virginica\n5,0.1,setosa\n"
    weighted = upload(database, settings, content, weight_column="weight").dataset
    assert (weighted["features"], weighted["report"]["feature_names"]) == (1, ["length"])
    assert weighted["report"]["weights"] == {"minimum": 0.0, "maximum": 2.0, "mean": pytest.approx(0.7), "zeros": 1}
    data = datasets.open_data(database, settings, weighted["id"])
    assert data.weights is not None
    assert data.weights.tolist() == [2, 0, 0.1]
    assert datasets.preview(database, settings, weighted["id"], 2)["weights"] == [2.0, 0.0]

    bare = upload(database, settings, b"length,species\n1.5,setosa\n3,virginica\n5,setosa\n").dataset
    assert bare["id"] != weighted["id"]
    assert "weights" not in bare["report"]
    assert datasets.open_data(database, settings, bare["id"]).weights is None
    sent = datasets.create_from_rows(
        database, settings, name="", samples=[[1.5], [3], [5]], targets=None, labels=["setosa", "virginica", "setosa"],
        feature_names=["length"], weights=[2, 0, 0.1],
    )  # fmt: skip
    assert (sent.created, sent.dataset["id"]) == (False, weighted["id"])
