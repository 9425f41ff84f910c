"""The Dask cluster that is there: how it is reached, and the one version of Chainrule that all of it must have."""

from ipaddress import ip_address
from typing import Any

import chainrule
from chainrule.app.config import Settings

PROTOCOL = 1
"""Raised with every change that pilots sent before would not survive."""
RESOURCE = "shard"
"""What a Dask worker is started with that is for shards; no pilot goes there."""
CONNECT_S = 10


class EngineUnusable(Exception):
    """The engine that is asked for cannot be used; says why and what to do."""


class VersionMismatch(Exception):
    """A pilot was sent by another version of Chainrule than the one it landed on."""


def speaks() -> tuple[int, str]:
    """Tell which protocol and version of Chainrule are installed here."""
    return PROTOCOL, chainrule.__version__


def agree(protocol: int, sender: str) -> None:
    """Insist on one version here and where somebody sends from.

    Raises:
        VersionMismatch: they are two.
    """
    if (protocol, sender) != speaks():
        raise VersionMismatch(
            f"this was sent by Chainrule {sender} (protocol {protocol}), and this worker has "
            f"{chainrule.__version__} (protocol {PROTOCOL}); install the same version on both"
        )


def connect(settings: Settings) -> Any:
    """Connect to the cluster that is there, from a training process in one of its workers.

    Raises:
        EngineUnusable: it does not answer.
    """
    import distributed

    make: Any = distributed.Client
    try:
        return make(**address_of(settings, distributed.Security), timeout=CONNECT_S, direct_to_workers=True)
    except (OSError, TimeoutError) as error:
        raise EngineUnusable(f"no Dask scheduler answers at {settings.engine}: {error}") from error


def address_of(settings: Settings, security: Any) -> dict[str, Any]:
    """Say how a cluster is reached: on this machine as Dask's own settings say, elsewhere by TLS only.

    Raises:
        EngineUnusable: without certificates, or with a database that its workers cannot reach.
    """
    place = settings.engine.removeprefix("dask://")
    host = place.rpartition(":")[0].strip("[]")
    here = _is_here(host)
    if here and not security().require_encryption:
        return {"address": f"tcp://{place}"}
    if not here and settings.database_url.startswith("sqlite"):
        raise EngineUnusable("workers on other machines cannot share an SQLite file; use PostgreSQL")
    secured = security(require_encryption=True)
    if not (secured.tls_ca_file and secured.tls_client_cert and secured.tls_client_key):
        why = f"{settings.engine} is another machine, and Dask executes whatever reaches it"
        if here:
            why = "Dask's own settings require encryption"
        raise EngineUnusable(
            f"{why}: set up TLS "
            "(DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__TLS__CLIENT__CERT and …__TLS__CLIENT__KEY), or use loopback"
        )
    return {"address": f"tls://{place}", "security": secured}


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
