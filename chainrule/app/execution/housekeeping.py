"""Housekeeping: removes what has been kept long enough, in a thread of its own, so that nobody waits for it."""

import logging
import threading

from sqlalchemy.exc import SQLAlchemyError

from chainrule.app.config import Settings
from chainrule.app.services import retention
from chainrule.app.store.database import Database

INTERVAL_S = 60.0
log = logging.getLogger(__name__)


class Housekeeping:
    """Looks again and again."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what is removed just now is removed in pieces, of which the next may wait."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        more = False
        while not self._stopping.wait(0.0 if more else min(INTERVAL_S, max(self._settings.deleted_retention_s, 1.0))):
            try:
                more = retention.tidy(self._database, self._settings, self._stopping)
            except SQLAlchemyError as error:
                more = False
                log.warning("cannot tidy up: %s", error)
