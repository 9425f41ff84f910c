"""What runs come to when nothing disturbs them, by the bare engine; and what must hold of those that were disturbed."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from chainrule.app.config import Settings
from chainrule.app.run_status import TRANSITIONS, RunStatus
from chainrule.app.services import training
from chainrule.app.services.weights import NetworkEncoder, sha256
from chainrule.app.store.database import Database
from chainrule.app.store.models import (
    Checkpoint,
    GradientRecord,
    Run,
    RunAttempt,
    RunTransition,
)
from chainrule.app.store.models import Epoch as EpochRow
from chainrule.engine import Epoch, train

LOSSES = ("child_lost", "child_stalled", "worker_lost")


def _network(*hidden: dict[str, Any], classes: int = 10) -> dict[str, Any]:
    return {"layers": [*hidden, {"units": classes, "activation": "softmax"}]}


RELU = {"units": 16, "activation": "relu"}
BASE: dict[str, Any] = {
    "dataset": "digits",
    "network": _network(RELU),
    "epochs": 60,
    "batch_size": 32,
    "checkpoints": {"every": 7},
    "gradients": {"every": 9},
}
KINDS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": {"name": "sgd", "learning_rate": 0.1}},
    "adam": {"optimizer": {"name": "adam"}, "validation": {"fraction": 0.2, "seed": 1}},
    "dropout": {"network": _network(RELU | {"dropout": 0.3}), "optimizer": {"name": "momentum"}},
    "plateau": {
        "optimizer": {"name": "adam", "learning_rate": 0.02},
        "schedule": {"name": "plateau", "patience": 2, "factor": 0.5},
        "validation": {"fraction": 0.25, "seed": 2},
    },
    "early stopping": {
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "validation": {"fraction": 0.25, "seed": 3},
        "early_stopping": {"patience": 4},
        "epochs": 200,
    },
    "batch norm": {"network": _network(RELU | {"normalization": "batch"}), "optimizer": {"name": "adam"}},
    "clipped": {"clip": {"norm": 0.5}, "regularization": {"l2": 0.001}, "optimizer": {"name": "rmsprop"}},
    "standardized": {"inputs": {"scaling": "standardize"}, "optimizer": {"name": "adamw"}, "dtype": "float64"},
    "bounded": {"optimizer": {"name": "nesterov"}, "max_memory_bytes": 1 << 26},
    "long epochs": {"epochs": 3, "batch_size": 1, "checkpoints": {"every": 1}, "optimizer": {"name": "adam"}},
}
SEEDS = 3
SWEEP = {"run": BASE | {"epochs": 40, "optimizer": {"name": "adam"}}, "strategy": {"kind": "seeds", "count": 4}}


def spec(kind: str, number: int) -> dict[str, Any]:
    """Write the spec of a run of one kind; the same few again and again, so that few have to be foretold."""
    return BASE | KINDS[kind] | {"name": kind, "seed": number % SEEDS}


@dataclass
class Foretold:
    """What an undisturbed run records."""

    epochs: list[tuple[Any, ...]] = field(default_factory=list)
    hashes: dict[int, str] = field(default_factory=dict)
    gradients: dict[tuple[int, int, str], tuple[Any, ...]] = field(default_factory=dict)
    best_epoch: int | None = None


@dataclass
class Verdict:
    """What was found: how many runs were judged, how often their attempts were lost, and all that is wrong."""

    runs: int = 0
    attempts: int = 0
    lost_attempts: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    epochs: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    inconsistent: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.runs} runs, {self.attempts} attempts, {self.lost_attempts} of them lost {dict(self.reasons)}: "
            f"acknowledged runs lost {len(self.lost)}, epochs missing or doubled {len(self.epochs)}, "
            f"different from the undisturbed run {len(self.different)}, inconsistent {len(self.inconsistent)}"
        )

    @property
    def wrong(self) -> list[str]:
        """List all that is wrong."""
        return [*self.lost, *self.epochs, *self.different, *self.inconsistent]


class Oracle:
    """Foretells runs, each config once, and judges those in a database."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._settings = Settings(
            database_url=database.url.render_as_string(hide_password=False), cache_dir=folder / "oracle"
        )
        self._foretold: dict[str, Foretold] = {}

    def judge(self, acknowledged: Sequence[str]) -> Verdict:
        """Hold every run that was acknowledged against what was foretold."""
        verdict = Verdict()
        for run_id in acknowledged:
            with self._database.reading() as session:
                run = session.get(Run, run_id)
            if run is None:
                verdict.lost.append(f"{run_id} is not there")
                continue
            verdict.runs += 1
            if run.status != RunStatus.SUCCEEDED:
                verdict.lost.append(f"{run.id} ({run.name}) is {run.status}: {run.reason} {run.detail}")
                continue
            foretold = self._foretell(run)  # which takes longer than a transaction may be idle
            with self._database.reading() as session:
                self._judge(session, run, foretold, verdict)
        return verdict

    def _judge(self, session: Any, run: Run, foretold: Foretold, verdict: Verdict) -> None:
        name = f"{run.id} ({run.name})"
        names = ("epoch", "cost", "error", "validation_cost", "validation_error", "learning_rate")
        columns = [getattr(EpochRow, column) for column in names]
        rows = session.execute(select(*columns).where(EpochRow.run_id == run.id).order_by(EpochRow.epoch)).all()
        if [row[0] for row in rows] != list(range(len(foretold.epochs))):
            verdict.epochs.append(f"{name} has the epochs {[row[0] for row in rows]}")
        elif [tuple(row) for row in rows] != foretold.epochs:
            verdict.different.append(f"{name} recorded other costs")
        self._judge_weights(session, run, foretold, verdict, name)
        self._judge_history(session, run, verdict, name)

    def _judge_weights(self, session: Any, run: Run, foretold: Foretold, verdict: Verdict, name: str) -> None:
        last, every = len(foretold.epochs) - 1, run.config["checkpoints"]["every"]
        kept = {0, 1, last, *range(0, last + 1, every)}
        if foretold.best_epoch is not None:
            kept.add(foretold.best_epoch)
        query = select(Checkpoint.epoch, Checkpoint.sha256, Checkpoint.weights).where(Checkpoint.run_id == run.id)
        found = {epoch: digest for epoch, digest, _ in session.execute(query)}
        if any(sha256(weights) != digest for _, digest, weights in session.execute(query)):
            verdict.different.append(f"{name} has weights that are not of their hash")
        if found != {epoch: foretold.hashes[epoch] for epoch in kept}:
            other = sorted(epoch for epoch in kept | set(found) if found.get(epoch) != foretold.hashes.get(epoch))
            verdict.different.append(f"{name} has other weights at epochs {other}")
        columns = (GradientRecord.norm, GradientRecord.mean, GradientRecord.update_ratio)
        recorded = select(GradientRecord.epoch, GradientRecord.layer, GradientRecord.gradient, *columns)
        gradients = {
            tuple(row[:3]): tuple(row[3:]) for row in session.execute(recorded.where(GradientRecord.run_id == run.id))
        }
        if gradients != foretold.gradients:
            verdict.different.append(f"{name} recorded other gradients")

    def _judge_history(self, session: Any, run: Run, verdict: Verdict, name: str) -> None:
        def ordered(table: Any, by: Any) -> Any:
            return session.scalars(select(table).where(table.run_id == run.id).order_by(by)).all()

        moves = ordered(RunTransition, RunTransition.position)
        attempts = ordered(RunAttempt, RunAttempt.number)
        states = [RunStatus(move.status) for move in moves]
        losses = [attempt.reason for attempt in attempts if attempt.reason in LOSSES]
        verdict.attempts += len(attempts)
        verdict.lost_attempts += len(losses)
        verdict.reasons.update(losses)
        claims = states.count(RunStatus.RUNNING)
        complaints = {
            "its first state is not queued": states[0] is not RunStatus.QUEUED,
            "a transition is unlawful": any(b not in TRANSITIONS[a] for a, b in pairwise(states)),
            "transitions are not numbered": [move.position for move in moves] != list(range(1, len(moves) + 1)),
            "it did not end once, at last": [s for s in states if s.terminal] != [states[-1]],
            "time runs backwards": any(a.at > b.at for a, b in pairwise(moves)),
            "claims are not attempts": not claims == len(attempts) == run.attempts,
            "attempts are not numbered": [one.number for one in attempts] != list(range(1, len(attempts) + 1)),
            "an attempt has no end": any(one.ended_at is None for one in attempts),
            "losses are not failures": len(losses) != run.failures,
            "an attempt begins where none ended": any(
                a.ended_steps != b.started_steps or a.ended_epoch != b.started_epoch for a, b in pairwise(attempts)
            ),
            "it is still held": run.attempt_id is not None,
        }
        verdict.inconsistent += [f"{name}: {what}" for what, wrong in complaints.items() if wrong]

    def _foretell(self, run: Run) -> Foretold:
        same = json.dumps({key: value for key, value in run.config.items() if key != "name"}, sort_keys=True)
        if same not in self._foretold:
            self._foretold[same] = self._train(run)
        return self._foretold[same]

    def _train(self, run: Run) -> Foretold:
        data, validation = training.load_split(self._database, self._settings, run.id, run.config)
        encoder, told = NetworkEncoder(), Foretold()
        for event in train(training.engine_config(run.config, run.config["network"]["inputs"]), data, validation):
            if isinstance(event, Epoch):
                told.epochs.append(
                    (event.epoch, event.cost, event.error, event.validation_cost, event.validation_error,
                     event.learning_rate)
                )  # fmt: skip
                told.hashes[event.epoch] = sha256(encoder.encode(event.network))
                told.best_epoch = event.best_epoch
                for one in event.gradients or ():
                    told.gradients[event.epoch, one.layer, one.name] = (one.norm, one.mean, one.update_ratio)
        return told


def long_rows() -> dict[str, Any]:
    """Make the dataset whose epochs are long: one step for each of thousands of samples."""
    generator = np.random.Generator(np.random.Philox(5))
    X = np.round(generator.normal(size=(16_000, 6)), 3)
    return {"name": "long", "samples": X.tolist(), "labels": [str(int(row[0] > row[1]) + int(row[2] > 0)) for row in X]}
