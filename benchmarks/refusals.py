"""Requests for giants, over HTTP: how long until each is refused, and what memory the service takes meanwhile.

Run from the checkout: `python -m benchmarks.refusals [--rounds 20]`. The service has its default limits and runs in a
process of its own; requests go over one connection each, which is open before the time begins. Beside the time that
passes stands the processor's time that the service took, which other work on the machine changes less.
"""

import argparse
import json
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.service import Service, serving

ALLOWED_MS = 50.0
TERABYTE = 10**12
LAYER = {"units": 10, "activation": "relu"}
RUN: dict[str, Any] = {
    "dataset": "digits",
    "network": {"layers": [LAYER, {"units": 10, "activation": "softmax"}]},
    "epochs": 10,
}
FORM = b'--B\r\nContent-Disposition: form-data; name="file"; filename="d.csv"\r\n\r\na,b\n1,2\n'


def _head(path: str, length: int, content_type: str, *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {content_type}", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *more, "", ""]).encode()


def _body(hidden: list[dict[str, Any]], **changes: Any) -> bytes:
    layers = [*hidden, RUN["network"]["layers"][-1]]
    return json.dumps(RUN | {"network": {"layers": layers}} | changes).encode()


def _run(hidden: list[dict[str, Any]], **changes: Any) -> bytes:
    body = _body(hidden, **changes)
    return _head("/v1/runs", len(body), "application/json") + body


GIANTS: dict[str, tuple[Callable[[], bytes], int]] = {
    "a run of 1e9 parameters": (lambda: _run([LAYER | {"units": 31_600}] * 2), 422),
    "a run of one layer of 1e9 units": (lambda: _run([LAYER | {"units": 10**9}]), 422),
    "a run of 1e12 steps": (lambda: _run([LAYER], epochs=10**12 // 1797, batch_size=1), 422),
    "a run of 1e12 epochs": (lambda: _run([LAYER], epochs=10**12), 422),
    "a run of as many layers as a body may have": (lambda: _run([LAYER] * 95_000), 422),
    "a run of 1e6 layers": (lambda: _run([LAYER] * 10**6), 413),
    "a run of 1e6 layers, where the client asks first": (
        lambda: _head("/v1/runs", len(_body([LAYER] * 10**6)), "application/json", "Expect: 100-continue"),
        413,
    ),
    "an upload of 1 TB, announced": (
        lambda: _head("/v1/datasets", TERABYTE, "multipart/form-data; boundary=B") + FORM,
        413,
    ),
    "1 TB of rows, announced": (lambda: _head("/v1/datasets", TERABYTE, "application/json") + b'{"samples": [[', 413),
}
"""By name: what is sent, and the status of the refusal."""


def ask(service: Service, request: bytes) -> tuple[int, dict[str, Any], float]:
    """Send a request; return status and problem of the answer, and the seconds until all of it was there."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(fields[b"content-length"]):
            body += connection.recv(65536)
        took_s = time.perf_counter() - began
    return int(head.split()[1]), json.loads(body), took_s


def forget_peak(service: Service) -> None:
    """Have the most memory the service has held be what it holds now."""
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")


def peak_bytes(service: Service) -> int:
    """Read the most memory the service has held."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    """Ask for each giant, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/refusals.sqlite3"
        with serving(database_url=url, cache_dir=Path(folder) / "cache", slots=0) as service:
            process = psutil.Process(service.process.pid)
            print("| request | sent | status | median | at most | processor | memory beyond what was held |")
            print("|---|---|---|---|---|---|---|")
            for name, (make, expected) in GIANTS.items():
                request = make()
                ask(service, request)
                forget_peak(service)
                held, times, before = peak_bytes(service), [], sum(process.cpu_times()[:2])
                for _ in range(rounds):
                    status, _, took_s = ask(service, request)
                    assert status == expected, f"{name}: {status}"
                    times.append(1000 * took_s)
                taken = 1000 * (sum(process.cpu_times()[:2]) - before) / rounds
                beyond = (peak_bytes(service) - held) / 2**20
                sent = f"{len(request) / 1024:,.1f} KiB"
                late = " (over 50 ms)" if max(times) > ALLOWED_MS else ""
                median, most = statistics.median(times), max(times)
                times_shown = f"{median:.1f} ms | {most:.1f} ms{late} | {taken:.1f} ms"
                print(f"| {name} | {sent} | {expected} | {times_shown} | {beyond:.1f} MiB |", flush=True)
            print(f"Peak memory of the service: {peak_bytes(service) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
