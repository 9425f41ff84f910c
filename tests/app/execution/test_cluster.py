"""The same pilots on a Dask cluster: what is trained there ends as it would have here, whatever is killed."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError
from sqlalchemy import select

from chainrule.app.config import Settings
from chainrule.app.execution import dask_cluster, pilot
from chainrule.app.execution import placement as placements
from chainrule.app.execution.dask_cluster import EngineUnusable
from chainrule.app.execution.dispatcher import Dispatcher
from chainrule.app.execution.placement import try_engine
from chainrule.app.services import runs as services
from chainrule.app.store.changes import Changes
from chainrule.app.store.database import Database
from chainrule.app.store.models import Checkpoint, Epoch, Worker
from tests.service import ENGINE
from tests.waiting import wait_for

pytest.importorskip("distributed")
SPEC: dict[str, Any] = {
    "dataset": "digits",
    "network": {"layers": [{"units": 16, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "epochs": 400,
    "batch_size": 32,
    "checkpoints": {"every": 100, "keep": None},
}
QUICK = {"heartbeat_interval_s": 0.2, "attempt_timeout_s": 2.0, "flush_interval_s": 0.1}


@contextmanager
def dispatching(database: Database, settings: Settings) -> Iterator[Dispatcher]:
    changes = Changes(database)
    dispatcher = Dispatcher(database, settings, changes)
    changes.start()
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        dispatcher.drain()
        changes.stop()


def submit(database: Database, settings: Settings) -> str:
    run_id: str = services.submit(database, settings, SPEC, key=None).run["id"]
    return run_id


def shown(database: Database, run_id: str) -> dict[str, Any]:
    return services.get(database, run_id)


def under_way(database: Database, run_id: str) -> bool:
    return bool(shown(database, run_id)["progress"]["epochs_done"] >= 20)


def outcome(database: Database, run_id: str) -> tuple[list[int], str]:
    """All epochs that are recorded, and the hash of the last one's weights."""
    with database.reading() as session:
        epochs = session.scalars(select(Epoch.epoch).where(Epoch.run_id == run_id).order_by(Epoch.epoch)).all()
        last = select(Checkpoint.sha256).where(Checkpoint.run_id == run_id).order_by(Checkpoint.epoch.desc()).limit(1)
        return list(epochs), session.scalar(last) or ""


@pytest.fixture(scope="module")
def undisturbed(fresh: Any, cache_dir: Path) -> tuple[list[int], str]:
    """How the run ends on the local engine."""
    url = fresh.url("sqlite")
    settings, database = Settings(database_url=url, cache_dir=cache_dir, slots=1), Database(url)
    with dispatching(database, settings):
        run_id = submit(database, settings)
        wait_for(lambda: shown(database, run_id)["done"])
    found = outcome(database, run_id)
    database.dispose()
    assert found[0] == list(range(401))
    return found


class Dask:
    """A scheduler and workers as somebody else would start them."""

    def __init__(self, settings: Settings) -> None:
        given = settings.model_dump(mode="json", include=settings.model_fields_set - {"engine"}, exclude_none=True)
        self._environment = {key: value for key, value in os.environ.items() if key != ENGINE}
        self._environment |= {f"CHAINRULE_{name.upper()}": str(value) for name, value in given.items()}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # until it stops
        self.start_scheduler()
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_scheduler(self) -> None:
        self.scheduler = self._start("scheduler", "--port", self.address.partition(":")[2])

    def add_worker(self, *arguments: str, nanny: bool = False) -> subprocess.Popen[bytes]:
        arguments = ("--nanny" if nanny else "--no-nanny", *arguments)
        worker = self._start("worker", f"tcp://{self.address}", "--nthreads", "1", *arguments)
        self.workers.append(worker)
        return worker

    def stop(self) -> None:
        for process in [*self.workers, self.scheduler]:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._log.close()

    def _start(self, what: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments, "--host", "127.0.0.1"]
        return subprocess.Popen([*command, "--no-dashboard"], env=self._environment, stdout=self._log, stderr=self._log)


@pytest.fixture
def cluster(settings: Settings) -> Iterator[Dask]:
    cluster = Dask(settings.model_copy(update=QUICK))
    cluster.add_worker()
    yield cluster
    cluster.stop()


def on(cluster: Dask, settings: Settings) -> Settings:
    return settings.model_copy(update={**QUICK, "engine": f"dask://{cluster.address}"})


