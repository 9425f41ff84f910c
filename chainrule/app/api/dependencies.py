"""What endpoints ask for: the service's parts, conditions, preferences, places in lists."""

import base64
import binascii
import dataclasses
import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args, get_origin

from fastapi import Depends, Header, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, BaseModel

from chainrule.app.api.access import caller_of
from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput, NotFound, UnsupportedMediaType
from chainrule.app.services import checkpoints, idempotency, runs
from chainrule.app.services.monitoring import Monitoring
from chainrule.app.services.watching import Watching
from chainrule.app.store.database import Database

LATEST = "latest"
MOST_WAIT_S = 60
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ETAG = r'(W/)?"[!#-~]*"'
_ETAGS = rf"^(\*|{_ETAG}([ \t]*,[ \t]*{_ETAG})*)$"
"""`If-Match` as RFC 9110, 13.1.1, has it."""
_EPOCH = re.compile(r"final|last|best|0|[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class Parts:
    """What the service is made of, made once by `create_app`; an endpoint gets the caller's part of the database."""

    database: Database
    settings: Settings
    watching: Watching
    monitoring: Monitoring
    looks: dict[Any, Any] = dataclasses.field(default_factory=dict)
    """What event streams are reading just now, for all of them together."""


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    database = parts.database.of(caller_of(request).owner)
    note = request.scope["state"].get("note")
    return replace(parts, database=database if note is None else database.noting(note))


Service = Annotated[Parts, Depends(_parts)]


async def _run_id(
    service: Service,
    run_id: Annotated[
        str,
        Path(
            description="The run's id, or `latest` for the one submitted last.",
            openapi_examples={LATEST: {"value": LATEST}},
        ),
    ],
) -> str:
    if run_id == LATEST:
        return await run_in_threadpool(runs.newest, service.database)
    return _known_form(run_id, "run")


async def _exact_run_id(
    run_id: Annotated[str, Path(description="The run's id; `latest` is not enough to change a run by.")],
) -> str:
    if run_id == LATEST:
        raise NotFound(f"{LATEST!r} is for reading; name the run to be changed by its id.")
    return _known_form(run_id, "run")


async def _dataset_id(
    dataset_id: Annotated[
        str,
        Path(
            description="The dataset's id, or the name of a built-in one.", openapi_examples={"xor": {"value": "xor"}}
        ),
    ],
) -> str:
    return _known_form(dataset_id, "dataset")


def _known_form(given: str, noun: str) -> str:
    if not _ID.fullmatch(given):
        raise NotFound(f"There is no {noun} {given!r}.")
    return given


RunId = Annotated[str, Depends(_run_id)]
ExactRunId = Annotated[str, Depends(_exact_run_id)]
DatasetId = Annotated[str, Depends(_dataset_id)]


Purge = Annotated[bool, Query(description="Remove it for good, at once; nothing brings it back.")]


async def _epoch_name(
    epoch: Annotated[
        str,
        Path(
            description="An epoch by number (0 is the untrained network); `final`: the one whose weights the run ends "
            "with, its last, or with early stopping its best (`best_epoch`); `last`: the newest that is kept; `best`: "
            "of those kept the one of the lowest validation cost, or of the lowest cost where there is no validation.",
            openapi_examples={"final": {"value": "final"}},
        ),
    ],
) -> str:
    if not _EPOCH.fullmatch(epoch):
        raise NotFound(f"There is no epoch {epoch!r}; name one by its number, or `final`, `last` or `best`.")
    return epoch


EpochName = Annotated[str, Depends(_epoch_name)]
After = Annotated[int, Query(ge=-1, le=10**12, description="Only what lies behind this epoch; -1 for all.")]


async def _wait_s(
    prefer: Annotated[
        str | None,
        Header(
            alias="Prefer",
            description=f"`wait=N`: answer when the run has ended, or after N seconds (at most {MOST_WAIT_S}).",
            openapi_examples={"wait": {"value": "wait=10"}},
        ),
    ] = None,
) -> int:
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", prefer or "")
    return min(int(found.group(1)), MOST_WAIT_S) if found else 0


WaitSeconds = Annotated[int, Depends(_wait_s)]
IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", description="ETags you have; the answer is 304 if one of them is still true."),
]


