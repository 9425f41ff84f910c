"""Keys on the wire."""

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, ConfigDict, Field

from chainrule.app.api.schemas.wire import Answer, Name, Request

Scope = Literal["read", "submit", "admin"]


class KeyRequest(Request):
    """A key to be made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "training notebook", "scope": "submit"}]}, **Request.model_config
    )

    name: Name = Field(default="", description="What you call it: where it is used.")
    scope: Scope = Field(
        description="What it may do, each with all before it: `read` looks and computes, `submit` makes, changes and "
        "deletes, `admin` manages keys and reads the audit log."
    )
    expires_at: AwareDatetime | None = Field(
        default=None, strict=False, description="When it ends to be good; null for never."
    )


class Rotation(Request):
    """How a key gets a new secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"grace_s": 3600}]}, **Request.model_config)

    grace_s: int = Field(
        default=3600, ge=0, le=30 * 86400, description="How long the old secret stays good; 0 if it may have leaked."
    )


class Key(Answer):
    """A key, without its secret."""

    id: str = Field(description="Its id, which is no secret: the middle part of the key itself, with key_ before it.")
    owner: str = Field(description="Whose it is; what is made with it is theirs.")
    name: str = Field(description="What its maker calls it.")
    scope: Scope = Field(description="What it may do, each with all before it.")
    created_at: datetime = Field(description="When it was made.")
    rotated_at: datetime | None = Field(description="When it last got a new secret.")
    expires_at: datetime | None = Field(description="When it ends to be good.")
    revoked_at: datetime | None = Field(description="When it was revoked.")
    last_used_at: datetime | None = Field(description="When it was last used, to the hour.")
    previous_until: datetime | None = Field(description="Until when the secret before the last rotation is good.")


class NewKey(Key):
    """A key with its secret, which is shown this once."""

    key: str = Field(description="The key itself, to be sent as `Authorization: Bearer …`. It is not kept.")


class KeyPage(Answer):
    """A page of keys."""

    items: list[Key] = Field(description="The newest first.")
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null if this is the last.")
