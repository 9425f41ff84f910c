"""One run over several workers: to the bits it has in one process, whoever is killed; and it never waits for ever."""

from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from chainrule.app.config import Settings
from chainrule.app.execution import dask_cluster
from chainrule.app.execution.gang import Seat, UnlikeShards
from chainrule.app.services import lineage, training, verifications
from chainrule.app.services import runs as services
from chainrule.app.services.weights import NetworkEncoder, sha256
from chainrule.app.store.database import Database
from chainrule.app.store.models import Checkpoint, Epoch
from chainrule.engine import digits, train
from chainrule.engine.epoch import Epoch as Trained
from tests.app.execution.test_cluster import Dask, dispatching, on, shown
from tests.waiting import wait_for

pytest.importorskip("distributed")
SPEC: dict[str, Any] = {
    "dataset": "digits",
    "network": {
        "layers": [{"units": 16, "activation": "relu", "dropout": 0.1}, {"units": 10, "activation": "softmax"}]
    },
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "epochs": 60,
    "batch_size": 300,
    "checkpoints": {"every": 20, "keep": None},
    "shards_even_if_slower": True,
}
SEATS = ("--resources", "shard=1")


@pytest.fixture
def gang_timeout_s() -> float:
    """How long a gang waits for its places: on a busy machine a shard may take a while to begin."""
    return 60.0


@pytest.fixture
def cluster(settings: Settings, gang_timeout_s: float) -> Iterator[Dask]:
    """A scheduler, a worker for runs, and one for shards."""
    quick = {"heartbeat_interval_s": 0.2, "attempt_timeout_s": 2.0, "gang_timeout_s": gang_timeout_s}
    cluster = Dask(settings.model_copy(update=quick))
    cluster.add_worker()
    cluster.add_worker(*SEATS)
    yield cluster
    cluster.stop()


def submit(database: Database, settings: Settings, **fields: Any) -> str:
    run_id: str = services.submit(database, settings, SPEC | fields, key=None).run["id"]
    return run_id


def wait_for_end(database: Database, *run_ids: str) -> None:
    wait_for(lambda: all(shown(database, run_id)["done"] for run_id in run_ids))


def under_way(database: Database, run_id: str) -> bool:
    return bool(shown(database, run_id)["progress"]["epochs_done"] >= 5)


def outcome(database: Database, run_id: str) -> tuple[list[tuple[int, float]], list[str]]:
    """The costs of all epochs, and the hashes of the weights that are kept."""
    with database.reading() as session:
        costs = session.execute(select(Epoch.epoch, Epoch.cost).where(Epoch.run_id == run_id).order_by(Epoch.epoch))
        kept = select(Checkpoint.sha256).where(Checkpoint.run_id == run_id).order_by(Checkpoint.epoch)
        return [(epoch, cost) for epoch, cost in costs], list(session.scalars(kept))


def expected(database: Database, run_id: str) -> tuple[list[tuple[int, float]], list[str]]:
    """What the bare engine comes to, in this process."""
    config = shown(database, run_id)["config"]
    encoder, costs, kept = NetworkEncoder(), [], []
    for event in train(training.engine_config(config, 64), digits()):
        assert isinstance(event, Trained)
        costs.append((event.epoch, event.cost))
        if event.epoch in (0, 1) or event.epoch % 20 == 0:
            kept.append(sha256(encoder.encode(event.network)))
    return costs, kept


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_shards_come_to_the_same_bits_in_threads_on_a_cluster_and_in_the_bare_engine(
    database: Database, settings: Settings, cluster: Dask
) -> None:
    room = {n: services.validate(database, settings, SPEC | {"shards": n})["estimate"]["memory_bytes"] for n in (2, 3)}
    ids = [submit(database, settings, shards=n, epochs=20, max_memory_bytes=room.get(n)) for n in (1, 2, 3)]
    with dispatching(database, on(cluster, settings)):
        again = [submit(database, settings, shards=shards, epochs=20) for shards in (1, 2, 3)]
        wait_for_end(database, *ids, *again)
    with dispatching(database, settings):
        here = [submit(database, settings, shards=shards, epochs=20) for shards in (1, 2, 3)]
        wait_for_end(database, *here)
    for first, second, third in zip(ids, again, here, strict=True):
        found = outcome(database, first)
        assert outcome(database, second) == outcome(database, third) == found == expected(database, first)
        run = shown(database, first)
        assert (run["failures"], run["attempts"]) == (0, 1)
        assert run["worker"].endswith(f":{cluster.workers[0].pid}")  # no pilot goes where shards are to go


