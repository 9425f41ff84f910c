"""Steps: how many epochs are replayed at once, and how many wait for it."""

import threading
from contextlib import ExitStack

import pytest

from chainrule.app.errors import TooManyRequests
from chainrule.app.services import steps


def test_some_wait_for_a_turn_and_more_are_turned_away_at_once() -> None:
    had = threading.Semaphore(0)

    def wait() -> None:
        with steps.turn():
            had.release()

    with ExitStack() as held:
        for _ in range(steps.AT_ONCE):
            held.enter_context(steps.turn())
        waiting = [threading.Thread(target=wait) for _ in range(steps.MOST_WAITING)]
        for thread in waiting:
            thread.start()
        while steps._line.acquire(blocking=False):  # until the last of them stands in line
            steps._line.release()
        with pytest.raises(TooManyRequests, match="wait; try again") as refused, steps.turn():
            pass
        assert "Retry-After" in refused.value.headers
    for thread in waiting:
        thread.join()
        assert had.acquire(blocking=False)


def test_who_has_waited_too_long_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "PATIENCE_S", 0.01)
    with ExitStack() as held:
        for _ in range(steps.AT_ONCE):
            held.enter_context(steps.turn())
        with pytest.raises(TooManyRequests, match="took longer"), steps.turn():
            pass
    with steps.turn():
        pass
