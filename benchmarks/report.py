"""Results as tables, and the file they are kept in."""

import argparse
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from benchmarks.rotation import Measured
from benchmarks.tools import Tool
from benchmarks.workloads import Workload

RESULTS = Path(__file__).parent / "results.md"
PEERS = ("torch", "jax", "scikit-learn", "keras")
SAME_COST = 1e-9
"""Costs of trainings in float64 that are further apart than this share are marked."""


def engine_table(name: str, workload: Workload, tools: Mapping[str, Tool], measured: Mapping[str, Measured]) -> str:
    """Write the rows of one workload: times, and the ratio to ours round by round."""
    base = "ours-stacked" if "ours-stacked" in measured else "ours"
    steps = workload.steps
    per = "µs per step of one run" if workload.members > 1 else "µs per step"
    lines = [
        f"### {name}: {workload.about}; {workload.data.samples:,} samples, {steps:,} steps",
        "",
        f"| tool | ms | {per} | times as long as ours | (least to most) | cost it came to |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for key, found in measured.items():
        runs = runs_of(workload, tools[key])
        ratio, spread = "", ""
        if base in measured:
            scale = runs_of(workload, tools[base]) / runs
            ratios = sorted(scale * each for each in found.ratios(measured[base]))
            ratio, spread = _short(float(np.median(ratios))), f"{_short(ratios[0])} to {_short(ratios[-1])}"
        lines.append(
            f"| {tools[key].title} | {1000 * found.median:.1f} | {1e6 * found.median / steps / runs:.2f} | {ratio} "
            f"| {spread} | {_cost(found, tools[key], measured.get('ours'))} |"
        )
    return "\n".join(lines)


def _short(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def runs_of(workload: Workload, tool: Tool) -> int:
    """Count the runs of the workload that one training of the tool completes."""
    return workload.members if tool.stacked else 1


def disagreeing(measured: Mapping[str, Measured]) -> list[str]:
    """Name the tools that took the same batches and came to another cost than ours."""
    ours = measured.get("ours")
    return [key for key, found in measured.items() if not _same(found, ours)]


def _same(found: Measured, ours: Measured | None) -> bool:
    if ours is None or ours.cost_float64 is None or found.cost_float64 is None:
        return True
    return abs(found.cost_float64 - ours.cost_float64) <= SAME_COST * abs(ours.cost_float64)


def _cost(found: Measured, tool: Tool, ours: Measured | None) -> str:
    if found.cost is None:
        return ""
    mark = " (own order)" if not tool.follows else "" if _same(found, ours) else " (differs)"
    return f"{found.cost:.6g}{mark}"


def machine() -> str:
    """Describe what the figures were taken on; to be called in a child, whose BLAS is the one measured."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    versions = [f"{package} {_version(package)}" for package in PEERS if _version(package)]
    return (
        f"{len(os.sched_getaffinity(0))} cores ({model}), {platform.system()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__} with {_blas()}"
        + (f"; {', '.join(versions)}" if versions else "")
        + ". One core and one BLAS thread for each tool unless said otherwise."
    )


def _blas() -> str:
    try:
        from threadpoolctl import threadpool_info
    except ModuleNotFoundError:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{blas['name']} {blas['version']}"
    kernels = [
        f"{library['internal_api']} {library['version']}, kernel {library.get('architecture', 'unknown')}"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]
    return " and ".join(kernels) or "an unknown BLAS"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def keep(heading: str, body: str, file: Path = RESULTS) -> None:
    """Put a section into the results, in place of the one of this heading."""
    text = file.read_text() if file.exists() else "# Results\n"
    first, *sections = text.split("\n## ")
    kept = {section.partition("\n")[0]: section.partition("\n")[2].strip() for section in sections}
    kept[heading] = body.strip()
    file.write_text(first.rstrip() + "\n" + "".join(f"\n## {head}\n{text}\n" for head, text in kept.items()))


def keep_workloads(heading: str, machine: str, tables: Mapping[str, str], file: Path) -> None:
    """Keep the tables of some workloads in a section, and those of others that it has had so far."""
    text = file.read_text() if file.exists() else ""
    section = next((part for part in text.split("\n## ") if part.startswith(heading)), "")
    had = {part.partition(":")[0]: f"### {part.strip()}" for part in section.split("\n### ")[1:]}
    keep(heading, "\n\n".join([machine, *(had | dict(tables)).values()]), file)


def keeping(about: str | None) -> Path | None:
    """Ask the command line of a benchmark without other options whether to keep its table, and where."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--output", type=Path, help="a file to keep the table in, such as benchmarks/results.md")
    output: Path | None = parser.parse_args().output
    return output
