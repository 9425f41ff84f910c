"""Datasets uploaded while the API is killed, cut off after any of their pieces and sent again: each is there once."""

import random
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from chainrule.app.config import Settings
from chainrule.app.services import datasets
from chainrule.app.store.database import Database
from chainrule.app.store.models import Dataset, DatasetChunk
from tests.app.services.formats.files import npz
from tests.chaos.fleet import Fleet

CONTENTS = 5
PIECE_BYTES = 64 * 1024
PAUSE_S = 0.5


def samples(number: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Make samples that take several chunks, the same for each number."""
    generator = np.random.Generator(np.random.Philox(number))
    return generator.normal(size=(20_000, 8)), generator.integers(0, 3, 20_000)


class Uploader:
    """Uploads the same few datasets again and again, each time under a new key, until told to stop.

    Each upload is cut off first, after one more piece than the one before; then it is sent whole until acknowledged.
    """

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.cut = self.whole = 0
        self.problems: list[str] = []
        self._fleet, self._random = fleet, random.Random(seed)
        self._stopping = threading.Event()
        self._files = [npz(X=X, y=y) for X, y in map(samples, range(CONTENTS))]
        self._ids: dict[int, str] = {}
        self._sent: dict[str, tuple[int, str]] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._stopping.wait(PAUSE_S):
            number += 1
            try:
                self._upload(number)
            except Exception as error:
                self.problems.append(f"upload {number}: {error!r}")

    def _upload(self, number: int) -> None:
        content, key = self._random.randrange(CONTENTS), f"upload-{number}"
        file = {"file": (f"{content}.npz", self._files[content])}
        request = httpx.Request("POST", f"{self._fleet.url}/v1/datasets", files=file, headers={"Idempotency-Key": key})
        body = request.read()
        pieces = -(-len(body) // PIECE_BYTES)
        with suppress(OSError):
            self._send(request, body[: number % (pieces + 1) * PIECE_BYTES])
            self.cut += 1
        given = self._fleet.post("/v1/datasets", None, key, files=file).json()["id"]
        self.whole += 1
        self._sent[key] = content, given
        if self._ids.setdefault(content, given) != given:
            self.problems.append(f"dataset {content} is {self._ids[content]} and {given}")

    def _send(self, request: httpx.Request, body: bytes) -> None:
        """Send so much of the body, and hang up."""
        address = urlsplit(self._fleet.url)
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        head = "\r\n".join(["POST /v1/datasets HTTP/1.1", *lines, "", ""])
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as connection:
            connection.sendall(head.encode() + body)

    def finish(self) -> None:
        """Upload no more, and repeat all that was sent under each key: each must be what it was."""
        self._stopping.set()
        self._thread.join()
        for key, (content, given) in self._sent.items():
            file = {"file": (f"{content}.npz", self._files[content])}
            again = self._fleet.post("/v1/datasets", None, key, files=file)
            if again.json()["id"] != given or "idempotency-replayed" not in again.headers:
                self.problems.append(f"{key} was {given} and is {again.json()['id']} when repeated")

    def judge(self, database: Database, folder: Path, others: int) -> list[str]:
        """Say what is wrong with what is stored: bytes that are not those sent, or datasets nobody was told of."""
        settings = Settings(
            database_url=database.url.render_as_string(hide_password=False), cache_dir=folder / "uploaded"
        )
        wrong = list(self.problems)
        for content, dataset_id in self._ids.items():
            (X, y), stored = samples(content), datasets.open_data(database, settings, dataset_id)
            labels: Any = None if stored.labels is None else np.array(stored.classes)[stored.labels]
            if not np.array_equal(stored.X, X) or not np.array_equal(labels, y.astype(str)):
                wrong.append(f"{dataset_id} does not hold what was sent")
        with database.reading() as session:
            there = session.scalar(select(func.count()).select_from(Dataset)) or 0
            orphans = select(func.count()).where(DatasetChunk.dataset_id.not_in(select(Dataset.id)))
            if there != len(self._ids) + others or session.scalar(orphans):
                wrong.append(f"{there} datasets are stored, and {len(self._ids)} + {others} were acknowledged")
        return wrong
