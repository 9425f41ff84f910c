"""Epochs over HTTP: by polling, and as server-sent events."""

import asyncio
import csv
import io
import json
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from chainrule.app.api.dependencies import After, Parts, RunId, Service
from chainrule.app.api.problems import documented
from chainrule.app.api.representations import CSV, JSON, NDJSON, choose, json_response
from chainrule.app.api.schemas.epochs import Epochs
from chainrule.app.errors import InvalidInput, NotAcceptable, NotFound
from chainrule.app.services import diagnoses, epochs, runs
from chainrule.app.services.epochs import COLUMNS, Page
from chainrule.app.store.database import UNREACHABLE

router = APIRouter(prefix="/runs/{run_id}", tags=["epochs"])
KEEP_ALIVE_S = 15.0
UNREACHABLE_S = 1.0
EVENTS_PAGE = 1000
RETRY_MS = 1000
END = "end"
TOLD = ("rule", "severity", "title", "layer", "first_epoch", "sentence", "fix")
"""Of a verdict, in an event."""


@router.get(
    "/epochs",
    summary="Read cost and error of each epoch",
    response_model=Epochs,
    responses={
        200: {
            "description": "The epochs: columns as JSON, one object a line as NDJSON, one row an epoch as CSV.",
            "content": {NDJSON: {"schema": {"type": "string"}}, CSV: {"schema": {"type": "string"}}},
        },
        **documented(NotFound, NotAcceptable, InvalidInput),
    },
)
def read_epochs(
    request: Request,
    service: Service,
    run_id: RunId,
    after: After = -1,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Most epochs of an answer.")] = 1000,
    at_most: Annotated[
        int | None,
        Query(ge=2, le=10_000, description="Thin all epochs out to about so many; the answer says so if it did."),
    ] = None,
    format: Annotated[str | None, Query(description="json, ndjson or csv; in place of `Accept`.")] = None,
) -> Any:
    """Costs, errors, learning rate and seconds of the epochs behind `after`, which is a cursor: poll with the
    last epoch you have.
    """
    chosen = choose(request, format, {"json": JSON, "ndjson": NDJSON, "csv": CSV})
    page = epochs.page(service.database, run_id, after=after, limit=limit, at_most=at_most)
    if chosen == "ndjson":
        return Response("".join(json.dumps(_named(row)) + "\n" for row in page.rows), media_type=NDJSON)
    if chosen == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *page.rows])
        return Response(text.getvalue(), media_type=CSV)
    columns = zip(*page.rows, strict=True) if page.rows else ([] for _ in COLUMNS)
    thinned = None if page.stride is None else {"stride": page.stride, "of": page.of}
    return json_response(
        {
            "run": page.run_id,
            "status": page.status,
            "done": page.done,
            "columns": dict(zip(COLUMNS, columns, strict=True)),
            "next_after": page.next_after,
            "downsampled": thinned,
        }
    )


@router.get(
    "/events",
    summary="Follow a run by server-sent events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`epoch` (its id is the epoch's number), `diagnosis` when something is found wrong or is "
            "over, before the epoch at which it is said, `status` at each change of state, and `end` with the run as "
            "it ended. A comment every 15 s keeps the connection open.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'event: epoch\ndata: {"epoch": 0, "cost": 0.7}\nid: 0\n\n',
                }
            },
        },
        204: {"description": "You have it all: `Last-Event-ID` was `end`. An EventSource stops."},
        **documented(NotFound, InvalidInput),
    },
)
async def follow_run(
    service: Service,
    run_id: RunId,
    after: After = -1,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            pattern=r"^(-?[0-9]{1,12}|end)?$",
            description="The last epoch you have, in place of `after`; `end` if you have it all.",
        ),
    ] = None,
) -> Response:
    """All epochs behind `after`, then each new one as it is recorded, until the run has ended.

    A browser's EventSource takes up by itself where it left, and is told by 204 that there is no more.
    """
    if last_event_id == END:
        return Response(status_code=204)
    if last_event_id:
        after = int(last_event_id)
    first = await _look(service, run_id, after)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(service, first), headers=headers, media_type="text/event-stream")


