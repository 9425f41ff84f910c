"""Sweeps by halving: who goes on, when nobody can, and what comes in between."""

import sys
import threading
from typing import Any

import pytest

from chainrule.app.config import Settings
from chainrule.app.errors import Conflict, InvalidInput
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services import plans, runs, sweeps
from chainrule.app.services.lineage import plan_extension
from chainrule.app.services.strategies import expand
from chainrule.app.services.training import encode_resume_point, engine_config, load_resume_point
from chainrule.app.store import attempts, checkpoints, queue
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database
from chainrule.engine import Epoch, train, xor
from chainrule.engine.preprocessing import fit

RUN: dict[str, Any] = {
    "dataset": "xor",
    "network": {"layers": [{"units": 2, "activation": "softmax"}]},
    "optimizer": {"name": "adam"},
    "epochs": 8,
}
SEEDS: dict[str, Any] = {"kind": "seeds", "count": 6, "first": 0}


def spec_of(strategy: dict[str, Any] = SEEDS, **fields: Any) -> dict[str, Any]:
    halving = {"epochs": 2, "factor": 2}
    return {
        "name": "", "run": RUN, "strategy": strategy, "halving": halving, "objective": "cost", "stack": True, **fields,
    }  # fmt: skip


def submitted(database: Database, settings: Settings, spec: dict[str, Any]) -> str:
    made = sweeps.submit(database, settings, spec, expand(settings, spec, dict), key=None)
    sweep_id: str = made.run["id"]
    return sweep_id


def train_all(database: Database, *, diverge: bool = False) -> None:
    """Train what waits, here, as a worker would."""
    while True:
        with database.writing() as session:
            run = queue.claim(session, "a1", "here:1")
        if run is None:
            return
        *_, last = train(engine_config(run.config, 2), xor(), resume=load_resume_point(database, run.id))
        assert isinstance(last, Epoch)
        progress = {"epochs_done": last.epoch, "steps_done": last.epoch, "cost": float(last.cost)}
        status, reason = (RunStatus.FAILED, Reason.DIVERGED) if diverge else (RunStatus.SUCCEEDED, Reason.COMPLETED)
        with database.writing() as session:
            point = encode_resume_point(last.resume_point())
            checkpoints.put_resume_point(session, run.id, last.epoch, 0, point)
            attempts.end_attempt(session, Attempt(run.id, "a1"), status, reason, progress=progress)


def members(database: Database, sweep_id: str) -> list[dict[str, Any]]:
    return sweeps.members(database, sweep_id, after=-1, limit=100)[0]


def test_each_rung_is_made_once_all_of_the_one_before_have_ended(database: Database, settings: Settings) -> None:
    sweep_id = submitted(database, settings, spec_of())
    sweeps.advance(database, settings)
    assert len(members(database, sweep_id)) == 6
    for count in (9, 11, 11):
        train_all(database)
        for _ in range(2):
            sweeps.advance(database, settings)
        assert [member["position"] for member in members(database, sweep_id)] == list(range(count))
    sweep = sweeps.get(database, sweep_id)
    assert (sweep["status"], sweep["rung"], sweep["best"]["epoch"]) == ("succeeded", 2, 8)


def test_of_many_who_advance_one_makes_the_rung_and_nobody_sees_a_part_of_it(
    database: Database, settings: Settings
) -> None:
    sweep_id = submitted(database, settings, spec_of())
    train_all(database)
    seen: list[tuple[int, int]] = []

    def advance() -> None:
        sweeps.advance(database, settings)
        sweep = sweeps.get(database, sweep_id)
        seen.append((sweep["rung"], sweep["members"]))

    threads = [threading.Thread(target=advance) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(1, 9)] * 4


def test_a_sweep_whose_members_have_all_failed_ends(database: Database, settings: Settings) -> None:
    sweep_id = submitted(database, settings, spec_of())
    before = sweeps.get(database, sweep_id)["revision"]
    train_all(database, diverge=True)
    sweeps.advance(database, settings)
    sweep = sweeps.get(database, sweep_id)
    assert (sweep["status"], sweep["done"], sweep["members"], sweep["best"]) == ("failed", True, 6, None)
    assert sweep["revision"] > before


