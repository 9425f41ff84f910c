"""Whether the service lives, whether it can do its work, and who trains what."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from chainrule.app.api.access import caller_of
from chainrule.app.api.dependencies import Parts
from chainrule.app.api.problems import documented
from chainrule.app.api.schemas.monitoring import Live, Ready, Status
from chainrule.app.errors import Unavailable
from chainrule.app.services.monitoring import Check

RETRY_AFTER = {"Retry-After": "5"}
# Endpoints here ask for no dependency: these take turns in threads that a hanging database may have taken.
router = APIRouter(tags=["health"])


def parts_of(request: Request) -> Parts:
    """Find the service's parts, without a thread."""
    parts: Parts = request.app.state.parts
    return parts


@router.get("/health/live", summary="Tell whether the process answers", response_description="It does.")
async def live() -> Live:
    """Answers as soon as the process does; asks nothing of the database. For restarting what hangs."""
    return Live(status="live")


@router.get(
    "/health/ready",
    summary="Tell whether the service can do its work",
    response_description="It can.",
    response_model=Ready,
    responses=documented(),
)
async def ready(request: Request) -> Any:
    """The database must answer, take a write and have the newest schema, there must be room on the disk, and the
    threads that train must live. Answers within a second, whatever hangs; `checks` lists what was found, in a refusal
    too. For sending traffic.
    """
    parts = parts_of(request)
    checks = await parts.monitoring.checks()
    shown = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks]
    if not all(check.ok for check in checks):
        raise Unavailable(_what_fails(checks), headers=RETRY_AFTER, extra={"checks": shown})
    kind = "sqlite" if parts.database.sqlite else "postgresql"
    return {"status": "ready", "database": kind, "slots": parts.settings.slots, "checks": shown}


@router.get(
    "/status",
    summary="Show the queue and the workers",
    response_description="The queue, the slots, and every worker with what it trains.",
    response_model=Status,
    responses=documented(),
)
async def status(request: Request, response: Response) -> Any:
    """How many runs wait and for how long, and all processes that train, on whichever machine: their slots, their
    version, when they were last seen, and which of your runs they train.
    """
    response.headers["Cache-Control"] = "no-store"
    try:
        return await parts_of(request).monitoring.status(caller_of(request).owner)
    except (TimeoutError, SQLAlchemyError) as error:
        raise Unavailable("The database does not answer just now; try again in 5 s.", headers=RETRY_AFTER) from error


def _what_fails(checks: list[Check]) -> str:
    return " ".join(f"{check.name}: {check.detail}" for check in checks if not check.ok)
