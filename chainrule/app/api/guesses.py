"""Guesses: how many keys that are not valid one address may show.

A bucket for each address, as for rates: a key that is refused takes a token, and without one the database is not asked
any more. Whoever shows a key that this process has found valid before is let through to be looked up as ever, so that
one guesser does not lock out those who share his address.
"""

import hashlib
import ipaddress
import secrets
import time
from collections import OrderedDict
from threading import Lock

from chainrule.app.api.rates import Buckets
from chainrule.app.errors import TooManyRequests

MOST_KEYS = 10_000
"""So many valid keys are remembered, those that were shown last."""
IPV6_PREFIX = 64
"""What one customer of a provider has; more of an address of version 6 than that tells nobody apart."""


class Guesses:
    """Counts keys that were refused by address, and remembers keys that were not."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._buckets = Buckets(per_minute)
        self._valid: OrderedDict[bytes, None] = OrderedDict()
        self._salt = secrets.token_bytes(16)
        self._lock = Lock()

    def permit(self, address: str, shown: str) -> None:
        """Let a key be looked up, or refuse to.

        Raises:
            TooManyRequests: too many were wrong lately, and this one has not been right before.
        """
        if not self._limit:
            return
        with self._lock:
            wait_s = self._buckets.look(_network(address), time.monotonic())
            if not wait_s or self._name(shown) in self._valid:
                return
        raise TooManyRequests(
            f"More than {self._limit:,} keys a minute that are not valid came from your address (setting "
            f"CHAINRULE_GUESS_LIMIT); wait {wait_s} s, and send a valid one.",
            headers={"Retry-After": str(wait_s)},
            extra={"limit": self._limit, "setting": "CHAINRULE_GUESS_LIMIT"},
        )

    def failed(self, address: str, shown: str) -> None:
        """Count a key that was refused, and forget it if it was valid before."""
        if self._limit:
            with self._lock:
                self._buckets.take(_network(address), time.monotonic())
                self._valid.pop(self._name(shown), None)

    def succeeded(self, shown: str) -> None:
        """Remember a valid key, by a hash that is of no use elsewhere."""
        if self._limit:
            with self._lock:
                name = self._name(shown)
                self._valid[name] = None
                self._valid.move_to_end(name)
                if len(self._valid) > MOST_KEYS:
                    self._valid.popitem(last=False)

    def _name(self, shown: str) -> bytes:
        return hashlib.blake2b(shown.encode(errors="replace"), digest_size=16, salt=self._salt).digest()


def _network(address: str) -> str:
    """Give what is counted as one address."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if known.version == 4:
        return address
    return str(known.ipv4_mapped or ipaddress.IPv6Network((int(known), IPV6_PREFIX), strict=False))
