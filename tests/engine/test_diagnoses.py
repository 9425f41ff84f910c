"""Each rule fires on the training that fails so, and is silent on healthy ones; verdicts depend on points alone."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.diagnoses import CASES, HEALTHY, MADE, examined, fired, wrongs
from chainrule.engine import Epoch, OptimizerSpec, TrainingConfig, dense, digits, train
from chainrule.engine.diagnoses import facts_of, point_of
from chainrule.engine.examination import Examination, Facts, Point, Verdict, examine
from chainrule.engine.initializers import INITIALIZERS
from chainrule.engine.probe import LayerProbe, Probe
from chainrule.engine.rules import ABOVE, BY_ID, INFO, RULES, SEVERITIES

TABLE = [(name, optimizer) for name, case in CASES.items() for optimizer in ("sgd", "adam")
         if not case.only or optimizer == "sgd"]  # fmt: skip
FACTS = Facts(classes=10, outputs=10, output="softmax", cost="cross_entropy", batch=32, rarest=0.1)


@pytest.fixture(autouse=True)
def _made_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in MADE.items():
        monkeypatch.setitem(INITIALIZERS, name, make)


@pytest.mark.parametrize(("name", "optimizer"), TABLE)
def test_the_table_of_rules_and_trainings(name: str, optimizer: str) -> None:
    verdicts = examined("digits", CASES[name], optimizer).verdicts
    assert wrongs(name, optimizer, verdicts) == []
    for verdict in verdicts:
        assert verdict.first <= verdict.raised <= verdict.last
        assert not re.search(r"[{}]|None", verdict.sentence + verdict.fix)


def test_every_rule_but_hints_is_expected_of_a_training_that_fails() -> None:
    expected = {rule for case in CASES.values() for of in case.expected for rule in of}
    loud = {rule.id for rule in RULES if rule.severity != INFO}
    assert loud - expected <= {"one_class", "plateau"}  # which go along with others
    assert {"one_class", "plateau"} <= fired(examined("digits", CASES["zero W"], "sgd").verdicts).keys()
    assert {"batch_small", "batch_large", "loss_mismatch"} <= expected
    assert len(HEALTHY) == 4


@pytest.mark.parametrize("weights", [{"class_weights": (4.0,) * 10}, {"class_weights": "balanced"}, {}])
def test_what_samples_weigh_is_in_the_cost_at_chance(weights: dict[str, Any]) -> None:
    made = TrainingConfig(
        dense(64, (16, "tanh"), (10, "softmax")), epochs=6, batch_size=32, optimizer=OptimizerSpec("sgd", 0.1),
        gradients_every=1, **weights,
    )  # fmt: skip
    data = digits() if weights else replace(digits(), weights=np.full(digits().samples, 7.0))
    facts = facts_of(made, data)
    points = [point_of(epoch) for epoch in train(made, data) if isinstance(epoch, Epoch)]
    assert facts.chance_cost == pytest.approx(points[0].cost, rel=0.2)
    assert {verdict.rule for verdict in examine(facts, points)} <= {"batch_large", "batch_small", "update_ratio"}


def test_rules_are_complete_and_of_a_known_kind() -> None:
    for rule in RULES:
        assert rule.severity in SEVERITIES
        assert rule.clear <= rule.threshold if rule.side == ABOVE else rule.clear >= rule.threshold
        assert all((rule.title, rule.quantity, rule.evidence, rule.sentence, rule.fix, rule.source, rule.see))
        assert rule.sentence.endswith(".")
    assert len(BY_ID) == len(RULES) == 21


def probed(saturated: float, **changes: Any) -> Probe:
    layers = (LayerProbe(1, 0.1, saturated=saturated), LayerProbe(2, 0.2))
    return replace(Probe(512, 2.0, 1.0, 10, None, None, layers), **changes)


def points(*saturated: float) -> list[Point]:
    return [Point(n, 2.0 / (n + 1), 0.1, None, {1: 1e-2}, {1: 1.0}, probed(s)) for n, s in enumerate(saturated)]


def of_rule(verdicts: list[Verdict], rule: str) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.rule == rule]


def test_one_point_is_no_verdict_and_two_are() -> None:
    assert not of_rule(examine(FACTS, points(0.9, 0.1, 0.9, 0.1)), "saturated")
    (found,) = of_rule(examine(FACTS, points(0.1, 0.9, 0.8)), "saturated")
    assert (found.first, found.raised, found.last, found.cleared) == (1, 2, 2, None)
    assert (found.layer, found.value, found.worst) == (1, 0.8, 0.8)


def test_a_verdict_holds_until_there_is_a_margin() -> None:
    (found,) = of_rule(examine(FACTS, points(0.6, 0.7, 0.45, 0.55, 0.45)), "saturated")
    assert (found.first, found.last, found.cleared, found.worst) == (0, 3, None, 0.7)
    (found,) = of_rule(examine(FACTS, points(0.6, 0.7, 0.45, 0.39, 0.45)), "saturated")
    assert (found.last, found.cleared) == (1, 3)


def test_each_episode_is_a_verdict_and_the_last_goes_on() -> None:
    found = of_rule(examine(FACTS, points(*(0.9, 0.9, 0.1) * 5)), "saturated")
    assert [(one.first, one.raised, one.cleared) for one in found] == [(0, 1, 2), (3, 4, 5), (6, 7, 14)]


def test_verdicts_do_not_depend_on_when_points_are_seen() -> None:
    seen = examined("digits", CASES["η far too high, tanh"], "sgd")
    again = examined("digits", CASES["η far too high, tanh"], "sgd")
    assert seen.verdicts == again.verdicts
    assert [Verdict(**one.to_dict()) for one in seen.verdicts] == seen.verdicts


def test_without_probe_and_classes_only_costs_are_looked_at() -> None:
    facts = Facts(0, 1, "linear", "mse", 32)
    costs = [1.0, 0.9, 4.0, 9.0, 9.0]
    seen = examine(facts, [Point(n, cost, None, None, {}, {}, None) for n, cost in enumerate(costs)])
    assert [(one.rule, one.first) for one in seen] == [("diverged", 2)]


def test_a_number_that_is_not_finite_is_said_at_once() -> None:
    seen = Examination(FACTS)
    seen.see(points(0.1)[0])
    seen.diverged(1)
    (found,) = seen.verdicts
    assert (found.rule, found.first, found.last) == ("nonfinite", 1, 1)
    assert "in epoch 1" in found.sentence
