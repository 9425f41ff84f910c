"""The landing: a Dask worker that is told to end has its pilots come home first."""

import signal
import threading
from typing import Any

from distributed import Status, WorkerPlugin

from chainrule.app.execution import pilot


class Landing(WorkerPlugin):
    """Lives in every worker of a cluster; its worker calls it when it ends in order."""

    name = "chainrule"

    def setup(self, worker: Any) -> None:
        """Leave SIGTERM to the nanny, if there is one: it ends its worker in order, where the signal just kills.

        Slurm and systemd send it to every process there is. Dask itself does the same with SIGINT.
        """
        if worker.nanny and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def teardown(self, worker: Any) -> None:
        """Call the pilots home; the worker waits for its threads afterwards."""
        if worker.status not in (
            Status.running,
            Status.paused,
        ):  # else another dispatcher has brought its own, in place of this one
            pilot.land()
