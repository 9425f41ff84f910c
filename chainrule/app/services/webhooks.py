"""Webhooks: who is told of changes of runs, how that is signed, and when it is tried again.

The signature is that of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over id, time and body.
"""

import base64
import hashlib
import hmac
import ipaddress
import random
import secrets
import socket
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from chainrule.app.config import Settings
from chainrule.app.errors import Conflict, InvalidInput, NotFound
from chainrule.app.run_status import RunStatus
from chainrule.app.services.runs import iso
from chainrule.app.store import webhooks as store
from chainrule.app.store.database import Database, new_id, now
from chainrule.app.store.models import Webhook, WebhookDelivery
from chainrule.app.store.webhooks import Due

EVENTS = tuple(f"run.{status}" for status in RunStatus)
TEST = "webhook.test"
ENDINGS = [f"run.{status}" for status in RunStatus if status.terminal]
PAUSES_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""How long to wait after each attempt that failed; after the last of them it is given up, three days on."""
LEASE_S = 60.0
"""Longer than any attempt takes: until then it is under way."""
MOST_WEBHOOKS = 20
_PREFIX = "whsec_"


class Refused(Exception):
    """An address that nothing is sent to."""


def create(database: Database, settings: Settings, *, name: str, url: str, events: list[str]) -> dict[str, Any]:
    """Store a webhook; its secret is shown this once.

    Raises:
        InvalidInput: nothing is sent to such an address.
        Conflict: there are too many already.
    """
    try:
        check_url(settings, url)
    except Refused as refused:
        raise InvalidInput.at("/url", str(refused)) from refused
    webhook = Webhook(
        id=new_id("hook"), name=name, url=url, events=sorted(set(events)), enabled=True, disabled_reason="",
        secret=_new_secret(), created_at=now(),
    )  # fmt: skip
    with database.writing(announce=False) as session:
        if len(store.page(session, limit=MOST_WEBHOOKS, cursor_id=None)) >= MOST_WEBHOOKS:
            raise Conflict(f"There are {MOST_WEBHOOKS} webhooks already; delete one of them first.")
        store.add(session, webhook)
        return _view(webhook) | {"secret": webhook.secret}


def page(database: Database, *, limit: int, cursor_id: str | None) -> list[dict[str, Any]]:
    """List webhooks, the newest first, from behind `cursor_id`."""
    with database.reading() as session:
        return [_view(webhook) for webhook in store.page(session, limit=limit, cursor_id=cursor_id)]


def get(database: Database, webhook_id: str) -> dict[str, Any]:
    """Look at one webhook.

    Raises:
        NotFound: there is no such webhook.
    """
    with database.reading() as session:
        return _view(_found(store.get(session, webhook_id), webhook_id))


def delete(database: Database, webhook_id: str) -> None:
    """Delete a webhook, with what it has not been told yet.

    Raises:
        NotFound: there is no such webhook.
    """
    with database.writing(announce=False) as session:
        if not store.remove(session, webhook_id):
            raise _not_there(webhook_id)


def rotate(database: Database, webhook_id: str, *, grace_s: int) -> dict[str, Any]:
    """Give a webhook a new secret, shown this once; what is sent is signed by the old one too, for `grace_s` more.

    Raises:
        NotFound: there is no such webhook.
    """
    with database.writing(announce=False) as session:
        webhook = _found(store.hold(session, webhook_id), webhook_id)
        webhook.previous_secret, webhook.previous_until = webhook.secret, now() + timedelta(seconds=grace_s)
        webhook.secret = _new_secret()
        session.flush()
        return _view(webhook) | {"secret": webhook.secret}


def enable(database: Database, webhook_id: str) -> dict[str, Any]:
    """Have a webhook told again that was disabled; what happened meanwhile it is not told.

    Raises:
        NotFound: there is no such webhook.
    """
    with database.writing(announce=False) as session:
        webhook = _found(store.hold(session, webhook_id), webhook_id)
        webhook.enabled, webhook.disabled_reason = True, ""
        session.flush()
        return _view(webhook)


def deliveries(database: Database, webhook_id: str, *, limit: int, cursor_id: str | None) -> list[dict[str, Any]]:
    """List what a webhook was told and is to be told, the newest first, from behind `cursor_id`.

    Raises:
        NotFound: there is no such webhook.
    """
    with database.reading() as session:
        _found(store.get(session, webhook_id), webhook_id)
        found = store.deliveries(session, webhook_id, limit=limit, cursor_id=cursor_id)
        return [_delivery(delivery) for delivery in found]


def begin_test(database: Database, webhook_id: str) -> Due:
    """Store a delivery that tells nothing, taken by the caller to be sent at once.

    Raises:
        NotFound: there is no such webhook.
    """
    with database.writing(announce=False) as session:
        _found(store.hold(session, webhook_id), webhook_id)
        made = store.post(session, webhook_id, TEST, {}, now())
        (due,) = store.claim(session, 1, LEASE_S, made.id)
        return due


def delivery(database: Database, webhook_id: str, delivery_id: str) -> dict[str, Any]:
    """Look at one delivery."""
    with database.reading() as session:
        found = session.get(WebhookDelivery, delivery_id)
        assert found is not None
        assert found.webhook_id == webhook_id
        return _delivery(found)


def take(database: Database, most: int) -> list[Due]:
    """Take what is to be sent now, for one attempt each."""
    with database.reading() as session:
        if not store.any_due(session):
            return []
    with database.writing(announce=False) as session:
        return store.claim(session, most, LEASE_S)


def settle(database: Database, due: Due, *, status_code: int | None, error: str, again: bool = True) -> None:
    """Note how an attempt went: delivered by any 2xx, else to be tried again until it is given up.

    410 says that nobody wants to be told any more, and disables the webhook.
    """
    with database.writing(announce=False) as session:
        if status_code is not None and 200 <= status_code < 300:
            store.settle(session, due, state=store.DELIVERED, status_code=status_code, error="", next_at=None)
            return
        pauses = PAUSES_S[due.attempt - 1 : due.attempt] if again else ()
        next_at = now() + timedelta(seconds=pauses[0] * random.uniform(0.8, 1.2)) if pauses else None  # noqa: S311
        state = store.PENDING if pauses else store.FAILED
        settled = store.settle(session, due, state=state, status_code=status_code, error=error, next_at=next_at)
        if settled and status_code == 410:
            store.disable(session, due.webhook_id, "The receiver answered 410 Gone.")


def headers(due: Due, at: int) -> dict[str, str]:
    """Sign an attempt, made at a time in Unix seconds, by each good secret."""
    signatures = [f"v1,{sign(secret, due.id, at, due.body)}" for secret in due.secrets]
    return {"webhook-id": due.id, "webhook-timestamp": str(at), "webhook-signature": " ".join(signatures)}


def sign(secret: str, message_id: str, at: int, body: str) -> str:
    """Compute the signature of a message: HMAC-SHA256 of `id.time.body`, in Base64."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return base64.b64encode(hmac.digest(key, f"{message_id}.{at}.{body}".encode(), hashlib.sha256)).decode()


