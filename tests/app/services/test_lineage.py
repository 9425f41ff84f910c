"""Lineage: which endings a run may be extended from, and what it takes over."""

from typing import Any

import pytest
from sqlalchemy import update

from chainrule.app.config import Settings
from chainrule.app.errors import Conflict
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services import lineage, plans, runs
from chainrule.app.services.lineage import Length
from chainrule.app.services.training import encode_resume_point, load_resume_point
from chainrule.app.store import attempts, checkpoints, epochs, queue
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database
from chainrule.app.store.models import Run
from chainrule.engine import Epoch, train, xor
from tests.app.store.test_database import epoch_row

SPEC: dict[str, Any] = {
    "dataset": "xor",
    "network": {"layers": [{"units": 2, "activation": "softmax"}]},
    "optimizer": {"name": "adam"},
    "epochs": 10,
}


def lost_for_good(database: Database, settings: Settings, *, done: int = 3) -> str:
    """Have a run lose its last attempt after some epochs."""
    run_id: str = runs.submit(database, settings, SPEC, key=None).run["id"]
    attempt = Attempt(run_id, "a1")
    with database.writing() as session:
        assert queue.claim(session, "a1", "here:1") is not None
    engine = plans.make(database, settings, SPEC).engine
    for epoch in train(engine, xor()):
        assert isinstance(epoch, Epoch)
        with database.writing() as session:
            assert attempts.advance(session, attempt, {"epochs_done": epoch.epoch, "steps_done": epoch.epoch})
            epochs.add(session, [epoch_row(run_id, epoch.epoch)])
            point = encode_resume_point(epoch.resume_point())
            checkpoints.put_resume_point(session, run_id, epoch.epoch, 0, point)
        if epoch.epoch == done:
            break
    with database.writing() as session:
        attempts.lose_attempt(session, attempt, Reason.CHILD_LOST, "killed", max_failures=0)
    return run_id


def test_a_run_that_failed_because_its_attempts_were_lost_can_go_on(database: Database, settings: Settings) -> None:
    run_id = lost_for_good(database, settings)
    assert runs.get(database, run_id)["reason"] == Reason.ATTEMPTS_EXHAUSTED
    made = lineage.extend(database, settings, run_id, Length(to=10), key=None).run
    runs.delete(database, run_id, if_match=None)
    assert made["progress"] == {
        "epochs_done": 3, "epochs_total": 10, "steps_done": 3, "steps_total": 10, "percent": 30.0, "eta_s": None,
    }  # fmt: skip
    point = load_resume_point(database, made["id"])
    assert point is not None
    assert (point.epoch, point.step, point.steps) == (3, 0, 3)
    assert len(point.optimizer_state) == 2
    with database.reading() as session:
        assert epochs.count(session, made["id"], -1) == (4, 3)


def test_what_is_left_is_estimated_from_its_own_steps(database: Database, settings: Settings) -> None:
    made = lineage.extend(database, settings, lost_for_good(database, settings), Length(epochs=4), key=None).run["id"]
    with database.writing() as session:
        assert queue.claim(session, "a2", "here:1") is not None
    assert runs.get(database, made)["progress"]["eta_s"] is None
    with database.writing() as session:
        assert attempts.advance(session, Attempt(made, "a2"), {"steps_done": 5, "trained_s": 1.0})
    run = runs.get(database, made)
    assert (run["progress"]["steps_done"], run["progress"]["steps_total"]) == (5, 7)
    own = 5 - run["progress"]["steps_total"] + 4
    assert run["progress"]["eta_s"] == pytest.approx(2.0 / own, abs=0.01)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in lineage.EXTENDABLE])
def test_no_other_ending_is_extended(database: Database, settings: Settings, reason: Reason) -> None:
    run_id = lost_for_good(database, settings)
    with database.writing() as session:
        session.execute(update(Run).values(status=RunStatus.SUCCEEDED, reason=reason))
    with pytest.raises(Conflict, match=f"{run_id}/clone"):
        lineage.extend(database, settings, run_id, Length(epochs=1), key=None)


def test_a_run_without_a_resume_point_is_not_extended(database: Database, settings: Settings) -> None:
    run_id = lost_for_good(database, settings)
    with database.writing() as session:
        checkpoints.drop_resume_point(session, run_id)
    with pytest.raises(Conflict, match="no resume point to go on from: none was kept"):
        lineage.extend(database, settings, run_id, Length(epochs=1), key=None)


def test_the_storage_of_a_run_counts_its_resume_point(database: Database, settings: Settings) -> None:
    few = SPEC | {"dataset": "digits", "network": {"layers": [{"units": 10, "activation": "softmax"}]}}
    sgd, adam = (
        plans.make(database, settings, few | {"optimizer": {"name": name}}).estimate for name in ("sgd", "adam")
    )
    two_vectors = 2 * 4 * adam["parameters"]
    assert two_vectors <= adam["storage_bytes"] - sgd["storage_bytes"] < 1.1 * two_vectors


def test_a_config_of_before_a_field_was_known_can_be_cloned(database: Database, settings: Settings) -> None:
    run_id = runs.submit(database, settings, SPEC, key=None).run["id"]
    config = runs.get(database, run_id)["config"]
    old = {name: value for name, value in config.items() if name not in ("schedule", "clip", "regularization")}
    with database.writing() as session:
        session.execute(update(Run).values(config=old))
    assert lineage.clone(database, settings, run_id, {}, key=None).run["config"] == config
