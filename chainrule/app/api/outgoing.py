"""Outgoing HTTP: what webhooks are to be told, sent in the background."""

import asyncio
import logging
import time
from urllib.parse import urlsplit

import httpx
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

import chainrule
from chainrule.app.config import Settings
from chainrule.app.services import webhooks
from chainrule.app.services.webhooks import Refused
from chainrule.app.store.database import Database
from chainrule.app.store.webhooks import Due

LONGEST_S = 15.0
"""How long an attempt may take, name, handshake and answer together."""
AT_ONCE = 16
log = logging.getLogger(__name__)


class Outgoing:
    """Looks again and again for what is to be sent. Belongs to one event loop."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop; what was being sent is sent again by the next, under the same id."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            taken: list[Due] = []
            try:
                taken = await run_in_threadpool(webhooks.take, self._database, AT_ONCE)
                await asyncio.gather(*(deliver(self._database, self._settings, due) for due in taken))
            except SQLAlchemyError as error:
                log.warning("cannot look for what webhooks are to be told: %s", error)
            if len(taken) < AT_ONCE:
                await asyncio.sleep(self._settings.poll_interval_s)


async def deliver(database: Database, settings: Settings, due: Due, *, again: bool = True) -> None:
    """Make one attempt and note how it went."""
    status_code, error = await send(settings, due)
    await run_in_threadpool(webhooks.settle, database, due, status_code=status_code, error=error, again=again)


async def send(settings: Settings, due: Due) -> tuple[int | None, str]:
    """Send it once; tell the status of the answer, and what went wrong.

    Goes to the very address that was looked at, so that a name cannot lead elsewhere a moment later. Redirects are
    not followed, proxies of the environment not used, and nothing of the answer is read but its status.
    """
    try:
        async with asyncio.timeout(LONGEST_S):
            addresses = await run_in_threadpool(webhooks.check_url, settings, due.url)
            if not addresses:
                return None, "The name of the host leads nowhere."
            return await _post(due, addresses[0])
    except Refused as refused:
        return None, str(refused)
    except TimeoutError:
        return None, f"There was no answer within {LONGEST_S:g} s."
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return None, f"It could not be sent: {type(error).__name__}."


async def _post(due: Due, address: str) -> tuple[int, str]:
    host = urlsplit(due.url).hostname or ""
    url = httpx.URL(due.url)
    headers = webhooks.headers(due, int(time.time())) | {
        "Host": url.netloc.decode(),
        "Content-Type": "application/json",
        "User-Agent": f"chainrule/{chainrule.__version__}",
    }
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=LONGEST_S) as client,
        client.stream(
            "POST",
            url.copy_with(host=address),
            content=due.body.encode(),
            headers=headers,
            extensions={"sni_hostname": host},
        ) as response,
    ):
        status = response.status_code
    if response.is_redirect:
        return status, f"The answer was {status}, and redirects are not followed."
    return status, "" if response.is_success else f"The answer was {status}, and not 2xx."
