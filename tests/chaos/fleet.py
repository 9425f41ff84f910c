"""Processes of the service that are killed, stopped and started again, each in a process group of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.waiting import wait_for

HERE = ("--host", "127.0.0.1", "--no-dashboard")
QUICK: dict[str, Any] = {
    "heartbeat_interval_s": 0.2,
    "attempt_timeout_s": 2.0,
    "flush_interval_s": 0.05,
    "poll_interval_s": 0.2,
    "max_failures": 10_000,  # a run is to outlive whatever comes
}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


class Member:
    """One process of ours, or of Dask, started anew whenever it was killed.

    Args:
        command: a Python module and its arguments.
        log: where what it says goes.
        within: what runs it elsewhere, as on another machine.
        settings: its environment.
    """

    def __init__(self, command: Sequence[str], log: Path, within: Sequence[str] = (), **settings: Any) -> None:
        self.log = log
        self._command = [*within, sys.executable, "-m", *command]
        self._settings = settings
        self.start()

    def start(self) -> None:
        """Start it; it is not waited for."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CHAINRULE_")}
        environment |= {f"CHAINRULE_{name.upper()}": str(value) for name, value in self._settings.items()}
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def children(self) -> list[psutil.Process]:
        """List its training processes, those that wait for an order among them."""
        found = []
        with suppress(psutil.Error):
            for server in self.fork_servers():
                found += [child for child in server.children() if child.status() != psutil.STATUS_ZOMBIE]
        return found

    def fork_servers(self) -> list[psutil.Process]:
        """List what its training processes are forked from."""
        found = []
        with suppress(psutil.Error):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    if "forkserver" in " ".join(process.cmdline()):
                        found.append(process)
        return found

    def hosts(self) -> psutil.Process | None:
        """Find the process that hosts its slots: itself, or the one that a nanny of Dask's looks after."""
        with suppress(psutil.Error):
            servers = {server.pid for server in self.fork_servers()}
            me = psutil.Process(self._process.pid)
            for process in (me, *me.children()):
                if servers & {child.pid for child in process.children()}:
                    return process
        return None

    def wait(self) -> None:
        """Wait for its end."""
        self._process.wait(timeout=30)

    def kill(self) -> None:
        """Kill it alone; what it started is left to end by itself."""
        self._process.kill()
        self._process.wait()

    def kill_all(self) -> None:
        """Kill it with all that it started."""
        self.send_all(signal.SIGKILL)
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def send_all(self, number: signal.Signals) -> None:
        """Send it, and all that it started, a signal."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def freeze(self, *, everything: bool) -> None:
        """Stop it (SIGSTOP), or all that it started too, and wait until each stands: a signal takes its time."""
        (self.send_all if everything else self.send)(signal.SIGSTOP)
        processes = [psutil.Process(self._process.pid)]
        if everything:
            processes += processes[0].children(recursive=True)
        wait_for(lambda: all(_stands(process) for process in processes))

    def stop(self) -> None:
        """End it as an operator would; what does not end is killed."""
        self.send_all(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill_all()


def _stands(process: psutil.Process) -> bool:
    """Whether all threads of a process are stopped, or it is gone."""
    try:
        threads = Path(f"/proc/{process.pid}/task").iterdir()
        return all((thread / "stat").read_text().rpartition(")")[2].split()[0] in "TZX" for thread in threads)
    except OSError:
        return True


class Fleet:
    """An API and some workers on one database.

    On the local engine the API has no slots, and the workers are `chainrule worker`. On Dask there is a scheduler
    too, the API is the client that sends pilots to it, and the workers are Dask's, every other one with a nanny.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        workers: int,
        slots: int,
        *,
        engine: str = "local",
        elsewhere: Callable[[str], Sequence[str]] = lambda _name: (),
        **settings: Any,
    ) -> None:
        self.database_url, self.settings = database_url, QUICK | settings
        self._common = common = {
            "database_url": database_url,
            "cache_dir": folder / "cache",
            "log_level": "WARNING",
            **self.settings,
        }
        port, self._at = _free_port(), f"127.0.0.1:{_free_port()}"
        self.url = f"http://127.0.0.1:{port}"
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.engine, self.scheduler = engine, None
        serving: dict[str, Any] = {"slots": 0, "port": port}
        if engine == "dask":
            serving = {"slots": 1, "port": port, "engine": f"dask://{self._at}"}
            command = ["distributed.cli.dask_scheduler", "--port", self._at.partition(":")[2]]
            self.scheduler = Member([*command, *HERE], self.logs / "scheduler.log")
        self._elsewhere = elsewhere  # what runs each of them, by name
        self.api = Member(["chainrule", "serve"], self.logs / "api.log", elsewhere("api"), **serving, **common)
        wait_for(self.ready)  # which has migrated the database by then
        self.workers: list[Member] = []
        for _ in range(workers):
            self.add_worker(slots)

    def add_worker(self, slots: int, within: Sequence[str] = (), **settings: Any) -> Member:
        """Start one more worker; elsewhere, or with settings of its own, if wished."""
        number = len(self.workers)
        command, given = ["chainrule", "worker"], self._common | {"slots": slots} | settings
        if self.engine == "dask":
            nanny = "--nanny" if number % 2 else "--no-nanny"
            command = ["distributed.cli.dask_worker", f"tcp://{self._at}", "--nthreads", str(slots), nanny, *HERE]
            given = self._common
        self.workers.append(
            Member(command, self.logs / f"worker{number}.log", within or self._elsewhere(f"worker{number}"), **given)
        )
        return self.workers[-1]

    def ready(self) -> bool:
        """Whether the API answers."""
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/v1/health/ready", timeout=10).status_code == 200
        return False

    def post(self, path: str, body: Any, key: str, **given: Any) -> httpx.Response:
        """Create something, again and again under one key until that is acknowledged."""
        while True:
            with suppress(httpx.TransportError):
                given |= {"headers": {"Idempotency-Key": key}, "timeout": 20}
                answer = httpx.post(f"{self.url}{path}", json=body, **given)
                # 409: the first request is still being answered; 503: the database is away.
                if answer.status_code not in (409, 503):
                    assert answer.status_code in (200, 201), answer.text
                    return answer
            time.sleep(0.05)

    def members(self) -> list[Member]:
        """List its processes."""
        return [self.api, *self.workers, *([self.scheduler] if self.scheduler else [])]

    def mend(self) -> bool:
        """Start whoever has ended anew, as a process manager does."""
        for member in self.members():
            if not member.alive:
                member.start()
        return True

    def close(self) -> None:
        """End them all."""
        for member in self.members():
            member.stop()

    def tracebacks(self) -> str:
        """Quote a traceback of ours from each log; a fork server whose worker was killed is told so by Python."""
        quoted = []
        for path in sorted(self.logs.iterdir()):
            found = map(_traceback, path.read_text().split("Traceback (most recent call last):\n")[1:])
            quoted += [f"{path.name}: {text[-3000:]}" for text in found if "chainrule/app" in text][:1]
        return "\n".join(quoted)


def _traceback(text: str) -> str:
    """Cut off what follows a traceback in a log."""
    lines = text.splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith(" ")), len(lines))
    return "\n".join(lines[: end + 1])
