"""Whoever asks for a giant is refused before anything is taken for it; `benchmarks.refusals` has the times."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.refusals import GIANTS, ask, forget_peak, peak_bytes
from tests.service import Service, serving

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
MEMORY_BYTES = 32 << 20
"""What reading the largest body that is allowed may take."""


@pytest.fixture(scope="module")
def idle(fresh: Any, cache_dir: Path) -> Iterator[Service]:
    """A service with its default limits that trains nothing."""
    with serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=0) as service:
        yield service


@pytest.mark.parametrize("name", GIANTS)
def test_a_giant_is_refused_with_the_limit_and_takes_no_memory(idle: Service, name: str) -> None:
    make, expected = GIANTS[name]
    request = make()
    ask(idle, request)
    forget_peak(idle)
    held = peak_bytes(idle)
    status, problem, _ = ask(idle, request)
    assert (status, problem["status"]) == (expected, expected)
    assert problem.get("limit") or "at most" in problem["detail"] or "less than" in problem["detail"], problem
    assert peak_bytes(idle) - held < MEMORY_BYTES
    with idle.client() as client:
        assert client.get("/v1/runs").json()["items"] == []
