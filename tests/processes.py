"""The processes that train, found from the one that hosts them: forked by itself, or by workers of Dask's."""

from contextlib import suppress

import psutil


def trainers(host: psutil.Process) -> list[psutil.Process]:
    """Find the processes that train or wait for orders."""
    found = []
    for server in fork_servers(host):
        with suppress(psutil.NoSuchProcess):
            found += [child for child in server.children() if _lives(child)]
    return found


def busiest(host: psutil.Process) -> psutil.Process | None:
    """Find the process that has computed the most, of those that train; None if there is none."""
    with suppress(psutil.NoSuchProcess):
        return max(trainers(host), key=lambda child: child.cpu_times().user, default=None)
    return None


def fork_servers(host: psutil.Process) -> list[psutil.Process]:
    """Find the processes that those are forked from: one, or one in each worker of a cluster of the host's own."""
    workers = [child for child in host.children() if "multiprocessing.spawn" in _command(child)]
    found = []
    for process in (host, *workers):
        with suppress(psutil.NoSuchProcess):
            found += [child for child in process.children() if "forkserver" in _command(child)]
    return found


def _command(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
