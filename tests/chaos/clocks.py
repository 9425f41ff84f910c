"""Clocks set forward and back, of each machine and of PostgreSQL, while runs train: nothing is given up for it.

Every process is started with a clock of its own, that of PostgreSQL too (`clock.c`, which needs a C compiler). Only the
wall clock moves, as when somebody sets the time.
"""

import random
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from chainrule.app.store.database import Database
from tests.chaos.fleet import Fleet
from tests.chaos.kills import unfinished
from tests.chaos.oracle import KINDS, Oracle, spec
from tests.postgres import OwnServer
from tests.waiting import wait_for

HOUR_S = 3600
LEAPS_S = (-24 * HOUR_S, -HOUR_S, -60, -3, 3, 60, HOUR_S, 24 * HOUR_S)
CHANGES = {"checkpoints": {"every": 100}, "max_duration_s": 900}
"""A run that has trained for so long fails; no clock that is set forward counts as training."""
END_S = 240.0


class NoCompiler(Exception):
    """There is none, so no clock can be moved."""


class Clocks:
    """Clocks by name, each moved by so many seconds."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise NoCompiler("no C compiler (cc)")
        self._folder = folder
        self._library = folder / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", self._library, source], check=True)
        self._moved: dict[str, int] = {}
        command = [*self.of("tried"), sys.executable, "-c", "import time; print(time.time())"]
        self.set("tried", HOUR_S)
        told = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert told - time.time() > HOUR_S / 2, "a clock that does not move proves nothing"
        del self._moved["tried"]

    def of(self, name: str) -> list[str]:
        """Tell how a command is started with a clock of this name."""
        self.set(name, 0)
        return ["env", f"LD_PRELOAD={self._library}", f"CHAOS_CLOCK={self._file(name)}"]

    def set(self, name: str, moved_s: int) -> None:
        """Move one, from now on."""
        self._moved[name] = moved_s
        with self._file(name).open("r+b" if self._file(name).exists() else "wb") as file:
            file.write(struct.pack("=q", moved_s))
        self._file(name).chmod(0o644)

    def leap(self, chance: random.Random) -> str:
        """Move one of them, or all; say which, and by how much."""
        leap_s = chance.choice(LEAPS_S)
        chosen = chance.choice([*self._moved, "all"])
        for name in self._moved if chosen == "all" else [chosen]:
            self.set(name, max(-24 * HOUR_S, min(24 * HOUR_S, self._moved[name] + leap_s)))
        return chosen

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.clock"


def campaign(folder: Path, server: OwnServer, leaps: int, seed: int) -> tuple[str, list[str]]:
    """Set clocks so many times, and kill a training process after some; return what was seen, and what is wrong."""
    started, chance = time.monotonic(), random.Random(seed)
    clocks = Clocks(folder)
    server.stop()
    server.start(clocks.of("postgresql"))
    fleet = Fleet(folder, server.url, workers=2, slots=1, elsewhere=clocks.of)
    database = Database(server.url)
    seen, kills = Counter[str](), 0
    acknowledged: list[str] = []
    try:
        while seen.total() < leaps:
            while unfinished(database) < 4:
                number = len(acknowledged)
                body = spec(chance.choice([kind for kind in KINDS if kind != "long epochs"]), number) | CHANGES
                acknowledged.append(fleet.post("/v1/runs", body, f"run-{number}").json()["id"])
            wait_for(lambda: any(worker.children() for worker in fleet.workers))
            time.sleep(chance.uniform(0.2, 0.8))
            seen[clocks.leap(chance)] += 1
            children = chance.choice(fleet.workers).children()
            if children and chance.random() < 0.3:
                kills += 1
                try:
                    chance.choice(children).kill()
                except psutil.NoSuchProcess:
                    kills -= 1
        wait_for(lambda: not unfinished(database), END_S, 0.1)
        verdict = Oracle(database, folder).judge(acknowledged)
        wrong = verdict.wrong
        if set(verdict.reasons) - {"child_lost"} or verdict.lost_attempts > kills:
            wrong.append(f"attempts were given up for their clocks: {dict(verdict.reasons)} after {kills} kills")
        if quoted := fleet.tracebacks():
            wrong.append(quoted)
        took = time.monotonic() - started
        return f"clocks set {seen.total()} times {dict(seen)}, {kills} kills, in {took:.0f} s; {verdict}", wrong
    finally:
        fleet.close()
        database.dispose()
