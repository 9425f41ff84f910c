"""The tables."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chainrule.app.run_status import RunStatus


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; aware in Python, on both databases."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times and store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give SQLite's naive answer its zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The metadata all tables share."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        int: BigInteger,
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[str]: JSON,
    }


_STATUSES = ", ".join(f"'{status}'" for status in RunStatus)
_IN_RUN = "runs.id"
LOCAL = "local"
"""Whose everything is while no keys are asked for."""


class Dataset(Base):
    """Samples with their targets, stored once for each owner and content."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("owner", "sha256"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), default=LOCAL)
    name: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    samples: Mapped[int]
    features: Mapped[int]
    targets: Mapped[int]
    classes: Mapped[list[str]]
    size_bytes: Mapped[int]
    report: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class DatasetChunk(Base):
    """A piece of a dataset's canonical bytes."""

    __tablename__ = "dataset_chunks"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class Run(Base):
    """One training of one network: its configuration, where it stands, and who holds it."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        Index("ix_runs_status_id", "status", "id"),
        Index(
            # The status in front has SQLite prefer it to the index of the status.
            "ix_runs_waiting_of_owner",
            "status",
            "owner",
            text("priority DESC"),
            "id",
            postgresql_where=text("status = 'queued'"),
            sqlite_where=text("status = 'queued'"),
        ),
        Index(
            "ix_runs_running_of_owner",
            "status",
            "owner",
            "attempt_id",
            postgresql_where=text("status = 'running'"),
            sqlite_where=text("status = 'running'"),
        ),
        Index("ix_runs_owner_id", "owner", "id"),
        Index(
            "ix_runs_alike",
            "stack_key",
            postgresql_where=text("status = 'queued'"),
            sqlite_where=text("status = 'queued'"),
        ),
        Index(
            "ix_runs_deleted_at",
            "deleted_at",
            postgresql_where=text("deleted_at IS NOT NULL"),
            sqlite_where=text("deleted_at IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), default=LOCAL)
    name: Mapped[str] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(32))
    detail: Mapped[str] = mapped_column(String(2000), default="")
    priority: Mapped[int]
    config: Mapped[dict[str, Any]]
    # Built-in sets are named here too, so this is no foreign key; deleting a dataset in use is refused.
    dataset: Mapped[str] = mapped_column(String(64), index=True)
    validation_dataset: Mapped[str | None] = mapped_column(String(64), index=True)
    epochs_total: Mapped[int]
    steps_per_epoch: Mapped[int]
    parameters: Mapped[int]
    # The runs it comes from. They may have been deleted since, so these are no foreign keys either.
    extends: Mapped[str | None] = mapped_column(String(64))
    cloned_from: Mapped[str | None] = mapped_column(String(64))
    steps_inherited: Mapped[int] = mapped_column(default=0)

    # A sweep may be deleted before or with its runs, so this is no foreign key; see SweepMember.
    sweep_id: Mapped[str | None] = mapped_column(String(64), index=True)
    # Waiting runs that have the same one can be trained as one computation; null for a run by itself.
    stack_key: Mapped[str | None] = mapped_column(String(64))

    # The run whose records it is to come to again, and how far they have been compared; null for all but verifications.
    verifies: Mapped[str | None] = mapped_column(String(64), index=True)
    verification: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))

    revision: Mapped[int] = mapped_column(default=1)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    pause_requested: Mapped[bool] = mapped_column(default=False, server_default=false())
    attempt_id: Mapped[str | None] = mapped_column(String(32))
    worker: Mapped[str | None] = mapped_column(String(200))
    attempts: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    heartbeat: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None]

    epochs_done: Mapped[int] = mapped_column(default=0)
    steps_done: Mapped[int] = mapped_column(default=0)
    trained_s: Mapped[float] = mapped_column(default=0.0, server_default="0")
    best_epoch: Mapped[int | None]
    cost: Mapped[float | None]
    error: Mapped[float | None]
    validation_cost: Mapped[float | None]
    validation_error: Mapped[float | None]
    # The verdicts so far, `engine.Verdict` each; null before the first epoch.
    diagnoses: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    builds: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    # The W3C trace context of the request it was submitted by, where requests are traced.
    trace_parent: Mapped[str | None] = mapped_column(String(64))

    # A deleted run can be restored until it is condemned, and is removed in pieces from then on.
    deleted_at: Mapped[datetime | None]
    purging: Mapped[bool] = mapped_column(default=False)

    # The room it was estimated to take, and the room it takes; the latter is measured when it has ended.
    estimated_bytes: Mapped[int | None]
    stored_bytes: Mapped[int | None]
    # Since when it has only its last, best and final weights.
    thinned_at: Mapped[datetime | None]

    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class RunInputs(Base):
    """How a run maps raw features to its network's input, fitted when it was submitted; none if it does not."""

    __tablename__ = "run_inputs"

    run_id: Mapped[str] = mapped_column(ForeignKey(_IN_RUN, ondelete="CASCADE"), primary_key=True)
    fitted: Mapped[dict[str, Any]]