def test_a_sweep_whose_members_were_all_cancelled_is_cancelled(database: Database, settings: Settings) -> None:
    sweep_id = submitted(database, settings, spec_of())
    for member in members(database, sweep_id):
        runs.cancel(database, member["run"], if_match=None)
    sweeps.advance(database, settings)
    assert sweeps.get(database, sweep_id)["status"] == "cancelled"


def test_a_sweep_is_paused_when_all_that_have_not_ended_are_and_is_cancelled_with_them(
    database: Database, settings: Settings
) -> None:
    sweep_id = submitted(database, settings, spec_of())
    first, *others = [member["run"] for member in members(database, sweep_id)]
    runs.cancel(database, first, if_match=None)
    for run_id in others[1:]:
        runs.pause(database, run_id, if_match=None)
    assert sweeps.get(database, sweep_id)["status"] != "paused"
    runs.pause(database, others[0], if_match=None)
    found = sweeps.get(database, sweep_id)
    assert (found["status"], found["done"], found["statuses"]["paused"]) == ("paused", False, len(others))
    assert sweeps.cancel(database, sweep_id)["status"] == "cancelled"


def test_members_may_be_deleted_while_the_sweep_goes_on(database: Database, settings: Settings) -> None:
    sweep_id = submitted(database, settings, spec_of())
    train_all(database)
    sweeps.advance(database, settings)
    parents = {runs.get(database, member["run"])["extends"] for member in members(database, sweep_id)}
    for member in members(database, sweep_id)[:6]:
        if member["run"] not in parents:
            runs.delete(database, member["run"], if_match=None)
    for _ in range(2):
        train_all(database)
        sweeps.advance(database, settings)
    sweep = sweeps.get(database, sweep_id)
    assert (sweep["status"], sweep["statuses"]["succeeded"], sweep["best"]["epoch"]) == ("succeeded", 8, 8)


@pytest.mark.parametrize("lowered", [{"max_queued_runs": 1}, {"max_steps": 3}], ids=["queue", "steps"])
def test_limits_lowered_meanwhile_break_nobody_who_advances(
    database: Database, settings: Settings, lowered: dict[str, int]
) -> None:
    sweep_id = submitted(database, settings, spec_of())
    train_all(database)
    for _ in range(2):
        runs.submit(database, settings, RUN, key=None)
    sweeps.advance(database, settings.model_copy(update=lowered))
    sweep = sweeps.get(database, sweep_id)
    # It was let into the queue when it was submitted; what would be over a limit goes no further.
    assert (sweep["done"], sweep["members"]) == ((False, 9) if "max_queued_runs" in lowered else (True, 6))