def test_a_run_on_a_cluster_of_ones_own_ends_as_here_and_is_put_back_when_that_drains(
    database: Database, settings: Settings, undisturbed: tuple[list[int], str]
) -> None:
    with dispatching(database, settings.model_copy(update={"engine": "dask"})) as dispatcher:
        assert dispatcher.slots == 2
        first = submit(database, settings)
        wait_for(lambda: shown(database, first)["done"])
        second = submit(database, settings)
        wait_for(lambda: under_way(database, second))
    assert outcome(database, first) == undisturbed
    run = shown(database, second)
    assert (run["status"], run["reason"], run["failures"]) == ("queued", "drained", 0)
    with database.reading() as session:
        assert session.scalars(select(Worker)).all() == []
    with dispatching(database, settings):
        wait_for(lambda: shown(database, second)["done"])
    assert outcome(database, second) == undisturbed


def test_a_run_whose_worker_is_killed_is_finished_by_another_one_of_the_cluster(
    database: Database, settings: Settings, cluster: Dask, undisturbed: tuple[list[int], str]
) -> None:
    with dispatching(database, on(cluster, settings)):
        run_id = submit(database, settings)
        wait_for(lambda: under_way(database, run_id))
        (worker,) = cluster.workers
        children = psutil.Process(worker.pid).children(recursive=True)
        assert children
        worker.kill()
        cluster.add_worker()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, "a dead worker left a process behind"
        wait_for(lambda: shown(database, run_id)["done"])
    run = shown(database, run_id)
    assert (run["status"], run["attempts"], run["failures"]) == ("succeeded", 2, 1)
    assert outcome(database, run_id) == undisturbed


def test_a_worker_that_is_told_to_end_puts_its_run_back_at_no_cost(
    database: Database, settings: Settings, cluster: Dask, undisturbed: tuple[list[int], str]
) -> None:
    with dispatching(database, on(cluster, settings)):
        run_id = submit(database, settings)
        wait_for(lambda: under_way(database, run_id))
        cluster.workers[0].send_signal(signal.SIGTERM)
        cluster.workers[0].wait(timeout=60)
        run = shown(database, run_id)
        assert (run["status"], run["reason"], run["failures"]) == ("queued", "drained", 0)
        cluster.add_worker()
        wait_for(lambda: shown(database, run_id)["done"])
    assert outcome(database, run_id) == undisturbed


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_whose_every_process_is_told_to_end_puts_its_run_back_at_no_cost(
    database: Database, settings: Settings, undisturbed: tuple[list[int], str]
) -> None:
    cluster = Dask(settings.model_copy(update=QUICK))
    try:
        first = cluster.add_worker(nanny=True)
        with dispatching(database, on(cluster, settings)):
            run_id = submit(database, settings)
            wait_for(lambda: under_way(database, run_id))
            nanny = psutil.Process(first.pid)
            for process in [*nanny.children(recursive=True), nanny]:  # as Slurm does
                process.send_signal(signal.SIGTERM)
            first.wait(timeout=60)
            assert shown(database, run_id)["failures"] == 0
            cluster.add_worker(nanny=True)
            wait_for(lambda: shown(database, run_id)["done"])
    finally:
        cluster.stop()
    run = shown(database, run_id)
    assert (run["status"], run["attempts"], run["failures"]) == ("succeeded", 2, 0)
    assert outcome(database, run_id) == undisturbed


