"""Access: who calls, by the key that is shown, and what that key may do."""

import time

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chainrule.app.api.guesses import Guesses
from chainrule.app.api.hosts import SAFE
from chainrule.app.api.problems import response, unreachable
from chainrule.app.config import Settings
from chainrule.app.errors import Forbidden, TooManyRequests, Unauthenticated
from chainrule.app.services import keys
from chainrule.app.services.keys import Caller
from chainrule.app.store.database import UNREACHABLE, Database

OPEN = ("/", "/ui", "/docs", "/openapi.json", "/v1/health")
"""Needs no key: it shows nothing of anybody."""
COMPUTING = (
    "/predict",
    "/gradients",
    "/gradient-checks",
    "/walk",
    "/explain",
    "/gradient-comparisons",
    "/coherence",
    "/what-if",
    "/initialization-previews",
)
"""Endings of paths that are posted to and change nothing."""
STREAM_CHECKED_S = 5.0
"""How often the key of an open stream is looked at again."""
ADMINISTRATION = ("/v1/keys", "/v1/audit")


class KnowCallers:
    """ASGI middleware: lets in who shows a key, before anything else of the request is looked at.

    What the caller may do is held against the operation later, by `permitted`.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._required = settings.auth == "keys"
        self._guesses = Guesses(settings.guess_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find out who calls and pass the request on, or refuse it."""
        if scope["type"] == "http":
            state = scope.setdefault("state", {})
            if not self._required:
                state["caller"] = keys.EVERYBODY_HERE
            elif _within(scope["path"], OPEN):
                state["caller"] = keys.NOBODY
            else:
                try:
                    shown = _shown(scope)
                    database: Database = scope["app"].state.parts.database
                    address = (scope.get("client") or ("unknown",))[0]
                    self._guesses.permit(address, shown)
                    state["caller"] = await run_in_threadpool(self._recognise, database, address, shown)
                except (Unauthenticated, TooManyRequests) as error:
                    await response(error)(scope, receive, send)
                    return
                except UNREACHABLE as error:
                    await unreachable("GET", error)(scope, receive, send)
                    return
                send = _while_valid(database, shown, send)
        await self._app(scope, receive, send)

    def _recognise(self, database: Database, address: str, shown: str) -> Caller:
        self._guesses.permit(address, shown)  # by now others of the address may have failed
        try:
            caller = keys.authenticate(database, shown)
        except Unauthenticated:
            self._guesses.failed(address, shown)
            raise
        self._guesses.succeeded(shown)
        return caller


async def permitted(request: Request) -> None:
    """Refuse an operation that the caller's key may not do.

    Raises:
        Forbidden: the key's scope does not reach so far.
    """
    caller, scope = caller_of(request), needed(request)
    if not caller.may(scope):
        raise Forbidden(
            f"This needs the scope {scope!r} and the key has {caller.scope!r}; "
            f"`chainrule keys create --scope {scope}` makes one.",
            headers={"WWW-Authenticate": f'Bearer realm="chainrule", error="insufficient_scope", scope="{scope}"'},
        )


def needed(request: Request) -> str:
    """Say which scope an operation needs: reading and computing `read`, all that changes something `submit`."""
    if _within(request.scope["path"], ADMINISTRATION):
        return keys.ADMIN
    computing: bool = request.method == "POST" and request.scope["route"].path.endswith(COMPUTING)
    return keys.READ if request.method == "GET" or computing else keys.SUBMIT


def changes_something(scope: Scope) -> bool:
    """Tell whether a request that has been let in asks for a change of what there is."""
    computing = scope["method"] == "POST" and scope["path"].endswith(COMPUTING)
    return scope["method"] not in SAFE and not computing and "route" in scope and "caller" in scope["state"]


def caller_of(request: Request) -> Caller:
    """Tell who calls."""
    caller: Caller = request.state.caller
    return caller


def _while_valid(database: Database, shown: str, send: Send) -> Send:
    """End an event stream when the key it was opened with is good no more."""
    streams, over, looked_at = False, False, time.monotonic()

    async def checked(message: Message) -> None:
        nonlocal streams, over, looked_at
        if message["type"] == "http.response.start":
            streams = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
        elif streams and time.monotonic() - looked_at > STREAM_CHECKED_S:
            looked_at = time.monotonic()
            try:
                await run_in_threadpool(keys.authenticate, database, shown)
            except Unauthenticated:
                over = True
                await send({"type": "http.response.body"})  # coming back they will be told
            except UNREACHABLE:
                pass
        if not over:
            await send(message)

    return checked


def _within(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or (place != "/" and path.startswith(f"{place}/")) for place in places)


def _shown(scope: Scope) -> str:
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if not given:
        raise Unauthenticated(
            "This service asks for a key; send one as `Authorization: Bearer chainrule_…`. "
            "`chainrule keys create` makes one.",
            headers={"WWW-Authenticate": 'Bearer realm="chainrule"'},
        )
    kind, _, key = given[0].decode("latin-1").partition(" ")
    return key.strip() if kind.lower() == "bearer" and len(given) == 1 else ""
