"""Inputs as files: made once for all runs, mapped and never copied, and never anything but what they should be."""

import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from chainrule.app.config import Settings
from chainrule.app.services import input_files
from chainrule.app.services.input_files import SHARED_BYTES, Part, in_memory_bytes, open_inputs
from chainrule.engine import Data, TrainingConfig, dense, split_rows
from chainrule.engine.member import Member, Trainee
from chainrule.engine.preprocessing import Preprocessing, fit, identity
from tests.app.services.formats.files import npz
from tests.service import Service

RNG = np.random.default_rng(0)
COLOURS = ("blue", "red", "white")
X = np.column_stack([RNG.normal(9, 3, 300), RNG.integers(0, 3, 300), RNG.uniform(-1e39, 1e39, 300)])
SHIRTS = Data(
    X, labels=RNG.integers(0, 2, 300), classes=("no", "yes"), feature_names=("price", "colour", "size"),
    categories=(None, COLOURS, None), weights=RNG.uniform(0, 2, 300),
)  # fmt: skip
OTHERWISE = replace(SHIRTS, X=X * [1, -1, 1] + [0, 2, 0], categories=(None, COLOURS[::-1], None))
NUMBERS = Data(RNG.normal(3, 2, (200, 150)), Y=RNG.normal(size=(200, 2)), feature_names=tuple(map(str, range(150))))
TRAINING, HELD_OUT = split_rows(300, 0.2, 1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


@pytest.fixture
def _all_as_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "SHARED_BYTES", 1)
    monkeypatch.setattr(input_files, "BLOCK_VALUES", 100)


def files(settings: Settings) -> list[Path]:
    return sorted(settings.cache_dir.glob("*.npy"))


@pytest.mark.usefixtures("_all_as_files")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("data", "rows", "fitted"),
    [
        (SHIRTS, TRAINING, fit(SHIRTS, "standardize", TRAINING)),
        (SHIRTS, HELD_OUT, fit(SHIRTS, "min_max", TRAINING)),
        (SHIRTS, None, fit(SHIRTS)),
        (OTHERWISE, None, fit(SHIRTS, "standardize", TRAINING)),
        (NUMBERS, None, fit(NUMBERS, "min_max")),
        (NUMBERS, np.arange(0, 200, 2), identity(150)),
    ],
    ids=["training part", "held-out part", "categories", "categories in another order", "scaled", "part as it is"],
)
def test_what_is_mapped_is_what_would_be_made_in_memory_to_the_bit(
    settings: Settings, data: Data, rows: np.ndarray | None, fitted: Preprocessing, dtype: type[np.floating]
) -> None:
    with np.errstate(over="ignore"):
        whole = fitted.transform(data if rows is None else data.take(rows), dtype)
        made = np.asarray(whole.X, dtype)
    for _ in range(2):
        found = open_inputs(settings, Part("ds_1", data, rows), fitted, dtype)
        assert isinstance(found.X, np.memmap)
        assert found.X.dtype == dtype
        assert found.X.tobytes() == made.tobytes()
        for name in ("Y", "labels", "weights"):
            assert np.array_equal(getattr(found, name), getattr(whole, name))
        assert (found.classes, found.feature_names, found.categories) == (whole.classes, whole.feature_names, ())
    assert len(files(settings)) == 1


@pytest.mark.usefixtures("_all_as_files")
def test_what_differs_is_another_file(settings: Settings) -> None:
    scaled = fit(NUMBERS, "min_max")
    for part, fitted in [
        (Part("ds_1", NUMBERS), scaled),
        (Part("ds_2", NUMBERS), scaled),
        (Part("ds_1", NUMBERS, np.arange(100)), scaled),
        (Part("ds_1", NUMBERS, np.arange(1, 101)), scaled),
        (Part("ds_1", NUMBERS), fit(NUMBERS, "standardize")),
    ]:
        for dtype in (np.float32, np.float64):
            open_inputs(settings, part, fitted, dtype)
    assert len(files(settings)) == 10


