"""Suggested values: where they lie, that they are the same again, and that they learn."""

import math
from typing import Any

import pytest

pytest.importorskip("optuna", reason="NO OPTUNA: what it suggests was not tried")
from chainrule.app.services.tpe import Varied, suggest

OBJECT = {"units": 4, "activation": "tanh"}
RANGES: dict[str, dict[str, Any]] = {
    "rate": {"choices": None, "low": 1e-4, "high": 1.0, "scale": "log", "integer": False},
    "share": {"choices": None, "low": -1.0, "high": 1.0, "scale": "linear", "integer": False},
    "units": {"choices": None, "low": 1.5, "high": 64.5, "scale": "log", "integer": True},
    "layer": {"choices": [None, OBJECT, "relu"], "low": None, "high": None, "scale": "linear", "integer": False},
}


def rounds(count: int, parallel: int, *, seed: int = 0, failing: bool = False) -> list[tuple[Varied, float | None]]:
    """Look for the lowest of a bowl, as a sweep would."""
    tried: list[tuple[Varied, float | None]] = []
    for rung in range(count // parallel):
        for varied in suggest(RANGES, tried, count=parallel, seed=seed, rung=rung):
            value = math.log10(varied["rate"] / 0.01) ** 2 + (varied["share"] - 0.3) ** 2
            tried.append((varied, None if failing and varied["share"] < 0 else value))
    return tried


def test_every_value_lies_in_its_range_and_is_of_its_kind() -> None:
    for varied, _ in rounds(24, 4):
        assert 1e-4 <= varied["rate"] <= 1
        assert -1 <= varied["share"] <= 1
        assert varied["units"] in range(2, 65)
        assert type(varied["units"]) is int
        assert varied["layer"] in RANGES["layer"]["choices"]


def test_the_same_seed_suggests_the_same_and_another_others() -> None:
    assert rounds(24, 4) == rounds(24, 4)
    assert rounds(24, 4) != rounds(24, 4, seed=1)


def test_members_of_a_round_differ() -> None:
    assert len({varied["rate"] for varied, _ in rounds(24, 4)}) == 24


def test_later_values_are_better_than_the_first_which_are_drawn_at_random() -> None:
    values = [value for _, value in rounds(60, 4) if value is not None]
    assert sum(values[-20:]) < sum(values[:12]) / 12 * 20 / 2


def test_where_training_failed_less_is_tried_later() -> None:
    failed = [value is None for _, value in rounds(60, 4, failing=True)]
    assert sum(failed[:20]) > 0
    assert sum(failed[-20:]) < sum(failed[:20])