@dataclass(frozen=True)
class _Look:
    """What is new of a run: a page of its epochs, as events, and the run if that was all there will be."""

    page: Page
    after: int
    events: bytes
    run: dict[str, Any] | None


async def _look(service: Parts, run_id: str, after: int) -> _Look:
    """Read what lies behind an epoch and write it down as events: once for all streams that are there just now.

    One that joins a look already under way may see what was true a moment before its own change; its revision
    tells, and it looks again.
    """
    place = (service.database.owner, run_id, after)
    look: asyncio.Task[_Look] | None = service.looks.get(place)
    if look is None:

        def over(task: asyncio.Task[_Look]) -> None:
            del service.looks[place]
            if not task.cancelled():
                task.exception()  # those who wait are told of it; there may be none

        look = asyncio.create_task(run_in_threadpool(_read, service, run_id, after))
        service.looks[place] = look
        look.add_done_callback(over)
    return await asyncio.shield(look)  # whoever leaves does not take it away from the others


def _read(service: Parts, run_id: str, after: int) -> _Look:
    page = epochs.page(service.database, run_id, after=after, limit=EVENTS_PAGE)
    ended = page.next_after is None and page.done
    # What is said of an epoch goes before it: whoever has the epoch, and comes back, has heard it.
    last = math.inf if ended else page.rows[-1][0] if page.rows else after
    said = sorted((one for one in _said(page) if after < one[0] <= last), key=lambda one: one[:2])
    events = b""
    for row in page.rows:
        while said and said[0][0] <= row[0]:
            events += _event("diagnosis", said.pop(0)[2])
        events += _event("epoch", _named(row), str(row[0]))
    events += b"".join(_event("diagnosis", seen) for _, _, seen in said)
    run = runs.get(service.database, run_id) if ended else None
    return _Look(replace(page, rows=[]), page.rows[-1][0] if page.rows else after, events, run)


def _said(page: Page) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Go through what was said of a run: when, in which order, and what; a verdict when it was raised, and taken back.

    It is all in the verdicts as they are now, so that everybody is told the same, whenever they listen.
    """
    for number, stored in enumerate(page.diagnoses):
        verdict = diagnoses.view(stored)
        shown = {name: verdict[name] for name in TOLD}
        yield verdict["raised_at"], number, shown | {"epoch": verdict["raised_at"], "state": "raised"}
        if (cleared := verdict["cleared_at"]) is not None:
            yield cleared, number, shown | {"epoch": cleared, "state": "cleared"}


async def _events(service: Parts, look: _Look) -> AsyncIterator[bytes]:
    status = None
    yield format_sse_event(retry=RETRY_MS)
    while True:
        page, news = look.page, look.events
        if page.next_after is None and page.status != status:
            status = page.status
            news += _event("status", {"status": status, "reason": page.reason, "detail": page.detail})
        if look.run is not None:
            yield news + _event(END, look.run, END)
            return
        if news:
            yield news
        if page.next_after is None:
            revision = page.revision

            def changed(state: Any, revision: int = revision) -> bool:
                return state is None or bool(state[1] != revision)

            while not await service.watching.wait(page.run_id, changed, KEEP_ALIVE_S):
                if service.watching.closed:
                    return
                yield KEEPALIVE_COMMENT
        while True:
            try:
                look = await _look(service, page.run_id, look.after)
                break
            except NotFound:
                return  # deleted while somebody looked on: coming back they will be told
            except UNREACHABLE:
                # The run trains on without the database for a while, and so long its watchers wait.
                yield KEEPALIVE_COMMENT
                await asyncio.sleep(UNREACHABLE_S)


def _named(row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(COLUMNS, row, strict=True))


def _event(name: str, data: Any, event_id: str | None = None) -> bytes:
    return format_sse_event(data_str=json.dumps(data, separators=(",", ":")), event=name, id=event_id)
