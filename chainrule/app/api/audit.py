"""The audit log over HTTP, and the middleware that keeps it."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chainrule.app.api.access import changes_something
from chainrule.app.api.dependencies import Cursor, Service, to_cursor
from chainrule.app.api.problems import documented, unreachable
from chainrule.app.api.representations import json_response
from chainrule.app.api.schemas.audit import AuditPage
from chainrule.app.config import Settings
from chainrule.app.errors import InvalidInput
from chainrule.app.services import audit
from chainrule.app.services.audit import Change
from chainrule.app.store.database import UNREACHABLE

router = APIRouter(prefix="/audit", tags=["keys"])


@router.get(
    "",
    summary="Read the audit log",
    response_description="A page of the log.",
    response_model=AuditPage,
    responses=documented(InvalidInput),
)
def read_audit(
    service: Service,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most items of a page.")] = 100,
) -> Any:
    """Every change asked for with a key of the caller's owner: by which key, of what, from where, and what came of it.

    Refused ones are there too, with their status; it is null where the service ended before it answered. The log is
    kept while keys are asked for; nothing is ever taken out.
    """
    items = audit.page(service.database, limit=limit + 1, cursor_id=cursor)
    more = len(items) > limit
    return json_response({"items": items[:limit], "next_cursor": to_cursor(items[limit - 1]["id"]) if more else None})


class KeepAudit:
    """ASGI middleware: writes each change down as it is made, and what came of it before it is answered."""

    def __init__(self, app: ASGIApp, settings: Settings, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._kept = settings.auth == "keys"
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and write down what came of it."""
        if scope["type"] != "http" or not self._kept:
            await self._app(scope, receive, send)
            return
        begun: str | None = None
        failed = False

        def note(session: Session) -> None:
            nonlocal begun
            if begun is None and changes_something(scope):
                begun = audit.begin(session, scope["state"]["caller"], _change(scope))

        async def written(message: Message) -> None:
            nonlocal failed
            if message["type"] == "http.response.start" and changes_something(asked := self._routed(scope)):
                try:
                    change = _change(asked, message)
                    database = scope["app"].state.parts.database
                    await run_in_threadpool(audit.record, database, scope["state"]["caller"], change, begun)
                except UNREACHABLE as error:
                    failed = True
                    await unreachable(scope["method"], error)(scope, receive, send)
            if not failed:
                await send(message)

        scope["state"]["note"] = note
        await self._app(scope, receive, written)

    def _routed(self, scope: Scope) -> Scope:
        """Find the operation of a request that was refused before it came to one, its body being too large."""
        if "route" in scope:
            return scope
        local = {**scope, "path": scope["path"].removeprefix("/v1")}
        for route in self._routes:
            fits, found = route.matches(local)
            if fits is Match.FULL:
                return {**scope, "route": route, "path_params": found["path_params"]}
        return scope


def _change(scope: Scope, start: Message | None = None) -> Change:
    headers, status = (Headers(raw=start["headers"]), start["status"]) if start else (Headers(), 0)
    route, named = scope["path"], scope.get("path_params", {})
    for name, value in named.items():
        route = "/".join(f"{{{name}}}" if part == str(value) else part for part in route.split("/"))
    ids = [str(value) for name, value in named.items() if name.endswith("_id")]
    if status == 201 and "location" in headers:
        ids = [headers["location"].rpartition("/")[2]]
    client = scope["client"][0] if scope.get("client") else None
    about = ids[0][:64] if ids else None
    return Change(scope["method"], route[:200], about, client, status, scope["state"]["request_id"])
