from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from chainrule.engine import (
    ConfigError,
    EarlyStoppingSpec,
    Epoch,
    OptimizerSpec,
    ScheduleSpec,
    TrainingConfig,
    dense,
    moons,
    train,
)
from chainrule.engine.stopping import Watched

CONFIG = TrainingConfig(
    dense(2, (16, "tanh"), (2, "softmax")),
    optimizer=OptimizerSpec("adam", 0.02),
    epochs=200,
    early_stopping=EarlyStoppingSpec(patience=4),
    gradients_every=None,
)
DATA, VALIDATION = moons(80, noise=0.3).split(0.4, 1)


def epochs(config: TrainingConfig, **given: Any) -> list[tuple[Epoch, bytes]]:
    return [
        (e, e.network.parameters.tobytes()) for e in train(config, DATA, VALIDATION, **given) if isinstance(e, Epoch)
    ]


def test_costs_are_watched_as_by_hand() -> None:
    watched, seen = Watched(), []
    for epoch, cost in enumerate([5.0, 4.0, 3.9, 4.2, 3.95, 3.0], start=1):
        seen.append((watched.see(epoch, cost, min_delta=0.5, plateau_patience=2), watched.waited, watched.lowered))
    # 4.0 is better by more than 0.5, 3.9 is not; for the plateau rule 3.9 is lower, and two that are not lower it.
    assert seen == [(True, 0, 0), (True, 0, 0), (False, 1, 0), (False, 2, 0), (False, 3, 1), (True, 0, 1)]
    assert Watched.from_array(watched.to_array()) == watched


def test_training_ends_after_as_many_epochs_without_a_better_one_and_keeps_the_best() -> None:
    found = epochs(CONFIG)
    costs = [epoch.validation_cost for epoch, _ in found]
    best = int(np.argmin(np.array(costs, float)))
    last, _ = found[-1]
    assert 0 < best < len(costs) - 1 < CONFIG.epochs
    assert last.epoch == best + 4
    assert [epoch.last for epoch, _ in found] == [False] * (len(found) - 1) + [True]
    assert last.best_epoch == best
    assert last.best is not None
    assert last.best.parameters.tobytes() == found[best][1]


def test_without_validation_data_the_training_cost_is_watched() -> None:
    config = replace(CONFIG, early_stopping=EarlyStoppingSpec(patience=1, min_delta=0.05))
    found = [event for event in train(config, DATA) if isinstance(event, Epoch)]
    falls = [before.cost - after.cost for before, after in pairwise(found)]
    assert all(fall > 0.05 for fall in falls[:-1])
    assert falls[-1] <= 0.05


def test_the_rate_is_lowered_on_a_plateau() -> None:
    config = replace(CONFIG, early_stopping=None, schedule=ScheduleSpec("plateau", factor=0.5, patience=2), epochs=40)
    found = [epoch for epoch, _ in epochs(config)]
    rates = [epoch.learning_rate for epoch in found[1:]]
    assert rates[0] == 0.02
    assert rates[-1] < 0.01
    watched = Watched()
    for epoch, rate in zip(found[1:], rates, strict=True):
        assert rate == 0.02 * 0.5**watched.lowered
        assert epoch.validation_cost is not None
        if epoch.epoch == 1:
            watched.see(0, found[0].validation_cost or 0, min_delta=0, plateau_patience=2)
        watched.see(epoch.epoch, epoch.validation_cost, min_delta=0, plateau_patience=2)


@pytest.mark.parametrize("epoch", [1, 4, 7])
def test_a_resumed_training_stops_where_it_would_have(epoch: int) -> None:
    config = replace(CONFIG, schedule=ScheduleSpec("plateau", factor=0.5, patience=2))
    whole, point = epochs(config), None
    for event in train(config, DATA, VALIDATION):
        if isinstance(event, Epoch) and event.epoch == epoch:
            point = event.resume_point()
            break
    assert point is not None
    rest = epochs(config, resume=type(point).from_arrays(point.to_arrays()))
    assert [bits for _, bits in rest] == [bits for _, bits in whole[epoch + 1 :]]
    assert [e.best_epoch for e, _ in rest] == [e.best_epoch for e, _ in whole[epoch + 1 :]]
    ends = [found[-1][0].best for found in (rest, whole)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].parameters.tobytes() == ends[1].parameters.tobytes()


def test_a_training_that_has_stopped_goes_no_further() -> None:
    *_, (last, _) = epochs(CONFIG)
    again = epochs(CONFIG, resume=last.resume_point())
    assert again == []


@pytest.mark.parametrize(("name", "value"), [("patience", 0), ("min_delta", -0.1), ("min_delta", float("inf"))])
def test_a_number_that_makes_no_sense_is_refused_with_its_field(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name) as refusal:
        EarlyStoppingSpec(**{name: value})  # type: ignore[arg-type]
    assert refusal.value.field == f"early_stopping/{name}"
