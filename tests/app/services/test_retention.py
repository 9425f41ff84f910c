"""What has been kept long enough is removed, and nothing else."""

import threading

import pytest
from sqlalchemy import update

from chainrule.app.config import Settings
from chainrule.app.errors import IdempotencyMismatch, StorageFull
from chainrule.app.services import idempotency, quotas, retention, runs
from chainrule.app.services.idempotency import Key
from chainrule.app.store import deletions, storage
from chainrule.app.store.database import Database, now
from chainrule.app.store.models import Run
from tests.app.store.test_deletions import ended_run, left, listed
from tests.app.store.test_storage import kept


def test_deleted_runs_stay_for_their_time(database: Database, settings: Settings) -> None:
    run_id = ended_run(database)
    runs.delete(database, run_id, if_match=None)
    assert not retention.tidy(database, settings)
    assert listed(database, deleted=True) == [run_id]
    assert not retention.tidy(database, settings.model_copy(update={"deleted_retention_s": 0.0}))
    assert left(database) == [0] * 5


def test_so_many_are_removed_at_once_and_then_more(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    for _ in range(3):
        runs.delete(database, ended_run(database), if_match=None)
    soon = settings.model_copy(update={"deleted_retention_s": 0.0})
    assert retention.tidy(database, soon)
    assert left(database)[0] == 1
    assert not retention.tidy(database, soon)
    assert left(database)[0] == 0


def test_who_is_to_stop_leaves_the_rest_to_the_next(database: Database, settings: Settings) -> None:
    run_id, stopping = ended_run(database), threading.Event()
    with database.writing() as session:
        deletions.mark_run(session, run_id, for_good=True)
    stopping.set()
    retention.tidy(database, settings, stopping)
    assert left(database)[0] == 1
    retention.tidy(database, settings)
    assert left(database)[0] == 0


def test_idempotency_keys_are_forgotten_after_their_time(database: Database, settings: Settings) -> None:
    key = Key("mine", "0" * 64)
    with database.writing() as session:
        idempotency.keep(session, key, idempotency.Answer(201, "", {}))
    retention.tidy(database, settings)
    assert idempotency.find(database, key) is not None
    with pytest.raises(IdempotencyMismatch):
        idempotency.find(database, Key("mine", "1" * 64))
    retention.tidy(database, settings.model_copy(update={"idempotency_retention_s": 1e-6}))
    assert idempotency.find(database, key) is None


def test_runs_are_thinned_after_their_time_and_their_room_is_measured_again(
    database: Database, settings: Settings
) -> None:
    run_id = ended_run(database, recorded=5)
    with database.writing() as session:
        session.execute(update(Run).values(finished_at=now(), estimated_bytes=10**9))
    retention.tidy(database, settings)
    assert len(kept(database, run_id)[0]) == 5
    with database.reading() as session:
        before = storage.total_bytes(session)
    retention.tidy(database, settings.model_copy(update={"bulk_retention_s": 0.0}))
    assert kept(database, run_id) == ([0, 4], [0, 4])  # of equal costs the first is the best
    with database.reading() as session:
        assert storage.total_bytes(session) < before < 10_000


def test_what_there_is_no_room_for_is_refused(database: Database, settings: Settings) -> None:
    tight = settings.model_copy(update={"max_total_storage_bytes": 1000})
    with database.writing() as session:
        quotas.admit_bytes(session, tight, 1000)
        with pytest.raises(StorageFull, match=r"would take 1,001 bytes, 0 are taken .* limit is 1,000"):
            quotas.admit_bytes(session, tight, 1001)
        quotas.admit_bytes(session, settings, 10**15)
