"""Campaigns of faults at full size: `make chaos ARGS="--kills 500 --zombies 100 --restarts 50"`."""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos import clocks, fills, kills, partitions, restarts, zombies
from tests.chaos.clocks import NoCompiler
from tests.chaos.network import NotPermitted, network
from tests.disks import NoDisk, small_disk
from tests.postgres import own_server


@contextmanager
def _database(kind: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """Make a database of its own for a campaign, and a folder for the rest."""
    folder.mkdir()
    if kind == "sqlite":
        yield folder, f"sqlite:///{folder}/chaos.sqlite3"
    else:
        with own_server(folder) as server:
            yield folder, server.url


def _restarts(here: Path, count: int, seed: int) -> tuple[str, list[str]]:
    with own_server(here) as server:
        return restarts.campaign(here, server, count, seed)


def _partitions(here: Path, count: int, seed: int) -> tuple[str, list[str]]:
    with network() as cables, own_server(here) as server:
        return partitions.campaign(here, server, cables, count, seed)


def _clocks(here: Path, count: int, seed: int) -> tuple[str, list[str]]:
    with own_server(here) as server:
        return clocks.campaign(here, server, count, seed)


def _fills(here: Path, count: int, seed: int) -> tuple[str, list[str]]:
    with small_disk(here / "disk", fills.DISK_MB) as disk, own_server(disk) as server:
        return fills.campaign(here, disk, server, count, seed)


ONCE = {"restarts": _restarts, "partitions": _partitions, "clocks": _clocks, "fills": _fills}
"""The campaigns that are on PostgreSQL only."""


def main() -> int:
    """Run what is asked for; print what was seen; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=0, help="kill -9 of processes, on each database")
    parser.add_argument("--zombies", type=int, default=0, help="attempts stopped past the time limit, on each database")
    parser.add_argument("--restarts", type=int, default=0, help="immediate stops of PostgreSQL during 20 runs")
    parser.add_argument("--partitions", type=int, default=0, help="machines cut off from PostgreSQL past the limit")
    parser.add_argument("--clocks", type=int, default=0, help="clocks set forward and back, PostgreSQL's too")
    parser.add_argument("--fills", type=int, default=0, help="times that the disk under PostgreSQL is full")
    parser.add_argument("--engine", choices=["local", "dask"], default="local", help="where runs are trained (kills)")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    given = parser.parse_args()
    full = {"kills": 500, "zombies": 100, "restarts": 50, "partitions": 20, "clocks": 50, "fills": 10}
    if not any(getattr(given, name) for name in full):
        vars(given).update(full)
    wrong: list[str] = []

    def tell(what: str, found: tuple[str, list[str]]) -> None:
        sys.stdout.write(f"{what}, seed {given.seed}: {found[0]}\n")
        sys.stdout.write("".join(f"  WRONG: {one}\n" for one in found[1]))
        sys.stdout.flush()
        wrong.extend(found[1])

    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for kind in ("sqlite", "postgresql") if given.database == "both" else (given.database,):
            if given.kills:
                with _database(kind, folder / f"kills-{kind}") as (here, url):
                    tell(
                        f"kills on {kind}, engine {given.engine}",
                        kills.campaign(here, url, given.kills, given.seed, given.engine),
                    )
            if given.zombies:
                with _database(kind, folder / f"zombies-{kind}") as (here, url):
                    tell(f"zombies on {kind}", zombies.campaign(here, url, given.zombies, given.seed))
        if given.database != "sqlite":
            for name, campaign in ONCE.items():
                if count := getattr(given, name):
                    (here := folder / name).mkdir()
                    try:
                        tell(name, campaign(here, count, given.seed))
                    except (NotPermitted, NoCompiler, NoDisk) as error:
                        sys.stdout.write(f"NO {name.upper()}: {error}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
