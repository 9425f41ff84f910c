"""The campaigns of faults in their short form; `make chaos` has the long one."""

from pathlib import Path
from typing import Any

import pytest

from tests.chaos import clocks, fills, kills, partitions, restarts, zombies
from tests.chaos.clocks import NoCompiler
from tests.chaos.network import NotPermitted, network
from tests.chaos.seeds import SCALE, SEED
from tests.conftest import KINDS
from tests.disks import NoDisk, small_disk
from tests.postgres import own_folder, own_server


@pytest.mark.parametrize("kind", KINDS)
def test_random_kills_lose_double_and_change_nothing(fresh: Any, tmp_path: Path, told: list[str], kind: str) -> None:
    seen, wrong = kills.campaign(tmp_path, fresh.url(kind), 6 * SCALE, SEED)
    told.append(f"{kind}: {seen}")
    assert not wrong, "\n".join(wrong)


def test_random_kills_on_a_cluster_scheduler_and_client_among_them_lose_double_and_change_nothing(
    fresh: Any, tmp_path: Path, told: list[str]
) -> None:
    pytest.importorskip("distributed")
    seen, wrong = kills.campaign(tmp_path, fresh.url("postgresql"), 4 * SCALE, SEED, engine="dask")
    told.append(f"postgresql, dask: {seen}")
    assert not wrong, "\n".join(wrong)


def test_stops_of_the_database_and_cut_connections_lose_and_change_nothing(tmp_path: Path, told: list[str]) -> None:
    with own_folder() as folder, own_server(folder) as server:
        seen, wrong = restarts.campaign(tmp_path, server, 2 * SCALE, SEED, runs=3)
    told.append(f"postgresql: {seen}")
    assert not wrong, "\n".join(wrong)


def test_workers_stopped_past_the_time_limit_write_nothing_when_they_go_on(
    fresh: Any, tmp_path: Path, told: list[str]
) -> None:
    # Who is stopped with the lock of SQLite's file keeps all others waiting; there the long form has the time.
    seen, wrong = zombies.campaign(tmp_path, fresh.url("postgresql"), 4 * SCALE, SEED)
    told.append(f"postgresql: {seen}")
    assert not wrong, "\n".join(wrong)


def test_a_machine_that_was_cut_off_writes_nothing_of_the_run_it_has_lost_when_it_is_back(
    tmp_path: Path, told: list[str]
) -> None:
    try:
        with network() as cables, own_folder() as folder, own_server(folder) as server:
            seen, wrong = partitions.campaign(tmp_path, server, cables, SCALE, SEED)
    except NotPermitted as error:
        pytest.skip(f"NO PARTITIONS: no network can be made here: {error}")
    told.append(f"postgresql: {seen}")
    assert not wrong, "\n".join(wrong)


def test_clocks_that_are_set_forward_and_back_cost_no_attempt_and_change_nothing(
    tmp_path: Path, told: list[str]
) -> None:
    try:
        with own_folder() as folder, own_server(folder) as server:
            seen, wrong = clocks.campaign(tmp_path, server, 4 * SCALE, SEED)
    except NoCompiler as error:
        pytest.skip(f"NO CLOCKS: {error}")
    told.append(f"postgresql: {seen}")
    assert not wrong, "\n".join(wrong)


def test_runs_wait_while_the_disk_under_postgresql_is_full_and_lose_nothing(tmp_path: Path, told: list[str]) -> None:
    try:
        with own_folder() as folder, small_disk(folder / "disk", fills.DISK_MB) as disk, own_server(disk) as server:
            seen, wrong = fills.campaign(tmp_path, disk, server, SCALE, SEED)
    except NoDisk as error:
        pytest.skip(f"NO FULL DISK: {error}")
    told.append(f"postgresql: {seen}")
    assert not wrong, "\n".join(wrong)
