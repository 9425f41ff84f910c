"""Disks that are full, files that are damaged or can only be read: a clear word, and nothing lost."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from chainrule.app.store import attempts
from chainrule.app.store.database import Database
from tests.app.api.calls import FLOWERS, last_weights, upload
from tests.app.store.test_runs import claim, queued_run
from tests.disks import NoDisk, fill
from tests.disks import small_disk as mounted
from tests.service import serving, working
from tests.test_flows import LONG, QUICK_RECOVERY, XOR, ended, epochs_of, submit, under_way
from tests.waiting import wait_for

SPEC = LONG | {"epochs": 800}
SMALL = {"min_free_bytes": 0}
"""Ready even where there is hardly any room."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB."""
    try:
        with mounted(tmp_path / "small", 16) as folder:
            yield folder
    except NoDisk as error:
        pytest.skip(str(error))


def refusal(command: str, url: str) -> str:
    """Start what should not start; return what it said."""
    environment = os.environ | {"CHAINRULE_DATABASE_URL": url, "CHAINRULE_PORT": "0", "CHAINRULE_SLOTS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "chainrule", command], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (1, 2), done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_full_disk_is_said_to_be_full_and_runs_wait_until_there_is_room(
    fresh: Any, small_disk: Path, cache_dir: Path
) -> None:
    file = small_disk / "chainrule.sqlite3"
    file.write_bytes(Path(fresh.url("sqlite").removeprefix("sqlite:///")).read_bytes())
    with (
        serving(database_url=f"sqlite:///{file}", cache_dir=cache_dir, slots=1, **SMALL, **QUICK_RECOVERY) as service,
        service.client() as client,
    ):
        first = submit(client, SPEC)
        assert ended(client, first)["status"] == "succeeded"
        run_id = submit(client, SPEC)
        wait_for(lambda: under_way(client, run_id, 50))
        filler = fill(small_disk)
        refused = wait_for(lambda: full if (full := client.post("/v1/runs", json=XOR)).status_code != 201 else None)
        assert (refused.status_code, refused.json()["code"], refused.json()["cause"]) == (507, *["disk_full"] * 2)
        assert "Make room" in refused.json()["detail"]
        assert refused.headers["Retry-After"]
        wait_for(lambda: "The disk under the database is full" in service.log.read_text())
        threshold_s = QUICK_RECOVERY["attempt_timeout_s"] + 1
        assert not wait_until_lost(client, run_id, threshold_s), "a run was given up that was only waiting for room"
        filler.unlink()
        run = ended(client, run_id)
        succeeded_at_once(run)
        assert epochs_of(client, run_id) == list(range(801))
        assert last_weights(client, run_id) == last_weights(client, first)
        assert "Traceback" not in service.log.read_text()


def test_on_a_full_disk_an_observer_cannot_look_either(fresh: Any, small_disk: Path) -> None:
    file = small_disk / "chainrule.sqlite3"
    file.write_bytes(Path(fresh.url("sqlite").removeprefix("sqlite:///")).read_bytes())
    database = Database(f"sqlite:///{file}")
    run_id = queued_run(database)
    assert claim(database) is not None
    with closing(sqlite3.connect(file)) as connection:  # no room is left over in the log of what is written
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with database.reading() as session:
        before = attempts.heartbeats(session)
    fill(small_disk)

    def look() -> None:
        with database.writing() as session:
            attempts.touch(session)

    with pytest.raises(OperationalError, match="full"):
        look()
    (small_disk / "filler").unlink()
    look()
    with database.reading() as session:
        assert attempts.heartbeats(session) == before
        assert [beat.run_id for beat in before] == [run_id]
    database.dispose()


def succeeded_at_once(run: dict[str, Any]) -> None:
    lost = [(one["reason"], one["detail"]) for one in run["transitions"] if one["status"] == "queued"][1:]
    assert (run["status"], run["attempts"], run["failures"], lost) == ("succeeded", 1, 0, [])


def wait_until_lost(client: Any, run_id: str, for_s: float) -> bool:
    try:
        return bool(wait_for(lambda: client.get(f"/v1/runs/{run_id}").json()["status"] != "running", for_s))
    except AssertionError:
        return False


