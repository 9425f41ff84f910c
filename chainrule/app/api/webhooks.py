"""Webhooks over HTTP: made, tried, looked after."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.concurrency import run_in_threadpool

from chainrule.app.api.dependencies import Cursor, Service, json_only, to_cursor
from chainrule.app.api.outgoing import deliver
from chainrule.app.api.problems import documented
from chainrule.app.api.representations import json_response
from chainrule.app.api.schemas.webhooks import (
    Delivery,
    DeliveryPage,
    NewWebhook,
    SecretRotation,
    Webhook,
    WebhookPage,
    WebhookRequest,
)
from chainrule.app.errors import Conflict, InvalidInput, Malformed, NotFound, TooLarge, UnsupportedMediaType
from chainrule.app.services import webhooks

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
NOT_KEPT = {"Cache-Control": "no-store"}
WebhookId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Id of a webhook.")]
Limit = Annotated[int, Query(ge=1, le=200, description="Most items of a page.")]


@router.post(
    "",
    status_code=201,
    summary="Make a webhook",
    response_model=NewWebhook,
    dependencies=[Depends(json_only)],
    responses={
        201: {
            "description": "The webhook, with its secret this once.",
            "headers": {"Location": {"description": "Where it is.", "schema": {"type": "string"}}},
        },
        **documented(Malformed, Conflict, TooLarge, UnsupportedMediaType, InvalidInput),
    },
)
def create_webhook(service: Service, wanted: WebhookRequest) -> Any:
    """From now on a message is posted to it whenever a run comes to one of the states asked for.

    Messages are stored together with what they tell of, signed as Standard Webhooks has it, and tried again for three
    days until they are answered 2xx. A message may come twice, with the same `webhook-id`, and late ones after newer.
    """
    made = webhooks.create(
        service.database, service.settings, name=wanted.name, url=wanted.url, events=list(wanted.events)
    )
    return json_response(made, 201, NOT_KEPT | {"Location": f"/v1/webhooks/{made['id']}"})


@router.get(
    "",
    summary="List webhooks",
    response_description="A page of webhooks.",
    response_model=WebhookPage,
    responses=documented(InvalidInput),
)
def list_webhooks(service: Service, cursor: Cursor = None, limit: Limit = 50) -> Any:
    """The newest first, never their secrets."""
    return _page(webhooks.page(service.database, limit=limit + 1, cursor_id=cursor), limit)


@router.get(
    "/{webhook_id}",
    summary="Look at a webhook",
    response_description="The webhook, without its secret.",
    response_model=Webhook,
    responses=documented(NotFound),
)
def get_webhook(service: Service, webhook_id: WebhookId) -> Any:
    """Where it leads, what it is told of, and whether it is enabled."""
    return json_response(webhooks.get(service.database, webhook_id))


@router.delete(
    "/{webhook_id}",
    status_code=204,
    summary="Delete a webhook",
    response_description="It is deleted.",
    responses=documented(NotFound),
)
def delete_webhook(service: Service, webhook_id: WebhookId) -> None:
    """With its deliveries, also those that wait."""
    webhooks.delete(service.database, webhook_id)


@router.post(
    "/{webhook_id}/rotate",
    summary="Give a webhook a new secret",
    response_description="The webhook with its new secret, this once.",
    response_model=NewWebhook,
    dependencies=[Depends(json_only)],
    responses=documented(Malformed, NotFound, TooLarge, UnsupportedMediaType, InvalidInput),
)
def rotate_secret(service: Service, webhook_id: WebhookId, rotation: SecretRotation) -> Any:
    """Messages are signed by both secrets for `grace_s` more, so that the receiver can change over in peace."""
    return json_response(webhooks.rotate(service.database, webhook_id, grace_s=rotation.grace_s), headers=NOT_KEPT)


@router.post(
    "/{webhook_id}/enable",
    summary="Enable a webhook again",
    response_description="The webhook as it is now.",
    response_model=Webhook,
    responses=documented(NotFound),
)
def enable_webhook(service: Service, webhook_id: WebhookId) -> Any:
    """One that was disabled because its receiver answered 410. What happened meanwhile it is not told."""
    return json_response(webhooks.enable(service.database, webhook_id))


@router.post(
    "/{webhook_id}/test",
    summary="Try a webhook",
    response_description="How it went.",
    response_model=Delivery,
    responses=documented(NotFound),
)
async def test_webhook(service: Service, webhook_id: WebhookId) -> Any:
    """Posts a message of the type `webhook.test`, signed as any other, at once and once; answers how that went."""
    due = await run_in_threadpool(webhooks.begin_test, service.database, webhook_id)
    await deliver(service.database, service.settings, due, again=False)
    return json_response(await run_in_threadpool(webhooks.delivery, service.database, webhook_id, due.id))


@router.get(
    "/{webhook_id}/deliveries",
    summary="List deliveries",
    response_description="A page of deliveries.",
    response_model=DeliveryPage,
    responses=documented(NotFound, InvalidInput),
)
def list_deliveries(service: Service, webhook_id: WebhookId, cursor: Cursor = None, limit: Limit = 50) -> Any:
    """What it was told and is to be told, the newest first; what is over is forgotten after a while."""
    found = webhooks.deliveries(service.database, webhook_id, limit=limit + 1, cursor_id=cursor)
    return _page(found, limit)


def _page(items: list[dict[str, Any]], limit: int) -> Any:
    more = len(items) > limit
    return json_response({"items": items[:limit], "next_cursor": to_cursor(items[limit - 1]["id"]) if more else None})
