"""The benchmarks still run, on a few samples; what they measure is not judged."""

import subprocess
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.workloads import workloads

ROOT = Path(__file__).parent.parent
NEED_NO_PEER = ["ours", "products", "numpy"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.engine", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_engine_and_a_tutorial_loop_come_to_the_same_cost_and_the_table_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "results.md"
    done = run(
        "--smoke", "--output", str(kept), "--tools", *NEED_NO_PEER,
        "--workloads", "A", "B-adam", "C64-sgd",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    text = kept.read_text()
    assert text.count("| tutorial NumPy, float64 |") == 3
    assert "(differs)" not in text


def test_an_epoch_has_each_sample_once_and_a_smaller_last_batch() -> None:
    workload = workloads(smoke=True)["B-sgd"]
    for order, batches in zip(workload.orders, workload.batches(), strict=True):
        assert sorted(order) == list(range(workload.data.samples))
        assert [len(rows) for rows in batches] == [32] * 56 + [5]
    assert sum(map(len, workload.batches())) == workload.steps


def test_a_section_of_the_results_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "results.md"
    report.keep("One", "first", file)
    report.keep("Two", "second", file)
    report.keep("One", "third", file)
    assert file.read_text() == "# Results\n\n## One\nthird\n\n## Two\nsecond\n"


def test_workloads_that_are_measured_again_are_replaced_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "results.md"
    report.keep("Else", "stays", file)
    report.keep_workloads("Engine", "here", {"A": "### A: first\n\n1", "A-x64": "### A-x64: many\n\n2"}, file)
    report.keep_workloads("Engine", "there", {"A": "### A: again\n\n3"}, file)
    assert file.read_text() == (
        "# Results\n\n## Else\nstays\n\n## Engine\nthere\n\n### A: again\n\n3\n\n### A-x64: many\n\n2\n"
    )
