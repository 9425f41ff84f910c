"""Runs where PyTorch is installed, such as in the environment of the benchmarks (`make parity` makes it)."""

import pytest

pytest.importorskip("torch", reason="PyTorch is in the environment of the benchmarks only")

from benchmarks import parity
from chainrule.engine import SCHEDULES
from tests.engine.problems import STEPPING


def test_every_optimizer_and_schedule_is_compared() -> None:
    assert list(parity.OPTIMIZERS) == STEPPING
    looking_back = {"plateau"}  # it follows the costs, which PyTorch rounds otherwise; its own tests compute it by hand
    assert {spec.name for spec, _ in parity.SCHEDULES.values()} == SCHEDULES.keys() - looking_back


def test_two_hundred_steps_are_taken_with_a_smaller_last_batch() -> None:
    assert parity.EPOCHS * -(-parity.SAMPLES // parity.BATCH) == parity.STEPS
    assert parity.SAMPLES % parity.BATCH


@pytest.mark.parametrize("dtype", parity.TOLERANCE)
@pytest.mark.parametrize("optimizer", parity.OPTIMIZERS)
def test_weights_after_two_hundred_steps_are_those_of_pytorch(optimizer: str, dtype: str) -> None:
    found = dict(parity.differences(optimizer, dtype))
    assert len(found) == len(parity.SCHEDULES) * len(parity.REGULARIZATIONS) + len(parity.NORMALIZED)
    assert {name: d for name, d in found.items() if not d <= parity.allowed(name, dtype)} == {}