def test_an_upload_for_which_there_is_no_room_is_refused_and_leaves_nothing(
    fresh: Any, small_disk: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(small_disk))
    with (
        serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=0, **SMALL) as service,
        service.client() as client,
    ):
        rows = "".join(f"{n},{n % 7},{n % 2}\n" for n in range(300_000)).encode()
        assert upload(client, rows, "first.csv")["samples"] == 300_000
        filler = fill(small_disk)
        refused = client.post("/v1/datasets", files={"file": ("d.csv", rows)})
        assert (refused.status_code, refused.json()["code"]) == (507, "disk_full")
        assert str(small_disk) in refused.json()["detail"]
        filler.unlink()
        assert upload(client, rows, "d.csv")["samples"] == 300_000
        assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("how", ["full", "no_folder"])
def test_runs_are_trained_where_no_copy_of_their_dataset_can_be_kept(
    fresh: Any, small_disk: Path, tmp_path: Path, how: str
) -> None:
    cache_dir = small_disk / "cache"
    if how == "full":
        fill(small_disk)
    else:
        cache_dir = tmp_path / "a file"
        cache_dir.write_text("in the way")
    with (
        serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=1, **SMALL) as service,
        service.client() as client,
    ):
        dataset = upload(client, FLOWERS, "flowers.csv")["id"]
        changes = {"dataset": dataset, "epochs": 3, "network": {"layers": [{"units": 3, "activation": "softmax"}]}}
        run = ended(client, submit(client, SPEC | changes))
        assert (run["status"], run["attempts"]) == ("succeeded", 1)
        assert client.get(f"/v1/datasets/{dataset}/preview").status_code == 200
        assert "it is held in memory" in service.log.read_text()


@pytest.mark.parametrize("command", ["serve", "worker", "migrate"])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, command: str) -> None:
    file = tmp_path / "notes.sqlite3"
    file.write_bytes(b"these are my notes. " * 1000)
    said = refusal(command, f"sqlite:///{file}")
    assert "damaged, or no SQLite database" in said
    assert file.read_bytes() == b"these are my notes. " * 1000


def test_a_database_with_a_damaged_page_is_not_served(fresh: Any) -> None:
    url = fresh.url("sqlite")
    file = Path(url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(file)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with file.open("r+b") as opened:
        opened.seek((root - 1) * size)
        opened.write(b"\xff" * size)
    said = refusal("serve", url)
    assert "is damaged" in said


@pytest.mark.parametrize("command", ["serve", "worker", "migrate"])
def test_a_database_of_a_newer_version_is_refused(fresh: Any, command: str) -> None:
    url = fresh.url("sqlite")
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    said = refusal(command, url)
    assert "schema 9999" in said
    assert "newer version" in said


def test_a_database_that_can_only_be_read_is_not_served(fresh: Any, small_disk: Path) -> None:
    file = small_disk / "chainrule.sqlite3"
    file.write_bytes(Path(fresh.url("sqlite").removeprefix("sqlite:///")).read_bytes())
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert "must be able to write to it" in refusal("serve", f"sqlite:///{file}")


def test_a_server_that_takes_no_writes_for_a_while_is_said_to_be_read_only_and_costs_no_attempt(
    fresh: Any, cache_dir: Path
) -> None:
    url = fresh.url("postgresql")
    name = url.partition("?")[0].rpartition("/")[2]
    common = {"database_url": url, "cache_dir": cache_dir, **QUICK_RECOVERY}
    with serving(slots=0, **common) as service, service.client() as client, working(slots=1, **common):
        run_id = submit(client, SPEC)
        wait_for(lambda: under_way(client, run_id, 50))
        with psycopg.connect(url, autocommit=True) as connection:
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
            connection.execute(f"SELECT pg_terminate_backend(pid) {others}".encode())
            refused = wait_for(lambda: no if (no := client.post("/v1/runs", json=XOR)).status_code != 201 else None)
            while refused.json()["cause"] == "unreachable":
                refused = client.post("/v1/runs", json=XOR)
            assert (refused.status_code, refused.json()["cause"]) == (503, "read_only")
            assert client.get(f"/v1/runs/{run_id}").status_code == 200
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'.encode())
            connection.execute(f"SELECT pg_terminate_backend(pid) {others}".encode())
        run = wait_for(
            lambda: (
                (found := client.get(f"/v1/runs/{run_id}")).status_code == 200 and found.json()["done"] and found.json()
            )
        )
        succeeded_at_once(run)
