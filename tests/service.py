"""Start the real service or a worker as a person would, and end it."""

import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from tests import zygote

START_TIMEOUT_S = 120.0
ENGINE = "CHAINRULE_ENGINE"
"""What all that is tested trains with, where a test does not choose: `make test ENGINE=dask`."""
local_only = pytest.mark.skipif(
    os.environ.get(ENGINE) not in (None, "local"), reason="looks at processes of the local engine"
)


@dataclass
class Service:
    """A running process of ours: its URL (the API only), its database and its log."""

    process: zygote.Started | subprocess.Popen[bytes]
    database_url: str
    log: Path
    output: IO[str]
    url: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def client(self, **options: Any) -> httpx.Client:
        """Open an HTTP client to it."""
        return httpx.Client(base_url=self.url, timeout=90, **options)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=120)


@contextmanager
def serving(**settings: Any) -> Iterator[Service]:
    """Run `chainrule serve`, on a free port of loopback unless one is named."""
    with _running("serve", {"port": 0, **settings}) as service:
        service.url = _url(service)
        yield service


@contextmanager
def working(**settings: Any) -> Iterator[Service]:
    """Run `chainrule worker`."""
    with _running("worker", settings) as service:
        yield service


@contextmanager
def _running(command: str, settings: dict[str, Any]) -> Iterator[Service]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CHAINRULE_") or key == ENGINE}
    environment["PYTHONUNBUFFERED"] = "1"
    environment |= {f"CHAINRULE_{name.upper()}": str(value) for name, value in settings.items()}
    reading, writing = os.pipe()
    with os.fdopen(reading) as output, tempfile.NamedTemporaryFile("w", suffix=f"-{command}.log", delete=False) as log:
        try:
            process = zygote.start([command], environment, writing, log.fileno())
        finally:
            os.close(writing)
        service = Service(process, settings["database_url"], Path(log.name), output, settings=settings)
        try:
            yield service
        finally:
            service.stop()
            service.log.unlink(missing_ok=True)


def _url(service: Service) -> str:
    """Wait for the line that names the URL, then for the service to be ready."""
    deadline = time.monotonic() + START_TIMEOUT_S
    found = ""
    while not found and time.monotonic() < deadline and service.process.poll() is None:
        found = _find_url(service.output, deadline)
    while found and time.monotonic() < deadline:
        try:
            if httpx.get(f"{found}/v1/health/ready").status_code == 200:
                return found
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"the service did not start:\n{service.log.read_text()}")


def _find_url(lines: IO[str], deadline: float) -> str:
    ready, _, _ = select.select([lines], [], [], max(0.0, deadline - time.monotonic()))
    match = re.search(r"http://127\.0\.0\.1:\d+", lines.readline()) if ready else None
    return match.group() if match else ""