def check_url(settings: Settings, url: str) -> list[str]:
    """Find the addresses of a URL that something may be sent to; none while its name leads nowhere.

    Raises:
        Refused: it is no such URL, or one of its addresses is in a private network or on this machine.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Refused(f"This is no URL: {error}.") from error
    allowed = ("https", "http") if settings.webhook_allow_private else ("https",)
    if parts.scheme not in allowed or not host:
        raise Refused("Give the full address of your endpoint, beginning with https://.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise Refused("Leave user, password and fragment out of the address; the signature shows who calls.")
    try:
        found = socket.getaddrinfo(host, port or (443 if parts.scheme == "https" else 80), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    addresses = [str(one[4][0]) for one in found]
    if not settings.webhook_allow_private and not all(map(_is_public, addresses)):
        raise Refused(
            f"{host} is in a private network or on this machine, and nothing is sent there (setting "
            "CHAINRULE_WEBHOOK_ALLOW_PRIVATE)."
        )
    return addresses


def _is_public(address: str) -> bool:
    """Tell whether an address leads out into the internet, also if it is wrapped into one of IPv6."""
    given = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(given, ipaddress.IPv6Address):
        if given in ipaddress.ip_network("64:ff9b::/96"):
            given = ipaddress.IPv4Address(given.packed[-4:])
        elif given.ipv4_mapped is not None:
            given = given.ipv4_mapped
        elif given.sixtofour is not None or given.teredo is not None:
            return False
    return given.is_global and not given.is_multicast


def _new_secret() -> str:
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def _found(webhook: Webhook | None, webhook_id: str) -> Webhook:
    if webhook is None:
        raise _not_there(webhook_id)
    return webhook


def _not_there(webhook_id: str) -> NotFound:
    return NotFound(f"There is no webhook {webhook_id!r}.")


def _view(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "name": webhook.name,
        "url": webhook.url,
        "events": webhook.events,
        "enabled": webhook.enabled,
        "disabled_reason": webhook.disabled_reason,
        "previous_until": iso(webhook.previous_until),
        "created_at": iso(webhook.created_at),
    }


def _delivery(delivery: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "webhook": delivery.webhook_id,
        "type": delivery.type,
        "run": delivery.run_id,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "status_code": delivery.status_code,
        "error": delivery.error,
        "created_at": iso(delivery.created_at),
        "last_at": iso(delivery.last_at),
        "next_at": iso(delivery.next_at),
    }
