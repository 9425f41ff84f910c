"""Wait for what other processes and threads do."""

import time
from collections.abc import Callable
from typing import Any


def wait_for(what: Callable[[], Any], timeout_s: float = 180.0, every_s: float = 0.02) -> Any:
    """Look again and again until there is something; a busy machine may take its time."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, f"it did not happen within {timeout_s:g} s"
        time.sleep(every_s)
    return found