def test_a_run_whose_shard_or_rank_0_is_killed_goes_on_with_a_new_gang_to_the_same_bits(
    database: Database, settings: Settings, cluster: Dask
) -> None:
    with dispatching(database, on(cluster, settings)):
        run_id = submit(database, settings, shards=2, epochs=400, checkpoints={"every": 20, "keep": None})
        wait_for(lambda: under_way(database, run_id))
        cluster.workers[1].kill()
        cluster.workers[1].wait()
        wait_for(lambda: shown(database, run_id)["failures"] == 1)
        assert "shard" in services.attempts(database, run_id)[0]["detail"]
        cluster.add_worker(*SEATS)
        wait_for(lambda: shown(database, run_id)["status"] == "running")
        done = shown(database, run_id)["progress"]["epochs_done"]
        wait_for(lambda: shown(database, run_id)["progress"]["epochs_done"] > done)
        port = int(cluster.address.partition(":")[2])
        rank_0 = next(
            process
            for process in psutil.Process(cluster.workers[0].pid).children(recursive=True)
            if any(getattr(other.raddr, "port", None) == port for other in process.net_connections("tcp"))
        )
        rank_0.kill()
        wait_for(lambda: shown(database, run_id)["failures"] == 2)
        wait_for_end(database, run_id)
    assert shown(database, run_id)["status"] == "succeeded"
    assert outcome(database, run_id) == expected(database, run_id)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("gang_timeout_s", [1.0])
def test_a_gang_without_places_gives_its_slot_back_in_time_and_costs_nothing(
    database: Database, settings: Settings, cluster: Dask
) -> None:
    cluster.workers[1].kill()
    cluster.workers[1].wait()
    with dispatching(database, on(cluster, settings)):
        run_id = submit(database, settings, shards=3, epochs=20, priority=1)
        other = submit(database, settings)
        wait_for_end(database, other)  # it had the only slot meanwhile
        run = shown(database, run_id)
        assert (run["attempts"] > 0, run["failures"], run["done"]) == (True, 0, False)
        (first, *_) = services.attempts(database, run_id)
        assert (first["status"], first["reason"]) == ("queued", "gang_incomplete")
        assert "0 of 2 shards" in first["detail"]
        assert "--resources 'shard=1'" in first["detail"]
        cluster.add_worker(*SEATS)
        wait_for_end(database, run_id)
    assert (shown(database, run_id)["status"], shown(database, run_id)["failures"]) == ("succeeded", 0)
    assert outcome(database, run_id) == expected(database, run_id)


def test_a_worker_that_would_compute_other_bits_takes_no_shard(settings: Settings) -> None:
    other = training.builds(settings) | {"numpy": "1.0", "blas_kernel": "Z80"}
    with pytest.raises(UnlikeShards, match=r"numpy .* instead of 1.0, blas_kernel .* instead of Z80"):
        Seat(*dask_cluster.speaks(), other, "run_x", 1)
    with pytest.raises(dask_cluster.VersionMismatch, match="install the same version on both"):
        Seat(dask_cluster.PROTOCOL, "0.0.0", training.builds(settings), "run_x", 1)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_run_with_shards_is_verified_and_extended_exactly(database: Database, settings: Settings) -> None:
    limit = services.validate(database, settings, SPEC | {"shards": 3})["estimate"]["memory_bytes"]
    run_id = submit(database, settings, shards=3, epochs=20, max_memory_bytes=limit)
    with dispatching(database, settings):
        wait_for_end(database, run_id)
        longer = lineage.extend(database, settings, run_id, lineage.Length(to=40), key=None).run["id"]
        again = verifications.verify(database, settings, run_id, verifications.Range(), key=None).run["id"]
        whole = submit(database, settings, shards=3, epochs=40)
        wait_for_end(database, longer, again, whole)
    assert shown(database, again)["reason"] == "verified"
    assert outcome(database, longer) == outcome(database, whole) == expected(database, whole)
