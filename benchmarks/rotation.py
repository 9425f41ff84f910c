"""Tools in rotation: a process for each that stays, called in turn, from another start in every round.

What disturbs the machine for a while then disturbs all tools alike, and a ratio is of two times of the
same round. Every tool has one core and one BLAS thread unless it says otherwise.
"""

import gc
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.tools import Tool
from benchmarks.workloads import Weights, Workload, workloads
from chainrule.engine import Network, evaluate
from chainrule.engine.arrays import FloatArray

LONG_ENOUGH_S = 0.3
"""A tool repeats a training within its turn until this much time is measured; the turn's time is the median."""
_CONTEXT = multiprocessing.get_context("spawn")


@dataclass
class Measured:
    """One tool on one workload.

    Attributes:
        first_s: the first training, with what a tool compiles when it first runs.
        cost: of the final weights over all samples; None if the tool has none.
        cost_float64: likewise, of the same training in float64; None if it is not to be compared.
        seconds: of each round.
    """

    first_s: float
    cost: float | None
    cost_float64: float | None
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.seconds)

    def ratios(self, to: "Measured") -> list[float]:
        """Each round's time by the other tool's in the same round."""
        return [mine / theirs for mine, theirs in zip(self.seconds, to.seconds, strict=True)]


def rotate(
    name: str, tools: Mapping[str, Tool], rounds: int, pause_s: float, *, smoke: bool = False
) -> dict[str, Measured]:
    """Train one workload with all tools, round after round."""
    children = {key: Child(name, tool, smoke=smoke) for key, tool in tools.items()}
    try:
        measured = {key: child.load() for key, child in children.items()}
        order = list(children)
        for number in range(rounds):
            shift = number % len(order)
            for key in order[shift:] + order[:shift]:
                time.sleep(pause_s)  # threads of the tool before may still be spinning
                measured[key].seconds.append(children[key].turn())
    finally:
        for child in children.values():
            child.end()
    return measured


class Child:
    """A tool in a process of its own, fed through a pipe."""

    def __init__(self, name: str, tool: Tool, *, cores: list[int] | None = None, smoke: bool = False) -> None:
        self._what = f"{tool.title} on {name}"
        self._pipe, theirs = _CONTEXT.Pipe()
        chosen = cores or sorted(os.sched_getaffinity(0))[: tool.threads]
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, name, tool, chosen, smoke), daemon=True)
        with _environment(tool.threads):
            self._process.start()
        theirs.close()

    def load(self) -> Measured:
        """Have it load and train once."""
        return Measured(*self.ask())

    def turn(self) -> float:
        """Have it train; give the time it took."""
        seconds: float = self.ask()
        return seconds

    def ask(self) -> Any:
        """Tell it to go on, and wait for what it says."""
        self.tell()
        return self.answer()

    def tell(self) -> None:
        """Tell it to go on."""
        self._pipe.send(True)

    def answer(self) -> Any:
        """Wait for what it says."""
        try:
            return self._pipe.recv()
        except EOFError:
            raise SystemExit(f"{self._what} failed; its own words are above.") from None

    def end(self) -> None:
        """Close the pipe, on which it ends."""
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


def in_child(function: Callable[[], Any]) -> Any:
    """Call a function where the tools run: in a new process with their environment."""
    with _environment(1), _CONTEXT.Pool(1) as pool:
        return pool.apply(function)


def _serve(pipe: Connection, name: str, tool: Tool, cores: list[int], smoke: bool) -> None:
    os.sched_setaffinity(0, cores)
    with suppress(EOFError):  # the other end of the pipe was closed
        pipe.recv()
        module = import_module(f"benchmarks.tools.{tool.module}")
        workload = workloads(smoke=smoke)[name]
        cost_float64 = _cost_float64(module, workload) if tool.comparable else None
        training = module.Training(workload)
        first_s = _timed(training)
        pipe.send((first_s, _cost(workload, training.weights()), cost_float64))
        while pipe.recv():
            seconds = [_timed(training)]
            while sum(seconds) < LONG_ENOUGH_S and not smoke:
                seconds.append(_timed(training))
            pipe.send(statistics.median(seconds))


def _timed(training: Any) -> float:
    training.restart()
    gc.collect()
    started = time.perf_counter()
    training.train()
    return time.perf_counter() - started


def _cost_float64(module: Any, workload: Workload) -> float | None:
    """Train in float64: rounding cannot hide a difference there, or pass for one."""
    exact = replace(workload, config=replace(workload.config, dtype="float64"))
    training = module.Training(exact)
    _timed(training)
    return _cost(exact, training.weights())


def _cost(workload: Workload, weights: Weights | None) -> float | None:
    if weights is None:
        return None
    named: dict[str, FloatArray] = {}
    for number, (W, b) in enumerate(weights, start=1):
        named |= {f"W{number}": W.astype("float64"), f"b{number}": b.astype("float64")}
    network = Network.from_named(workload.config.network, named)
    found, _ = evaluate(
        network, workload.config.cost, workload.X, workload.Y, workload.labels, len(workload.data.classes)
    )
    return found


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Give children the number of threads, and nothing else of the kind.

    With OPENBLAS_CORETYPE and its like, a forced kernel would be measured instead of the machine's.
    """
    before = dict(os.environ)
    for key in before:
        if key.startswith(("OPENBLAS_", "OMP_", "MKL_", "KMP_", "GOTO_", "BLIS_", "XLA_")):
            del os.environ[key]
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
