"""Rates: how often one client may ask, and how many event streams may be open.

A client is the owner of the key that is shown, or an address where no keys are asked for. Each has a
bucket of as many tokens as it may send requests in a minute; a request takes one, and they come back
evenly. The headers are those of the IETF's draft "RateLimit header fields for HTTP".
"""

import math
import time
from collections import Counter, OrderedDict

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chainrule.app.api.problems import response
from chainrule.app.config import Settings
from chainrule.app.errors import TooManyRequests

WINDOW_S = 60.0
MOST_CLIENTS = 10_000
"""So many buckets are kept; whoever asked longest ago has a full one by then, or nearly."""
FREE = ("/v1/health/live", "/v1/health/ready", "/metrics")
STREAM_RETRY_S = 10


class Buckets:
    """A bucket of tokens for each client."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, at: float) -> tuple[bool, int, int]:
        """Take a token; tell whether there was one, how many are left, and the seconds until there is another."""
        left = self._left(client, at)
        allowed = left >= 1.0
        left -= allowed
        self._buckets[client] = left, at
        self._buckets.move_to_end(client)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return allowed, int(left), self._wait_s(left)

    def look(self, client: str, at: float) -> int:
        """Tell in how many seconds there is a token, and take none; 0 if there is one."""
        return self._wait_s(self._left(client, at))

    def _left(self, client: str, at: float) -> float:
        left, since = self._buckets.get(client, (self._most, at))
        return min(self._most, left + (at - since) * self._most / WINDOW_S)

    def _wait_s(self, left: float) -> int:
        return math.ceil(max(0.0, 1.0 - left) * WINDOW_S / self._most)


class LimitRates:
    """ASGI middleware: refuses what one client asks too often, and streams that are too many."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._buckets = Buckets(settings.rate_limit)
        self._streams: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with the time after which it would be let in."""
        if scope["type"] != "http" or scope["path"] in FREE:
            await self._app(scope, receive, send)
            return
        client = _client(scope)
        if self._settings.rate_limit:
            allowed, left, wait_s = self._buckets.take(client, time.monotonic())
            limit = self._settings.rate_limit
            headers = {
                "RateLimit-Policy": f'"requests";q={limit};w={WINDOW_S:.0f}',
                "RateLimit": f'"requests";r={left};t={wait_s}',
            }
            if not allowed:
                detail = f"More than {limit:,} requests a minute (setting CHAINRULE_RATE_LIMIT); wait {wait_s} s."
                extra = {"limit": limit, "setting": "CHAINRULE_RATE_LIMIT"}
                headers["Retry-After"] = str(wait_s)
                await response(TooManyRequests(detail, headers=headers, extra=extra))(scope, receive, send)
                return
            send = _with_headers(send, headers)
        if scope["method"] == "GET" and scope["path"].endswith("/events"):
            await self._stream(client, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _stream(self, client: str, scope: Scope, receive: Receive, send: Send) -> None:
        most, most_each = self._settings.max_streams, self._settings.max_streams_per_client
        for open_now, limit, whose, setting in (
            (self._streams[client], most_each, "of yours ", "CHAINRULE_MAX_STREAMS_PER_CLIENT"),
            (self._streams.total(), most, "", "CHAINRULE_MAX_STREAMS"),
        ):
            if open_now >= limit:
                refusal = TooManyRequests(
                    f"{open_now:,} event streams {whose}are open and the limit is {limit:,} (setting {setting}); close "
                    "one, or poll GET /v1/runs/{run_id}/epochs.",
                    headers={"Retry-After": str(STREAM_RETRY_S)},
                    extra={"limit": limit, "value": open_now, "setting": setting},
                )
                await response(refusal)(scope, receive, send)
                return
        self._streams[client] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]


def _client(scope: Scope) -> str:
    caller = scope["state"]["caller"]
    if caller.key_id is not None:
        return f"owner {caller.owner}"
    host: str = (scope.get("client") or ("unknown",))[0]
    return f"address {host}"


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def answered(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return answered
