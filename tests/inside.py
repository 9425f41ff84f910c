"""The whole service inside the process of the tests: the real app, asked without a socket. Streams are read whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from chainrule.app.config import Settings
from chainrule.app.main import create_app
from chainrule.app.store.database import Database


class _Inside(httpx.BaseTransport):
    """Hands requests to an app that lives in a thread of its own."""

    def __init__(self, app: Any, portal: BlockingPortal) -> None:
        self._asgi, self._portal = httpx.ASGITransport(app), portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Have the app answer."""
        return self._portal.call(self._answer, request)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        given = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        answer = await self._asgi.handle_async_request(given)
        return httpx.Response(
            answer.status_code, headers=answer.headers, content=b"".join([part async for part in answer.aiter_raw()])
        )


def another(client: httpx.Client, **options: Any) -> httpx.Client:
    """Open another client to the service that a client talks to."""
    return httpx.Client(transport=client._transport, base_url=client.base_url, **options)


@contextmanager
def inside(settings: Settings) -> Iterator[tuple[httpx.Client, Database]]:
    """Run the service; give a client to it, and its own database."""
    app = create_app(settings)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        httpx.Client(transport=_Inside(app, portal), base_url="http://127.0.0.1") as client,
    ):
        yield client, app.state.parts.database
