"""Placement: where pilots run. A thread pool on this machine; any `Executor` would do."""

from concurrent.futures import Executor, ThreadPoolExecutor


def make_executor(slots: int) -> Executor:
    """Make room for as many pilots as there are slots."""
    return ThreadPoolExecutor(max_workers=slots, thread_name_prefix="slot")
