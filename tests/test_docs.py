"""The documents say what is true: their code runs, their tables match the code."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from chainrule.app.config import Settings
from tests.service import Service

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs/guide/backpropagation.md").read_text()


def blocks(text: str, language: str, mark: str = "") -> list[str]:
    """Find the code blocks of a language that follow a mark; those marked no-run are for reading."""
    return re.findall(rf"{re.escape(mark)}```{language}\n(.*?)```", text, flags=re.DOTALL)


def settings_table() -> str:
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory else f"`{field.default}`"
        rows.append(f"| `CHAINRULE_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_the_settings_table_lists_every_setting() -> None:
    shown = README.partition("<!-- settings -->\n")[2].partition("\n<!-- /settings -->")[0]
    assert shown == settings_table()


@pytest.mark.parametrize("block", blocks(README, "python"))
def test_python_in_the_readme_runs(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "README.md", "exec"), {})
    assert "error on the test set" in capsys.readouterr().out


def test_the_curl_walk_of_the_readme_runs(server: Service, tmp_path: Path) -> None:
    walk = "\n".join(blocks(README, "sh", "<!-- test: walk -->\n"))
    out = run_shell(walk, server, tmp_path)
    assert "event: end" in out
    assert '"succeeded"' in out
    assert '"labels":["setosa","virginica"]' in re.sub(r"\s", "", out)
    assert "dW[1] = (1/m)" in out
    assert (tmp_path / "weights.npz").stat().st_size > 0


def test_the_guide_runs_as_it_stands(server: Service, tmp_path: Path) -> None:
    out = run_shell("\n".join(blocks(GUIDE, "sh")), server, tmp_path)
    script = tmp_path / "guide.py"
    script.write_text("\n".join(blocks(GUIDE, "python")))
    out += run_shell("python3 guide.py", server, tmp_path)
    assert "DIFFERS" not in out
    assert out.count("agrees\n") == len(re.findall(r'^(?:show\(|print\("agrees")', GUIDE, flags=re.MULTILINE)) > 10


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in {"demo", "test", "help", "run"}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def run_shell(script: str, server: Service, folder: Path) -> str:
    import sys

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
