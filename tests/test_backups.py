"""A backup taken while runs train, restored in another place: they go on there, to the same weights."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.app.api.calls import last_weights
from tests.service import serving
from tests.test_flows import LONG, ended, epochs_of, submit, under_way
from tests.waiting import wait_for

SPEC = LONG | {"epochs": 800}


def chainrule(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "chainrule", *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_runs_go_on_from_a_backup_to_the_same_weights(fresh: Any, cache_dir: Path, tmp_path: Path) -> None:
    url, elsewhere, file = (
        fresh.url("sqlite"),
        f"sqlite:///{tmp_path}/new/chainrule.sqlite3",
        tmp_path / "backup.sqlite3",
    )
    with serving(database_url=url, cache_dir=cache_dir, slots=2) as service, service.client() as client:
        run_ids = [submit(client, SPEC) for _ in range(3)]
        wait_for(lambda: under_way(client, run_ids[0], 50))
        assert f"{file}: " in chainrule("backup", str(file), "--database-url", url)
        undisturbed = {ended(client, run_id)["status"] and last_weights(client, run_id) for run_id in run_ids}
        assert len(undisturbed) == 1
    assert "2 runs that were being trained" in chainrule("restore-backup", str(file), "--database-url", elsewhere)
    with serving(database_url=elsewhere, cache_dir=tmp_path / "cache", slots=2) as service, service.client() as client:
        for run_id in run_ids:
            run = ended(client, run_id)
            assert (run["status"], run["failures"]) == ("succeeded", 0), run["transitions"]
            assert last_weights(client, run_id) in undisturbed
            assert epochs_of(client, run_id) == list(range(801))


@pytest.mark.parametrize(
    "arguments", [["backup", "/nowhere/at/all.sqlite3"], ["restore-backup", "/nowhere/at/all.sqlite3"]]
)
def test_what_cannot_be_done_is_said_in_a_line(fresh: Any, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "chainrule", *arguments, "--database-url", fresh.url("sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("refused: ")
    assert "Traceback" not in done.stderr
