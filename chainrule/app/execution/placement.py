"""Placement: where pilots fly. Threads of this process, or a Dask cluster; the same pilots on both."""

import asyncio
import logging
import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from chainrule.app.config import Settings
from chainrule.app.execution import pilot
from chainrule.app.execution.dask_cluster import CONNECT_S, RESOURCE, EngineUnusable, address_of, speaks
from chainrule.app.execution.presence import Presence
from chainrule.app.execution.standby import Standby
from chainrule.app.execution.supervisor import supervise_once
from chainrule.app.store.database import Database

ANSWER_S = 3
log = logging.getLogger(__name__)


class Placement(Protocol):
    """Room for pilots."""

    def start(self) -> None:
        """Make ready."""

    def slots(self) -> int:
        """Tell how many pilots there is room for."""

    def send(self) -> Future[list[str]]:
        """Send a pilot; it claims what it finds where and when it lands."""

    def drain(self) -> None:
        """Have the pilots come home that are ours to call, and wait for them."""


def make_placement(database: Database, settings: Settings) -> Placement:
    """Choose where pilots fly.

    Raises:
        EngineUnusable: not there.
    """
    return Threads(database, settings) if settings.engine == "local" else Cluster(settings)


class Threads:
    """The slots of this process."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._executor = ThreadPoolExecutor(max_workers=settings.slots, thread_name_prefix="slot")
        self._standby = Standby(settings)
        self._presence = Presence(database, settings, settings.slots)
        self._stopping = threading.Event()

    def start(self) -> None:
        """Have children at hand, and come on the list of workers."""
        self._standby.start()
        self._presence.start()

    def slots(self) -> int:
        """Tell how many threads there are."""
        return self._settings.slots

    def send(self) -> Future[list[str]]:
        """Send a pilot to a thread."""
        return self._executor.submit(
            supervise_once, self._database, self._settings, self._standby, self._stopping, self._presence
        )

    def drain(self) -> None:
        """Claim nothing more, have runs put back, and leave."""
        self._stopping.set()
        self._presence.drain()
        self._executor.shutdown(wait=True)
        self._standby.close()
        self._presence.stop()


class Cluster:
    """The threads of Dask's workers; of a run nothing is ever stored there.

    `dask` is a cluster of our own on this machine, which drains with us. `dask://host:port` is somebody's: its pilots
    fly on when we end, and its workers put their runs back when they are told to end.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            import distributed
        except ModuleNotFoundError as error:
            raise EngineUnusable(f"{error.name} is missing; Dask needs: pip install 'chainrule[dask]'") from error
        # What it informs of is each connection, with a traceback where one is closed while something was to be sent.
        logging.getLogger("distributed").setLevel(logging.WARNING)
        self._dask: Any = distributed
        self._settings = settings
        self._own: Any = None
        self._client: Any = None
        self._executor: Any = None
        self._threads: dict[str, int] = {}
        self._seats = False  # whether there are workers for shards, where no pilot is to go
        self._scheduler = ""  # the one that knows that pilots are to land when a worker ends
        self._asked_at = -math.inf
        self._options = {} if settings.engine == "dask" else address_of(settings, distributed.Security)

    def start(self) -> None:
        """Make our own cluster, or connect to the one that is there; that may have gone since it was tried."""
        if self._settings.engine == "dask":
            given = self._settings.model_dump(mode="json", include=self._settings.model_fields_set, exclude_none=True)
            # What our own workers are to know is put into their environment, as on any other machine.
            self._own = self._dask.LocalCluster(
                n_workers=self._settings.slots,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.WARNING,
                memory_limit=0,  # it would not see the training processes
                env={f"CHAINRULE_{name.upper()}": str(value) for name, value in given.items()},
            )
            self._options = {"address": self._own}
        self.slots()

    def slots(self) -> int:
        """Tell how many threads all workers have that are there now; none while the scheduler does not answer."""
        if time.monotonic() - self._asked_at > self._settings.poll_interval_s:
            self._asked_at = time.monotonic()
            try:
                if self._client is None or self._client.status in ("closed", "closing"):
                    self.connect()
                else:
                    self._look()
            except (OSError, TimeoutError, EngineUnusable) as error:
                log.warning("the Dask scheduler does not answer: %s", error)
                self._threads = {}
        return sum(self._threads.values())

    def send(self) -> Future[list[str]]:
        """Send a pilot to whichever worker Dask chooses.

        Raises:
            EngineUnusable: the connection has just been given up.
        """
        room = max(self._threads.values(), default=1)
        executor = self._executor
        if self._seats:
            where = list(self._threads)  # others may come, or take their place; only workers for shards are avoided
            executor = self._client.get_executor(pure=False, retries=0, workers=where, allow_other_workers=True)
        try:
            sent: Future[list[str]] = executor.submit(pilot.fly, *speaks(), room)
        except Exception as error:
            raise EngineUnusable(f"{self._settings.engine} takes no pilot: {error}") from error
        return sent

    def drain(self) -> None:
        """End our own cluster in order; leave one that is somebody's, with those who fly there."""
        if self._own is not None:
            self._client.run(pilot.land)
            self._executor.shutdown(wait=True)
        if self._client is not None:
            self._client.close()
        if self._own is not None:
            self._own.close()

    def connect(self) -> None:
        """Connect to the cluster, and insist on one version everywhere.

        Raises:
            EngineUnusable: there is none, or it is of another version.
        """
        try:
            self._client = self._dask.Client(**self._options, timeout=CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise EngineUnusable(f"no Dask scheduler answers at {self._settings.engine}: {error}") from error
        try:
            self._scheduler = ""
            self._insist_on_one_version(self._look())
        except BaseException:
            self._client.close()
            raise
        # `pure` would have all pilots be one; Dask never repeats one on its own account, the database decides that.
        self._executor = self._client.get_executor(pure=False, retries=0)

    def _look(self) -> list[str]:
        """See which workers are there; a scheduler that has come in place of another is told of landing anew."""
        told = self._client.sync(self._client.scheduler.identity, callback_timeout=ANSWER_S)
        if told["id"] != self._scheduler and self._have_pilots_land():
            self._scheduler = told["id"]
        workers: dict[str, dict[str, Any]] = told["workers"]
        seats = {address for address, worker in workers.items() if worker["resources"].get(RESOURCE)}
        self._seats, self._asked_at = bool(seats), time.monotonic()
        self._threads = {address: worker["nthreads"] for address, worker in workers.items() if address not in seats}
        return list(workers)

    def _have_pilots_land(self) -> bool:
        """Have the scheduler give every worker, those that are to come too, what calls pilots home when it ends."""
        from chainrule.app.execution.landing import Landing

        async def register() -> None:
            await self._client.register_plugin(Landing())

        try:
            self._client.sync(register, callback_timeout=ANSWER_S)
        except TimeoutError:
            log.info("not every Dask worker answers; those that come are told by the scheduler")
        except OSError as error:
            log.info("a Dask worker has just gone; trying again: %s", error)
            return False
        except Exception as error:
            raise EngineUnusable(f"workers of {self._settings.engine} cannot run Chainrule: {error}") from error
        return True

    def _insist_on_one_version(self, addresses: list[str]) -> None:
        """Ask all workers; who does not answer has just ended or hangs, and pilots look for themselves."""

        async def ask(address: str) -> Any:
            told = await self._client.run(speaks, workers=[address], on_error="return")
            return told[address]

        async def ask_all() -> list[Any]:
            waits = [asyncio.wait_for(ask(address), ANSWER_S) for address in addresses]
            return await asyncio.gather(*waits, return_exceptions=True)

        ours, told_by = speaks(), zip(addresses, self._client.sync(ask_all), strict=True)
        answers = {address: told for address, told in told_by if not isinstance(told, OSError | TimeoutError)}
        for told in answers.values():
            if isinstance(told, Exception):
                raise EngineUnusable(f"workers of {self._settings.engine} cannot run Chainrule: {told}") from told
        if others := {address: theirs for address, theirs in answers.items() if theirs != ours}:
            raise EngineUnusable(
                f"workers of {self._settings.engine} have not Chainrule {ours[1]} (protocol {ours[0]}) but "
                f"{others}; install the same version everywhere"
            )


def try_engine(settings: Settings) -> None:
    """Find out whether the engine that is asked for can be used.

    Raises:
        EngineUnusable: it cannot.
    """
    if settings.engine != "local":
        cluster = Cluster(settings)
        if settings.engine != "dask":
            cluster.connect()
            cluster.drain()
