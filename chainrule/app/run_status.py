"""The states of a run and the lawful ways from one to the next."""

from enum import StrEnum


class RunStatus(StrEnum):
    """Where a run stands; a client must tolerate values it does not know."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the run has ended for good."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.CANCELLED}),
    RunStatus.RUNNING: frozenset(
        {RunStatus.QUEUED, RunStatus.PAUSED, RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED}
    ),
    RunStatus.PAUSED: frozenset({RunStatus.QUEUED, RunStatus.CANCELLED}),
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}


class Wish(StrEnum):
    """What somebody has asked of a running run; it stays a wish until its worker obeys."""

    CANCEL = "cancel"
    PAUSE = "pause"


class Reason(StrEnum):
    """Why a run changed its state; recorded with every transition."""

    SUBMITTED = "submitted"
    CLAIMED = "claimed"
    COMPLETED = "completed"
    EARLY_STOPPED = "early_stopped"
    DIVERGED = "diverged"
    VERIFIED = "verified"
    DIFFERENT = "different"
    NOTHING_TO_COMPARE = "nothing_to_compare"
    CANCEL_REQUESTED = "cancel_requested"
    PAUSE_REQUESTED = "pause_requested"
    RESUMED = "resumed"
    DRAINED = "drained"
    GANG_INCOMPLETE = "gang_incomplete"
    CHILD_LOST = "child_lost"
    CHILD_STALLED = "child_stalled"
    TRAINING_ERROR = "training_error"
    WORKER_LOST = "worker_lost"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    MEMORY_EXCEEDED = "memory_exceeded"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
