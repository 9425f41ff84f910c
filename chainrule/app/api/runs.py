"""Runs over HTTP."""

import hashlib
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from chainrule.app.api.dependencies import (
    Cursor,
    ExactRunId,
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    Parts,
    Purge,
    RunId,
    Service,
    WaitSeconds,
    json_only,
    key_for,
    matches,
    to_cursor,
)
from chainrule.app.api.problems import documented
from chainrule.app.api.representations import json_response
from chainrule.app.api.schemas.runs import Attempts, Run, RunPage, Validated
from chainrule.app.api.schemas.specs import DIGITS, XOR, Extension, RunChanges, RunSpec, VerificationSpec
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
    PreconditionFailed,
    QueueFull,
    StorageFull,
    TooLarge,
    UnsupportedMediaType,
)
from chainrule.app.run_status import RunStatus
from chainrule.app.services import lineage, runs, verifications
from chainrule.app.services.watching import State

router = APIRouter(prefix="/runs", tags=["runs"])
ETAG = {"ETag": {"description": "Changes with every change of the run.", "schema": {"type": "string"}}}
CREATED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "The run as it was stored; with `Prefer: wait=N` as it ended or stood after N seconds.",
        "headers": ETAG | {"Location": {"description": "Where it is.", "schema": {"type": "string"}}},
    },
    **documented(
        Malformed, IdempotencyInFlight, TooLarge, UnsupportedMediaType, InvalidInput, LimitExceeded,
        IdempotencyMismatch, QueueFull, OwnerQueueFull, StorageFull, OwnerStorageFull,
    ),
}  # fmt: skip
VALIDATED = {"model": Validated, "description": "With `validate_only`: the spec is good, and this is what it takes."}
ValidateOnly = Annotated[bool, Query(description="Check the spec and estimate what it takes; submit nothing.")]


@router.post(
    "",
    status_code=201,
    summary="Submit a run",
    response_model=Run,
    response_model_exclude_unset=True,
    dependencies=[Depends(json_only)],
    responses={200: VALIDATED, **CREATED},
    openapi_extra={
        "requestBody": {
            "content": {
                "application/json": {
                    "examples": {
                        "xor": {"summary": "Exclusive or (XOR), well under a second", "value": XOR},
                        "digits": {"summary": "Handwritten digits, in a second", "value": DIGITS},
                    }
                }
            }
        }
    },
)
async def submit_run(
    request: Request,
    service: Service,
    spec: RunSpec,
    wait_s: WaitSeconds,
    idempotency_key: IdempotencyKey = None,
    validate_only: ValidateOnly = False,
) -> Any:
    """Once this is answered 201 the run is stored and will be trained, whatever is killed.

    The spec is checked against the dataset and the limits of the service before anything is stored.
    """
    given = spec.model_dump()
    if validate_only:
        return json_response(await run_in_threadpool(runs.validate, service.database, service.settings, given))
    key = key_for(request, idempotency_key, spec)
    submitted = await run_in_threadpool(runs.submit, service.database, service.settings, given, key=key)
    return await _created(service, submitted, wait_s)


