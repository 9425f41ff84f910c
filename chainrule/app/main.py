"""The service's entry: `create_app(settings)` puts API, database and slots together; `serve` runs it."""

import gc
import logging
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp

import chainrule
from chainrule.app import logs
from chainrule.app.api import (
    audit,
    checkpoints,
    coherence,
    comparisons,
    curvatures,
    datasets,
    diagnoses,
    docs,
    epochs,
    explanations,
    gradients,
    health,
    histograms,
    inputs,
    keys,
    layers,
    metrics,
    pictures,
    problems,
    prometheus,
    runs,
    samples,
    spectra,
    steps,
    sweeps,
    variances,
    walks,
    web,
    webhooks,
    what_if,
)
from chainrule.app.api.access import KnowCallers, permitted
from chainrule.app.api.audit import KeepAudit
from chainrule.app.api.bodies import LimitBodies
from chainrule.app.api.compression import PackAnswers
from chainrule.app.api.dependencies import Parts, known_parameters
from chainrule.app.api.head import AnswerHead
from chainrule.app.api.headers import StrictHeaders
from chainrule.app.api.hosts import KnowHosts, is_loopback
from chainrule.app.api.outgoing import Outgoing
from chainrule.app.api.rates import LimitRates
from chainrule.app.api.requests import RequestFigures, Requests
from chainrule.app.config import Settings
from chainrule.app.execution.dask_cluster import EngineUnusable
from chainrule.app.execution.dispatcher import Dispatcher
from chainrule.app.execution.placement import try_engine
from chainrule.app.execution.reaper import Reaper
from chainrule.app.services.monitoring import Monitoring
from chainrule.app.services.watching import Watching
from chainrule.app.store import backups
from chainrule.app.store.changes import Changes
from chainrule.app.store.database import Database
from chainrule.app.store.migrations import NewerSchema, upgrade
from chainrule.app.store.troubles import explained

log = logging.getLogger(__name__)
BACKLOG = 2048
KEEP_ALIVE_S = 60
"""Longer than clients keep an idle connection (httpx: 5 s), so that none is closed just as it is used again."""
ROUTERS = (
    datasets.router, runs.router, inputs.router, epochs.router, checkpoints.router, metrics.router, gradients.router,
    walks.router, explanations.router, comparisons.router, coherence.router, layers.router, samples.router,
    steps.router, histograms.router, what_if.router, spectra.router, curvatures.router, variances.router,
    sweeps.router, webhooks.router, keys.router, audit.router, diagnoses.router, pictures.router,
)  # fmt: skip


