"""A process that has everything loaded and starts the service or a worker by forking, in a fifth of the time.

What is started is `python -m chainrule` as it is after its imports: a process of its own, whose output, environment
and folder are as they are asked for, and which ends as Python ends. What loads it in the first place is tested where
commands are (`tests/app/test_cli.py`).
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_MOST_BYTES = 1 << 20


def _at_loading(environment: Mapping[str, str]) -> dict[str, str]:
    """Pick what decides how a program is loaded, which a zygote has behind it."""
    return {
        name: value for name, value in environment.items() if name.startswith(("PYTHON", "LD_", "OPENBLAS_CORETYPE"))
    }


_OURS = _at_loading(os.environ) | {"PYTHONUNBUFFERED": "1"}
_guard = threading.Lock()


class Started:
    """A process that was started: what `subprocess.Popen` tells of one that is a child."""

    def __init__(self, keeper: socket.socket, pid: int) -> None:
        self._keeper = keeper
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Give its status, None while it runs; minus the number of the signal that ended it."""
        if self.returncode is None and select.select([self._keeper], [], [], 0)[0]:
            self.returncode = json.loads(self._keeper.recv(64))
            self._keeper.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            TimeoutExpired: it runs on.
        """
        if self.returncode is None and not select.select([self._keeper], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("chainrule", timeout or 0.0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def start(
    arguments: list[str], environment: dict[str, str], output: int, errors: int
) -> Started | subprocess.Popen[bytes]:
    """Start `chainrule` with arguments and an environment; its output goes to the two open files."""
    # What a benchmark measures is the program itself.
    if "PYTEST_VERSION" not in os.environ or _at_loading(environment) != _OURS:
        command = [sys.executable, "-m", "chainrule", *arguments]
        return subprocess.Popen(command, env=environment, stdout=output, stderr=errors)
    keeper = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper.connect(_address())
    order = {"arguments": arguments, "environment": environment, "folder": str(Path.cwd())}
    socket.send_fds(keeper, [json.dumps(order).encode()], [output, errors])
    return Started(keeper, json.loads(keeper.recv(64)))


def _address() -> str:
    with _guard:
        return _zygote()


@cache
def _zygote() -> str:
    """Start the zygote and tell where it listens; it ends when its input does, and so with us in any case."""
    address = f"{tempfile.mkdtemp(prefix='chainrule-zygote-')}/socket"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.zygote", address],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(process.communicate)
    assert process.stdout is not None
    assert process.stdout.readline(), "the zygote did not start"
    return address


def _serve(address: str) -> None:
    """Fork a keeper for each order; return in what is ordered, as what is ordered."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers need no burial
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen(64)
        print("ready", flush=True)  # noqa: T201
        while True:
            heard, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in heard:
                _clear(address)
                os._exit(0)
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    _keep(connection)
                    return


def _keep(connection: socket.socket) -> None:
    """Start what is ordered, tell its number, and its status when it ends; return in what was started."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, files, _, _ = socket.recv_fds(connection, _MOST_BYTES, 2)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(json.loads(data), files)
        return
    for file in files:
        os.close(file)
    connection.send(json.dumps(pid).encode())
    _, status = os.waitpid(pid, 0)
    try:
        connection.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())
    finally:
        os._exit(0)  # who started it may have gone by now


def _become(order: dict[str, Any], files: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, *files)):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = ["chainrule", *order["arguments"]]


def _clear(address: str) -> None:
    Path(address).unlink(missing_ok=True)
    Path(address).parent.rmdir()


if __name__ == "__main__":
    import chainrule.__main__
    import chainrule.app.cli.operating
    import chainrule.app.main
    import chainrule.app.worker

    if os.environ.get("CHAINRULE_ENGINE", "local") != "local":
        import distributed  # noqa: F401
    where = sys.argv[1]
    _serve(where)
    # What starts processes looks here for what they are to load first.
    sys.modules["__main__"] = chainrule.__main__
    chainrule.__main__.main()