def _etags(given: str) -> str:
    if not re.fullmatch(_ETAGS, given):
        raise ValueError('This is no ETag; send one as it was given, in its quotes, such as "r12".')
    return given


async def _if_match(
    if_match: Annotated[
        Annotated[str, AfterValidator(_etags)] | None,
        Header(
            alias="If-Match",
            json_schema_extra={"pattern": _ETAGS},
            description="The ETag you decided by, in its quotes, or several; 412 if the run has changed.",
            openapi_examples={"any": {"value": "*"}},
        ),
    ] = None,
) -> Collection[int] | None:
    if if_match is None or if_match == "*":
        return None
    return {int(found) for found in re.findall(r'"r(\d{1,15})"', if_match)}


IfMatch = Annotated[Collection[int] | None, Depends(_if_match)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="A name for this request: repeated under it, the request is answered once and for all. Kept for "
        "a week, unless the service is set otherwise.",
    ),
]


def key_for(request: Request, name: str | None, body: BaseModel | bytes) -> idempotency.Key | None:
    """Tell a repeated request from another one under the same key."""
    if name is None:
        return None
    content = body if isinstance(body, bytes) else body.model_dump_json().encode()
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + content).hexdigest()
    return idempotency.Key(name, digest, caller_of(request).owner)


def matches(header: str | None, etag: str) -> bool:
    """Tell whether an If-None-Match header names the ETag (weak comparison)."""
    if header is None:
        return False
    given = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in given or etag.removeprefix("W/") in given


def names_one(request: Request, epoch: str) -> bool:
    """Tell whether a path names one epoch of one run for good, so that what is said of it stays."""
    return epoch not in checkpoints.ALIASES and request.path_params["run_id"] != LATEST


def to_cursor(last_id: str) -> str:
    """Make an opaque token for the place behind `last_id`."""
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


async def _from_cursor(
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
) -> str | None:
    if cursor is None:
        return None
    try:
        last_id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        last_id = ""
    if not _ID.fullmatch(last_id):
        raise InvalidInput.at("/cursor", "The cursor is none of ours; pass `next_cursor` as it was given.")
    return last_id


Cursor = Annotated[str | None, Depends(_from_cursor)]


async def json_only(request: Request) -> None:
    """Refuse a body that is not JSON before it is read as JSON.

    Raises:
        UnsupportedMediaType: it says that it is something else.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != "application/json" and not (given.startswith("application/") and given.endswith("+json")):
        raise UnsupportedMediaType(
            f"The body is {given or 'of no stated type'}; send JSON, with the header Content-Type: application/json."
        )


async def known_parameters(request: Request) -> None:
    """Refuse query parameters that the operation does not have: overlooking a mistyped one would mislead.

    Raises:
        InvalidInput: a parameter has no meaning here, or is given twice and can have one value.
    """
    known = dict(_query_parameters(request.scope["route"].dependant))
    for name in request.query_params:
        if name not in known:
            there = f"known: {', '.join(sorted(known))}" if known else "there are none"
            raise InvalidInput.at(f"/{name}", f"There is no query parameter {name!r} here; {there}.")
        if not known[name] and len(request.query_params.getlist(name)) > 1:
            raise InvalidInput.at(f"/{name}", f"The query parameter {name!r} is given more than once; give it once.")


def _query_parameters(dependant: Any) -> Iterator[tuple[str, bool]]:
    """Name each query parameter, and tell whether it may be repeated."""
    for field in dependant.query_params:
        yield field.alias, _holds_list(field.field_info.annotation)
    for part in dependant.dependencies:
        yield from _query_parameters(part)


def _holds_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(map(_holds_list, get_args(annotation)))
