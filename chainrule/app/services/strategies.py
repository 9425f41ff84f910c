"""Strategies: which runs a sweep is made of, their values drawn, listed or suggested, and how many a rung has."""

import copy
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.app.config import Settings
from chainrule.app.errors import FieldError, InvalidInput, LimitExceeded
from chainrule.engine import SCHEDULES
from chainrule.engine.arrays import generator

Varied = dict[str, Any]
"""What makes a member differ: path into the run's spec, such as `optimizer/learning_rate`, to value."""


@dataclass(frozen=True)
class Candidate:
    """A member to be: its values, and the spec of its run."""

    varied: Varied
    spec: dict[str, Any]


def expand(
    settings: Settings, spec: Mapping[str, Any], check: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[Candidate]:
    """Make the members of a sweep.

    Args:
        settings: with the limit of their number.
        spec: of the sweep.
        check: checks the spec of a run and fills in what the wire fills in.

    Raises:
        InvalidInput: a path or a value makes no sense; with a pointer.
        LimitExceeded: there would be too many.
    """
    strategy = spec["strategy"]
    count = count_of(strategy)
    if count > settings.max_sweep_members:
        raise LimitExceeded(
            "The number of members", count, settings.max_sweep_members, "CHAINRULE_MAX_SWEEP_MEMBERS",
            pointer="/strategy", hint="Take fewer values, or count fewer.",
        )  # fmt: skip
    halving, first_epochs = bool(spec["halving"]), rungs(spec)[1]
    _check_paths(strategy.get("parameters", {}), halving=halving)

    def candidate(varied: Varied) -> Candidate:
        of_run = run_with(spec, varied)
        if halving:
            of_run["epochs"] = first_epochs
        try:
            checked = Candidate(varied, check(of_run))
            if halving:
                _check_schedule(checked.spec)
        except InvalidInput as error:
            raise of_member(error, varied, strategy) from error
        return checked

    if strategy["kind"] == "tpe":
        for path, given in strategy["parameters"].items():
            for value in _ends(given):  # what comes in later rounds lies between
                candidate({path: value})
    return [candidate(varied) for varied in _varied(spec)]


def run_with(spec: Mapping[str, Any], varied: Varied) -> dict[str, Any]:
    """Put a member's values into the run."""
    of_run: dict[str, Any] = copy.deepcopy(spec["run"])
    for path, value in varied.items():
        _put(of_run, path, copy.deepcopy(value))
    return of_run


def suggest(
    strategy: Mapping[str, Any], tried: Sequence[tuple[Varied, float | None]], size: int, rung: int
) -> list[Varied]:
    """Suggest the values of a round by those tried before.

    Raises:
        InvalidInput: Optuna is not installed here.
    """
    try:
        from chainrule.app.services import tpe
    except ModuleNotFoundError as error:
        raise InvalidInput.at(
            "/strategy/kind",
            f"This service cannot suggest values: the package {error.name} is missing where it runs. Install it there "
            "with pip install 'chainrule[optuna]', or take 'random'.",
        ) from error
    return tpe.suggest(strategy["parameters"], tried, count=size, seed=strategy["seed"], rung=rung)


def _ends(given: Mapping[str, Any]) -> list[Any]:
    """List the choices, or the ends of a range."""
    if given["choices"]:
        return list(given["choices"])
    return [math.ceil(given["low"]), math.floor(given["high"])] if given["integer"] else [given["low"], given["high"]]


def rungs(spec: Mapping[str, Any]) -> tuple[int, int]:
    """Count the rungs, and the epochs of the first; those of suggested values are rounds, each at full length.

    Raises:
        InvalidInput: halving does not go with the strategy, or with the length of the run.
    """
    halving, strategy = spec.get("halving"), spec["strategy"]
    if strategy["kind"] == "tpe":
        if halving:
            raise InvalidInput.at(
                "/halving", "Suggested values are trained in full; leave halving out, or take 'random'."
            )
        return math.ceil(strategy["count"] / strategy["parallel"]), spec["run"]["epochs"]
    if not halving:
        return 1, spec["run"].get("epochs", 1)
    first, factor, total = halving["epochs"], halving["factor"], spec["run"]["epochs"]
    if first >= total:
        raise InvalidInput.at(
            "/halving/epochs", f"The first rung must be shorter than the run's {total} epochs; it has {first}."
        )
    return 1 + math.ceil(math.log(total / first, factor) - 1e-9), first


def sizes(spec: Mapping[str, Any], count: int) -> list[int]:
    """Count the runs of each rung: of the n of one the best ⌈n/factor⌉ come to the next."""
    if spec["strategy"]["kind"] == "tpe":
        most = spec["strategy"]["parallel"]
        return [min(most, count - before) for before in range(0, count, most)]
    factor = (spec.get("halving") or {}).get("factor", 2)
    found = [count]
    for _ in range(rungs(spec)[0] - 1):
        found.append(math.ceil(found[-1] / factor))
    return found


def count_of(strategy: Mapping[str, Any]) -> int:
    """Count the members there will be, with all that are suggested later."""
    if strategy["kind"] == "grid":
        return math.prod(len(values) for values in strategy["parameters"].values())
    count: int = strategy["count"]
    return count


def _varied(spec: Mapping[str, Any]) -> list[Varied]:
    """List the values of those that a sweep begins with."""
    strategy = spec["strategy"]
    if strategy["kind"] == "tpe":
        return suggest(strategy, [], sizes(spec, strategy["count"])[0], 0)
    if strategy["kind"] == "grid":
        paths = list(strategy["parameters"])
        return [dict(zip(paths, values, strict=True)) for values in itertools.product(*strategy["parameters"].values())]
    if strategy["kind"] == "seeds":
        return [{"seed": strategy["first"] + number} for number in range(strategy["count"])]
    rng = generator(strategy["seed"], "sweep")
    return [
        {path: _draw(rng, range_) for path, range_ in strategy["parameters"].items()} for _ in range(strategy["count"])
    ]


def _draw(rng: np.random.Generator, given: Mapping[str, Any]) -> Any:
    """Draw a value: one of `choices`, or a number from `low` to `high`, evenly or on a logarithmic scale."""
    if given.get("choices"):
        return given["choices"][int(rng.integers(len(given["choices"])))]
    low, high = given["low"], given["high"]
    if given["integer"]:
        low, high = math.ceil(low), math.floor(high)
        drawn = (
            rng.uniform(low, high + 1)
            if given["scale"] == "linear"
            else math.exp(rng.uniform(math.log(low), math.log(high + 1)))
        )
        return min(max(math.floor(drawn), low), high)
    if given["scale"] == "log":
        return float(math.exp(rng.uniform(math.log(low), math.log(high))))
    return float(rng.uniform(low, high))


def _put(spec: dict[str, Any], path: str, value: Any) -> None:
    """Set a field of a run's spec by its path."""
    *ways, last = path.split("/")
    place: Any = spec
    for way in ways:
        if isinstance(place, list):
            place = place[_number(way, place, path)]
        elif isinstance(place, dict):
            if place.get(way) is None:
                place[way] = {}
            place = place[way]
        else:
            raise _no_such(path)
    if isinstance(place, list):
        place[_number(last, place, path)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise _no_such(path)


def _number(way: str, place: list[Any], path: str) -> int:
    if not (way.isascii() and way.isdigit() and len(way) <= 12 and int(way) < len(place)):
        raise _no_such(path)
    return int(way)


def _no_such(path: str) -> InvalidInput:
    return InvalidInput.at(
        _at(path),
        f"{path!r} leads to no field of the run; a path looks like optimizer/learning_rate or network/layers/0/units.",
    )


def of_member(error: InvalidInput, varied: Varied, strategy: Mapping[str, Any]) -> InvalidInput:
    """Point into the sweep, at the values of the field if it is varied, and name the member."""
    error.errors = tuple(FieldError(_pointer(found.pointer, varied, strategy), found.detail) for found in error.errors)
    error.detail = (
        f"{error.detail} (The member with {', '.join(f'{path} = {value}' for path, value in varied.items())}.)"
    )
    return error


def _pointer(of_run: str, varied: Varied, strategy: Mapping[str, Any]) -> str:
    for path in varied:
        if "parameters" in strategy and f"{of_run}/".startswith(f"/{path}/"):
            return _at(path)
    return f"/run{of_run}"


def _at(path: str) -> str:
    return "/strategy/parameters/" + path.replace("/", "~1")


def _check_paths(paths: Mapping[str, Any], *, halving: bool) -> None:
    """Refuse fields of which one would undo the other."""
    for path, outer in itertools.permutations(paths, 2):
        if path.startswith(f"{outer}/"):
            raise InvalidInput.at(_at(path), f"It is a part of {outer!r}, which is varied too; vary one of both.")
    if halving and "epochs" in paths:
        raise InvalidInput.at(_at("epochs"), "Halving decides how long members train; set run/epochs, the longest.")


def _check_schedule(of_run: Mapping[str, Any]) -> None:
    if SCHEDULES[(of_run.get("schedule") or {}).get("name", "constant")].of_total:
        raise InvalidInput.at(
            "/schedule/name",
            "The rates of this schedule depend on the number of epochs, which halving changes; use another.",
        )
