"""Health and status on the wire."""

from datetime import datetime

from pydantic import Field

from chainrule.app.api.schemas.wire import Answer


class Live(Answer):
    """The process answers."""

    status: str = Field(description="Always `live`.")


class Check(Answer):
    """One thing that must be so for the service to do its work."""

    name: str = Field(description="What is checked: database, disk, and the threads that train (dispatcher, reaper).")
    ok: bool = Field(description="Whether it is as it must be.")
    detail: str = Field(description="What was found.")


class Ready(Answer):
    """The service can do its work."""

    status: str = Field(description="Always `ready`; otherwise the answer is 503, with the checks that failed.")
    database: str = Field(description="Which database it works on: sqlite or postgresql.")
    slots: int = Field(description="How many runs this process trains at once.")
    checks: list[Check] = Field(description="All that was checked.")


class Queue(Answer):
    """The runs that wait for a slot."""

    waiting: int = Field(description="How many could be trained now; not those that wait before they are tried again.")
    oldest_wait_s: float | None = Field(description="How long ago the oldest of them was submitted; null if none.")


class Slots(Answer):
    """The slots of all workers that live."""

    all: int = Field(description="How many there are.")
    busy: int = Field(description="How many train.")
    free: int = Field(description="How many are free.")


class Trained(Answer):
    """A run in training."""

    run: str = Field(description="Its id.")
    name: str = Field(description="Its name.")
    epochs_done: int = Field(description="Epochs done.")
    epochs_total: int = Field(description="Epochs in all.")


class Worker(Answer):
    """A process that hosts slots."""

    id: str = Field(description="Its id, from its start to its end.")
    name: str = Field(description="Host and process number, as in the history of its runs.")
    host: str = Field(description="The machine it runs on.")
    version: str = Field(description="The version of Chainrule it runs.")
    slots: int = Field(description="How many runs it trains at once.")
    busy: int = Field(description="How many of its slots train; several runs of a sweep may share one.")
    draining: bool = Field(description="Whether it is about to end and claims nothing more.")
    alive: bool = Field(description="Whether its heartbeat has moved within the time limit.")
    last_seen_s: float = Field(
        description="Seconds since the process that answers saw its heartbeat move, on that process's own clock."
    )
    started_at: datetime = Field(description="When it came.")
    training: list[Trained] = Field(description="What it trains of your runs, the oldest first.")


class Status(Answer):
    """The queue, the slots, and every worker."""

    version: str = Field(description="The version of the process that answers.")
    database: str = Field(description="Which database it works on: sqlite or postgresql.")
    queue: Queue = Field(description="The runs that wait.")
    runs: dict[str, int] = Field(description="How many runs there are in each status that any is in.")
    slots: Slots = Field(description="Slots of the workers that live.")
    workers: list[Worker] = Field(
        description="In the order they came; one that died without taking its leave stays for an hour."
    )
