"""Bodies that are too large, or come too slowly, are refused while they arrive, before anybody gathers them."""

import asyncio
import time
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chainrule.app.api.problems import response
from chainrule.app.config import MIB, Settings
from chainrule.app.errors import RequestTimeout, TooLarge

MULTIPART_BYTES = MIB
"""What the form around a file may take."""
PATIENCE_S = 30.0
SLOWEST_BYTES_S = 1024
"""A body may take so long to come, and a second more for each so many bytes of it."""
READ_ON_BYTES = 32 * MIB
"""So much of a refused body is still read, so that the client comes to read the answer."""


class LimitBodies:
    """ASGI middleware: counts the bytes of each request's body."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and refuse it when its body grows over the limit."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "DELETE"):
            await self._app(scope, receive, send)
            return
        headers = {
            name: value for name, value in scope["headers"] if name in (b"content-length", b"content-type", b"expect")
        }
        limit, setting = self._limit(scope["path"], headers.get(b"content-type", b""))
        refusal = response(
            TooLarge(
                f"The body is over the limit of {limit:,} bytes (setting {setting}).",
                extra={"limit": limit, "setting": setting},
            )
        )
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            waits = b"expect" in headers  # reading would tell the client to send it
            most = limit + READ_ON_BYTES
            if waits or int(declared) > most or not await _read_to_end(receive, most):
                refusal.headers["Connection"] = "close"  # what still comes of the body is no next request
            await refusal(scope, receive, send)
            return
        received, over, whole, began = 0, False, False, time.monotonic()

        async def counted() -> Message:
            nonlocal received, over, whole, refusal
            left_s = None if whole else began + PATIENCE_S + received / SLOWEST_BYTES_S - time.monotonic()
            try:
                async with asyncio.timeout(left_s):
                    message = await receive()
            except TimeoutError:
                over, refusal = True, response(_too_slow(received))
                return {"type": "http.disconnect"}
            received += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if received > limit:
                over = True
                if message.get("more_body", False) and not await _read_to_end(receive):
                    refusal.headers["Connection"] = "close"
                return {"type": "http.disconnect"}
            return message

        async def answered(message: Message) -> None:
            if not over:
                await send(message)

        try:
            await self._app(scope, counted, answered)
        except Exception:
            if not over:
                raise
        if over:
            await refusal(scope, receive, send)

    def _limit(self, path: str, content_type: bytes) -> tuple[int, str]:
        settings = self._settings
        if path.rstrip("/") != "/v1/datasets":
            return settings.max_request_bytes, "CHAINRULE_MAX_REQUEST_BYTES"
        if content_type.startswith(b"multipart/form-data"):
            return settings.max_upload_bytes + MULTIPART_BYTES, "CHAINRULE_MAX_UPLOAD_BYTES"
        return settings.max_rows_bytes, "CHAINRULE_MAX_ROWS_BYTES"


def _too_slow(received: int) -> RequestTimeout:
    return RequestTimeout(
        f"Of the body {received:,} bytes have come, and the rest does not come, or too slowly: it must come with "
        f"{SLOWEST_BYTES_S:,} bytes a second at least. Send it again.",
        headers={"Connection": "close"},
    )


async def _read_to_end(receive: Receive, most: int = READ_ON_BYTES) -> bool:
    """Read what is left of a refused body; False if that is too much, or takes too long."""
    read = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while read <= most:
                message = await receive()
                read += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return True
    return False