@pytest.mark.usefixtures("_all_as_files")
def test_no_copy_is_made_between_the_file_and_the_batches(settings: Settings) -> None:
    data = open_inputs(settings, Part("ds_1", NUMBERS), fit(NUMBERS, "standardize"), np.float32)
    config = TrainingConfig(dense(150, (4, "tanh"), (2, "linear")), cost="mse")
    member = Member(Trainee(config, data), np.empty(config.network.parameter_count, np.float32), {}, {})
    assert np.shares_memory(member.X, data.X)


def test_a_dataset_that_goes_in_as_it_is_is_handed_over_itself(settings: Settings) -> None:
    assert open_inputs(settings, Part("ds_1", NUMBERS), identity(150), np.float64) is NUMBERS
    assert files(settings) == []


def test_what_is_small_is_made_in_memory(settings: Settings) -> None:
    found = open_inputs(settings, Part("ds_1", NUMBERS), fit(NUMBERS, "min_max"), np.float64)
    assert not isinstance(found.X, np.memmap)
    assert files(settings) == []
    assert in_memory_bytes(200, 150, 8) == NUMBERS.X.nbytes
    assert in_memory_bytes(SHARED_BYTES // 800, 100, 8) > 0 == in_memory_bytes(SHARED_BYTES // 800 + 1, 100, 8)


def test_a_file_is_written_in_blocks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data(RNG.normal(size=(4000, 500)), labels=np.zeros(4000, np.int64), classes=("a",))
    part, fitted = Part("ds_1", data, np.arange(1, 4000)), identity(500)
    monkeypatch.setattr(input_files, "BLOCK_VALUES", 10_000)
    monkeypatch.setattr(input_files, "SHARED_BYTES", 1)
    tracemalloc.start()
    try:
        found = open_inputs(settings, part, fitted, np.float64)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(found.X, data.X[1:])
    assert peak < 0.2 * data.X.nbytes


@pytest.mark.usefixtures("_all_as_files")
def test_many_who_want_the_same_file_make_it_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    written, start = [], threading.Barrier(6)
    write = input_files._write

    def slow(path: Path, made: input_files._Made) -> None:
        written.append(path)
        time.sleep(0.05)
        write(path, made)

    monkeypatch.setattr(input_files, "_write", slow)

    def look(_: int) -> bytes:
        start.wait()
        return open_inputs(settings, Part("ds_1", NUMBERS), fit(NUMBERS, "min_max"), np.float32).X.tobytes()

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(look, range(6)))) == 1
    assert len(written) == 1


KILLED = """
import os, signal, sys
from chainrule.app.config import Settings
from chainrule.app.services import input_files
from tests.app.services.test_input_files import NUMBERS, Part, fit, np
from pathlib import Path
blocks = input_files._Made.blocks
def some(made):
    yield next(blocks(made))
    os.kill(os.getpid(), signal.SIGKILL)
input_files._Made.blocks = some
input_files.SHARED_BYTES, input_files.BLOCK_VALUES = 1, 15_000
input_files.open_inputs(Settings(cache_dir=Path(sys.argv[1])), Part("ds_1", NUMBERS), fit(NUMBERS), np.float32)
"""


@pytest.mark.usefixtures("_all_as_files")
def test_what_a_killed_process_has_half_written_is_never_used(settings: Settings) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, settings.cache_dir], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = settings.cache_dir.glob("*.part")
    assert files(settings) == []
    found = open_inputs(settings, Part("ds_1", NUMBERS), fit(NUMBERS), np.float32)
    assert np.array_equal(found.X, NUMBERS.X.astype(np.float32))
    assert not left.exists()