@pytest.mark.parametrize(
    ("theirs", "said"),
    [("postgresql://nobody@127.0.0.1:1/none", "cannot open its database"), ("sqlite:///{}/other", "has no runs")],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_that_would_look_for_runs_elsewhere_says_so_to_who_sends(
    database: Database,
    settings: Settings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    theirs: str,
    said: str,
) -> None:
    cluster = Dask(settings.model_copy(update={**QUICK, "database_url": theirs.format(tmp_path)}))
    try:
        cluster.add_worker()
        with dispatching(database, on(cluster, settings)):
            run_id = submit(database, settings)
            wait_for(lambda: said in caplog.text)
    finally:
        cluster.stop()
    assert shown(database, run_id)["status"] == "queued"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_run_outlives_the_scheduler_at_no_cost(
    database: Database, settings: Settings, cluster: Dask, undisturbed: tuple[list[int], str]
) -> None:
    with dispatching(database, on(cluster, settings)):
        run_id = submit(database, settings)
        wait_for(lambda: under_way(database, run_id))
        cluster.scheduler.kill()
        cluster.workers[0].wait(timeout=60)  # as Dask has it; what it trained is put back or has ended by then
    assert shown(database, run_id)["status"] in ("queued", "succeeded")
    with dispatching(database, settings):
        wait_for(lambda: shown(database, run_id)["done"])
    assert shown(database, run_id)["failures"] == 0
    assert outcome(database, run_id) == undisturbed


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_scheduler_that_comes_back_is_sent_pilots_again_and_has_them_land_when_a_worker_ends(
    database: Database, settings: Settings, cluster: Dask, undisturbed: tuple[list[int], str]
) -> None:
    with dispatching(database, on(cluster, settings)):
        first = submit(database, settings)
        wait_for(lambda: under_way(database, first))
        cluster.scheduler.kill()
        cluster.scheduler.wait()
        cluster.start_scheduler()
        cluster.workers[0].wait(timeout=60)
        cluster.add_worker()
        wait_for(lambda: shown(database, first)["done"])
        second = submit(database, settings)
        wait_for(lambda: under_way(database, second))
        cluster.workers[1].send_signal(signal.SIGTERM)
        cluster.workers[1].wait(timeout=60)
        run = shown(database, second)
        assert (run["status"], run["reason"], run["failures"]) == ("queued", "drained", 0)
    assert shown(database, first)["failures"] == 0
    assert outcome(database, first) == undisturbed


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_connection_that_is_given_up_just_before_a_pilot_is_sent_is_made_again(
    database: Database, settings: Settings, cluster: Dask
) -> None:
    with dispatching(database, on(cluster, settings)) as dispatcher:
        wait_for(lambda: dispatcher.slots)
        placement: Any = dispatcher._placement
        placement._client.close()
        placement._asked_at = time.monotonic() + 1.0  # when it will look next
        run_id = submit(database, settings)
        wait_for(lambda: shown(database, run_id)["done"])
    assert shown(database, run_id)["attempts"] == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_that_hangs_keeps_nobody_from_connecting(
    settings: Settings, cluster: Dask, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = on(cluster, settings)
    monkeypatch.setattr(placements, "ANSWER_S", 1)
    placement = placements.Cluster(engine)
    placement.start()
    wait_for(placement.slots)
    placement.drain()
    cluster.workers[0].send_signal(signal.SIGSTOP)
    try:
        assert refusal(engine) == ""
    finally:
        cluster.workers[0].send_signal(signal.SIGCONT)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_run_outlives_the_dispatcher_that_sent_its_pilot_and_is_not_disturbed_by_another(
    database: Database, settings: Settings, cluster: Dask, undisturbed: tuple[list[int], str]
) -> None:
    with dispatching(database, on(cluster, settings)):
        run_id = submit(database, settings)
        wait_for(lambda: under_way(database, run_id))
    with dispatching(database, on(cluster, settings)):  # another one disturbs nobody
        wait_for(lambda: shown(database, run_id)["done"])
        assert (shown(database, run_id)["status"], shown(database, run_id)["attempts"]) == ("succeeded", 1)
        second = submit(database, settings)
        wait_for(lambda: shown(database, second)["done"])
    assert outcome(database, run_id) == outcome(database, second) == undisturbed


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_cluster_with_another_version_is_refused(
    settings: Settings, cluster: Dask, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = on(cluster, settings)
    monkeypatch.setattr(dask_cluster, "PROTOCOL", dask_cluster.PROTOCOL + 1)
    wait_for(lambda: "install the same version" in refusal(engine))  # once there is a worker


def refusal(settings: Settings) -> str:
    try:
        try_engine(settings)
    except EngineUnusable as error:
        return str(error)
    return ""


def test_a_pilot_of_another_version_does_nothing() -> None:
    with pytest.raises(dask_cluster.VersionMismatch, match="install the same version on both"):
        pilot.fly(dask_cluster.PROTOCOL, "0.0.0", 1)


@pytest.mark.parametrize(
    ("engine", "url", "said"),
    [
        ("dask://10.0.0.7:8786", "postgresql://u@h/d", "set up TLS"),
        ("dask://scheduler.example:8786", "postgresql://u@h/d", "set up TLS"),
        ("dask://10.0.0.7:8786", "sqlite:///here.sqlite3", "use PostgreSQL"),
        ("dask://127.0.0.1:1", "sqlite:///here.sqlite3", "no Dask scheduler answers"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_refused_with_the_way_out(
    engine: str, url: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placements, "CONNECT_S", 1)
    assert said in refusal(Settings(database_url=url, engine=engine))


def test_a_cluster_on_this_machine_is_reached_by_tls_where_dask_is_set_so(settings: Settings) -> None:
    import dask
    from distributed import Security

    engine = settings.model_copy(update={"engine": "dask://127.0.0.1:1"})
    assert dask_cluster.address_of(engine, Security) == {"address": "tcp://127.0.0.1:1"}
    with dask.config.set({"distributed.comm.require-encryption": True}):
        assert "settings require encryption: set up TLS" in refusal(engine)
        given = {"ca-file": "ca.pem", "client.cert": "c.pem", "client.key": "c.key"}
        with dask.config.set({f"distributed.comm.tls.{name}": value for name, value in given.items()}):
            assert dask_cluster.address_of(engine, Security)["address"] == "tls://127.0.0.1:1"


@pytest.mark.parametrize("engine", ["", "ray", "dask:", "dask://", "dask://host", "dask://a b:1", "DASK"])
def test_what_is_no_engine_is_refused(engine: str) -> None:
    with pytest.raises(ValidationError, match="local, dask or dask://host:port"):
        Settings(engine=engine)