class Sweep(Base):
    """Many runs of one spec with some of its fields varied."""

    __tablename__ = "sweeps"
    __table_args__ = (Index("ix_sweeps_owner_id", "owner", "id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), default=LOCAL)
    name: Mapped[str] = mapped_column(String(200))
    spec: Mapped[dict[str, Any]]
    objective: Mapped[str] = mapped_column(String(32))
    rung: Mapped[int] = mapped_column(default=0)
    rungs: Mapped[int] = mapped_column(default=1)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class SweepMember(Base):
    """One run of a sweep, and the values that make it differ from the others."""

    __tablename__ = "sweep_members"

    sweep_id: Mapped[str] = mapped_column(ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey(_IN_RUN, ondelete="CASCADE"), index=True)
    rung: Mapped[int] = mapped_column(default=0)
    varied: Mapped[dict[str, Any]]


class RunTransition(Base):
    """One change of a run's state, with its time and reason."""

    __tablename__ = "run_transitions"

    run_id: Mapped[str] = mapped_column(ForeignKey(_IN_RUN, ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(32))
    detail: Mapped[str] = mapped_column(String(2000))
    attempt_id: Mapped[str | None] = mapped_column(String(32))
    worker: Mapped[str | None] = mapped_column(String(200))
    at: Mapped[datetime]


class RunAttempt(Base):
    """One attempt at a run: who trained it, from where to where, and why it ended; open while it trains."""

    __tablename__ = "attempts"

    run_id: Mapped[str] = mapped_column(ForeignKey(_IN_RUN, ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    attempt_id: Mapped[str] = mapped_column(String(32))
    worker: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime]
    started_epoch: Mapped[int]
    started_steps: Mapped[int]
    ended_at: Mapped[datetime | None]
    ended_epoch: Mapped[int | None]
    ended_steps: Mapped[int | None]
    # What the run became with its end.
    status: Mapped[str | None] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(32))
    detail: Mapped[str] = mapped_column(String(2000), default="")


class Epoch(Base):
    """What one epoch of a run came to; epoch 0 is the untrained network."""

    __tablename__ = "epochs"

    run_id: Mapped[str] = mapped_column(ForeignKey(_IN_RUN, ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    cost: Mapped[float]
    error: Mapped[float | None]
    validation_cost: Mapped[float | None]
    validation_error: Mapped[float | None]
    learning_rate: Mapped[float]
    seconds: Mapped[float]


class Checkpoint(Base):
    """The weights at the end of an epoch, as safetensors bytes."""

    __tablename__ = "checkpoints"

    run_id: Mapped[str] = mapped_column(ForeignKey(_IN_RUN, ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int]
    weights: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


class GradientRecord(Base):
    """Statistics of one gradient (`dW1`, `db1`, …) at the end of one recorded epoch."""

    __tablename__ = "gradient_records"

    run_id: Mapped[str] = mapped_column(ForeignKey(_IN_RUN, ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    layer: Mapped[int] = mapped_column(primary_key=True)
    gradient: Mapped[str] = mapped_column(String(16), primary_key=True)
    norm: Mapped[float]
    mean: Mapped[float]
    standard_deviation: Mapped[float]
    minimum: Mapped[float]
    maximum: Mapped[float]
    zeros: Mapped[float]
    update_ratio: Mapped[float | None]


class ProbeRecord(Base):
    """What else is recorded of an epoch whose gradients are: `engine.Probe` as JSON."""

    __tablename__ = "probe_records"

    run_id: Mapped[str] = mapped_column(ForeignKey(_IN_RUN, ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    found: Mapped[str] = mapped_column(Text)


class ResumePoint(Base):
    """All it takes to go on with a run exactly; one for each run, the newest. An ended run keeps its last."""

    __tablename__ = "resume_points"

    run_id: Mapped[str] = mapped_column(ForeignKey(_IN_RUN, ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int]
    step: Mapped[int]
    content: Mapped[bytes] = mapped_column(LargeBinary)


class IdempotencyKey(Base):
    """The answer already given to a create request, kept so that repeating it is harmless."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(String(64), primary_key=True, default=LOCAL)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    status_code: Mapped[int]
    location: Mapped[str] = mapped_column(String(255))
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class ApiKey(Base):
    """What a caller shows to be let in: a hash of its secret, and what it may do until when."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("scope IN ('read', 'submit', 'admin')", name="scope"),
        Index("ix_api_keys_owner_id", "owner", "id"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(200))
    scope: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64))
    # The secret before the last rotation, good for a while longer.
    previous_sha256: Mapped[str | None] = mapped_column(String(64))
    previous_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    rotated_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class Worker(Base):
    """A process that hosts slots, as it describes itself with each heartbeat."""

    __tablename__ = "workers"
    __table_args__ = {"info": {"service": True}}  # noqa: RUF012

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    host: Mapped[str] = mapped_column(String(200))
    version: Mapped[str] = mapped_column(String(64))
    slots: Mapped[int]
    busy: Mapped[int]
    draining: Mapped[bool]
    heartbeat: Mapped[int]
    started_at: Mapped[datetime]


class Total(Base):
    """What all workers together have counted since the database was made; never less than before."""

    __tablename__ = "totals"
    __table_args__ = {"info": {"service": True}}  # noqa: RUF012

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    label: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[float]


class AuditEntry(Base):
    """A request for a change, by whom and with what outcome."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index("ix_audit_entries_owner_id", "owner", "id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    # Entries outlive keys, should keys ever be removed, so this is no foreign key.
    key_id: Mapped[str | None] = mapped_column(String(64))
    at: Mapped[datetime]
    method: Mapped[str] = mapped_column(String(16))
    route: Mapped[str] = mapped_column(String(200))
    object_id: Mapped[str | None] = mapped_column(String(64))
    client: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[int]
    request_id: Mapped[str] = mapped_column(String(64))


class Webhook(Base):
    """Where an owner is told of changes of runs, and the secret that shows who tells."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_owner_id", "owner", "id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), default=LOCAL)
    name: Mapped[str] = mapped_column(String(200))
    url: Mapped[str] = mapped_column(String(2000))
    events: Mapped[list[str]]
    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str] = mapped_column(String(200), default="")
    # What signs has to be there as it is: a hash of it could not sign.
    secret: Mapped[str] = mapped_column(String(100))
    previous_secret: Mapped[str | None] = mapped_column(String(100))
    previous_until: Mapped[datetime | None]
    created_at: Mapped[datetime]


class WebhookDelivery(Base):
    """Something a webhook is to be told, stored with what it tells of, and sent under the same id each time."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_webhook_id_id", "webhook_id", "id"),
        Index(
            "ix_webhook_deliveries_next_at",
            "next_at",
            postgresql_where=text("next_at IS NOT NULL"),
            sqlite_where=text("next_at IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(String(32))
    # The run may be gone by the time somebody looks, so this is no foreign key.
    run_id: Mapped[str | None] = mapped_column(String(64))
    body: Mapped[str] = mapped_column(String(4000))
    state: Mapped[str] = mapped_column(String(16), default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    status_code: Mapped[int | None]
    error: Mapped[str] = mapped_column(String(500), default="")
    created_at: Mapped[datetime]
    last_at: Mapped[datetime | None]
    next_at: Mapped[datetime | None]
