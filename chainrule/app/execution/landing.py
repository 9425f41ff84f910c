"""The landing: a Dask worker that is told to end has its pilots come home first."""

from typing import Any

from distributed import Status, WorkerPlugin

from chainrule.app.execution import pilot


class Landing(WorkerPlugin):
    """Lives in every worker of a cluster; its worker calls it when it ends in order."""

    name = "chainrule"

    def teardown(self, worker: Any) -> None:
        """Call the pilots home; the worker waits for its threads afterwards."""
        if worker.status not in (
            Status.running,
            Status.paused,
        ):  # else another dispatcher has brought its own, in place of this one
            pilot.land()
