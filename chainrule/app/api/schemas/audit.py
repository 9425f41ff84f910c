"""The audit log on the wire."""

from datetime import datetime

from pydantic import Field

from chainrule.app.api.schemas.wire import Answer


class AuditEntry(Answer):
    """A request for a change, and what came of it."""

    id: str = Field(description="Its id; ids are in the order of time.")
    at: datetime = Field(description="When the change was made; when it was answered, if none was.")
    owner: str = Field(description="Whose key was shown.")
    key_id: str | None = Field(description="Which key was shown.")
    method: str = Field(description="The HTTP method.")
    route: str = Field(description="The path, with names in place of ids.")
    object_id: str | None = Field(description="What it was about, or what it made.")
    client: str | None = Field(description="The address it came from; a proxy's, unless that is on loopback.")
    status: int | None = Field(
        description="The HTTP status it was answered with; null while it has no answer, and if the service ended then."
    )
    request_id: str = Field(description="The `X-Request-Id` of the answer.")


class AuditPage(Answer):
    """A page of the audit log."""

    items: list[AuditEntry] = Field(description="The newest first.")
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null if this is the last.")
