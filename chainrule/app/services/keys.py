"""Keys: how callers are known. A key is shown once, when it is made; what is kept is a hash of its secret.

`chainrule_<id>_<secret><checksum>`: the id finds the key, the secret has 256 random bits, so that a plain SHA-256 of
it cannot be guessed back, and the checksum (CRC-32) tells scanners, and a client, a key from a text that looks like
one. The service never answers by the checksum.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chainrule.app.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from chainrule.app.store import keys as store
from chainrule.app.store.database import Database, new_id, now
from chainrule.app.store.models import LOCAL, ApiKey

READ, SUBMIT, ADMIN = SCOPES = ("read", "submit", "admin")
"""What a key may do, each with all before it: look and compute; make, change and delete; manage keys."""
DEFAULT_GRACE_S = 3600
LONGEST = 200
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(r"chainrule_([0-9a-z]{1,40})_([0-9A-Za-z]{43}[0-9A-Za-z]{6})")
_NOTHING = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
"""What is compared with where there is no key; nobody knows what it is a hash of."""


@dataclass(frozen=True)
class Caller:
    """Who makes a request: whose it is, how far its key reaches, and which one that is."""

    owner: str
    scope: str
    key_id: str | None = None

    def may(self, scope: str) -> bool:
        """Tell whether the key reaches so far."""
        return SCOPES.index(scope) <= SCOPES.index(self.scope)


EVERYBODY_HERE = Caller(LOCAL, ADMIN)
"""Whoever calls while no keys are asked for."""
NOBODY = Caller("", READ)
"""Whoever calls without a key what needs none; nothing is theirs."""


def create(
    database: Database, owner: str, *, name: str, scope: str, expires_at: datetime | None = None
) -> dict[str, Any]:
    """Make a key; the answer is the only one that has it in full.

    Raises:
        InvalidInput: it would have expired already, or owner or scope cannot be.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", owner):
        raise InvalidInput.at(
            "/owner", f"{owner!r} cannot be an owner; names are a-z, 0-9, '_', '.' and '-', 64 at most."
        )
    if scope not in SCOPES:
        raise InvalidInput.at("/scope", f"There is no scope {scope!r}; known: {', '.join(SCOPES)}.")
    if expires_at is not None and expires_at <= now():
        raise InvalidInput.at("/expires_at", "That is in the past; name a time to come, or leave it out.")
    key_id = new_id("key")
    shown = _make(key_id)
    key = ApiKey(
        id=key_id, owner=owner, name=name, scope=scope, sha256=_sha256(shown), created_at=now(), expires_at=expires_at
    )
    with database.writing(announce=False) as session:
        store.add(session, key)
        return _view(key) | {"key": shown}


def page(database: Database, *, limit: int, cursor_id: str | None) -> list[dict[str, Any]]:
    """List keys, the newest first, from behind `cursor_id`."""
    with database.reading() as session:
        return [_view(key) for key in store.page(session, limit=limit, cursor_id=cursor_id)]


def every(database: Database) -> list[dict[str, Any]]:
    """List all keys, the newest first."""
    with database.reading() as session:
        return [_view(key) for key in store.page(session, limit=None, cursor_id=None)]


def get(database: Database, key_id: str) -> dict[str, Any]:
    """Look at one key.

    Raises:
        NotFound: there is no such key.
    """
    with database.reading() as session:
        return _view(_found(store.get(session, key_id), key_id))


def rotate(database: Database, key_id: str, *, grace_s: int = DEFAULT_GRACE_S) -> dict[str, Any]:
    """Give a key a new secret; the old one is good for `grace_s` longer, one older than that no more.

    Raises:
        NotFound: there is no such key.
        Conflict: it is revoked or has expired.
    """
    shown = _make(key_id)
    with database.writing(announce=False) as session:
        key = _found(store.hold(session, key_id), key_id)
        if (ended := _ended(key)) is not None:
            raise Conflict(f"Key {key_id} {ended}; make a new one.")
        key.previous_sha256, key.previous_until = (key.sha256, now() + timedelta(seconds=grace_s))
        key.sha256, key.rotated_at = _sha256(shown), now()
        session.flush()
        return _view(key) | {"key": shown}


def revoke(database: Database, key_id: str) -> dict[str, Any]:
    """Make a key worthless from now on; it stays in the list. Repeating it is harmless.

    Raises:
        NotFound: there is no such key.
    """
    with database.writing(announce=False) as session:
        key = _found(store.hold(session, key_id), key_id)
        key.revoked_at = key.revoked_at or now()
        session.flush()
        return _view(key)


def authenticate(database: Database, shown: str) -> Caller:
    """Tell whose a key is.

    Every key that is not right takes the same way: one look-up, by its id or by one there is none of, and two
    comparisons in constant time. Only who has the secret is told that it has expired.

    Raises:
        Unauthenticated: it is malformed, unknown, wrong, expired or revoked.
    """
    form = _FORM.fullmatch(shown[: LONGEST + 1])
    key_id = f"key_{form.group(1)}" if form else ""
    digest = _sha256(shown[: LONGEST + 1])
    with database.reading() as session:
        known = store.look(session, key_id)
    current = hmac.compare_digest(digest, known.sha256 or _NOTHING)
    previous = hmac.compare_digest(digest, known.previous_sha256 or _NOTHING)
    if known.id is None or known.owner is None or known.scope is None or not (current or previous):
        raise _not_valid("is not one of this service's")
    if not current and (known.previous_until is None or known.previous_until <= now()):
        raise _not_valid("was replaced by another when it was rotated")
    if (ended := _ended(known)) is not None:
        raise _not_valid(ended)
    if not store.use_is_noted(known):
        with database.writing(announce=False) as session:
            store.note_use(session, known.id)
    return Caller(known.owner, known.scope, known.id)


def checksum(text: str) -> str:
    """Compute the six characters at the end of a key: the CRC-32 of all before them."""
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits


def _make(key_id: str) -> str:
    secret = "".join(secrets.choice(_DIGITS) for _ in range(43))
    text = f"chainrule_{key_id.removeprefix('key_')}_{secret}"
    return text + checksum(text)


def _sha256(shown: str) -> str:
    return hashlib.sha256(shown.encode(errors="replace")).hexdigest()


def _ended(key: ApiKey | store.Known) -> str | None:
    if key.revoked_at is not None:
        return "is revoked"
    return "has expired" if key.expires_at is not None and key.expires_at <= now() else None


def _not_valid(why: str) -> Unauthenticated:
    return Unauthenticated(
        f"The key {why}; send a valid one as `Authorization: Bearer chainrule_…`.",
        headers={"WWW-Authenticate": 'Bearer realm="chainrule", error="invalid_token"'},
    )


def _found(key: ApiKey | None, key_id: str) -> ApiKey:
    if key is None:
        raise NotFound(f"There is no key {key_id!r}.")
    return key


def _view(key: ApiKey) -> dict[str, Any]:
    moments = ("created_at", "rotated_at", "expires_at", "revoked_at", "last_used_at", "previous_until")
    shown: dict[str, Any] = {"id": key.id, "owner": key.owner, "name": key.name, "scope": key.scope}
    for name in moments:
        moment: datetime | None = getattr(key, name)
        shown[name] = None if moment is None else moment.isoformat().replace("+00:00", "Z")
    return shown
