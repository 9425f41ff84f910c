"""Lines of the log name what they concern."""

import json
import logging
import sys
from contextvars import copy_context
from threading import Thread

from chainrule.app import logs


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("here").makeRecord("here", logging.INFO, "", 0, message, (), None, extra=extra)
    logs._note(made)
    return made


def test_a_line_names_what_it_concerns_and_only_while_it_does() -> None:
    with logs.concerning(request_id="q"), logs.concerning(run_id="r"):
        inside = logs._Text().format(record("trained"))
    assert inside.endswith("INFO here trained [request_id=q run_id=r]")
    assert logs._Text().format(record("idle")).endswith("INFO here idle")


def test_an_object_holds_the_message_the_ids_the_fields_and_the_exception() -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        with logs.concerning(run_id="r", attempt_id="a"):
            made = record('said "no"\nand more', fields={"seconds": 0.5})
            made.exc_info = sys.exc_info()
    text = logs._Json().format(made)
    assert "\n" not in text
    entry = json.loads(text)
    assert (entry["message"], entry["level"], entry["logger"]) == ('said "no"\nand more', "INFO", "here")
    assert (entry["run_id"], entry["attempt_id"], entry["seconds"]) == ("r", "a", 0.5)
    assert "ValueError: no such thing" in entry["exception"]


def test_a_thread_that_is_given_the_context_names_it_too() -> None:
    lines = []
    with logs.concerning(run_id="r"):
        thread = Thread(target=copy_context().run, args=(lambda: lines.append(logs._Text().format(record("x"))),))
        thread.start()
        thread.join()
    assert lines[0].endswith("[run_id=r]")
