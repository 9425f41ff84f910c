"""Children at hand, with real processes and real kills."""

import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from typing import Any

import psutil
import pytest

from chainrule.app.config import Settings
from chainrule.app.execution.child import ENDED, FLUSHED, MOVED, READY, WRITTEN, Order
from chainrule.app.execution.standby import Child, Standby
from chainrule.app.execution.writer import Assignment
from chainrule.app.services import runs as services
from chainrule.app.store import queue
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database
from tests.app.services.test_runs import SPEC
from tests.processes import trainers
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs a fork server")


@pytest.fixture
def standby(settings: Settings) -> Iterator[Standby]:
    standby = Standby(settings)
    standby.start()
    yield standby
    standby.close()


def server() -> psutil.Process:
    forkserver.ensure_running()
    number: Any = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return psutil.Process(number)


def children() -> list[psutil.Process]:
    return trainers(psutil.Process())


def order(database: Database, settings: Settings) -> Order:
    services.submit(database, settings, SPEC | {"dataset": "xor"}, key=None)
    with database.writing() as session:
        run = queue.claim(session, "a1", "here:1")
        assert run is not None
        return Order((Assignment(Attempt(run.id, "a1"), run.config, run.steps_per_epoch),))


def give(standby: Standby, order: Order) -> Child:
    taken = standby.take()
    taken.pipe.send(order)
    return taken


def farewell(child: Child) -> str:
    while child.pipe.poll(30):  # what it wrote is told in between
        word: str = child.pipe.recv()[0]
        if word not in (WRITTEN, MOVED, FLUSHED):
            return word
    raise AssertionError("the child says nothing")


def test_as_many_children_wait_as_there_are_slots_and_all_end_with_it(standby: Standby, settings: Settings) -> None:
    wait_for(lambda: len(children()) == settings.slots)
    standby.close()
    assert children() == []


def test_a_child_trains_again_and_again(standby: Standby, database: Database, settings: Settings) -> None:
    numbers = set()
    for _ in range(3):
        given = give(standby, order(database, settings))
        assert farewell(given) == READY
        numbers.add(given.process.pid)
        standby.take_back(given)
    wait_for(lambda: len(children()) == settings.slots)
    assert len(numbers) == 1


def test_a_child_that_was_killed_gets_no_order_and_is_replaced(
    standby: Standby, database: Database, settings: Settings
) -> None:
    for _ in range(3):
        wait_for(lambda: len(children()) == settings.slots)
        for child in children():
            child.kill()
            child.wait()
        given = give(standby, order(database, settings))
        assert farewell(given) == READY
        standby.take_back(given)
    wait_for(lambda: len(children()) == settings.slots)


def test_children_outlive_the_fork_server(standby: Standby, database: Database, settings: Settings) -> None:
    wait_for(lambda: len(children()) == settings.slots)
    orphans = children()
    server().kill()
    for _ in range(settings.slots):
        given = give(standby, order(database, settings))
        assert given.process.pid in [orphan.pid for orphan in orphans]
        assert farewell(given) in (READY, ENDED)
        standby.dismiss(given)
    _, alive = psutil.wait_procs(orphans, timeout=60)
    assert alive == [], "a child that was sent away must end, fork server or not"
    wait_for(lambda: len(children()) == settings.slots)


def test_a_fork_server_that_is_killed_while_it_starts_a_child_is_replaced(standby: Standby, settings: Settings) -> None:
    wait_for(lambda: len(children()) == settings.slots)
    fork_server = server()
    for child in children():
        child.kill()
        child.wait()
    fork_server.suspend()  # so that the next start is under way when it is killed
    failed: list[Exception] = []

    def take() -> None:
        try:
            standby.take()
        except OSError as error:
            failed.append(error)

    taking = threading.Thread(target=take)
    taking.start()
    time.sleep(0.5)
    fork_server.kill()
    taking.join(timeout=120)
    assert len(failed) == 1
    wait_for(lambda: len(children()) == settings.slots)