@pytest.mark.usefixtures("_all_as_files")
@pytest.mark.parametrize("damage", ["empty", "truncated", "longer", "one bit", "nothing but zeros"])
def test_a_damaged_file_is_made_again(settings: Settings, damage: str) -> None:
    part, fitted = Part("ds_1", NUMBERS), fit(NUMBERS, "min_max")
    before = open_inputs(settings, part, fitted, np.float64).X
    (path,) = files(settings)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    content = {
        "empty": b"",
        "truncated": whole[:-1],
        "longer": whole + b"\0",
        "one bit": bytes(flipped),
        "nothing but zeros": bytes(len(whole)),
    }[damage]
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(path)
    assert np.array_equal(open_inputs(settings, part, fitted, np.float64).X, before)
    assert path.read_bytes() == whole


@pytest.mark.usefixtures("_all_as_files")
def test_the_files_used_least_recently_go_first_and_whoever_has_mapped_them_reads_on(settings: Settings) -> None:
    fitted = fit(NUMBERS, "min_max")
    settings = settings.model_copy(update={"max_cache_bytes": 3 * NUMBERS.X.nbytes + 1000})

    def use(dataset: str) -> np.ndarray:
        return open_inputs(settings, Part(dataset, NUMBERS), fitted, np.float64).X

    first = use("ds_1")
    for dataset in ("ds_2", "ds_3"):
        use(dataset)
    second = use("ds_1")
    use("ds_4")
    assert [path.name[:4] for path in files(settings)] == ["ds_1", "ds_3", "ds_4"]
    use("ds_5")
    use("ds_6")
    assert "ds_1" not in [path.name[:4] for path in files(settings)]
    assert np.array_equal(first, second)
    none = settings.model_copy(update={"max_cache_bytes": 0})
    open_inputs(none, Part("ds_7", NUMBERS), fitted, np.float64)
    assert [path.name[:4] for path in files(settings)] == ["ds_7"]  # the one in use stays


@pytest.mark.usefixtures("_all_as_files")
def test_where_no_file_can_be_written_a_run_has_its_samples_in_memory(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.cache_dir.write_bytes(b"no folder")
    found = open_inputs(settings, Part("ds_1", NUMBERS), fit(NUMBERS, "min_max"), np.float64)
    assert np.array_equal(found.X, fit(NUMBERS, "min_max").transform(NUMBERS).X)
    assert "cannot keep inputs as a file" in caplog.text


def test_two_runs_at_once_map_one_file(server: Service) -> None:
    pictures = RNG.normal(size=(3000, 800)).astype(np.float32)
    with server.client() as client:
        content = npz(X=pictures, labels=np.arange(3000) % 3)
        dataset = client.post("/v1/datasets", files={"file": ("pictures.npz", content)}).raise_for_status().json()["id"]
        spec = {
            "dataset": dataset,
            "network": {"layers": [{"units": 16, "activation": "tanh"}, {"units": 3, "activation": "softmax"}]},
            "inputs": {"scaling": "standardize"},
            "validation": {"fraction": 0.05},
            "epochs": 10_000,
            "batch_size": 50,
            "checkpoints": {"every": 10_000},
        }
        ids = [client.post("/v1/runs", json=spec | {"seed": seed}).raise_for_status().json()["id"] for seed in range(2)]
        try:
            deadline = time.monotonic() + 120
            while any(_epochs(client, run_id) < 1 for run_id in ids):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            mapped = _mapped(server.process.pid, f"{dataset}-")
        finally:
            for run_id in ids:
                client.post(f"/v1/runs/{run_id}/cancel")
    assert len(mapped) == 2
    assert len(set(mapped.values())) == 1


def _epochs(client: httpx.Client, run_id: str) -> int:
    run = client.get(f"/v1/runs/{run_id}").raise_for_status().json()
    assert not run["done"], run
    epochs: int = run["progress"]["epochs_done"]
    return epochs


def _mapped(pid: int, name: str) -> dict[int, tuple[str, ...]]:
    """Tell which files of a name the processes below one have mapped: by process, their devices and inodes."""
    found = {}
    for process in psutil.Process(pid).children(recursive=True):
        lines = [line.split() for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines()]
        inodes = {":".join(line[3:5]) for line in lines if len(line) > 5 and Path(line[5]).name.startswith(name)}
        if inodes:
            found[process.pid] = tuple(sorted(inodes))
    return found
