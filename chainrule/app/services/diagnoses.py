"""Diagnoses: what is wrong with a run, said by rules that look at what it recorded.

The writer of a run examines it while it trains, and stores the verdicts with what they are of, in one transaction: so
whoever reads a run, lists runs or follows events sees the same, long after statistics were thinned out too. Verdicts
are a pure function of what is recorded: an attempt that goes on begins by seeing that again.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from chainrule.app.run_status import RunStatus
from chainrule.app.services import training
from chainrule.app.services.runs import diagnosed, found, verdicts
from chainrule.app.store import checkpoints, probes, runs
from chainrule.app.store.database import Database
from chainrule.app.store.models import Epoch, GradientRecord
from chainrule.engine import Epoch as Trained
from chainrule.engine.examination import Examination, Facts, Point, Verdict
from chainrule.engine.probe import Probe
from chainrule.engine.rules import BY_ID, ERROR, INFO, RULES, WARNING, Rule

SEVERITY = {ERROR: 0, WARNING: 1, INFO: 2}


def is_point(config: Mapping[str, Any], epoch: Trained) -> bool:
    """Tell whether an epoch is looked at: one whose gradients are recorded, or would be by default if none are."""
    if config["gradients"]["every"]:
        return epoch.recorded
    return epoch.epoch <= 1 or epoch.epoch % training.default_gradients_every(config["epochs"]) == 0


def begin(session: Session, run_id: str, config: Mapping[str, Any], facts: Facts, last: int) -> Examination:
    """Begin to examine a run, with what it has recorded up to an epoch."""
    examination = Examination(facts)
    if last < 0:
        return examination
    if config["gradients"]["every"]:
        epochs, records, probed = probes.recorded(session, run_id, last)
    else:
        every = training.default_gradients_every(config["epochs"])
        epochs, records, probed = probes.every(session, run_id, every, last), (), {}
    of_epochs: dict[int, list[GradientRecord]] = {}
    for record in records:
        of_epochs.setdefault(record.epoch, []).append(record)
    for epoch in epochs:
        examination.see(_point(epoch, of_epochs.get(epoch.epoch, []), probed.get(epoch.epoch)))
    return examination


def rules() -> list[dict[str, Any]]:
    """List the rules."""
    return [rule_view(rule) for rule in RULES]


def of_run(database: Database, run_id: str) -> dict[str, Any]:
    """Give the verdicts on a run, what is worst first.

    Raises:
        NotFound: there is no such run.
    """
    with database.reading() as session:
        run = found(runs.get(session, run_id), run_id)
        shown = [view(stored, _link(session, run.id, stored)) for stored in verdicts(run)]
        answer = {"run": run.id, "status": run.status, "done": RunStatus(run.status).terminal, "epoch": run.epochs_done}
    shown.sort(key=lambda one: (not one["active"], SEVERITY[one["severity"]], one["raised_at"]))
    return answer | {"items": shown}


def rule_view(rule: Rule) -> dict[str, Any]:
    """Show a rule."""
    return {
        "id": rule.id,
        "severity": rule.severity,
        "title": rule.title,
        "quantity": rule.quantity,
        "when": rule.when or None,
        "side": rule.side,
        "threshold": rule.threshold,
        "clear": rule.clear,
        "points": rule.points,
        "evidence": rule.evidence,
        "sentence": rule.sentence,
        "fix": rule.fix,
        "source": rule.source,
    }


def view(stored: Mapping[str, Any], link: str = "") -> dict[str, Any]:
    """Show a verdict with all that belongs to it, and where there is more."""
    verdict = Verdict(**stored)
    rule = BY_ID[verdict.rule]
    return diagnosed(stored) | {
        "cleared_at": verdict.cleared,
        "value": verdict.value,
        "worst": verdict.worst,
        "quantity": rule.quantity,
        "side": rule.side,
        "threshold": rule.threshold,
        "evidence": rule.evidence,
        "sentence": verdict.sentence,
        "fix": verdict.fix,
        "link": link,
    }


def _link(session: Session, run_id: str, stored: Mapping[str, Any]) -> str:
    """Tell where more is to be seen: what is of a checkpoint, at the newest kept one up to the verdict's last epoch."""
    see, base, layer, first = BY_ID[stored["rule"]].see, f"/v1/runs/{run_id}", stored["layer"], stored["first"]
    if see in ("epochs", "inputs"):
        return f"{base}/{see}"
    if see == "steps":
        return f"{base}/epochs/{first}/steps" if first else f"{base}/epochs"
    if see == "gradients":
        return f"{base}/gradients" + (f"?layer={layer}" if layer else "")
    kept = checkpoints.newest_up_to(session, run_id, stored["last"])
    return f"{base}/checkpoints" if kept is None else f"{base}/checkpoints/{kept}/{see}"


def _point(epoch: Epoch, records: list[GradientRecord], probed: str | None) -> Point:
    weights = [record for record in records if record.gradient.startswith("dW")]
    return Point(
        epoch.epoch,
        epoch.cost,
        epoch.error,
        epoch.validation_cost,
        {record.layer: record.update_ratio for record in weights if record.update_ratio is not None},
        {record.layer: record.norm for record in weights},
        None if probed is None else Probe.from_dict(json.loads(probed)),
    )
