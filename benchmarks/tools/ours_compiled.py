"""Chainrule's engine with its compiled step, what `pip install chainrule[fast]` gives."""

from dataclasses import replace

from benchmarks.tools import ours
from benchmarks.workloads import Workload


class Training(ours.Training):
    """See `benchmarks.tools.Training`."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(replace(workload, config=replace(workload.config, step="compiled")))
