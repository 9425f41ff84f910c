"""Both cores: two runs at once against one, and one run with two BLAS threads against one.

`python -m benchmarks.cores`. Each pair takes turns in one run of this command; see `rotation`.
"""

import os
import statistics
import time
from dataclasses import replace

from benchmarks.report import keep, keeping, machine
from benchmarks.rotation import Child, in_child, rotate
from benchmarks.tools import TOOLS
from benchmarks.workloads import workloads

ROUNDS, PAUSE_S = 5, 0.4
AT_ONCE = ("B-sgd", "C64-sgd")
THREADED = ("B-sgd", "C64-sgd", "C256-sgd", "D-sgd", "E")


def main() -> None:
    """Print and keep both tables."""
    output = keeping(__doc__)
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("This needs two cores.")
    described = str(in_child(machine))
    lines = [
        described,
        "",
        "| workload | one run alone, ms | two at once on two cores, ms | throughput (least to most) |",
        "|---|--:|--:|--:|",
        *(_at_once(name, cores) for name in AT_ONCE),
        "",
        "| workload | one BLAS thread, ms | two, ms | two threads take (least to most) |",
        "|---|--:|--:|--:|",
        *(_threaded(name) for name in THREADED),
    ]
    print("\n".join(lines))
    if output:
        keep("Two cores", "\n".join(lines), output)


def _at_once(name: str, cores: list[int]) -> str:
    children = [Child(name, TOOLS["ours"], cores=[core]) for core in cores]
    try:
        for child in children:
            child.load()
        alone, together = [], []
        for number in range(ROUNDS):
            time.sleep(PAUSE_S)
            alone.append(children[number % 2].turn())
            for child in children:
                child.tell()
            together.append(statistics.mean(child.answer() for child in children))
    finally:
        for child in children:
            child.end()
    gained = sorted(2 * one / two for one, two in zip(alone, together, strict=True))
    return (
        f"| {name} | {1000 * statistics.median(alone):.1f} | {1000 * statistics.median(together):.1f} "
        f"| {statistics.median(gained):.2f} times ({gained[0]:.2f} to {gained[-1]:.2f}) |"
    )


def _threaded(name: str) -> str:
    tools = {"one": TOOLS["ours"], "two": replace(TOOLS["ours"], threads=2)}
    measured = rotate(name, tools, ROUNDS, PAUSE_S)
    ratios = sorted(measured["two"].ratios(measured["one"]))
    return (
        f"| {name}: {workloads()[name].about} | {1000 * measured['one'].median:.1f} "
        f"| {1000 * measured['two'].median:.1f} "
        f"| {statistics.median(ratios):.2f} times as long ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
    )


if __name__ == "__main__":
    main()
