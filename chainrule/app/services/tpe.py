"""Values worth trying next, by those that have been tried: a tree-structured Parzen estimator, Optuna's.

Nothing is kept between two questions: the study is made anew from what the members of a sweep came to,
and the sampler's seed follows from the sweep's and the round, so the same sweep asks for the same values.

Source: Bergstra et al., "Algorithms for hyper-parameter optimization" (2011).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from chainrule.engine.arrays import generator

Varied = dict[str, Any]
Ranges = Mapping[str, Mapping[str, Any]]
"""Path of a field to its choices, or to low, high, scale and integer."""


def suggest(
    ranges: Ranges, tried: Sequence[tuple[Varied, float | None]], *, count: int, seed: int, rung: int
) -> list[Varied]:
    """Choose values to try at the same time.

    Args:
        ranges: where values are to lie.
        tried: what was tried, each with its objective; None where training failed, which counts as the worst.
        count: how many are to be tried.
        seed: of the sweep.
        rung: number of the round, from 0.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=int(generator(seed, "sweep", rung).integers(2**32)))
    study = optuna.create_study(sampler=sampler)
    space = {path: _distribution(given) for path, given in ranges.items()}
    for varied, value in tried:
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
                value=value,
                params={path: _to_number(ranges[path], varied[path]) for path in space},
                distributions=space,
            )
        )
    asked = [study.ask(space).params for _ in range(count)]
    return [{path: _from_number(ranges[path], params[path]) for path in space} for params in asked]


def _distribution(given: Mapping[str, Any]) -> BaseDistribution:
    if given.get("choices"):
        return CategoricalDistribution(range(len(given["choices"])))  # by number: a choice may be an object
    log = given["scale"] == "log"
    if given["integer"]:
        return IntDistribution(math.ceil(given["low"]), math.floor(given["high"]), log=log)
    return FloatDistribution(given["low"], given["high"], log=log)


def _to_number(given: Mapping[str, Any], value: Any) -> Any:
    return given["choices"].index(value) if given.get("choices") else value


def _from_number(given: Mapping[str, Any], number: Any) -> Any:
    return given["choices"][number] if given.get("choices") else number
