"""A worker: hosts slots without the API, on any machine that reaches the database."""

import logging
import signal
from contextlib import suppress
from queue import Empty, SimpleQueue

from sqlalchemy.exc import SQLAlchemyError

from chainrule.app import logs
from chainrule.app.config import Settings
from chainrule.app.execution.dask_cluster import EngineUnusable
from chainrule.app.execution.dispatcher import Dispatcher
from chainrule.app.execution.placement import try_engine
from chainrule.app.store.changes import Changes
from chainrule.app.store.database import Database
from chainrule.app.store.migrations import NewerSchema, upgrade
from chainrule.app.store.troubles import explained

LOOK_UP_S = 1.0
log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Train waiting runs until SIGTERM or SIGINT, then put running ones back with their resume points."""
    logs.install(settings.log_level, settings.log_format)
    endings: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: endings.put(number))
    try:
        database = Database(settings.database_url)
        upgrade(database)
        try_engine(settings)
    except EngineUnusable as error:
        log.error("cannot use the engine: %s", error)
        raise SystemExit(1) from error
    except (OSError, SQLAlchemyError, NewerSchema) as error:
        log.error("cannot open the database: %s", explained(error))
        raise SystemExit(1) from error
    changes = Changes(database)
    dispatcher = Dispatcher(database, settings, changes)
    changes.start()
    dispatcher.start()
    log.info("worker with %d slots is ready", dispatcher.slots)
    while True:
        # Looks up now and then: of a process that was stopped and goes on, another thread may take the signal,
        # and Python hears it in this one, once it runs.
        with suppress(Empty):
            endings.get(timeout=LOOK_UP_S)
            break
    log.info("worker is draining")
    dispatcher.drain()
    changes.stop()
    database.dispose()
