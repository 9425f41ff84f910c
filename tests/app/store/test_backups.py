"""Backups: whole or not at all, and never over anything."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from chainrule.app.store import backups
from chainrule.app.store.backups import Refused
from chainrule.app.store.database import Database
from chainrule.app.store.models import Run
from tests.app.store.test_runs import claim, queued_run, status_of


@pytest.fixture
def source(fresh: Any) -> Database:
    """A database with a run that is being trained and one that waits."""
    database = Database(fresh.url("sqlite"))
    queued_run(database)
    assert claim(database) is not None
    queued_run(database)
    return database


def elsewhere(folder: Path) -> Database:
    return Database(f"sqlite:///{folder}/restored/chainrule.sqlite3")


def test_a_backup_of_a_database_in_use_is_restored_and_its_runs_wait_to_go_on(source: Database, tmp_path: Path) -> None:
    file = tmp_path / "backup.sqlite3"
    with source.writing() as session:
        session.add(session.scalars(select(Run)).first())
        backups.backup(source, file)  # beside a transaction that has not ended
    restored = elsewhere(tmp_path)
    assert backups.restore(restored, file) == 1
    with source.reading() as before, restored.reading() as after:
        ids = select(Run.id).order_by(Run.id)
        assert before.scalars(ids).all() == after.scalars(ids).all()
        running = before.scalars(select(Run.id).where(Run.status == "running")).one()
        assert after.get_one(Run, running).failures == 0
    assert status_of(restored, running) == ("queued", "drained")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.sqlite3", "restored"]


def test_nothing_is_overwritten(source: Database, tmp_path: Path) -> None:
    file = tmp_path / "backup.sqlite3"
    backups.backup(source, file)
    with pytest.raises(Refused, match="never overwrites"):
        backups.backup(source, file)
    with pytest.raises(Refused, match="move it away"):
        backups.restore(source, file)
    restored = elsewhere(tmp_path)
    (tmp_path / "restored" / "chainrule.sqlite3-wal").write_bytes(b"of an older database")
    with pytest.raises(Refused, match="sqlite3-wal is there already"):
        backups.restore(restored, file)


def test_a_damaged_backup_is_refused_and_leaves_nothing(source: Database, tmp_path: Path) -> None:
    file = tmp_path / "backup.sqlite3"
    backups.backup(source, file)
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no database at all", whole[:4096] + b"\xff" * 4096 + whole[8192:]):
        file.write_bytes(damaged)
        with pytest.raises(Refused, match="damaged"):
            backups.restore(elsewhere(tmp_path), file)
        assert list((tmp_path / "restored").iterdir()) == []


def test_where_there_is_no_database_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="there is no database at"):
        backups.backup(Database(f"sqlite:///{tmp_path}/nothing.sqlite3"), tmp_path / "backup.sqlite3")
    with pytest.raises(Refused, match="there is no file"):
        backups.restore(elsewhere(tmp_path), tmp_path / "backup.sqlite3")


def test_postgresql_is_left_to_its_own_tools(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="pg_dump"):
        backups.backup(Database("postgresql://nobody@127.0.0.1:1/nothing"), tmp_path / "backup.sqlite3")
