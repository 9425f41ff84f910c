"""Webhooks and their outbox: what is to be told is stored in the transaction of what it tells of, and sent later."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.store.database import new_id, now, touched
from chainrule.app.store.models import Run, Webhook, WebhookDelivery

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"


@dataclass(frozen=True)
class Due:
    """One attempt at a delivery: what is to be sent where, signed by which secrets; `attempt` is its fencing token."""

    id: str
    webhook_id: str
    attempt: int
    url: str
    body: str
    secrets: tuple[str, ...]


def add(session: Session, webhook: Webhook) -> None:
    """Store a new webhook."""
    session.add(webhook)
    session.flush()


def get(session: Session, webhook_id: str) -> Webhook | None:
    """Find one webhook."""
    return session.scalar(select(Webhook).where(Webhook.id == webhook_id))


def hold(session: Session, webhook_id: str) -> Webhook | None:
    """Find one webhook and keep it as it is until this transaction ends."""
    return session.scalar(select(Webhook).where(Webhook.id == webhook_id).with_for_update())


def page(session: Session, *, limit: int, cursor_id: str | None) -> Sequence[Webhook]:
    """Read one page of webhooks, the newest first, from behind `cursor_id`."""
    query = select(Webhook).order_by(Webhook.id.desc()).limit(limit)
    return session.scalars(query if cursor_id is None else query.where(Webhook.id < cursor_id)).all()


def remove(session: Session, webhook_id: str) -> bool:
    """Delete a webhook with its deliveries; False if there is none."""
    return touched(session, delete(Webhook).where(Webhook.id == webhook_id)) > 0


def deliveries(session: Session, webhook_id: str, *, limit: int, cursor_id: str | None) -> Sequence[WebhookDelivery]:
    """Read one page of a webhook's deliveries, the newest first, from behind `cursor_id`."""
    query = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    if cursor_id is not None:
        query = query.where(WebhookDelivery.id < cursor_id)
    return session.scalars(query.order_by(WebhookDelivery.id.desc()).limit(limit)).all()


def note(session: Session, run_id: str, status: RunStatus, reason: Reason, at: datetime) -> None:
    """Have the webhooks of a run's owner told of its new state, if it is one they ask for."""
    of_owner = select(Webhook.id, Webhook.events).join(Run, Run.owner == Webhook.owner)
    for webhook_id, events in session.execute(of_owner.where(Run.id == run_id, Webhook.enabled)).all():
        if (name := f"run.{status}") in events:
            post(session, webhook_id, name, {"id": run_id, "status": str(status), "reason": str(reason)}, at)


def post(session: Session, webhook_id: str, name: str, data: dict[str, Any], at: datetime) -> WebhookDelivery:
    """Store something that a webhook is to be told."""
    timestamp = at.isoformat().replace("+00:00", "Z")
    made = WebhookDelivery(
        id=new_id("msg"),
        webhook_id=webhook_id,
        type=name,
        run_id=data.get("id"),
        body=json.dumps({"type": name, "timestamp": timestamp, "data": data}, separators=(",", ":")),
        state=PENDING,
        attempts=0,
        error="",
        created_at=at,
        next_at=at,
    )
    session.add(made)
    session.flush()
    return made


def any_due(session: Session) -> bool:
    """Whether anything is to be sent now."""
    return session.scalar(select(WebhookDelivery.id).where(WebhookDelivery.next_at <= now()).limit(1)) is not None


def claim(session: Session, most: int, lease_s: float, delivery_id: str | None = None) -> list[Due]:
    """Take deliveries whose time has come, or one by its id, for one attempt each; nobody else tries them meanwhile.

    Whoever dies with them leaves them to the next after `lease_s`. A delivery may so be sent twice, and never not at
    all; its id, which is the same each time, tells the receiver.
    """
    which = WebhookDelivery.next_at <= now() if delivery_id is None else WebhookDelivery.id == delivery_id
    waiting = select(WebhookDelivery.id).where(which, WebhookDelivery.state == PENDING)
    ids = session.scalars(waiting.order_by(WebhookDelivery.next_at).limit(most).with_for_update(skip_locked=True)).all()
    if not ids:
        return []
    leased = update(WebhookDelivery).where(WebhookDelivery.id.in_(ids))
    values = {"next_at": now() + timedelta(seconds=lease_s), "attempts": WebhookDelivery.attempts + 1}
    session.execute(leased.values(**values).execution_options(synchronize_session=False))
    query = select(WebhookDelivery, Webhook).join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
    session.expire_all()
    in_order = query.where(WebhookDelivery.id.in_(ids)).order_by(WebhookDelivery.created_at)
    found = session.execute(in_order).all()
    return [
        Due(one.id, webhook.id, one.attempts, webhook.url, one.body, _good_secrets(webhook)) for one, webhook in found
    ]


def settle(
    session: Session, due: Due, *, state: str, status_code: int | None, error: str, next_at: datetime | None
) -> bool:
    """Note how an attempt went; False if another one has been made since."""
    held = [WebhookDelivery.id == due.id, WebhookDelivery.attempts == due.attempt, WebhookDelivery.state == PENDING]
    values = {"state": state, "status_code": status_code, "error": error[:500], "next_at": next_at, "last_at": now()}
    return touched(session, update(WebhookDelivery).where(*held).values(**values)) > 0


def disable(session: Session, webhook_id: str, reason: str) -> None:
    """Tell a webhook nothing more, not even what waits."""
    session.execute(
        update(Webhook)
        .where(Webhook.id == webhook_id)
        .values(enabled=False, disabled_reason=reason[:200])
        .execution_options(synchronize_session=False)
    )
    waiting = [WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.state == PENDING]
    values = {"state": FAILED, "error": reason[:500], "next_at": None}
    touched(session, update(WebhookDelivery).where(*waiting).values(**values))


def forget(session: Session, before: datetime, most: int) -> int:
    """Forget some of the deliveries that are over and were made before a moment; tell how many."""
    over = [WebhookDelivery.state != PENDING, WebhookDelivery.created_at < before]
    old = select(WebhookDelivery.id).where(*over).limit(most)
    return touched(session, delete(WebhookDelivery).where(WebhookDelivery.id.in_(old)))


def _good_secrets(webhook: Webhook) -> tuple[str, ...]:
    previous, until = webhook.previous_secret, webhook.previous_until
    return (webhook.secret, previous) if previous and until is not None and until > now() else (webhook.secret,)
