"""Settings: the service's environment, read from `CHAINRULE_*` variables."""

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024
DAY_S = 24 * 3600.0


def _default_slots() -> int:
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chainrule"


class Settings(BaseSettings):
    """Everything an operator may set; a run's own configuration is never here."""

    model_config = SettingsConfigDict(env_prefix="CHAINRULE_", frozen=True, extra="forbid")

    database_url: str = Field(
        default="sqlite:///chainrule.sqlite3",
        description="SQLAlchemy URL of the only shared service: `sqlite:///file` or `postgresql://user@host/name`.",
    )
    cache_dir: Path = Field(
        default_factory=_default_cache,
        description="Where workers keep local copies of datasets, by content hash; may be emptied at any time.",
    )
    host: str = Field(default="127.0.0.1", description="Address `chainrule serve` listens on.")
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port `chainrule serve` listens on; 0 picks a free one."
    )
    auth: Literal["off", "keys"] = Field(
        default="off",
        description="`keys`: every request must show a key (`chainrule keys create`); `off`: none is asked for, which "
        "is for loopback alone.",
    )
    allowed_hosts: str = Field(
        default="",
        description="Names, separated by commas, that the service answers to besides those of loopback, such as a "
        "proxy's; with keys and none given, it answers to any.",
    )
    max_sweep_members: int = Field(default=1000, ge=1, description="Largest number of runs a sweep begins with.")
    max_stack: int = Field(
        default=64, ge=1, description="Most runs of a sweep that one slot trains as one computation."
    )
    slots: int = Field(
        default_factory=_default_slots,
        ge=0,
        le=256,
        description="Runs one process trains at once; 0 for an API without workers. Default: cores, at most 4.",
    )
    engine: str = Field(
        default="local",
        description="Where runs are trained: `local`, in slots of this process; `dask`, a Dask cluster of its own on "
        "this machine; `dask://host:port`, a cluster that is there. See the guide to clusters.",
    )
    blas_threads: int = Field(
        default=1, ge=1, le=256, description="BLAS threads of each slot; part of what repeatability needs."
    )
    log_level: str = Field(default="INFO", description="Level of the log on standard error.")
    log_format: Literal["text", "json"] = Field(
        default="text", description="Form of the log: text for people, or json, one object a line."
    )
    access_log: bool = Field(default=True, description="Whether each request is logged; probes only at level DEBUG.")
    traces: Literal["off", "otlp"] = Field(
        default="off",
        description="Where traces go: off, or otlp, to where OpenTelemetry's own variables say (`chainrule[otel]`).",
    )
    min_free_bytes: int = Field(
        default=128 * MIB, ge=0, description="With less room on the disks it needs, the service is not ready."
    )

    flush_interval_s: float = Field(
        default=0.25,
        gt=0,
        description="Time between two writes of a training run; longer, up to 2 s, where writing takes long.",
    )
    heartbeat_interval_s: float = Field(default=2.0, gt=0, description="How often a supervisor beats for its run.")
    attempt_timeout_s: float = Field(
        default=15.0,
        gt=0,
        description="An attempt whose heartbeat does not move for this long is taken as lost.",
    )
    poll_interval_s: float = Field(
        default=1.0, gt=0, description="How often idle slots look for runs without being woken."
    )
    grace_s: float = Field(
        default=5.0, ge=0, description="Time a training process has to end by itself before it is killed."
    )
    blind_s: float = Field(
        default=600.0, gt=0, description="How long a run trains on while the database cannot be reached."
    )
    database_timeout_s: float = Field(
        default=5.0,
        gt=0,
        description="How long the API waits for one answer of the database, or for a turn to write; then it is 503.",
    )
    stalled_after_s: float = Field(
        default=60.0,
        ge=2,
        description="A training process that takes no step for this long, and longer than its longest step may take, "
        "is killed and its run tried again.",
    )
    gang_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="How long a run with shards on a cluster waits, in its slot, for a place for each; then it is put "
        "back, and so long waits in the queue.",
    )
    max_failures: int = Field(default=3, ge=0, description="How many lost attempts a run may have before it fails.")

    deleted_retention_s: float = Field(
        default=7 * DAY_S, ge=0, description="How long a deleted run or sweep can be restored before it is removed."
    )
    webhook_allow_private: bool = Field(
        default=False,
        description="Whether webhooks may lead into private networks and to this machine, and over plain http.",
    )
    webhook_history_s: float = Field(
        default=7 * DAY_S, ge=0, description="How long a webhook's deliveries that are over can be looked at."
    )
    bulk_retention_s: float | None = Field(
        default=None,
        ge=0,
        description="How long after its end a run keeps all its checkpoints and gradient statistics; then those of its "
        "last, best and final epochs are left. For ever by default.",
    )
    idempotency_retention_s: float = Field(
        default=7 * DAY_S, gt=0, description="How long a request repeated under its idempotency key is recognised."
    )

    rate_limit: int = Field(
        default=0,
        ge=0,
        description="Requests a minute that each owner, or without keys each address, may send; 0 for any number.",
    )
    guess_limit: int = Field(
        default=60,
        ge=0,
        description="Keys that are not valid that an address may show in a minute; then it is answered 429, but for "
        "keys that were valid before. 0 for any number.",
    )
    max_streams: int = Field(default=1000, ge=0, description="Event streams that may be open at once.")
    max_streams_per_client: int = Field(
        default=250, ge=0, description="Event streams that one owner, or without keys one address, may have open."
    )
    max_queued_runs: int = Field(default=10_000, ge=1, description="Runs that may wait at once; more are answered 429.")
    max_queued_per_owner: int | None = Field(
        default=None,
        ge=1,
        description="Runs of one owner that may wait at once; more are answered 429. By default half of "
        "`CHAINRULE_MAX_QUEUED_RUNS` with keys, and no limit without.",
    )
    max_running_per_owner: int = Field(
        default=0,
        ge=0,
        description="Slots that the runs of one owner may take at once, 0 for any number; a setting of workers.",
    )
    max_request_bytes: int = Field(default=4 * MIB, ge=1024, description="Largest JSON body, datasets aside.")
    max_rows_bytes: int = Field(
        default=32 * MIB, ge=1024, description="Largest dataset sent as JSON; larger ones are sent as files."
    )
    max_upload_bytes: int = Field(
        default=256 * MIB,
        ge=1024,
        description="Largest dataset upload, both as sent and after decompression.",
    )
    max_dataset_values: int = Field(default=100_000_000, ge=1, description="Largest samples x features of a dataset.")
    max_parameters: int = Field(
        default=20_000_000, ge=1, description="Largest number of weights and biases of a network."
    )
    max_memory_bytes: int = Field(
        default=2048 * MIB, ge=MIB, description="Largest estimated memory of one training run."
    )
    max_steps: int = Field(
        default=100_000_000, ge=1, description="Largest number of steps (epochs x batches) of a run."
    )
    max_storage_bytes: int = Field(default=4096 * MIB, ge=MIB, description="Largest estimated storage of one run.")
    max_total_storage_bytes: int | None = Field(
        default=None,
        ge=1,
        description="Room for all datasets and runs together, waiting ones as estimated; more is answered 507. "
        "No limit by default.",
    )
    max_storage_bytes_per_owner: int | None = Field(
        default=None,
        ge=1,
        description="Room for the datasets and runs of each owner, waiting ones as estimated; more is answered 403. "
        "No limit by default.",
    )
    max_inspect_values: int = Field(
        default=20_000_000,
        ge=1,
        description="Largest number of values one gradients, inspection or predict request may compute.",
    )
    max_cache_bytes: int = Field(
        default=8192 * MIB,
        ge=0,
        description="Largest room in `cache_dir` for datasets, and for samples as networks take them; the least "
        "recently used go first.",
    )
    max_metrics_operations: int = Field(
        default=50_000_000_000,
        ge=1,
        description="Largest samples x (parameters + 100 x units) of one metrics request; backward counts twice.",
    )
    max_replay_operations: int = Field(
        default=500_000_000_000,
        ge=1,
        description="Largest samples x (parameters + 100 x units) x 3 that one request may train to replay an epoch; a "
        "step counts 200,000 more, and 2,000,000 where it is looked at.",
    )

    @property
    def queued_per_owner(self) -> int | None:
        """How many runs of one owner may wait, if there is a limit: with keys nobody fills the queue alone."""
        if self.max_queued_per_owner is None and self.auth == "keys":
            return max(1, self.max_queued_runs // 2)
        return self.max_queued_per_owner

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        if engine in ("local", "dask") or re.fullmatch(r"dask://[^/\s]+:\d{1,5}", engine):
            return engine
        raise ValueError(f"the engine is local, dask or dask://host:port, not {engine!r}")

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        scheme, _, rest = url.partition("://")
        if scheme == "sqlite" and len(rest) > 1:
            return url
        if scheme in ("postgresql", "postgresql+psycopg", "postgres") and rest:
            return url
        raise ValueError(
            "the database must be a file (sqlite:///chainrule.sqlite3) or a PostgreSQL server "
            f"(postgresql://user@host/name), not {scheme}://…"
        )
