"""Every refusal as `application/problem+json` (RFC 9457)."""

import errno
import json
import logging
import os
import tempfile
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from chainrule.app.api.headers import complete
from chainrule.app.errors import (
    AppError,
    CrossOrigin,
    DiskFull,
    FieldError,
    Forbidden,
    InvalidInput,
    Malformed,
    Misdirected,
    NotAllowed,
    NotFound,
    RequestTimeout,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from chainrule.app.store.outages import UNREACHABLE
from chainrule.app.store.troubles import explained, trouble

MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 20
MOST_POINTER = 200
METHODS = ("GET", "POST", "DELETE")
RETRY_AFTER_S = 5
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
PLAIN = {
    "missing": "This field is required.",
    "model_type": "This must be a JSON object.",
    "model_attributes_type": "This must be a JSON object.",
    "list_type": "This must be a list.",
    "string_type": "This must be text.",
    "bool_type": "This must be true or false.",
    "int_type": "This must be a whole number.",
    "int_from_float": "This must be a whole number.",
    "int_parsing": "This must be a whole number.",
    "float_type": "This must be a number.",
    "finite_number": "This must be a finite number.",
    "too_short": "There must be at least {min_length}, and there are {actual_length}.",
    "too_long": "There may be {max_length} at most.",
    "string_too_short": "This must have at least {min_length} characters.",
    "string_too_long": "This may have {max_length} characters at most.",
    "string_pattern_mismatch": "This has a character, or a form, that is not allowed here.",
    "greater_than": "This must be more than {gt}.",
    "greater_than_equal": "This must be at least {ge}.",
    "less_than": "This must be less than {lt}.",
    "less_than_equal": "This may be {le} at most.",
}
"""What the validation library says, in the words of this API."""
log = logging.getLogger(__name__)


def response(error: AppError) -> Response:
    """Write an error down."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
    }
    if error.errors:
        body["errors"] = [{"pointer": found.pointer, "detail": found.detail} for found in error.errors]
    content = json.dumps(body | error.extra, ensure_ascii=False).encode(errors="replace")
    return Response(content, error.status, error.headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have every error of the application answered as a problem."""
    app.add_exception_handler(AppError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _hung_up)
    for refused in (*UNREACHABLE, DBAPIError):
        app.add_exception_handler(refused, _unreachable)
    app.add_exception_handler(OSError, _no_room)
    app.add_exception_handler(Exception, _broken)


def documented(*refusals: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """Describe for OpenAPI the refusals an operation may answer with."""
    found: dict[int | str, dict[str, Any]] = {}
    anywhere: tuple[type[AppError], ...] = (Unauthenticated, Forbidden, CrossOrigin, Misdirected, InvalidInput)
    every: tuple[type[AppError], ...] = (*refusals, *anywhere, TooManyRequests, Unavailable, DiskFull)
    if TooLarge in refusals:
        every = (*every, RequestTimeout)
    for kind in dict.fromkeys(every):
        shown = {
            "summary": kind.title,
            "value": {
                "type": "about:blank",
                "title": kind.title,
                "status": kind.status,
                "detail": (kind.__doc__ or "").splitlines()[0],
                "code": kind.code,
            },
        }
        entry = found.setdefault(
            kind.status,
            {
                "description": HTTPStatus(kind.status).phrase,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        entry["content"][MEDIA_TYPE]["examples"][kind.code] = shown
        lines = [example["value"]["detail"] for example in entry["content"][MEDIA_TYPE]["examples"].values()]
        entry["description"] = " ".join(lines)
    return found


def kinds(of: type[AppError] = AppError) -> Iterable[type[AppError]]:
    """List every kind of refusal there is."""
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return response(error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return response(Malformed(_not_json(first, error.body)))
    if first["type"] == "missing" and first["loc"] == ("body",):
        return response(Malformed("The body is missing; send JSON."))
    # A misspelt field stands before the one that is missing because of it.
    ordered = sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    body = getattr(request.scope.get("route"), "body_field", None)
    problems = [_field_error(found, body, error.body) for found in ordered[:MOST_ERRORS]]
    place = f"{problems[0].pointer}: " if problems[0].pointer else ""
    more = f" ({len(problems)} problems are listed.)" if len(problems) > 1 else ""
    return response(InvalidInput(f"{place}{problems[0].detail}{more}", errors=tuple(problems)))


def of_model(error: ValidationError) -> tuple[FieldError, ...]:
    """Say what is wrong with a model that is not the body itself, as for the body."""
    problems = [{**found, "loc": ("body", *found["loc"])} for found in error.errors()[:MOST_ERRORS]]
    return tuple(_field_error(dict(found), None) for found in problems)


def _not_json(found: dict[str, Any], body: Any) -> str:
    """Say where JSON ends to be JSON: at a byte, or as the parser says."""
    reason, position = found["ctx"]["error"], found["loc"][1:]
    if position and isinstance(body, str):
        reason = f"{reason} at byte {len(body[: position[0]].encode(errors='surrogatepass'))}"
    return f"The body is not JSON: {reason}."


def _field_error(found: dict[str, Any], body: Any, sent: Any = None) -> FieldError:
    """Say where and what; the input itself is left out, it may be huge or no JSON."""
    place, *path = found["loc"] or ("body",)
    context = found.get("ctx", {})
    parts = _as_sent(path, sent)
    pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)[:MOST_POINTER]
    if found["type"] == "extra_forbidden":
        known = ", ".join(_fields_beside(body, path))
        detail = f"There is no such field; known: {known}." if known else "There is no such field here."
    elif found["type"] in PLAIN:
        detail = PLAIN[found["type"]].format(**context)
    else:
        detail = found["msg"].removeprefix("Value error, ")
        detail = detail if detail.endswith(".") else f"{detail}."
    if place in ("query", "header", "path"):
        detail = f"{detail} (It stands in the {place}.)"
    return FieldError(pointer, detail)


def _as_sent(path: list[Any], sent: Any) -> list[Any]:
    """Leave out the kind of one of several models, which stands in the path and in no place of what was sent."""
    parts = []
    for part in path:
        if isinstance(sent, dict) and part not in sent and part == sent.get("kind"):
            continue
        parts.append(part)
        if isinstance(sent, dict):
            sent = sent.get(part)
        else:
            sent = sent[part] if isinstance(sent, list) and isinstance(part, int) and part < len(sent) else None
    return parts


def _fields_beside(body: Any, path: list[Any]) -> list[str]:
    """List the fields that there are where one was misspelt; nothing if the body has no model."""
    models = _models_in(body.field_info.annotation) if body is not None else []
    for part in path[:-1]:
        if of_kind := [model for model in models if part in _kinds(model)]:
            models = of_kind
        elif models and part in models[0].model_fields:
            models = _models_in(models[0].model_fields[part].annotation)
        # else it is a place in a list or a key of an object, whose models these are
    return list(models[0].model_fields) if models else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Find the models in a type such as `list[Layer] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    """Name the kind of one of several models; none of a model by itself."""
    return get_args(model.model_fields["kind"].annotation) if "kind" in model.model_fields else ()


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == HTTPStatus.NOT_FOUND:
        slash = "leave the slash at its end out, or see /docs for" if path.endswith("/") else "/docs lists"
        return response(NotFound(f"There is nothing at {path}; {slash} what there is."))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_allowed(request))
        refusal = f"{request.method} is not for {path}; allowed: {allowed}."
        return response(NotAllowed(refusal, headers={"Allow": allowed}))
    return response(Malformed(f"The request cannot be read: {_unreadable(error)}"))


async def _hung_up(request: Request, _error: Exception) -> Response:
    log.info("%s %s: the client hung up before its body was there", request.method, request.url.path)
    return response(Malformed("The body ended before it was there."))  # for nobody; it is no fault of ours


def _allowed(request: Request) -> list[str]:
    """List the methods of all routes of a path; the framework names those of the first."""
    found = [
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]
    return ["GET", "HEAD", *found[1:]] if found[:1] == ["GET"] else found


def _unreadable(error: HTTPException) -> str:
    match error.__cause__:
        case RecursionError():
            return "the body is nested too deeply."
        case UnicodeDecodeError() as cause:
            return f"the body is not UTF-8, at byte {cause.start}."
        case ValueError():
            return "the body holds a number of thousands of digits."
        case _:
            return f"{error.detail.rstrip('.')}."


def unreachable(method: str, error: Exception) -> Response:
    """Write down why the database cannot be asked, and the way out."""
    log.warning("the database cannot be asked: %s", explained(error))
    known = trouble(error)
    why = known.detail if known else "The database cannot be reached just now."
    unsure = "" if method == "GET" else " It may have been done: repeat it under the same Idempotency-Key."
    kind = DiskFull if known and known.full else Unavailable
    return response(
        kind(
            f"{why} Try again in {RETRY_AFTER_S} s.{unsure}",
            headers={"Retry-After": str(RETRY_AFTER_S)},
            extra={"cause": known.cause if known else "unreachable"},
        )
    )


async def _no_room(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    if error.errno not in NO_ROOM:
        return await _broken(request, error)
    log.warning("%s %s: %s", request.method, request.url.path, error)
    return response(
        DiskFull(
            f"Nothing can be written to {tempfile.gettempdir()}, where uploads are kept while they are read: "
            f"{os.strerror(error.errno)}. Make room there, or start the service with TMPDIR naming another folder.",
            headers={"Retry-After": str(RETRY_AFTER_S)},
            extra={"cause": "temporary_storage_full"},
        )
    )


async def _unreachable(request: Request, error: Exception) -> Response:
    if trouble(error) is None and not isinstance(error, UNREACHABLE):
        return await _broken(request, error)
    return unreachable(request.method, error)


async def _broken(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    answer = response(AppError("Something went wrong on our side; it was written to the service's log."))
    complete(answer.headers, private=True)  # this one is made outside of all that would do it
    return answer
