"""The gang of one very large run: the training process is rank 0, and actors of a Dask cluster are its other shards.

Each reads what it needs of the run from the database and maps the same samples as the others; of a step, parameters go
out and a part of the gradient comes back. Nothing is stored in Dask: actors end with the process that asked for them.
"""

import logging
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from chainrule.app.config import Settings
from chainrule.app.execution import dask_cluster
from chainrule.app.execution.dask_cluster import RESOURCE
from chainrule.app.services import training
from chainrule.app.store import runs
from chainrule.app.store.database import Database
from chainrule.engine import Data, TrainingConfig, blas
from chainrule.engine.arrays import FloatArray
from chainrule.engine.sharding import Part, Shard

LOOK_S = 0.1
ALIKE = ("numpy", "blas", "blas_threads", "blas_kernel", "numpy_simd", "machine")
"""What all shards of a run must have in common, of `training.builds`: else its bits would depend on who took which."""
log = logging.getLogger(__name__)


class GangIncomplete(Exception):
    """Not every shard has found a place in time; nobody is to blame, and the run can wait."""


class ShardLost(OSError):
    """A shard cannot go on; the whole attempt is lost with it."""


class UnlikeShards(Exception):
    """A worker for shards computes other bits than the one where the run is trained."""


class Seat:
    """A place in a worker: one shard of one run, as an actor.

    Args:
        protocol, sender: as of `dask_cluster.agree`.
        builds: of rank 0.
        run_id: the run.
        number: which shard.

    Raises:
        VersionMismatch: another version of Chainrule is installed here than where the run is trained.
        UnlikeShards: another NumPy, or another kind of processor.
    """

    def __init__(self, protocol: int, sender: str, builds: dict[str, Any], run_id: str, number: int) -> None:
        dask_cluster.agree(protocol, sender)
        settings = Settings()
        blas.set_threads(settings.blas_threads)
        here = training.builds(settings)
        if unlike := [name for name in ALIKE if here.get(name) != builds.get(name)]:
            differ = ", ".join(f"{name} {here.get(name)} instead of {builds.get(name)}" for name in unlike)
            raise UnlikeShards(f"this worker has {differ}; shards are for machines that are alike")
        database = Database(settings.database_url)
        try:
            with database.reading() as session:
                run = runs.get(session, run_id)
                if run is None:
                    raise LookupError(f"there is no run {run_id}")
                config = run.config
            data, _ = training.load_split(database, settings, run_id, config)
        finally:
            database.dispose()
        self._shard = Shard(training.engine_config(config, config["network"]["inputs"]), data, number)

    def part(self, parameters: FloatArray, epoch: int, step: int) -> tuple[Any, ...]:
        """Compute this shard's part of one batch."""
        return tuple(self._shard.part(parameters, epoch, step))


class Gang:
    """All shards of a run, for as long as this is entered.

    Args:
        settings: of rank 0's worker; the engine is the cluster's address.
        config: of the training.
        data: rank 0's samples.
        run_id: the run.
        stop: whether to wait for places no longer.
    """

    def __init__(
        self, settings: Settings, config: TrainingConfig, data: Data, run_id: str, stop: Callable[[], bool]
    ) -> None:
        self._settings, self._run_id, self._stop = settings, run_id, stop
        self._own, self._others = Shard(config, data, 0), config.shards - 1
        self._client: Any = None
        self._actors: list[Any] = []

    def __enter__(self) -> Self:
        """Have every shard take its place.

        Raises:
            GangIncomplete: some have found none in time, or the cluster does not answer.
            ShardLost: one cannot be opened.
        """
        try:
            self._client = dask_cluster.connect(self._settings)
        except dask_cluster.EngineUnusable as error:
            raise GangIncomplete(str(error)) from error
        try:
            self._actors = self._gather()
        except BaseException:
            self._client.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the actors go."""
        self._actors = []
        self._client.close()

    def parts(self, parameters: FloatArray, epoch: int, step: int) -> Sequence[Part]:
        """Have every shard compute its part, rank 0 the first one meanwhile.

        Raises:
            ShardLost: one does not answer any more.
        """
        try:
            asked = [actor.part(parameters, epoch, step) for actor in self._actors]
            own = self._own.part(parameters, epoch, step)
            return [own, *(Part(*answer.result()) for answer in asked)]
        except Exception as error:
            raise ShardLost(f"a shard was lost: {error}") from error

    def _gather(self) -> list[Any]:
        """Ask for all places at once and wait for them."""
        told = *dask_cluster.speaks(), training.builds(self._settings), self._run_id
        alone = {"actor": True, "pure": False, "retries": 0, "resources": {RESOURCE: 1}}
        places = [self._client.submit(Seat, *told, number, **alone) for number in range(1, self._others + 1)]
        until = time.monotonic() + self._settings.gang_timeout_s
        while not all(place.done() for place in places):
            if time.monotonic() >= until or self._stop():
                there = sum(place.status == "finished" for place in places)
                raise GangIncomplete(
                    f"{there} of {len(places)} shards beside the first had a place within "
                    f"{self._settings.gang_timeout_s:g} s; start Dask workers with --resources '{RESOURCE}=1'"
                )
            time.sleep(LOOK_S)
        actors = []
        for number, place in enumerate(places, start=1):
            try:
                actors.append(place.result())
            except Exception as error:
                raise ShardLost(f"shard {number} of {self._others + 1} cannot be opened: {error}") from error
        log.info("all %d shards have their places", len(places) + 1)
        return actors
