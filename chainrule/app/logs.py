"""The log: lines for people or for programs, each with the request, the run and the attempt it concerns."""

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

_concerns: ContextVar[dict[str, str] | None] = ContextVar("concerns", default=None)


@contextmanager
def concerning(**ids: str) -> Iterator[None]:
    """Have every line that is logged meanwhile, in this thread or task, name these ids."""
    token = _concerns.set({**(_concerns.get() or {}), **ids})
    try:
        yield
    finally:
        _concerns.reset(token)


def install(level: str, form: str) -> None:
    """Write the log of this process to standard error, as text or as one JSON object a line."""
    handler = logging.StreamHandler()
    handler.addFilter(_note)
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _note(record: logging.LogRecord) -> bool:
    record.concerns = _concerns.get() or {}
    return True


class _Text(logging.Formatter):
    """For people: the ids stand in brackets at the end of the first line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Write the line itself."""
        ids = " ".join(f"{name}={value}" for name, value in getattr(record, "concerns", {}).items())
        line = super().formatMessage(record)
        return f"{line} [{ids}]" if ids else line


class _Json(logging.Formatter):
    """For programs: one object a line, with an entry for each id, and for what a line says in fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as JSON."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "concerns", {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(entry, ensure_ascii=False, default=str)
