import math

import pytest

from chainrule.engine import SCHEDULES, ConfigError, ScheduleSpec, UnknownNameError

EPOCHS, RATE = 12, 0.3
NUMBERS = {"every": 3, "factor": 0.5, "minimum": 0.01, "warmup_epochs": 4}
BY_NUMBER = [name for name in SCHEDULES if name != "plateau"]  # whose rates are a function of the epoch alone


def rates(name: str, **numbers: float) -> list[float]:
    spec = ScheduleSpec(name, **numbers)  # type: ignore[arg-type]
    return [spec.rate(RATE, epoch, EPOCHS) for epoch in range(1, EPOCHS + 1)]


def stepwise(name: str) -> list[float]:
    """Compute the rates as PyTorch's StepLR, ExponentialLR and CosineAnnealingLR do: each epoch's from the last's."""
    found = [RATE]
    for epoch in range(1, EPOCHS):  # the epochs done, their last_epoch
        last = found[-1]
        if name == "exponential" or (name == "step" and epoch % 3 == 0):
            last *= 0.5
        elif name == "cosine":
            above, below = (1 + math.cos(math.pi * e / EPOCHS) for e in (epoch, epoch - 1))
            last = above / below * (last - 0.01) + 0.01
        found.append(last)
    return found


def test_a_schedule_worked_by_hand() -> None:
    assert ScheduleSpec("step", every=2, factor=0.5).rate(8.0, 5, 100) == 8 * 0.5 * 0.5
    assert ScheduleSpec("exponential", factor=0.5).rate(8.0, 4, 100) == 8 * 0.5**3
    # Halfway through a hundred epochs the cosine is cos(π/2) = 0: the mean of both ends.
    assert ScheduleSpec("cosine", minimum=2.0).rate(8.0, 51, 100) == pytest.approx((8 + 2) / 2)
    assert ScheduleSpec("constant", warmup_epochs=4).rate(8.0, 1, 100) == 2


@pytest.mark.parametrize("name", BY_NUMBER)
def test_rates_are_those_of_the_recurrences_of_pytorch(name: str) -> None:
    numbers = {number: NUMBERS[number] for number in SCHEDULES[name].uses}
    assert rates(name, **numbers) == pytest.approx(stepwise(name), rel=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warm_up_grows_in_equal_shares_and_then_changes_nothing(name: str) -> None:
    warmed, cold = rates(name, warmup_epochs=5), rates(name)
    shares = [a / b for a, b in zip(warmed, cold, strict=True)]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1] * (EPOCHS - 4))
    assert warmed[4:] == cold[4:]


@pytest.mark.parametrize("name", SCHEDULES)
def test_it_says_whether_its_rates_depend_on_the_number_of_epochs(name: str) -> None:
    spec = ScheduleSpec(name, warmup_epochs=2)
    found = {tuple(spec.rate(RATE, epoch, epochs) for epoch in range(1, EPOCHS + 1)) for epochs in (EPOCHS, 20, 500)}
    assert (len(found) > 1) == SCHEDULES[name].of_total


def test_a_constant_rate_is_the_optimizers_to_the_bit() -> None:
    assert rates("constant") == [RATE] * EPOCHS


@pytest.mark.parametrize("name", BY_NUMBER)
def test_it_uses_the_numbers_it_says_and_no_others(name: str) -> None:
    changes = {"every": 2, "factor": 0.25, "minimum": 0.2, "warmup_epochs": 2}
    changed = {
        number for number in NUMBERS if rates(name, **(NUMBERS | {number: changes[number]})) != rates(name, **NUMBERS)
    }
    assert changed == {*SCHEDULES[name].uses, "warmup_epochs"}


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_stay_between_zero_and_the_optimizers_however_long_the_training(name: str) -> None:
    spec, epochs = ScheduleSpec(name, factor=0.01, warmup_epochs=3), 10**9
    for epoch in (1, 2, 3, 4, 10**3, 10**6, epochs):
        assert 0 <= spec.rate(RATE, epoch, epochs) <= RATE


@pytest.mark.parametrize("name", SCHEDULES)
def test_without_a_factor_a_schedule_takes_its_usual_one(name: str) -> None:
    assert ScheduleSpec(name).factor == SCHEDULES[name].factor
    assert ScheduleSpec(name, factor=0.3).factor == 0.3


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("every", 0),
        ("warmup_epochs", -1),
        *[("factor", value) for value in (0.0, -0.5, 1.5, math.nan)],
        *[("minimum", value) for value in (-0.1, math.inf, math.nan)],
    ],
)
def test_a_number_that_makes_no_sense_is_refused_with_its_field(number: str, value: float) -> None:
    with pytest.raises(ConfigError, match=number) as refusal:
        ScheduleSpec("step", **{number: value})  # type: ignore[arg-type]
    assert refusal.value.field == f"schedule/{number}"


def test_an_unknown_schedule_is_refused_with_those_known() -> None:
    with pytest.raises(UnknownNameError, match=r"'triangle'.*constant, step, exponential, cosine, plateau") as refusal:
        ScheduleSpec("triangle")
    assert refusal.value.field == "schedule/name"


def test_plateau_lowers_the_rate_by_its_factor_down_to_its_minimum() -> None:
    spec = ScheduleSpec("plateau", factor=0.5, minimum=0.05)
    assert [spec.rate(RATE, 7, EPOCHS, lowered) for lowered in range(4)] == [0.3, 0.15, 0.075, 0.05]
    with pytest.raises(ConfigError, match="patience"):
        ScheduleSpec("plateau", patience=0)
