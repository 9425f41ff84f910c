"""The wake-up across processes."""

import multiprocessing
import time

from chainrule.app.store.changes import Changes
from chainrule.app.store.database import Database
from tests.app.store.test_runs import queued_run


def write_from_elsewhere(url: str) -> None:
    queued_run(Database(url))


def test_a_commit_of_another_process_wakes_waiters(database: Database, database_url: str) -> None:
    changes = Changes(database)
    changes.start()
    try:
        time.sleep(0.3)  # until it has settled
        seen = changes.count
        process = multiprocessing.get_context("spawn").Process(target=write_from_elsewhere, args=(database_url,))
        process.start()
        assert changes.wait(seen, timeout_s=120) != seen
        process.join()
    finally:
        changes.stop()


def test_a_commit_of_this_process_wakes_waiters_at_once(database: Database) -> None:
    changes = Changes(database)
    heard: list[int] = []
    unlisten = changes.listen(lambda: heard.append(changes.count))
    queued_run(database)
    unlisten()
    queued_run(database)
    assert heard == [1]
    assert changes.count == 2


def test_a_transaction_that_fails_wakes_nobody(database: Database) -> None:
    changes = Changes(database)
    try:
        with database.writing():
            raise KeyError
    except KeyError:
        pass
    assert changes.count == 0
