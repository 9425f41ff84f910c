"""Loss is found by observation."""

from chainrule.app.execution.reaper import Observation
from chainrule.app.store.runs import Heartbeat


def beat(count: int, attempt_id: str = "a") -> Heartbeat:
    return Heartbeat("run_1", attempt_id, count)


def test_an_attempt_is_lost_when_its_heart_stood_still_for_the_time_limit() -> None:
    observation = Observation(timeout_s=10)
    looks = [observation.look([beat(4)], at) for at in (100.0, 104.0, 108.0, 110.0)]
    assert looks == [[], [], [], [beat(4)]]


def test_a_heart_that_beats_is_never_lost() -> None:
    observation = Observation(timeout_s=10)
    assert all(observation.look([beat(n)], 4.0 * n) == [] for n in range(20))


def test_a_new_attempt_with_the_same_count_is_observed_anew() -> None:
    observation = Observation(timeout_s=10)
    for at in (0.0, 4.0, 8.0):
        observation.look([beat(1, "old")], at)
    assert observation.look([beat(1, "new")], 11.0) == []


def test_an_observer_that_was_asleep_judges_nobody() -> None:
    observation = Observation(timeout_s=10)
    observation.look([beat(1)], 0.0)
    assert observation.look([beat(1)], 3600.0) == []
    assert observation.look([beat(1)], 3604.0) == []
    assert observation.look([beat(1)], 3610.0) == []  # again too long between two looks
    for at in (3614.0, 3618.0):
        assert observation.look([beat(1)], at) == []
    assert observation.look([beat(1)], 3620.0) == [beat(1)]


def test_an_observer_that_could_not_see_starts_anew() -> None:
    observation = Observation(timeout_s=10)
    for at in (0.0, 4.0, 8.0):
        observation.look([beat(1)], at)
    observation.forget()
    assert observation.look([beat(1)], 11.0) == []
