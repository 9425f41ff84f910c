"""Hosts and origins: no web page elsewhere reaches, by way of its reader's browser, a service that asks no key."""

import ipaddress
import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from chainrule.app.api.problems import response
from chainrule.app.config import Settings
from chainrule.app.errors import AppError, CrossOrigin, Misdirected

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")
SAFE = ("GET", "HEAD", "OPTIONS")
OWN = (b"same-origin", b"none")
"""What a browser says in `Sec-Fetch-Site` of requests that its user or our own page makes."""


class KnowHosts:
    """ASGI middleware: refuses names that are not ours (DNS rebinding), and changes asked for by other origins."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._names = {name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()}
        # Behind keys any name will do: a page elsewhere has none to show, and browsers add none by themselves.
        self._any = settings.auth == "keys" and not self._names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http":
            refusal = self._refusal(scope["method"], scope["headers"])
            if refusal is not None:
                await response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> AppError | None:
        given = dict(headers)
        host = given.get(b"host", b"").decode("latin-1")
        if not self._known(host):
            return Misdirected(
                f"This service is not known as {host[:200]!r}. Whoever operates it lets it answer to that name with "
                "the setting CHAINRULE_ALLOWED_HOSTS."
            )
        if method not in SAFE and not _of_our_own(given, host):
            return CrossOrigin(
                "A page of another origin asks for this, and a browser passes it on without its user's knowing; "
                "only our own pages and programs may."
            )
        return None

    def _known(self, host: str) -> bool:
        form = _HOST.fullmatch(host)
        name = (form.group(1) or form.group(2)).lower() if form else ""
        return self._any or is_loopback(name) or name in self._names


def is_loopback(name: str) -> bool:
    """Tell whether a name or an address is this machine itself, and nobody else can reach it."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower().rstrip(".") == "localhost"


def _of_our_own(headers: dict[bytes, bytes], host: str) -> bool:
    """Tell whether a change is asked for by our own page, or by no page at all."""
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None:
        return site in OWN
    return origin is None or origin.decode("latin-1").partition("://")[2] == host
