"""Every request: its id, its line in the log, its trace, and what is counted of it."""

import logging
import re
import time
import uuid
from urllib.parse import quote

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chainrule.app import logs, tracing
from chainrule.app.config import Settings

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PROBES = ("/v1/health/live", "/v1/health/ready", "/metrics")
NO_ROUTE = "none"
ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)
log = logging.getLogger("chainrule.access")


class RequestFigures:
    """What is counted of requests, in this process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "chainrule_http_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        )
        self.seconds = Histogram(
            "chainrule_http_request_seconds",
            "Time until an answer begins; requests that ask to wait for a run are left out.",
            ("route", "method"),
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.streams = Gauge("chainrule_event_streams", "Event streams that are open.", registry=registry)


class Requests:
    """ASGI application around all others: whatever is answered is logged and counted, a 500 too."""

    def __init__(self, app: ASGIApp, settings: Settings, figures: RequestFigures) -> None:
        self._app, self._settings, self._figures = app, settings, figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with an id that its answer carries as well."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given if ID.fullmatch(given) else uuid.uuid4().hex.encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        began = time.perf_counter()
        status, size, begun, stream = 0, 0, 0.0, False

        async def answered(message: Message) -> None:
            nonlocal status, size, begun, stream
            if message["type"] == "http.response.start":
                status, begun = message["status"], time.perf_counter() - began
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
                stream = (b"content-type", b"text/event-stream") in [
                    (name.lower(), value.partition(b";")[0]) for name, value in message["headers"]
                ]
                if stream:
                    self._figures.streams.inc()
            size += len(message.get("body", b""))
            await send(message)

        parent = headers.get(b"traceparent", b"").decode("latin-1")
        with (
            logs.concerning(request_id=request_id.decode()),
            tracing.span("request", parent, request_id=request_id.decode()) as span,
        ):
            try:
                await self._app(scope, receive, answered)
            finally:
                if stream:
                    self._figures.streams.dec()
                span.tell(f"{scope['method']} {_template(scope)}", status=status)
                self._count(scope, status, begun, waits=b"wait" in headers.get(b"prefer", b""))
                if self._settings.access_log:
                    _note(scope, status, size, time.perf_counter() - began)

    def _count(self, scope: Scope, status: int, seconds: float, *, waits: bool) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = _template(scope)
        self._figures.requests.labels(route, method, str(status or "none")).inc()
        if status and not waits:
            self._figures.seconds.labels(route, method).observe(seconds)


def _template(scope: Scope) -> str:
    """Name the route of a request as it was written, with its parameters' names in place of their values."""
    path = getattr(scope.get("route"), "path", None)
    if path is None or ":path}" in path:
        return path or NO_ROUTE
    # The route knows its path within its router; what stands before that is written out.
    segments, own = scope["path"].split("/"), path.split("/")
    return "/".join([*segments[: len(segments) - len(own) + 1], *own[1:]])


def _note(scope: Scope, status: int, size: int, seconds: float) -> None:
    client = scope["client"][0] if scope.get("client") else "-"
    fields = {
        "method": scope["method"],
        "path": quote(scope["path"][:500]),  # so that nobody writes lines of their own
        "status": status,
        "bytes": size,
        "seconds": round(seconds, 4),
        "client": client,
    }
    level = logging.DEBUG if scope["path"] in PROBES else logging.INFO
    line = "%(method)s %(path)s %(status)s, %(bytes)s bytes in %(seconds)s s to %(client)s"
    log.log(level, line, fields, extra={"fields": fields})
