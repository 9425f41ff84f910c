"""Whether the service lives, and whether it can do its work."""

from fastapi import APIRouter
from pydantic import Field

from chainrule.app.api.dependencies import Service
from chainrule.app.api.problems import documented
from chainrule.app.api.schemas.wire import Answer
from chainrule.app.errors import Unavailable
from chainrule.app.store import migrations

router = APIRouter(tags=["health"])


class Live(Answer):
    """The process answers."""

    status: str = Field(description="Always `live`.")


class Ready(Answer):
    """The service can do its work."""

    status: str = Field(description="Always `ready`; otherwise the answer is 503.")
    database: str = Field(description="Which database it works on: sqlite or postgresql.")
    schema_revision: str = Field(description="The database's schema revision.")
    slots: int = Field(description="How many runs this process trains at once.")


@router.get("/health/live", summary="Tell whether the process answers", response_description="It does.")
async def live() -> Live:
    """Answers as soon as the process does; asks nothing of the database. For restarting what hangs."""
    return Live(status="live")


@router.get(
    "/health/ready",
    summary="Tell whether the service can do its work",
    response_description="It can.",
    responses=documented(),
)
def ready(service: Service) -> Ready:
    """Asks the database: it must answer and have the newest schema. For sending traffic."""
    current, newest = migrations.revisions(service.database)
    if current is None or current != newest:
        raise Unavailable(f"The database has schema {current} and {newest} is needed; run `chainrule migrate`.")
    kind = "sqlite" if service.database.sqlite else "postgresql"
    return Ready(status="ready", database=kind, schema_revision=current, slots=service.settings.slots)
