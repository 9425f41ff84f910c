"""Troubles: told from what the drivers raise, each with its way out."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg.errors
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chainrule.app.store.database import Database
from chainrule.app.store.troubles import BUSY, DAMAGED, FAILING, FULL, READ_ONLY, Trouble, explained, trouble


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.errors.DiskFull("could not extend file"), FULL),
        (psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT"), READ_ONLY),
        (psycopg.errors.DataCorrupted("invalid page in block 7"), DAMAGED),
        (psycopg.errors.IoError("could not read block 7"), FAILING),
        (psycopg.errors.QueryCanceled("canceling statement due to statement timeout"), BUSY),
        (psycopg.errors.UniqueViolation("duplicate key"), None),
        (psycopg.OperationalError("connection refused"), None),
    ],
)
def test_postgresql_tells_by_its_codes(error: Exception, expected: Trouble | None) -> None:
    assert trouble(DBAPIError.instance("SELECT 1", None, error, psycopg.Error)) is expected


def test_sqlite_is_full_at_its_largest_number_of_pages(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/small.sqlite3")
    with database.writing() as session:
        for statement in ("CREATE TABLE t (content BLOB)", "PRAGMA max_page_count = 10"):
            session.connection().exec_driver_sql(statement)
    with pytest.raises(DBAPIError) as caught, database.writing() as session:
        session.connection().exec_driver_sql("INSERT INTO t VALUES (zeroblob(1000000))")
    assert trouble(caught.value) is FULL
    assert "Make room" in explained(caught.value)
    assert "INSERT" not in explained(caught.value)
    database.dispose()


def test_sqlite_is_busy_when_another_does_not_end_its_transaction(fresh: Any) -> None:
    url = fresh.url("sqlite")
    database = Database(url, patience_s=0.1)
    with Database(url).writing() as holding:
        holding.execute(text("SELECT 1"))
        with pytest.raises(DBAPIError) as caught, database.writing() as session:
            session.execute(text("SELECT 1"))
    assert trouble(caught.value) is BUSY


def test_threads_that_write_to_sqlite_take_turns_and_wait_no_longer_than_they_may(fresh: Any) -> None:
    database = Database(fresh.url("sqlite"), patience_s=0.1)

    def write() -> None:
        with database.writing() as session:
            session.execute(text("SELECT 1"))

    with ThreadPoolExecutor(1) as executor:
        with database.writing():
            error = executor.submit(write).exception()
        assert error is not None
        assert trouble(error) is BUSY
        executor.submit(write).result()


def test_a_mistake_of_ours_is_no_trouble_of_the_database(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/empty.sqlite3")
    with pytest.raises(DBAPIError) as caught, database.reading() as session:
        session.connection().exec_driver_sql("SELECT * FROM nothing")
    assert trouble(caught.value) is None
    assert trouble(sqlite3.OperationalError("not wrapped")) is None
