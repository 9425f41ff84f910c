"""Where shards pay, and what is said where they do not."""

from typing import Any

import pytest

from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput
from chainrule.app.services import break_even, plans
from chainrule.app.store.database import Database

SPEC: dict[str, Any] = {
    "dataset": "digits",
    "network": {"layers": [{"units": 1024, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "epochs": 1,
    "batch_size": 1400,
}


@pytest.mark.parametrize("parameters", [100, 25_450, 203_530, 20_000_000])
@pytest.mark.parametrize("shards", [2, 3, 64])
def test_from_the_break_even_on_shards_are_quicker_and_below_it_they_are_not(parameters: int, shards: int) -> None:
    least = break_even.batch(parameters, shards)
    assert break_even.step_s(parameters, least, shards) <= break_even.step_s(parameters, least, 1)
    assert break_even.step_s(parameters, least - 1, shards) > break_even.step_s(parameters, least - 1, 1)


@pytest.mark.parametrize(
    ("parameters", "batch", "paid"),
    [  # as measured with two shards, ms in one piece and in two: see the guide to clusters
        (25_450, 1024, False),  # 2.1, 2.7
        (25_450, 4096, True),  # 8.8, 7.2
        (203_530, 256, False),  # 2.5, 4.6
        (203_530, 1024, True),  # 10.0, 9.6
        (1_863_690, 256, False),  # 26.4, 29.3
        (1_863_690, 1024, True),  # 102, 73
    ],
)
def test_the_rule_agrees_with_what_was_measured(parameters: int, batch: int, paid: bool) -> None:
    assert (batch >= break_even.batch(parameters, 2)) is paid


def test_a_run_that_shards_would_slow_down_is_refused_with_the_numbers(database: Database, settings: Settings) -> None:
    assert plans.make(database, settings, SPEC | {"shards": 2}).engine.shards == 2
    with pytest.raises(InvalidInput) as refused:
        plans.make(database, settings, SPEC | {"shards": 2, "batch_size": 100})
    (error,) = refused.value.errors
    assert error.pointer == "/shards"
    least = break_even.batch(76_810, 2)
    for words in ("100 samples", "76,810 parameters", "ms in one piece", f"batch_size of about {least:,}"):
        assert words in error.detail
    with pytest.raises(InvalidInput, match="with 1,797 samples leave shards out"):
        plans.make(database, settings, SPEC | {"shards": 5, "batch_size": 100})
    wanted = SPEC | {"shards": 2, "batch_size": 100, "shards_even_if_slower": True}
    assert plans.make(database, settings, wanted).config["shards_even_if_slower"] is True


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"batch_size": 1, "shards_even_if_slower": True}, "/shards"),
        ({"step": "compiled"}, "/step"),
        ({"optimizer": {"name": "lbfgs"}, "batch_size": None}, "/shards"),
    ],
)
def test_what_does_not_go_with_shards_is_refused_by_name(
    database: Database, settings: Settings, given: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        plans.make(database, settings, SPEC | {"shards": 2} | given)
    assert refused.value.errors[0].pointer == pointer
