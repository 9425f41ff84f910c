"""Headers that every answer has: what a browser may make of it, and that nobody keeps for others what is private."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STRICT = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""No answer but the dashboard and the documentation runs or loads anything, and no page elsewhere has a use for any."""
PRIVATE = "/v1/"


class StrictHeaders:
    """ASGI middleware: gives each answer the headers that it does not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and complete the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                complete(MutableHeaders(scope=message), private=scope["path"].startswith(PRIVATE))
            await send(message)

        await self._app(scope, receive, completed)


def complete(headers: MutableHeaders, *, private: bool) -> None:
    """Add what is missing. What belongs to an owner is nobody else's, so a cache keeps it for who asked with a key."""
    for name, value in STRICT.items():
        headers.setdefault(name, value)
    if private:
        kept = headers.get("Cache-Control", "no-cache")
        if not {part.strip() for part in kept.split(",")} & {"private", "no-store"}:
            kept = f"private, {kept}"
        headers["Cache-Control"] = kept
        headers.add_vary_header("Authorization")
