"""Visibility: a session of an owner sees what is that owner's, whatever it asks."""

from typing import Any

import pytest
from sqlalchemy import delete, exists, func, inspect, select, update
from sqlalchemy.orm import Session, aliased

from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.store import queue, runs, visibility
from chainrule.app.store.database import Database, now
from chainrule.app.store.models import Base, Checkpoint, Dataset, DatasetChunk, Epoch, Run
from chainrule.app.store.visibility import EVERYBODY, belongs

TABLES = [mapper.class_ for mapper in Base.registry.mappers]


def a_run() -> Run:
    """Make a run that waits."""
    return Run(
        id="run_x", name="of its owner", status=RunStatus.QUEUED, reason=Reason.SUBMITTED, detail="", priority=0,
        config={}, dataset="xor", epochs_total=1, steps_per_epoch=1, parameters=1, created_at=now(),
    )  # fmt: skip


@pytest.fixture
def two(database: Database) -> dict[str, Database]:
    """The database as two owners see it, each with a run, an epoch, a checkpoint and a dataset."""
    seen = {name: database.of(name) for name in ("alice", "bob")}
    for name, own in seen.items():
        with own.writing() as session:
            run = a_run()
            run.id = f"run_{name}"
            runs.add(session, run)
            of_epoch: dict[str, Any] = {"run_id": run.id, "epoch": 1}
            session.add(Epoch(**of_epoch, cost=1.0, learning_rate=0.1, seconds=0.1))
            session.add(Checkpoint(**of_epoch, sha256="", size_bytes=1, weights=b"x"))
            session.add(
                Dataset(
                    id=f"ds_{name}", name="", sha256="same", samples=1, features=1, targets=1, classes=[], size_bytes=1,
                    report={}, created_at=now(),
                )
            )  # fmt: skip
            session.flush()
            session.add(DatasetChunk(dataset_id=f"ds_{name}", position=0, content=b"x"))
    return seen


def test_every_table_belongs_to_somebody() -> None:
    for table in TABLES:
        belongs(table, "alice")


def test_what_is_made_is_its_makers(database: Database, two: dict[str, Database]) -> None:
    with database.reading() as session:
        assert {run.id: run.owner for run in session.scalars(select(Run))} == {"run_alice": "alice", "run_bob": "bob"}
    with two["bob"].writing() as session:
        mine = a_run()
        mine.owner = "alice"
        runs.add(session, mine)
        assert mine.owner == "bob"


@pytest.mark.parametrize("table", [Run, Epoch, Checkpoint, Dataset, DatasetChunk], ids=lambda table: table.__name__)
def test_no_way_of_asking_shows_anothers_rows(two: dict[str, Database], table: Any) -> None:
    key = [getattr(table, column.key) for column in inspect(table).primary_key]
    with two["alice"].reading() as session:
        theirs = [tuple(row) for row in session.execute(select(*key), execution_options=EVERYBODY)]
        assert len(theirs) == 2
        (mine,) = [row for row in theirs if "alice" in row[0]]
        (other,) = [row for row in theirs if "bob" in row[0]]
        assert [tuple(row) for row in session.execute(select(*key))] == [mine]
        assert session.get(table, other) is None
        assert session.get(table, other, with_for_update=True) is None
        assert session.get(table, mine) is not None
        column = key[0]
        assert session.scalar(select(func.count()).select_from(table)) == 1
        assert session.scalar(select(func.max(column))) == mine[0]
        assert session.scalar(select(func.count()).select_from(select(column).limit(9).subquery())) == 1
        assert session.scalars(select(aliased(table))).all() == session.scalars(select(table)).all()
        assert session.scalar(select(exists(select(column).where(column == other[0])))) is False
        assert session.scalars(select(Run.id).where(Run.id.in_(select(column)))).all() in (["run_alice"], [])
        assert session.scalars(select(column).where(column == other[0]).union_all(select(column))).all() == [mine[0]]


def test_no_way_of_changing_reaches_anothers_rows(database: Database, two: dict[str, Database]) -> None:
    with two["alice"].writing() as session:
        session.execute(update(Run).values(name="mine"))
        session.execute(delete(Epoch))
        session.execute(delete(Checkpoint).where(Checkpoint.run_id == "run_bob"))
        assert not runs.cancel_queued(session, "run_bob")
        assert runs.hold(session, "run_bob") is None
    with database.reading() as session:
        assert session.scalars(select(Run.name).order_by(Run.id)).all() == ["mine", a_run().name]
        assert session.scalars(select(Epoch.run_id)).all() == ["run_bob"]
        assert len(session.scalars(select(Checkpoint.run_id)).all()) == 2


def test_joins_show_ones_own_only(two: dict[str, Database]) -> None:
    with two["bob"].reading() as session:
        query = select(Run.id, Epoch.epoch).join(Epoch, Epoch.run_id == Run.id)
        assert [tuple(row) for row in session.execute(query)] == [("run_bob", 1)]
        crossed = select(Epoch.run_id, Run.id).join(Run, Run.id != Epoch.run_id)
        assert session.execute(crossed).all() == []


def test_a_statement_that_cannot_be_narrowed_is_refused(two: dict[str, Database]) -> None:
    tables: list[Any] = [Run.__table__, Epoch.__table__]
    for table in tables:
        for statement in (select(table), update(table).values(cost=0), delete(table)):
            with pytest.raises(TypeError), two["alice"].writing() as session:
                session.execute(statement)


def ask(session: Session) -> list[Any]:
    """Ask in ways that differ in how their SQL is made."""
    ids, alias = select(Run.id), aliased(Epoch)
    return [
        session.scalars(ids).all(),
        session.scalars(ids.where(exists().where(alias.run_id == Run.id, alias.epoch == 1))).all(),
        session.scalars(select(Epoch.run_id).join(Run, Run.id == Epoch.run_id)).all(),
        session.scalars(ids.union_all(select(DatasetChunk.dataset_id))).all(),
        session.scalars(ids, execution_options={"compiled_cache": None}).all(),
        session.execute(update(Run).values(name="mine").returning(Run.id)).scalars().all(),
    ]


def test_sql_made_for_one_owner_shows_another_his_own(two: dict[str, Database]) -> None:
    for name in ("alice", "bob", "alice", "bob"):
        with two[name].writing() as session:
            for answer in ask(session):
                assert answer
                assert all(key.endswith(name) for key in answer)


def test_the_sql_of_statements_alike_is_made_once_for_all_owners(
    two: dict[str, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    def once_more(*_: Any) -> Any:
        raise AssertionError("made again")

    query = select(Run.id, Run.name).where(Run.priority == 0)
    with two["alice"].reading() as session:
        assert [row.id for row in session.execute(query)] == ["run_alice"]
    monkeypatch.setattr(visibility, "belongs", once_more)
    with two["bob"].reading() as session:
        assert [row.id for row in session.execute(query)] == ["run_bob"]


def test_the_limit_of_the_queue_counts_everybodys(two: dict[str, Database]) -> None:
    with two["alice"].reading() as session:
        assert queue.count_queued(session, 10) == 2


def test_without_an_owner_everything_is_seen(database: Database, two: dict[str, Database]) -> None:
    with database.reading() as session:
        assert len(session.scalars(select(Run)).all()) == 2
        assert {attempt.id for attempt in session.scalars(select(Run))} == {"run_alice", "run_bob"}
