"""The rules of the diagnoses against trainings that fail in known ways, and healthy ones: which fire, which do not.

`python -m benchmarks.diagnoses` prints the table, with SGD and with Adam, on the digits and on a set of 784 features
made of them; `--output benchmarks/results.md` keeps it. `--values` shows what each rule saw at most.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from chainrule.engine import (
    Data,
    DivergedError,
    Epoch,
    LayerSpec,
    NetworkSpec,
    OptimizerSpec,
    TrainingConfig,
    digits,
    train,
)
from chainrule.engine.diagnoses import facts_of, point_of
from chainrule.engine.examination import Examination, Verdict
from chainrule.engine.initializers import INITIALIZERS
from chainrule.engine.rules import INFO, RULES

HIDDEN = {"digits": 30, "wide": 128}
HEALTHY = ("tanh", "relu", "sigmoid", "deep relu")


@dataclass(frozen=True)
class Case:
    """A training that is healthy, or fails in a known way.

    Attributes:
        layers: the hidden layers, by activation.
        rates: of sgd and adam.
        expected: the rules that must fire, for sgd and for adam.
        initializer: of all layers; None for the defaults.
        cost, output: what is learned by.
        raw: whether inputs are 0 … 16.
        samples: of the training; None for all.
        batch: samples in a step.
        epochs: how many.
        data: which change of the data, if any.
        only: on the digits and by SGD alone.
    """

    layers: tuple[str, ...]
    rates: tuple[float, float]
    expected: tuple[set[str], set[str]]
    initializer: str | None = None
    cost: str = "cross_entropy"
    output: str = "softmax"
    raw: bool = False
    samples: int | None = None
    batch: int = 50
    epochs: int = 15
    data: str = ""
    only: bool = False


def _both(*names: str) -> tuple[set[str], set[str]]:
    return {*names}, {*names}


CASES = {
    "tanh": Case(("tanh",), (0.1, 3e-3), _both()),
    "relu": Case(("relu",), (0.1, 3e-3), _both()),
    "sigmoid": Case(("sigmoid",), (1.0, 1e-2), _both()),
    "deep relu": Case(("relu",) * 6, (0.05, 1e-3), _both()),
    "6 × sigmoid": Case(("sigmoid",) * 6, (0.5, 1e-4), _both("vanishing")),
    "η too high, relu": Case(("relu",), (3.0, 1.0), _both("dead_relu")),
    "η far too high, tanh": Case(("tanh",), (20.0, 20.0), _both("saturated", "diverged")),
    "η too low": Case(("tanh",), (1e-4, 1e-6), _both("lr_low")),
    "W ~ N(0, 1.5²), tanh": Case(("tanh",), (0.1, 3e-3), _both("saturated", "bad_start"), initializer="large"),
    "W of 1e-3, relu": Case(("relu",) * 3, (0.05, 1e-5), _both("vanishing"), initializer="small"),
    "zero W": Case(("tanh",), (0.1, 3e-3), _both("symmetric"), initializer="zeros"),
    "raw pixels, sigmoid": Case(("sigmoid",), (0.5, 1e-2), _both("saturated", "input_scale"), raw=True),
    "raw pixels, relu": Case(("relu",), (0.1, 0.3), _both("bad_start", "dead_relu", "input_scale"), raw=True),
    "100 samples, some labels wrong": Case(
        ("tanh",) * 2, (0.2, 1e-2), _both("overfit"), samples=100, batch=10, epochs=60, data="wrong"
    ),
    # What the study has no run of.
    "η beyond all": Case(("relu",), (1e30, 1e30), _both("nonfinite"), only=True),
    "W too large, 6 × relu": Case(("relu",) * 6, (1e-9, 1e-9), _both("exploding", "bad_start"), "large", only=True),
    "η of 60, sigmoid": Case(("sigmoid",), (60.0, 3.0), _both("oscillating"), epochs=30, only=True),
    "steps that go nowhere": Case(("tanh",), (30.0, 3.0), _both("lr_high"), epochs=30, only=True),
    "mse on softmax": Case(("tanh",), (0.5, 3e-3), _both("loss_mismatch"), cost="mse", only=True),
    "few of a class": Case(("tanh",), (0.1, 3e-3), _both("rare_class"), data="rare", only=True),
    "labels by chance": Case(("tanh",), (0.01, 1e-4), _both("no_signal"), data="chance", only=True),
    "batches of 1": Case(("tanh",), (0.005, 1e-3), _both("batch_small"), batch=1, only=True),
    "batches of all": Case(("tanh",), (0.5, 3e-3), _both("batch_large"), batch=1400, only=True),
}


def _normal(size: float) -> Any:
    return lambda rng, outputs, inputs: rng.normal(0.0, size, (outputs, inputs))


MADE = {"large": _normal(1.5), "small": _normal(1e-3)}
"""Initial weights that nobody should choose, for these trainings only."""


@cache
def dataset(name: str) -> Data:
    """Give the digits, or pictures of 28×28 pixels made of them: enlarged, shifted and with noise."""
    data = digits()
    if name == "digits":
        return data
    rng = np.random.default_rng(0)
    X = np.zeros((data.samples, 28, 28))
    enlarged = data.X.reshape(-1, 8, 8).repeat(3, axis=1).repeat(3, axis=2)
    for picture, place, shift in zip(X, enlarged, rng.integers(0, 5, (data.samples, 2)), strict=True):
        picture[shift[0] : shift[0] + 24, shift[1] : shift[1] + 24] = place
    X = np.clip(X + rng.normal(0, 0.05, X.shape), 0, 1)
    return replace(data, X=X.reshape(data.samples, 784), feature_names=())


def parts(name: str, case: Case) -> tuple[Data, Data]:
    """Split a set into 1,400 samples to learn from and 397 to be judged by, changed as the case has it."""
    order = np.random.default_rng(1).permutation(1797)
    data = dataset(name)
    if case.raw:
        data = replace(data, X=data.X * 16)
    training, held_out = data.take(order[:1400]), data.take(order[1400:])
    assert training.labels is not None
    if case.data == "rare":
        training = training.take(np.flatnonzero((training.labels != 8) | (np.arange(1400) < 60)))
    if case.data == "wrong":
        given: Any = training.labels
        training = replace(training, labels=np.where(np.arange(1400) % 5 == 0, (given + 3) % 10, given))
    if case.data == "chance":
        training = replace(training, labels=np.random.default_rng(2).integers(0, 10, 1400))
    return (training if case.samples is None else training.take(slice(case.samples))), held_out


def examined(name: str, case: Case, optimizer: str, epochs: int | None = None) -> Examination:
    """Train as a case has it, and examine."""
    training, held_out = parts(name, case)
    hidden = tuple(LayerSpec(HIDDEN[name], activation, case.initializer) for activation in case.layers)
    spec = NetworkSpec(training.features, (*hidden, LayerSpec(10, case.output, case.initializer)))
    config = TrainingConfig(
        spec, case.cost, OptimizerSpec(optimizer, case.rates[optimizer == "adam"]), epochs or case.epochs, case.batch,
        seed=5,
    )  # fmt: skip
    examination = Examination(facts_of(config, training))
    last = -1
    try:
        for epoch in train(config, training, held_out):
            assert isinstance(epoch, Epoch)
            examination.see(point_of(epoch))
            last = epoch.epoch
    except DivergedError:
        examination.diverged(last + 1)
    return examination


def all_of(optimizers: Sequence[str], sets: Sequence[str]) -> Iterator[tuple[str, str, str, list[Verdict]]]:
    """Examine every case with each optimizer on each set."""
    INITIALIZERS.update(MADE)
    try:
        for name, case in CASES.items():
            for of_set in sets:
                for optimizer in optimizers:
                    if not case.only or (of_set, optimizer) == ("digits", "sgd"):
                        yield name, of_set, optimizer, examined(of_set, case, optimizer).verdicts
    finally:
        for name in MADE:
            del INITIALIZERS[name]


def fired(verdicts: Sequence[Verdict]) -> dict[str, Verdict]:
    """Give the first verdict of each rule."""
    return {verdict.rule: verdict for verdict in reversed(verdicts)}


def wrongs(name: str, optimizer: str, verdicts: Sequence[Verdict]) -> list[str]:
    """Say which rules should have fired and did not; and on a healthy training, which did."""
    case, found = CASES[name], fired(verdicts)
    missing = [f"{rule} silent" for rule in sorted(case.expected[optimizer == "adam"] - found.keys())]
    loud = [f"{rule.id} fired" for rule in RULES if rule.id in found and rule.severity != INFO]
    return missing + (loud if name in HEALTHY else [])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and keep it if there is a file for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=list(HIDDEN), default=list(HIDDEN))
    parser.add_argument("--optimizers", nargs="+", choices=["sgd", "adam"], default=["sgd", "adam"])
    parser.add_argument("--values", action="store_true", help="show the verdicts too")
    parser.add_argument("--output", type=Path, help="a file to keep the table in, such as benchmarks/results.md")
    given = parser.parse_args(arguments)
    lines = ["| training | set | optimizer | fired, from which point on | wrong |", "|---|---|---|---|---|"]
    failing = 0
    for name, of_set, optimizer, verdicts in all_of(given.optimizers, given.sets):
        found = fired(verdicts)
        shown = ", ".join(
            f"{'(' if rule.severity == INFO else ''}{rule.id} {found[rule.id].raised}"
            f"{')' if rule.severity == INFO else ''}"
            for rule in RULES
            if rule.id in found
        )
        wrong = wrongs(name, optimizer, verdicts)
        failing += bool(wrong)
        lines.append(f"| {name} | {of_set} | {optimizer} | {shown} | {', '.join(wrong)} |")
        print(lines[-1], flush=True)
        if given.values:
            for verdict in verdicts:
                print(
                    f"      {verdict.rule} {verdict.first}…{verdict.cleared or verdict.last} worst {verdict.worst:.3g}"
                )
    print(f"\n{failing} wrong")
    if given.output:
        report.keep("Diagnoses: rules and trainings", "\n".join(lines), given.output)


if __name__ == "__main__":
    main()
