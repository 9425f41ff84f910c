"""The landing: a Dask worker that is told to end has its pilots come home first."""

from typing import Any

from distributed import WorkerPlugin

from chainrule.app.execution import pilot


class Landing(WorkerPlugin):
    """Lives in every worker of a cluster; its worker calls it when it ends in order."""

    name = "chainrule"

    def teardown(self, worker: Any) -> None:
        """Call the pilots home; the worker waits for its threads afterwards."""
        pilot.land()