@router.get(
    "",
    summary="List runs",
    response_description="A page of runs.",
    response_model=RunPage,
    responses={304: {"description": "The page is what you have."}, **documented(InvalidInput)},
)
def list_runs(
    service: Service,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Most items of a page.")] = 50,
    status: Annotated[list[RunStatus] | None, Query(description="Only these statuses; may be repeated.")] = None,
    name: Annotated[
        str | None, Query(max_length=200, pattern=r"^[^\x00-\x1f]*$", description="Only this name.")
    ] = None,
    search: Annotated[
        str | None,
        Query(
            max_length=200,
            pattern=r"^[^\x00-\x1f]*$",
            description="Only runs with this in their name or in that of their dataset, or with this id.",
        ),
    ] = None,
    dataset: Annotated[
        str | None, Query(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Only runs that learn from this dataset.")
    ] = None,
    verifies: Annotated[
        str | None,
        Query(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="The verifications of this run, which no other list has."),
    ] = None,
    deleted: Annotated[
        bool, Query(description="Those that are deleted and can be restored, in place of others.")
    ] = False,
    sort: Annotated[
        Literal["created_at", "-created_at"], Query(description="Order of submission; `-` for newest first.")
    ] = "-created_at",
    costs: Annotated[
        int | None,
        Query(ge=2, le=100, description="Give the costs of about so many epochs of each run, its newest among them."),
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """Where each run stands; without its epochs, but for `costs` to draw a small curve from."""
    items = runs.page(
        service.database,
        limit=limit + 1,
        cursor_id=cursor,
        statuses=list(status or ()),
        name=name,
        search=search,
        dataset=dataset,
        verifies=verifies,
        deleted=deleted,
        newest_first=sort == "-created_at",
        costs=costs,
    )
    more = len(items) > limit
    page = {"items": items[:limit], "next_cursor": to_cursor(items[limit - 1]["id"]) if more else None}
    answer = json_response(page)
    answer.headers["ETag"] = etag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    return Response(status_code=304, headers={"ETag": etag}) if matches(if_none_match, etag) else answer


@router.get(
    "/{run_id}",
    summary="Look at a run",
    response_model=Run,
    response_model_exclude_unset=True,
    responses={
        200: {"description": "The run.", "headers": ETAG},
        304: {"description": "It is what you have."},
        **documented(NotFound),
    },
)
async def get_run(service: Service, run_id: RunId, wait_s: WaitSeconds, if_none_match: IfNoneMatch = None) -> Any:
    """Status, progress and newest costs, and the history of its states.

    With `Prefer: wait=N` the answer comes when the run has ended; with an `If-None-Match` beside it,
    when the run has changed.
    """
    run = await run_in_threadpool(runs.get, service.database, run_id)
    if wait_s and not run["done"]:
        if if_none_match is None:
            await _ended(service, run_id, wait_s)
        elif matches(if_none_match, _etag(run)):
            revision = run["revision"]
            await service.watching.wait(run_id, lambda state: state is None or state[1] != revision, wait_s)
        run = await run_in_threadpool(runs.get, service.database, run_id)
    headers = {"ETag": _etag(run), "Cache-Control": "no-cache"}
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return json_response(run, headers=headers)


@router.get(
    "/{run_id}/attempts",
    summary="List the attempts at a run",
    response_description="The attempts.",
    response_model=Attempts,
    responses=documented(NotFound),
)
def list_attempts(service: Service, run_id: RunId) -> Any:
    """Which worker trained it, from which step to which, and why that ended."""
    return json_response({"items": runs.attempts(service.database, run_id)})


@router.post(
    "/{run_id}/cancel",
    status_code=202,
    summary="Cancel a run",
    response_model=Run,
    response_model_exclude_unset=True,
    responses={
        200: {"model": Run, "description": "It is cancelled.", "headers": ETAG},
        202: {"description": "It is running and will stop at its next step.", "headers": ETAG},
        **documented(NotFound, Conflict, PreconditionFailed),
    },
)
def cancel_run(service: Service, run_id: ExactRunId, if_match: IfMatch) -> Any:
    """A waiting run is cancelled at once; a running one stops at its next step and keeps what it recorded.

    Repeating it is harmless. A run that has ended otherwise is a conflict.
    """
    run = runs.cancel(service.database, run_id, if_match=if_match)
    return json_response(run, 200 if run["done"] else 202, {"ETag": _etag(run)})


@router.post(
    "/{run_id}/pause",
    status_code=202,
    summary="Pause a run",
    response_model=Run,
    response_model_exclude_unset=True,
    responses={
        200: {"model": Run, "description": "It is paused.", "headers": ETAG},
        202: {"description": "It is running and will stop at its next step.", "headers": ETAG},
        **documented(NotFound, Conflict, PreconditionFailed),
    },
)
def pause_run(service: Service, run_id: ExactRunId, if_match: IfMatch) -> Any:
    """A waiting run leaves the queue at once; a running one stops at its next step and leaves its slot to others.

    Nothing is lost: when it is resumed it goes on from that step, to the weights it would have had. A run of a
    sweep stops by itself, the others go on. Repeating it is harmless. A run that has ended is a conflict.
    """
    run = runs.pause(service.database, run_id, if_match=if_match)
    return json_response(run, 202 if run["pause_requested"] else 200, {"ETag": _etag(run)})


@router.post(
    "/{run_id}/resume",
    summary="Resume a run",
    response_description="The run: in the queue, or running still.",
    response_model=Run,
    response_model_exclude_unset=True,
    responses={200: {"headers": ETAG}, **documented(NotFound, Conflict, PreconditionFailed, QueueFull, OwnerQueueFull)},
)
def resume_run(service: Service, run_id: ExactRunId, if_match: IfMatch) -> Any:
    """A paused run goes back into the queue; one that has not stopped yet need not.

    Repeating it is harmless, and so is resuming a run that is not paused. A run that has ended is a conflict:
    extend it.
    """
    run = runs.resume(service.database, service.settings, run_id, if_match=if_match)
    return json_response(run, headers={"ETag": _etag(run)})


@router.post(
    "/{run_id}/extend",
    status_code=201,
    summary="Extend a run",
    response_model=Run,
    response_model_exclude_unset=True,
    dependencies=[Depends(json_only)],
    responses={**CREATED, **documented(NotFound, Conflict, IdempotencyInFlight)},
)
async def extend_run(
    request: Request,
    service: Service,
    run_id: RunId,
    extension: Extension,
    wait_s: WaitSeconds,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Makes a new run that goes on where this one ended; this one stays as it is, and may be deleted.

    The new run begins with a copy of all that this one recorded, and ends with the weights that as many
    epochs from the start would give, to the bit. Where that cannot be, it is refused: while the run has
    not ended, after it has diverged or stopped early, or with a schedule that depends on the number of epochs (cosine).
    The limits are those of the whole run.
    """
    length = lineage.Length(extension.epochs, extension.to)
    key = key_for(request, idempotency_key, extension)
    extended = await run_in_threadpool(lineage.extend, service.database, service.settings, run_id, length, key=key)
    return await _created(service, extended, wait_s)


@router.post(
    "/{run_id}/clone",
    status_code=201,
    summary="Clone a run, with changes",
    response_model=Run,
    response_model_exclude_unset=True,
    dependencies=[Depends(json_only)],
    responses={200: VALIDATED, **CREATED, **documented(NotFound)},
)
async def clone_run(
    request: Request,
    service: Service,
    run_id: RunId,
    changes: RunChanges,
    wait_s: WaitSeconds,
    idempotency_key: IdempotencyKey = None,
    validate_only: ValidateOnly = False,
) -> Any:
    """Submits a new run with the config of this one, in which each field given is replaced as a whole.

    `{"optimizer": {"name": "sgd"}}` takes SGD with its usual numbers and nothing of the optimizer there was;
    null takes a field back to its default. Everything else is as for submitting a run. Without a change,
    under the same builds, it ends with the same weights, to the bit.
    """
    given = changes.model_dump(include=changes.model_fields_set)
    if validate_only:
        spec = await run_in_threadpool(lineage.changed, service.database, run_id, given)
        return json_response(await run_in_threadpool(runs.validate, service.database, service.settings, spec))
    key = key_for(request, idempotency_key, changes.model_dump_json(exclude_unset=True).encode())
    cloned = await run_in_threadpool(lineage.clone, service.database, service.settings, run_id, given, key=key)
    return await _created(service, cloned, wait_s)


@router.post(
    "/{run_id}/verify",
    status_code=201,
    summary="Verify a run",
    response_model=Run,
    response_model_exclude_unset=True,
    dependencies=[Depends(json_only)],
    responses={**CREATED, **documented(NotFound, Conflict, IdempotencyInFlight)},
)
async def verify_run(
    request: Request,
    service: Service,
    run_id: RunId,
    which: VerificationSpec,
    wait_s: WaitSeconds,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Trains it once more and compares, epoch by epoch, the SHA-256 of the weights and the costs with those stored.

    Makes a run that waits, trains, survives kills and is followed, cancelled and deleted as any other, and stores
    nothing but what comes out: `verification` names the first epoch that differs, or says that all are equal, and the
    builds then; `builds` are those now. `GET /v1/runs?verifies=…` lists the verifications of a run. A run that has
    not ended is compared up to what it has recorded.
    """
    given = verifications.Range(which.after, which.to)
    key = key_for(request, idempotency_key, which)
    made = await run_in_threadpool(verifications.verify, service.database, service.settings, run_id, given, key=key)
    return await _created(service, made, wait_s)


@router.delete(
    "/{run_id}",
    status_code=204,
    summary="Delete a run",
    response_description="It is deleted.",
    responses=documented(NotFound, Conflict, PreconditionFailed),
)
def delete_run(service: Service, run_id: ExactRunId, if_match: IfMatch, purge: Purge = False) -> None:
    """With its epochs, checkpoints and statistics. Only a run that has ended: cancel it first.

    It can be restored for a while (a week, unless the service is set otherwise), and is removed for good then; with
    `purge` at once, also if it is deleted already.
    """
    runs.delete(service.database, run_id, if_match=if_match, purge=purge)


@router.post(
    "/{run_id}/restore",
    summary="Restore a deleted run",
    response_model=Run,
    response_model_exclude_unset=True,
    responses={200: {"description": "It is back, as it was.", "headers": ETAG}, **documented(NotFound)},
)
def restore_run(service: Service, run_id: ExactRunId) -> Any:
    """With all it recorded, as long as it has not been removed for good. Repeating it is harmless.

    `GET /v1/runs?deleted=true` lists what can be restored.
    """
    run = runs.restore(service.database, run_id)
    return json_response(run, headers={"ETag": _etag(run)})


async def _created(service: Parts, submitted: runs.Submitted, wait_s: int) -> Response:
    run = submitted.run
    headers = {"Location": f"/v1/runs/{run['id']}"}
    if submitted.replayed:
        headers["Idempotency-Replayed"] = "true"
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
        await _ended(service, run["id"], wait_s)
        with suppress(NotFound):  # repeated under its key after the run was deleted: the answer stays
            run = await run_in_threadpool(runs.get, service.database, run["id"])
    return json_response(run, 201, headers | {"ETag": _etag(run)})


async def _ended(service: Parts, run_id: str, wait_s: int) -> None:
    def until(state: State | None) -> bool:
        return state is None or RunStatus(state[0]).terminal

    await service.watching.wait(run_id, until, wait_s)


def _etag(run: dict[str, Any]) -> str:
    return f'"r{run["revision"]}"'