@pytest.mark.parametrize("deleted", [False, True], ids=["cancelled", "deleted"])
def test_a_sweep_that_is_cancelled_while_somebody_advances_it_makes_no_more_runs(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    sweep_id = submitted(database, settings, spec_of())
    train_all(database)

    def meanwhile(*arguments: Any) -> plans.Plan:
        plan = plan_extension(*arguments)
        if not deleted or sweep_id in [sweep["id"] for sweep in sweeps.page(database, limit=9, cursor_id=None)]:
            assert sweeps.cancel(database, sweep_id)["status"] == "cancelled"
            if deleted:
                sweeps.delete(database, sweep_id)
        return plan

    monkeypatch.setattr("chainrule.app.services.lineage.plan_extension", meanwhile)
    sweeps.advance(database, settings)
    left = runs.page(database, limit=50, cursor_id=None, statuses=[], name=None, dataset=None, newest_first=True)
    assert len(left) == (0 if deleted else 6)


def test_a_sweep_that_has_not_ended_is_not_deleted_between_two_rungs(database: Database, settings: Settings) -> None:
    sweep_id = submitted(database, settings, spec_of())
    train_all(database)
    with pytest.raises(Conflict, match="is running; cancel it"):
        sweeps.delete(database, sweep_id)


def test_a_value_that_is_an_object_is_each_members_own(settings: Settings) -> None:
    layers = [{"units": 3, "activation": "tanh"}, {"units": 2, "activation": "softmax"}]
    parameters = {"network": [{"layers": layers}], "seed": [0, 1]}
    spec = spec_of({"kind": "grid", "parameters": parameters}, halving=None)

    def change(run: dict[str, Any]) -> dict[str, Any]:
        run["network"]["layers"][0]["units"] += run["seed"] + 1
        return run

    found = expand(settings, spec, change)
    assert [candidate.spec["network"]["layers"][0]["units"] for candidate in found] == [4, 5]
    assert parameters["network"] == [{"layers": layers}]


def test_whole_numbers_are_drawn_from_their_range_alone_and_each_as_often(settings: Settings) -> None:
    range_ = {"choices": None, "low": -2.5, "high": 2.5, "scale": "linear", "integer": True}
    strategy = {"kind": "random", "count": 1000, "seed": 3, "parameters": {"seed": range_}}
    drawn = [candidate.varied["seed"] for candidate in expand(settings, spec_of(strategy, halving=None), dict)]
    assert set(drawn) == {-2, -1, 0, 1, 2}
    assert min(drawn.count(value) for value in set(drawn)) > 150


def test_what_members_share_is_fitted_once(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[Any] = []

    def counted(data: Any, *arguments: Any) -> Any:
        fits.append(data)
        return fit(data, *arguments)

    monkeypatch.setattr(plans, "fit", counted)
    submitted(database, settings, spec_of(run=RUN | {"inputs": {"scaling": "standardize"}}))
    assert len(fits) == 1


RANGE = {"choices": None, "low": 1e-4, "high": 1.0, "scale": "log", "integer": False}
TPE: dict[str, Any] = {
    "kind": "tpe", "count": 5, "parallel": 2, "seed": 4, "parameters": {"optimizer/learning_rate": RANGE},
}  # fmt: skip


def test_values_are_suggested_round_after_round_and_the_same_again(database: Database, settings: Settings) -> None:
    pytest.importorskip("optuna", reason="NO OPTUNA: what it suggests was not tried")
    found = []
    for _ in range(2):
        sweep_id = submitted(database, settings, spec_of(TPE, halving=None))
        for count in (2, 4, 5, 5):
            assert len(members(database, sweep_id)) == count
            assert sweeps.get(database, sweep_id)["done"] is False or count == 5
            train_all(database)
            sweeps.advance(database, settings)
        assert sweeps.get(database, sweep_id)["status"] == "succeeded"
        found.append([(member["rung"], member["varied"], member["value"]) for member in members(database, sweep_id)])
    assert [rung for rung, _, _ in found[0]] == [0, 0, 1, 1, 2]
    assert found[0] == found[1]
    assert {runs.get(database, member["run"])["extends"] for member in members(database, sweep_id)} == {None}


def test_values_go_on_being_suggested_where_all_of_a_round_have_failed(database: Database, settings: Settings) -> None:
    pytest.importorskip("optuna", reason="NO OPTUNA: what it suggests was not tried")
    sweep_id = submitted(database, settings, spec_of(TPE, halving=None))
    train_all(database, diverge=True)
    for _ in range(2):
        sweeps.advance(database, settings)
        train_all(database)
    sweep = sweeps.get(database, sweep_id)
    assert (sweep["status"], sweep["statuses"]["failed"], sweep["statuses"]["succeeded"]) == ("succeeded", 2, 3)


def test_without_optuna_nothing_is_suggested_and_what_waits_for_it_waits(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="NO OPTUNA: what it suggests was not tried")
    sweep_id = submitted(database, settings, spec_of(TPE, halving=None))
    train_all(database)
    monkeypatch.delitem(sys.modules, "chainrule.app.services.tpe")
    monkeypatch.delattr("chainrule.app.services.tpe", raising=False)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InvalidInput, match=r"pip install 'chainrule\[optuna\]'") as refusal:
        expand(settings, spec_of(TPE, halving=None), dict)
    assert refusal.value.errors[0].pointer == "/strategy/kind"
    sweeps.advance(database, settings)
    assert (sweeps.get(database, sweep_id)["done"], len(members(database, sweep_id))) == (False, 2)
    monkeypatch.undo()
    sweeps.advance(database, settings)
    assert len(members(database, sweep_id)) == 4


def test_members_with_shards_are_trained_each_by_itself(database: Database, settings: Settings) -> None:
    def stacks(**fields: Any) -> int:
        spec = spec_of(run=RUN | fields)
        found: int = sweeps.preview(database, settings, spec, expand(settings, spec, dict))["stacks"]
        return found

    assert (stacks(), stacks(shards=2, shards_even_if_slower=True)) == (1, 0)
