"""The engine against the tools people would take instead: `python -m benchmarks.engine`, or `make bench`.

Same data, same initial weights, same batches; the tools take turns (see `rotation`), and the costs they
come to are compared. Tools that are not installed are left out.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.rotation import in_child, rotate
from benchmarks.tools import TOOLS
from benchmarks.workloads import workloads


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, print each table as it is done, and keep them if there is a file for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", nargs="+", choices=list(workloads()), default=list(workloads()), metavar="NAME")
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=7, help="how often each tool has its turn")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two turns")
    parser.add_argument("--smoke", action="store_true", help="few samples, two rounds: does it all still work?")
    parser.add_argument("--output", type=Path, help="a file to keep the tables in, such as benchmarks/results.md")
    given = parser.parse_args(arguments)
    rounds, pause = (2, 0.0) if given.smoke else (given.rounds, given.pause)
    for key in given.tools:
        if not TOOLS[key].installed:
            print(f"{TOOLS[key].title}: left out, {TOOLS[key].package} is not installed")
    there = {key: TOOLS[key] for key in given.tools if TOOLS[key].installed}
    differing: list[str] = []
    described = in_child(report.machine)
    tables: dict[str, str] = {}
    print(f"\n{described}")
    for name in given.workloads:
        workload = workloads(smoke=given.smoke)[name]
        tools = {key: tool for key, tool in there.items() if tool.takes(workload)}
        measured = rotate(name, tools, rounds, pause, smoke=given.smoke)
        tables[name] = report.engine_table(name, workload, tools, measured)
        print(f"\n{tables[name]}", flush=True)
        differing += [f"{TOOLS[key].title} on {name}" for key in report.disagreeing(measured)]
    if given.output:
        report.keep_workloads("The engine against its peers", described, tables, given.output)
    if differing:
        raise SystemExit(f"came to another cost than ours in float64 with the same batches: {'; '.join(differing)}")


if __name__ == "__main__":
    main()
