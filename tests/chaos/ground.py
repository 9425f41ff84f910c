"""What fuzzers send requests to: a service with something of every kind in it, that does nothing by itself."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from chainrule.app.store.database import Database
from chainrule.app.store.models import Base, Run
from tests.app.api.calls import DIGITS, FLOWERS, XOR, finished, upload
from tests.service import Service, serving

SWEEP: dict[str, Any] = {"run": XOR, "strategy": {"kind": "seeds", "count": 2}}
ANSWER_S = 60.0
"""What takes longer to answer hangs."""


@dataclass(frozen=True)
class Ground:
    """The service, its database, and the names of what is in it."""

    service: Service
    database: Database
    names: dict[str, str]

    def everything(self) -> tuple[int, ...]:
        """Count the rows of every table, and the changes of runs: what a refused request must leave as it was."""
        counts = [select(func.count()).select_from(table).scalar_subquery() for table in Base.metadata.sorted_tables]
        changes = select(func.coalesce(func.sum(Run.revision), 0)).scalar_subquery()
        with self.database.reading() as session:
            return tuple(int(value) for value in session.execute(select(*counts, changes)).one())

    def faults(self) -> list[str]:
        """List what the service wrote into its log about faults of its own."""
        return re.findall(r".*(?:Traceback|ERROR).*", self.service.log.read_text())


@contextmanager
def prepared(database_url: str, cache_dir: Path, **settings: Any) -> Iterator[Ground]:
    """Train a run and a sweep, and serve what came of it without slots: then nothing changes but by requests."""
    common = {"database_url": database_url, "cache_dir": cache_dir, **settings}
    with serving(slots=1, **common) as service, service.client() as client:
        names = {
            "run_id": finished(client, DIGITS)["id"],
            "dataset_id": upload(client, FLOWERS, "flowers.csv")["id"],
            "sweep_id": _swept(client),
            "key_id": client.post("/v1/keys", json={"scope": "read"}).json()["id"],
            "webhook_id": client.post("/v1/webhooks", json={"url": "https://hooks.example/"}).json()["id"],
            "epoch": "last",
            "step": "1",
        }
    database = Database(database_url)
    try:
        with serving(slots=0, **common) as service:
            yield Ground(service, database, names)
    finally:
        database.dispose()


def _swept(client: httpx.Client) -> str:
    sweep = client.post("/v1/sweeps", json=SWEEP, headers={"Prefer": "wait=60"}, timeout=90).json()
    assert sweep["done"], sweep
    sweep_id: str = sweep["id"]
    return sweep_id
