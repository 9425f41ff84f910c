"""The pilot as it flies on a machine of a cluster: makes what it needs of its process's own environment, once.

Whoever sends a pilot tells it nothing but the version it speaks; what is trained is told by the database, and
where that is by the environment of the process the pilot lands in. So neither a run nor a password is ever
handed to the cluster.
"""

import logging
import multiprocessing
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from chainrule.app import logs, tracing
from chainrule.app.config import Settings
from chainrule.app.execution.dask_cluster import EngineUnusable, agree
from chainrule.app.execution.presence import Presence, worker_name
from chainrule.app.execution.standby import Standby
from chainrule.app.execution.supervisor import supervise_once
from chainrule.app.store.database import Database
from chainrule.app.store.migrations import revisions
from chainrule.app.store.troubles import explained

log = logging.getLogger(__name__)
_guard = threading.Lock()
_hosts: "list[_Host]" = []


@dataclass
class _Host:
    """What all pilots of a process share."""

    settings: Settings
    database: Database
    standby: Standby
    presence: Presence
    stopping: threading.Event = field(default_factory=threading.Event)
    leaving: ExitStack = field(default_factory=ExitStack)
    flying: int = 0


def fly(protocol: int, sender: str, slots: int) -> list[str]:
    """Do once what `supervise_once` does, in whichever process this lands.

    Args:
        protocol: the version of this protocol that the sender speaks.
        sender: the version of Chainrule that sends.
        slots: how many pilots this process has room for.

    Raises:
        VersionMismatch: another version of Chainrule is installed here than there.
        EngineUnusable: this process's environment names no database with runs.
    """
    agree(protocol, sender)
    if not _hosts:
        _insist_on_runs(Settings().database_url)
    with _guard:
        host = _hosts[0] if _hosts else _make_host(slots)
        host.flying += 1
    try:
        return supervise_once(host.database, host.settings, host.standby, host.stopping, host.presence)
    finally:
        with _guard:
            host.flying -= 1
            last = host.stopping.is_set() and not host.flying
        if last:
            host.leaving.close()


def land() -> None:
    """Have every pilot of this process put its runs back with their resume points and come home; claim nothing more."""
    with _guard:
        for host in _hosts:
            host.stopping.set()
            host.presence.drain()
            idle = not host.flying
    if _hosts and idle:
        _hosts[0].leaving.close()


def _insist_on_runs(url: str) -> None:
    """Tell the sender, who cannot see our log, that its runs are not where we would look for them."""
    database = Database(url)
    try:
        known, _ = revisions(database)
    except SQLAlchemyError as error:
        raise EngineUnusable(f"the Dask worker {worker_name()} cannot open its database: {explained(error)}") from None
    finally:
        database.dispose()
    if known is None:
        raise EngineUnusable(
            f"the Dask worker {worker_name()} has no runs in its database, {database.url}; set CHAINRULE_DATABASE_URL "
            "in the environment it is started in, as it is here"
        )


def _settings(slots: int) -> Settings:
    """Read this process's environment; which cluster it belongs to, the process knows itself."""
    from distributed import get_worker

    settings = Settings(slots=slots)
    if settings.engine == "dask":  # its own cluster, on one machine
        return settings
    address = get_worker().scheduler.address.partition("://")[2]
    return settings.model_copy(update={"engine": f"dask://{address}"})


def _make_host(slots: int) -> _Host:
    # Processes of clusters are often made so that they may have no children, lest these outlive them. Ours do not:
    # each watches its pipe, which ends with us.
    multiprocessing.current_process().daemon = False
    settings = _settings(slots)
    logs.install(settings.log_level, settings.log_format)
    tracing.install(settings.traces)
    database = Database(settings.database_url)
    host = _Host(settings, database, Standby(settings), Presence(database, settings, slots))
    host.standby.start()
    host.presence.start()
    for leave in (database.dispose, host.presence.stop, host.standby.close):
        host.leaving.callback(leave)
    _hosts.append(host)
    log.info("this process hosts %d slots of a cluster", slots)
    return host
