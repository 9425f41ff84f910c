"""Webhooks on the wire."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from chainrule.app.api.schemas.wire import Answer, Name, Request

Event = Literal["run.queued", "run.running", "run.paused", "run.succeeded", "run.failed", "run.cancelled"]


class WebhookRequest(Request):
    """A webhook to be made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://hooks.example/chainrule", "events": ["run.failed"]}]},
        **Request.model_config,
    )

    url: Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^[\x21-\x7e]+$")] = Field(
        description="Where to post to: an https address in the internet, that answers 2xx within 15 seconds."
    )
    events: list[Event] = Field(
        default=["run.succeeded", "run.failed", "run.cancelled"],
        min_length=1,
        max_length=20,
        description="What to be told of: run.queued, run.running and so on, for each status a run may come to.",
    )
    name: Name = Field(default="", description="What you call it.")


class SecretRotation(Request):
    """How a webhook gets a new secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"grace_s": 3600}]}, **Request.model_config)

    grace_s: int = Field(
        default=86400,
        ge=0,
        le=30 * 86400,
        description="How long messages are signed by the old secret too; 0 if it may have leaked.",
    )


class Webhook(Answer):
    """A webhook, without its secret."""

    id: str = Field(description="Its identifier.")
    name: str = Field(description="What its maker calls it.")
    url: str = Field(description="Where messages are posted to.")
    events: list[str] = Field(description="What it is told of.")
    enabled: bool = Field(description="Whether it is told anything.")
    disabled_reason: str = Field(description="Why it was disabled, if it was.")
    previous_until: datetime | None = Field(description="Until when messages are signed by the secret before, too.")
    created_at: datetime = Field(description="When it was made.")


class NewWebhook(Webhook):
    """A webhook with its secret, which is shown this once."""

    secret: str = Field(description="What messages are signed by: `whsec_` and the key in Base64.")


class WebhookPage(Answer):
    """A page of webhooks."""

    items: list[Webhook] = Field(description="The newest first.")
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last.")


class Delivery(Answer):
    """Something a webhook was told, or is to be told."""

    id: str = Field(description="Its identifier, sent as `webhook-id`, the same however often it is tried.")
    webhook: str = Field(description="Which webhook.")
    type: str = Field(description="What it tells: an event, or webhook.test.")
    run: str | None = Field(description="Of which run; null for a test.")
    state: str = Field(description="pending, delivered, or failed: given up.")
    attempts: int = Field(description="How often it was tried.")
    status_code: int | None = Field(description="What the receiver answered last; null if it did not.")
    error: str = Field(description="What went wrong last, if something did.")
    created_at: datetime = Field(description="When it happened.")
    last_at: datetime | None = Field(description="When it was tried last.")
    next_at: datetime | None = Field(description="When it is tried next; null if it is not.")


class DeliveryPage(Answer):
    """A page of deliveries."""

    items: list[Delivery] = Field(description="The newest first.")
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last.")
