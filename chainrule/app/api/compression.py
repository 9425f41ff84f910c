"""Large answers in text, packed for those who take gzip: numbers written out are a third as long, names a tenth."""

import gzip
import re

from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PACKED_TYPES = ("application/json", "application/problem+json", "application/x-ndjson", "text/csv")
LEAST_BYTES = 4096
"""What is smaller takes as many packets either way."""
LEVEL = 2
"""Digits are packed hardly better by more work."""
LONG_BYTES = 200_000
"""What takes more than a few milliseconds is packed while others are answered."""


def takes_gzip(headers: Headers) -> bool:
    """Tell whether the client takes gzip: named, and not with a weight of 0."""
    named = [part.partition(";") for part in headers.get("accept-encoding", "").lower().split(",")]
    weights = {name.strip(): weight.replace(" ", "") for name, _, weight in named}
    return "gzip" in weights and not re.fullmatch(r"q=0(\.0*)?", weights["gzip"])


class PackAnswers:
    """ASGI middleware: packs an answer that is sent in one piece. Streams, ranges and arrays in bytes pass as they are.

    The ETag stays: it names weights, run and question, or a revision, and says the same of either form.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and pack what comes back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: Message | None = None
        packs = takes_gzip(Headers(scope=scope))

        async def packed(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _fits(message):
                held = message
                return
            if held is not None:
                start, held = held, None
                body: bytes = message.get("body", b"")
                MutableHeaders(scope=start).add_vary_header("Accept-Encoding")
                if packs and not message.get("more_body") and len(body) >= LEAST_BYTES:
                    message["body"] = await _pack(body)
                    MutableHeaders(scope=start).update(
                        {"Content-Encoding": "gzip", "Content-Length": str(len(message["body"]))}
                    )
                await send(start)
            await send(message)

        await self._app(scope, receive, packed)


def _fits(start: Message) -> bool:
    headers = Headers(scope=start)
    whole = start["status"] != 206 and "accept-ranges" not in headers and "content-encoding" not in headers
    return whole and headers.get("content-type", "").partition(";")[0] in PACKED_TYPES


async def _pack(body: bytes) -> bytes:
    if len(body) < LONG_BYTES:
        return gzip.compress(body, LEVEL, mtime=0)
    return await run_in_threadpool(gzip.compress, body, LEVEL, mtime=0)