def create_app(settings: Settings) -> FastAPI:
    """Make the service; its slots begin to train when it starts and drain when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(_upgrade, settings.database_url)
        database = Database(settings.database_url, patience_s=settings.database_timeout_s)
        changes = Changes(database)
        watching = Watching(database, changes, settings.poll_interval_s)
        dispatcher = Dispatcher(database, settings, changes) if settings.slots else None
        # Somebody must find out about workers that are gone, be there another one or not.
        reaper = None if dispatcher is not None else Reaper(database, settings)
        changes.start()
        await watching.start()
        if dispatcher is not None:
            await run_in_threadpool(dispatcher.start)
        if reaper is not None:
            reaper.start()
        threads = dispatcher.threads if dispatcher else lambda: {"reaper": reaper is not None and reaper.alive}
        monitoring = Monitoring(database, settings, threads)
        monitoring.start()
        outgoing = Outgoing(database, settings)
        outgoing.start()
        app.state.parts = Parts(database, settings, watching, monitoring)
        try:
            yield
        finally:
            monitoring.stop()
            await outgoing.stop()
            await watching.stop()
            if dispatcher is not None:
                await run_in_threadpool(dispatcher.drain)
            if reaper is not None:
                await run_in_threadpool(reaper.stop)
            await run_in_threadpool(changes.stop)
            database.dispose()

    registry = prometheus.new_registry()
    app = _Service(
        settings=settings,
        figures=RequestFigures(registry),
        title="Chainrule",
        version=chainrule.__version__,
        lifespan=lifespan,
        docs_url=None,
        openapi_url=None,  # `docs` serves it, compressed
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name the scheme and host we see, not those the client sees
    )
    app.state.registry = registry
    problems.install(app)
    docs.install(app, keys=settings.auth == "keys")
    app.add_middleware(LimitBodies, settings=settings)
    app.add_middleware(PackAnswers)
    app.add_middleware(AnswerHead)
    app.add_middleware(KeepAudit, settings=settings, routes=[route for router in ROUTERS for route in router.routes])
    app.add_middleware(LimitRates, settings=settings)
    app.add_middleware(KnowCallers, settings=settings)
    app.add_middleware(KnowHosts, settings=settings)
    app.add_middleware(StrictHeaders)
    app.include_router(web.router)
    app.include_router(docs.router)
    app.include_router(health.router, prefix="/v1")
    app.include_router(prometheus.router)
    for router in ROUTERS:
        app.include_router(router, prefix="/v1", dependencies=[Depends(permitted), Depends(known_parameters)])
    return app


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, then drain; return the exit status."""
    logs.install(settings.log_level, settings.log_format)
    if settings.auth == "off" and not is_loopback(settings.host):
        log.error(
            "%s is no loopback address: whoever reaches it could do anything. Set CHAINRULE_AUTH=keys and make the "
            "first key with `chainrule keys create --owner NAME --scope admin`, or listen on 127.0.0.1.",
            settings.host,
        )
        return 1
    try:
        _upgrade(settings.database_url)
        if settings.slots:
            try_engine(settings)
    except EngineUnusable as error:
        log.error("cannot use the engine: %s", error)
        return 1
    except (OSError, sqlite3.Error, SQLAlchemyError, NewerSchema, backups.Refused) as error:
        log.error("cannot open the database: %s", explained(error))
        return 1
    try:
        listening = _listen(settings.host, settings.port)
    except OSError as error:
        log.error("cannot listen on %s:%d: %s", settings.host, settings.port, error)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        # The server takes both while it runs, and raises them once more when it has ended.
        signal.signal(number, lambda *_: None)
    app = create_app(settings)
    # What is here now stays: each collection that looked through it would hold up all answers for 0.2 s and more.
    gc.freeze()
    config = uvicorn.Config(
        app,
        lifespan="on",
        loop="asyncio",  # takes in all who have connected; uvloop takes one a turn, and lets newcomers wait
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    server = _Server(config)
    server.run(sockets=[listening])
    return 0 if server.started else 1


def _upgrade(url: str) -> None:
    """Bring the schema up to date, however long that takes."""
    database = Database(url)
    file = Path(database.url.database or "")
    if database.sqlite and file.exists() and file.stat().st_size <= backups.CHECKED_BYTES:
        backups.check(file)
    upgrade(database)
    database.dispose()


class _Service(FastAPI):
    """Has every request noted from outside all else, so that nothing is answered unnoted."""

    def __init__(self, *, settings: Settings, figures: RequestFigures, **options: Any) -> None:
        super().__init__(**options)
        self._noted = partial(Requests, settings=settings, figures=figures)

    def build_middleware_stack(self) -> ASGIApp:
        """Put everything together."""
        return self._noted(super().build_middleware_stack())


class _Server(uvicorn.Server):
    """Tells when it serves, and lets those go who wait before it waits for them."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            host = f"[{host}]" if ":" in host else host
            print(f"Chainrule serves at http://{host}:{port}", flush=True)  # noqa: T201

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to end."""
        app = self.config.app
        assert isinstance(app, FastAPI)
        app.state.parts.watching.close()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    # Made by us: one made by the server would lose TCP_NODELAY, and each answer wait for 40 ms.
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
