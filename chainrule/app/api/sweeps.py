"""Sweeps over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import ValidationError

from chainrule.app.api.dependencies import (
    Cursor,
    IdempotencyKey,
    IfNoneMatch,
    Parts,
    Purge,
    Service,
    WaitSeconds,
    json_only,
    key_for,
    matches,
    to_cursor,
)
from chainrule.app.api.epochs import KEEP_ALIVE_S, RETRY_MS, UNREACHABLE_S
from chainrule.app.api.problems import documented, of_model
from chainrule.app.api.representations import json_response
from chainrule.app.api.schemas.specs import RunSpec
from chainrule.app.api.schemas.sweeps import GRID, HALVING, MemberPage, Preview, Sweep, SweepPage, SweepSpec
from chainrule.app.errors import (
    Conflict,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InvalidInput,
    LimitExceeded,
    Malformed,
    NotFound,
    OwnerQueueFull,
    OwnerStorageFull,
    QueueFull,
    StorageFull,
    TooLarge,
    UnsupportedMediaType,
)
from chainrule.app.services import strategies, sweeps
from chainrule.app.services.watching import State
from chainrule.app.store.database import UNREACHABLE

router = APIRouter(prefix="/sweeps", tags=["sweeps"])
ETAG = {
    "ETag": {"description": "Changes with every change of the sweep or one of its runs.", "schema": {"type": "string"}}
}
END = "end"
SHORTEST_S = 0.2
"""Changes of a sweep that come closer together than this are told together."""
LATEST = "latest"


async def _sweep_id(
    service: Service,
    sweep_id: Annotated[
        str,
        Path(
            pattern=r"^(sweep_[a-z0-9]{1,40}|latest)$",
            description="Id of a sweep; for reading also `latest`, the one submitted last.",
            openapi_examples={"latest": {"value": LATEST}},
        ),
    ],
) -> str:
    if sweep_id != LATEST:
        return sweep_id
    newest = await run_in_threadpool(sweeps.page, service.database, limit=1, cursor_id=None)
    if not newest:
        raise NotFound("No sweep has been submitted yet; POST /v1/sweeps submits one.")
    found: str = newest[0]["id"]
    return found


SweepId = Annotated[str, Depends(_sweep_id)]
ExactSweepId = Annotated[str, Path(alias="sweep_id", pattern=r"^sweep_[a-z0-9]{1,40}$", description="Id of a sweep.")]


@router.post(
    "",
    status_code=201,
    summary="Submit a sweep",
    response_model=Sweep,
    dependencies=[Depends(json_only)],
    responses={
        200: {"model": Preview, "description": "With `validate_only`: what its members would be."},
        201: {
            "description": "The sweep as it was stored; with `Prefer: wait=N` as it ended or stood after N seconds.",
            "headers": ETAG | {"Location": {"description": "Where it is.", "schema": {"type": "string"}}},
        },
        **documented(
            Malformed, IdempotencyInFlight, TooLarge, UnsupportedMediaType, InvalidInput, LimitExceeded,
            IdempotencyMismatch, QueueFull, OwnerQueueFull, StorageFull, OwnerStorageFull,
        ),
    },
    openapi_extra={
        "requestBody": {
            "content": {
                "application/json": {
                    "examples": {
                        "grid": {"summary": "Every combination of two learning rates and two seeds", "value": GRID},
                        "halving": {"summary": "Random learning rates, the better half goes on", "value": HALVING},
                    }
                }
            }
        }
    },
)  # fmt: skip
async def submit_sweep(
    request: Request,
    service: Service,
    spec: SweepSpec,
    wait_s: WaitSeconds,
    idempotency_key: IdempotencyKey = None,
    validate_only: Annotated[
        bool, Query(description="Check the sweep and tell what its members would be; submit nothing.")
    ] = False,
) -> Any:
    """Each member is a run like any other, with its own epochs and weights, to the bit as it would end alone.

    All members are checked before anything is stored, and stored together.
    """
    given = spec.model_dump()
    key = key_for(request, idempotency_key, spec)

    def answer() -> tuple[dict[str, Any], bool]:
        candidates = strategies.expand(service.settings, given, _checked)
        if validate_only:
            return sweeps.preview(service.database, service.settings, given, candidates), False
        submitted = sweeps.submit(service.database, service.settings, given, candidates, key=key)
        return submitted.run, submitted.replayed

    sweep, replayed = await run_in_threadpool(answer)
    if validate_only:
        return json_response(sweep)
    headers = {"Location": f"/v1/sweeps/{sweep['id']}"}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
        sweep = await _ended(service, sweep["id"], wait_s)
    return json_response(sweep, 201, headers | {"ETag": _etag(sweep)})


def _checked(spec: dict[str, Any]) -> dict[str, Any]:
    """Check the spec of a member as that of a run is checked."""
    try:
        return RunSpec.model_validate(spec).model_dump()
    except ValidationError as error:
        found = of_model(error)
        raise InvalidInput(f"A member is no run: {found[0].detail} ({found[0].pointer})", errors=found) from error


@router.get(
    "",
    summary="List sweeps",
    response_description="A page of sweeps.",
    response_model=SweepPage,
    responses=documented(InvalidInput),
)
def list_sweeps(
    service: Service,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Most items of a page.")] = 50,
    deleted: Annotated[
        bool, Query(description="Those that are deleted and can be restored, in place of others.")
    ] = False,
) -> Any:
    """The newest first, each with how far it has come and its best member."""
    items = sweeps.page(service.database, limit=limit + 1, cursor_id=cursor, deleted=deleted)
    more = len(items) > limit
    return json_response({"items": items[:limit], "next_cursor": to_cursor(items[limit - 1]["id"]) if more else None})


@router.get(
    "/{sweep_id}",
    summary="Look at a sweep",
    response_model=Sweep,
    responses={
        200: {"description": "The sweep.", "headers": ETAG},
        304: {"description": "It is what you have."},
        **documented(NotFound),
    },
)
async def get_sweep(service: Service, sweep_id: SweepId, wait_s: WaitSeconds, if_none_match: IfNoneMatch = None) -> Any:
    """How far its runs have come together, and which is best. With `Prefer: wait=N` when it has ended."""
    sweep = await run_in_threadpool(sweeps.get, service.database, sweep_id)
    if wait_s and not sweep["done"]:
        sweep = await _ended(service, sweep_id, wait_s)
    headers = {"ETag": _etag(sweep), "Cache-Control": "no-cache"}
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return json_response(sweep, headers=headers)


@router.get(
    "/{sweep_id}/members",
    summary="List the members of a sweep",
    response_description="A page of members.",
    response_model=MemberPage,
    responses=documented(NotFound, InvalidInput),
)
def list_members(
    service: Service,
    sweep_id: SweepId,
    after: Annotated[int, Query(ge=-1, le=10**12, description="Only members behind this position.")] = -1,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most items of a page.")] = 200,
) -> Any:
    """Each with the values that make it differ, its run, and where that stands."""
    items, more = sweeps.members(service.database, sweep_id, after=after, limit=limit)
    return json_response({"items": items, "next_after": more})


@router.get(
    "/{sweep_id}/events",
    summary="Follow a sweep",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events: `sweep` with its state when it has changed, `end` with the last one.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'event: sweep\ndata: {"status": "running"}\nid: 12\n\n',
                }
            },
        },
        204: {"description": "You have it all: `Last-Event-ID` was `end`. An EventSource stops."},
        **documented(NotFound),
    },
)
async def follow_sweep(
    service: Service,
    sweep_id: SweepId,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", pattern=r"^([0-9]{1,15}|end)?$", description="The last event you have."),
    ] = None,
) -> Response:
    """The sweep as it stands, and again whenever it or one of its runs has changed, until it has ended."""
    if last_event_id == END:
        return Response(status_code=204)
    first = await run_in_threadpool(sweeps.get, service.database, sweep_id)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(service, first), headers=headers, media_type="text/event-stream")


@router.post(
    "/{sweep_id}/cancel",
    status_code=202,
    summary="Cancel a sweep",
    response_model=Sweep,
    responses={
        200: {"model": Sweep, "description": "It is cancelled.", "headers": ETAG},
        202: {"description": "Its running runs will stop at their next step.", "headers": ETAG},
        **documented(NotFound, Conflict),
    },
)
def cancel_sweep(service: Service, sweep_id: ExactSweepId) -> Any:
    """Waiting runs are cancelled at once, running ones stop at their next step; those that have ended stay.

    Repeating it is harmless. A sweep that has ended otherwise is a conflict.
    """
    sweep = sweeps.cancel(service.database, sweep_id)
    return json_response(sweep, 200 if sweep["done"] else 202, {"ETag": _etag(sweep)})


@router.delete(
    "/{sweep_id}",
    status_code=204,
    summary="Delete a sweep",
    response_description="It is deleted.",
    responses=documented(NotFound, Conflict),
)
def delete_sweep(service: Service, sweep_id: ExactSweepId, purge: Purge = False) -> None:
    """With its runs and all they recorded. Only a sweep that has ended: cancel it first.

    It can be restored for a while, as deleted runs can; with `purge` it is removed for good at once.
    """
    sweeps.delete(service.database, sweep_id, purge=purge)


@router.post(
    "/{sweep_id}/restore",
    summary="Restore a deleted sweep",
    response_model=Sweep,
    responses={200: {"description": "It is back, as it was.", "headers": ETAG}, **documented(NotFound)},
)
def restore_sweep(service: Service, sweep_id: ExactSweepId) -> Any:
    """With the runs that were deleted with it and have not been removed or restored since. Repeating it is harmless.

    `GET /v1/sweeps?deleted=true` lists what can be restored.
    """
    sweep = sweeps.restore(service.database, sweep_id)
    return json_response(sweep, headers={"ETag": _etag(sweep)})


async def _events(service: Parts, sweep: dict[str, Any]) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RETRY_MS)
    while True:
        name = END if sweep["done"] else "sweep"
        data = json.dumps(sweep, separators=(",", ":"))
        yield format_sse_event(data_str=data, event=name, id=END if sweep["done"] else str(sweep["revision"]))
        if sweep["done"]:
            return
        revision = sweep["revision"]

        def changed(state: State | None, revision: int = revision) -> bool:
            return state is None or state[1] != revision

        await asyncio.sleep(SHORTEST_S)
        while not await service.watching.wait(sweep["id"], changed, KEEP_ALIVE_S):
            if service.watching.closed:
                return
            yield KEEPALIVE_COMMENT
        while True:
            try:
                sweep = await run_in_threadpool(sweeps.get, service.database, sweep["id"])
                break
            except NotFound:
                return  # deleted while somebody looked on: coming back they will be told
            except UNREACHABLE:
                yield KEEPALIVE_COMMENT
                await asyncio.sleep(UNREACHABLE_S)


async def _ended(service: Parts, sweep_id: str, wait_s: int) -> dict[str, Any]:
    """Wait until a sweep has ended, or the time is up."""
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        sweep = await run_in_threadpool(sweeps.get, service.database, sweep_id)
        left = deadline - asyncio.get_running_loop().time()
        if sweep["done"] or left <= 0 or service.watching.closed:
            return sweep
        revision = sweep["revision"]

        def changed(state: State | None, revision: int = revision) -> bool:
            return state is None or state[1] != revision

        await service.watching.wait(sweep_id, changed, left)


def _etag(sweep: dict[str, Any]) -> str:
    # With a member deleted the sum of revisions may come to one it has had before.
    return f'"s{sweep["revision"]}-{sweep["members"]}"'
