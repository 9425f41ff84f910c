"""The documents say what is true: their code runs, their tables match the code."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from chainrule.app.api.schemas import checkpoints, datasets, epochs, gradients, inputs, inspection, keys, metrics, runs
from chainrule.app.config import Settings
from tests.conftest import KINDS
from tests.service import Service, local_only, serving

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs/guide/backpropagation.md").read_text()
ACCESS = (ROOT / "docs/guide/access.md").read_text()
DIAGNOSES = (ROOT / "docs/guide/diagnoses.md").read_text()
EXPORTS = (ROOT / "docs/guide/exports.md").read_text()
INPUTS = (ROOT / "docs/guide/inputs.md").read_text()
INSPECTION = (ROOT / "docs/guide/inspection.md").read_text()
KEEPING = (ROOT / "docs/guide/keeping.md").read_text()
LINEAGE = (ROOT / "docs/guide/lineage.md").read_text()
MONITORING = (ROOT / "docs/guide/monitoring.md").read_text()
METRICS = (ROOT / "docs/guide/metrics.md").read_text()
NORMALIZATION = (ROOT / "docs/guide/normalization.md").read_text()
SAMPLES = (ROOT / "docs/guide/samples.md").read_text()
SWEEPS = (ROOT / "docs/guide/sweeps.md").read_text()
TRAINING = (ROOT / "docs/guide/training.md").read_text()
WEBHOOKS = (ROOT / "docs/guide/webhooks.md").read_text()
VERIFICATION = (ROOT / "docs/guide/verification.md").read_text()


def blocks(text: str, language: str, mark: str = "") -> list[str]:
    """Find the code blocks of a language that follow a mark; those marked no-run are for reading."""
    return re.findall(rf"{re.escape(mark)}```{language}\n(.*?)```", text, flags=re.DOTALL)


def settings_table() -> str:
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if field.default not in ("", PydanticUndefined) else ""
        rows.append(f"| `CHAINRULE_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_the_settings_table_lists_every_setting() -> None:
    assert (ROOT / "docs/settings.md").read_text().endswith(f"\n\n{settings_table()}\n")


@pytest.mark.parametrize("block", blocks(README, "python"))
def test_python_in_the_readme_runs(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "README.md", "exec"), {})
    assert "error on the test set" in capsys.readouterr().out


def test_the_readme_shows_what_the_demonstration_prints(tmp_path: Path) -> None:
    (excerpt,) = blocks(README, "text")
    command = [sys.executable, "-m", "chainrule", "demo", "--exit", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    # The run is in float32: the last digits may differ from machine to machine.
    printed = [without_numbers(line) for line in done.stdout.splitlines()]
    for line in excerpt.splitlines():
        assert without_numbers(line) in [*printed, "…"]


def without_numbers(line: str) -> str:
    """Leave out what rounding may change: decimals, and how far they are moved to the right."""
    return " ".join(re.sub(r"\d+\.\d+", "N", line).split())


def test_the_curl_walk_of_the_readme_runs(server: Service, tmp_path: Path) -> None:
    walk = "\n".join(blocks(README, "sh", "<!-- test: walk -->\n"))
    out = run_shell(walk, server, tmp_path)
    assert "event: end" in out
    assert '"succeeded"' in out
    assert '"labels":["setosa","virginica"]' in re.sub(r"\s", "", out)
    assert "dW[1] = (1/m)" in out
    assert (tmp_path / "weights.npz").stat().st_size > 0


def test_the_guide_prints_what_it_shows(server: Service, tmp_path: Path) -> None:
    shown = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert len(shown) == len(blocks(GUIDE, "python")) > 10  # every block is followed by what it prints
    end = "<the end of a block>"
    (tmp_path / "guide.py").write_text("\n".join(f"{block}\nprint({end!r})" for block, _ in shown))
    printed = run_shell("python3 guide.py", server, tmp_path).split(f"{end}\n")
    for (block, expected), got in zip(shown, printed, strict=False):
        assert got == expected, block
    answers = "".join(expected for _, expected in shown)
    assert "DIFFERS" not in answers
    assert answers.count("agrees\n") == len(re.findall(r'^(?:show\(|print\("agrees")', GUIDE, flags=re.MULTILINE))
    for name in ("dA2", "dZ2", "dW2", "db2", "dA1"):  # the five equations, with numbers
        assert f"\n{name} = [" in f"\n{answers}"

    (request,) = blocks(GUIDE, "sh", "<!-- answer -->\n")
    (answer,) = blocks(GUIDE, "json")
    got = json.loads(run_shell(request, server, tmp_path)) | {"run": "run_…"}
    assert rounded(got) == json.loads(answer)


@pytest.mark.parametrize("with_torch", [False, True])
def test_networks_compute_the_same_elsewhere_as_the_guide_shows(
    server: Service, tmp_path: Path, with_torch: bool
) -> None:
    if with_torch:
        pytest.importorskip("torch")
    shown = re.findall(r"(<!-- torch -->\n)?```python\n(.*?)```\n\n```text\n(.*?)```", EXPORTS, flags=re.DOTALL)
    assert len(shown) == len(blocks(EXPORTS, "python"))
    chosen = [(block, printed) for torch, block, printed in shown if with_torch or not torch]
    (tmp_path / "exports.py").write_text("\n".join(block for block, _ in chosen))
    assert run_shell("python3 exports.py", server, tmp_path) == "".join(printed for _, printed in chosen)


@pytest.mark.parametrize(
    ("page", "count"),
    [
        (METRICS, 3), (NORMALIZATION, 4), (TRAINING, 3), (LINEAGE, 3), (SWEEPS, 1), (INPUTS, 4), (INSPECTION, 15),
        (VERIFICATION, 2), (KEEPING, 1),
        pytest.param(MONITORING, 4, marks=local_only), (WEBHOOKS, 1), (SAMPLES, 5), (DIAGNOSES, 3),
    ],
    ids=["metrics", "normalization", "training", "lineage", "sweeps", "inputs", "inspection", "verification", "keeping",
         "monitoring", "webhooks", "samples", "diagnoses"],
)  # fmt: skip
def test_a_page_of_the_guide_prints_what_it_shows(server: Service, tmp_path: Path, page: str, count: int) -> None:
    shown = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, flags=re.DOTALL)
    assert len(shown) == len(blocks(page, "python")) == count
    (tmp_path / "page.py").write_text("\n".join(block for block, _ in shown))
    expected = "".join(printed for _, printed in shown)
    assert "DIFFERS" not in expected
    assert "DIFFERENT" not in expected
    assert run_shell("python3 page.py", server, tmp_path) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_owners_are_told_apart_as_the_guide_shows(fresh: Any, cache_dir: Path, tmp_path: Path, kind: str) -> None:
    shown = re.findall(r"```(sh|python)\n(.*?)```\n\n```text\n(.*?)```", ACCESS, flags=re.DOTALL)
    assert len(shown) == len(blocks(ACCESS, "sh") + blocks(ACCESS, "python")) == 6
    python = "".join(block for language, block, _ in shown if language == "python")
    (tmp_path / "access.py").write_text(python)
    *before, after = [block for language, block, _ in shown if language == "sh"]
    assert shown[-1][1] == after
    script = "\n".join([*before, "export ALICE BOB", "python3 access.py", after])
    with serving(database_url=fresh.url(kind), cache_dir=cache_dir, slots=1, auth="keys") as service:
        exports = f"export CHAINRULE_DATABASE_URL={shlex.quote(service.database_url)}\n"
        printed = run_shell(f"{exports}{script}", service, tmp_path)
    assert printed == "".join(expected for _, _, expected in shown)


def rounded(value: Any) -> Any:
    """Round every number of an answer to 4 decimals."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def test_every_example_of_a_schema_fits_it() -> None:
    fitted = 0
    for module in (checkpoints, datasets, epochs, gradients, inputs, inspection, keys, metrics, runs):
        for model in vars(module).values():
            if isinstance(model, type) and issubclass(model, BaseModel):
                extra: Any = model.model_config.get("json_schema_extra", {})
                for example in extra.get("examples", ()):
                    model.model_validate_json(json.dumps(example))
                    fitted += 1
    assert fitted > 10


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in {"demo", "test", "help", "run"}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def run_shell(script: str, server: Service, folder: Path) -> str:
    environment = os.environ | {
        "API": server.url,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
