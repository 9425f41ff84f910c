"""The service as a client sees it, and a few runs that have ended."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.api.calls import DIGITS, FLOWERS, XOR, finished, upload
from tests.service import Service, serving


@pytest.fixture(scope="session")
def client(server: Service) -> Iterator[httpx.Client]:
    """An HTTP client to the service."""
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def xor_run(client: httpx.Client) -> dict[str, Any]:
    """A small run that has ended."""
    return finished(client, XOR)


@pytest.fixture(scope="session")
def digits_run(client: httpx.Client) -> dict[str, Any]:
    """A run with validation, some checkpoints and some recorded gradients, that has ended."""
    return finished(client, DIGITS)


@pytest.fixture(scope="session")
def flowers(client: httpx.Client) -> str:
    """A dataset whose classes are words."""
    dataset_id: str = upload(client, FLOWERS, "flowers.csv")["id"]
    return dataset_id


@pytest.fixture(scope="session")
def limited(fresh: Any, cache_dir: Path) -> Iterator[httpx.Client]:
    """A client to a service with limits that are soon reached."""
    limits = {
        "max_request_bytes": 4096,
        "max_rows_bytes": 8192,
        "max_upload_bytes": 4096,
        "max_dataset_values": 300,
        "max_parameters": 2000,
        "max_memory_bytes": 1 << 20,
        "max_steps": 5000,
        "max_storage_bytes": 1 << 20,
        "max_inspect_values": 2000,
        "max_metrics_operations": 3000,
        "max_replay_operations": 2_500_000,
    }
    with (
        serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=1, **limits) as service,
        service.client() as client,
    ):
        yield client
