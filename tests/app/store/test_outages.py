"""Outages: who is refused at once, who tries again, and for how long."""

import time
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from chainrule.app.store import outages
from chainrule.app.store.database import Database
from chainrule.app.store.outages import Away, Outage, patiently


def away() -> OperationalError:
    return OperationalError("SELECT 1", None, Exception("connection refused"))


def fail(outage: Outage, error: Exception) -> None:
    with pytest.raises(type(error)), outage.watched():
        raise error


def test_while_the_database_is_away_one_in_a_while_finds_out_and_the_others_fail_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moment = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: moment)
    outage = Outage()
    fail(outage, away())
    with pytest.raises(Away), outage.watched():
        pass
    moment += outages.RETRY_S
    with outage.watched(), pytest.raises(Away), outage.watched():
        pass
    with outage.watched():
        pass


def test_what_the_database_refuses_is_no_outage() -> None:
    outage = Outage()
    fail(outage, KeyError("x"))
    fail(outage, IntegrityError("INSERT", None, Exception("there already")))
    with outage.watched():
        pass


def test_what_a_database_refuses_while_it_is_away_is_repeated_and_told_so() -> None:
    told: list[Exception] = []
    heard = []

    def do(again: bool) -> str:
        heard.append(again)
        if len(heard) < 3:
            raise away()
        return "done"

    assert patiently(do, 10.0, told.append) == "done"
    assert (heard, len(told)) == ([False, True, True], 2)


@pytest.mark.parametrize(
    ("error", "for_s", "stop"),
    [
        (IntegrityError("INSERT", None, Exception("there already")), 10.0, False),
        (away(), -1.0, False),
        (away(), 10.0, True),
    ],
)
def test_what_is_wrong_is_not_repeated_nor_is_anything_for_ever(error: Exception, for_s: float, stop: bool) -> None:
    calls, told = [], list[Exception]()

    def do(again: bool) -> None:
        calls.append(again)
        raise error

    with pytest.raises(type(error)):
        patiently(do, for_s, told.append, stop=lambda: stop)
    assert (calls, told) == ([False], [])


def test_a_statement_and_a_wait_for_a_lock_end_with_the_patience(fresh: Any) -> None:
    url = fresh.url("postgresql")
    impatient, holder = Database(url, patience_s=0.2), Database(url)
    with pytest.raises(OperationalError, match="statement timeout"), impatient.reading() as session:
        session.execute(text("SELECT pg_sleep(30)"))
    with holder.writing() as holding:
        holding.execute(text("LOCK TABLE runs"))
        with pytest.raises(OperationalError, match="statement timeout"), impatient.writing() as session:
            session.execute(text("LOCK TABLE runs"))
    with impatient.reading() as session:
        assert session.scalar(text("SELECT 1")) == 1
    impatient.dispose()
    holder.dispose()


def test_what_the_url_says_of_waiting_is_left_to_it(fresh: Any) -> None:
    url = fresh.url("postgresql")
    database = Database(f"{url}{'&' if '?' in url else '?'}connect_timeout=7")
    with database.reading() as session:
        assert session.scalar(text("SELECT 1")) == 1
    assert "connect_timeout" not in outages.network(database.url)
    database.dispose()
