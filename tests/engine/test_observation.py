"""What is noted of epochs and described later, several at once: held against describing each at once, to the bit."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.engine import (
    Data,
    DivergedError,
    Epoch,
    LayerSpec,
    NetworkSpec,
    Round,
    Trainee,
    TrainingConfig,
    observation,
    train,
    train_stacked,
)
from tests.engine.stacks import stacks


def seen(members: list[Trainee], *, late: bool) -> list[Any]:
    """Train and give what is recorded, asked for at each epoch, or after the last one."""
    found: list[tuple[int, Epoch]] = []
    asked = []
    for event in train_stacked(members):
        assert isinstance(event, Round)
        for k, epoch in event.items():
            assert isinstance(epoch, Epoch)
            found.append((k, epoch))
            if not late:
                asked.append((k, epoch.gradients, epoch.probe))
    return [(k, epoch.gradients, epoch.probe) for k, epoch in found] if late else asked


@settings(max_examples=40, deadline=None)
@given(members=stacks(), room=st.sampled_from([0, 2**15, 2**20]))
def test_epochs_described_together_are_described_as_each_alone(members: list[Trainee], room: int) -> None:
    at_once = seen(members, late=False)
    with patch.object(observation, "ROOM_BYTES", room):
        assert seen(members, late=True) == at_once


@pytest.mark.parametrize(("dtype", "x"), [("float32", 3e38), ("float64", 1e200)])
def test_a_gradient_that_is_not_finite_ends_the_training_though_nobody_asks_for_it(dtype: str, x: float) -> None:
    data = Data(np.full((4, 1), x), Y=np.full((4, 1), 10.0))
    config = TrainingConfig(NetworkSpec(1, (LayerSpec(1, "linear", "zeros"),)), cost="mse", epochs=3, dtype=dtype)
    first = next(train(replace(config, gradients_every=None), data))
    assert isinstance(first, Epoch)
    assert np.isfinite(first.cost)
    with pytest.raises(DivergedError) as ended:
        next(train(config, data))
    assert ended.value.epoch == 0
