"""Commands about keys, made beside the database: for whoever operates the service, and before there is any key."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from chainrule.app import console
from chainrule.app.cli.frame import (
    REFUSED,
    AsJson,
    DatabaseUrl,
    app,
    print_json,
    settings_of,
)

KeyId = Annotated[str, typer.Argument(help="The key's id: key_ and the middle part of the key.")]

keys_app = typer.Typer(
    name="keys",
    help="Make, list, rotate and revoke keys, of any owner; works on the database itself, which CHAINRULE_DATABASE_URL "
    "names.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(keys_app)


@keys_app.command("create")
def create_key(
    owner: Annotated[str, typer.Option(help="Whose it is; what is made with it is theirs.")] = "local",
    scope: Annotated[str, typer.Option(help="read, submit or admin; each may do all before it.")] = "submit",
    name: Annotated[str, typer.Option(help="What you call it: where it is used.")] = "",
    days: Annotated[int | None, typer.Option(min=1, help="How many days it is good for; for ever by default.")] = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown this once; only a hash is kept."""
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    made = _keys(
        database_url,
        lambda keys, database: keys.create(database, owner, name=name, scope=scope, expires_at=expires_at),
    )
    print_json(made) if as_json else typer.echo(made["key"])


@keys_app.command("list")
def list_keys(
    owner: Annotated[str | None, typer.Option(help="Only this owner's.")] = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """List keys, the newest first; never their secrets."""
    found = _keys(database_url, lambda keys, database: keys.every(database if owner is None else database.of(owner)))
    if as_json:
        return print_json(found)
    rows = [
        (key["id"], key["owner"], key["scope"], key["name"] or "–", _state(key), key["last_used_at"] or "never")
        for key in found
    ]
    console.table("Keys", ("id", "owner", "scope", "name", "state", "last used"), rows)


@keys_app.command("rotate")
def rotate_key(
    key_id: KeyId,
    grace_s: Annotated[int, typer.Option("--grace", min=0, help="Seconds for which the old one stays good.")] = 3600,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret, which is shown this once. With --grace 0 the old one is good for nothing at once."""
    made = _keys(database_url, lambda keys, database: keys.rotate(database, key_id, grace_s=grace_s))
    print_json(made) if as_json else typer.echo(made["key"])


@keys_app.command("revoke")
def revoke_key(key_id: KeyId, database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Revoke a key: from the next request on it is good for nothing."""
    found = _keys(database_url, lambda keys, database: keys.revoke(database, key_id))
    print_json(found) if as_json else typer.echo(f"revoked {key_id}")


@app.command()
def audit(
    owner: Annotated[str | None, typer.Option(help="Only this owner's.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    before: Annotated[str | None, typer.Option(help="Only entries older than this one.")] = None,
    after: Annotated[str | None, typer.Option(help="With --ndjson: only entries newer than this one.")] = None,
    ndjson: Annotated[
        bool, typer.Option("--ndjson", help="Print all, the oldest first, one JSON object a line, for archives.")
    ] = False,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show who has asked for which change, of any owner, the newest first; works on the database itself."""
    if ndjson and (before is not None or as_json):
        raise typer.BadParameter("--ndjson prints all; of the others it goes with --owner and --after only")
    if after is not None and not ndjson:
        raise typer.BadParameter("--after goes with --ndjson; older entries are shown with --before")
    with _beside(database_url) as database:
        from chainrule.app.services import audit as log

        seen = database if owner is None else database.of(owner)
        if ndjson:
            for entry in log.every(seen, after):
                typer.echo(json.dumps(entry))
            return None
        found = log.page(seen, limit=limit + 1, cursor_id=before)
    shown = found[:limit]
    if as_json:
        return print_json(shown)
    for entry in shown:
        answer = "unknown" if entry["status"] is None else entry["status"]
        about = "" if entry["object_id"] is None else f" ({entry['object_id']})"
        by = f"{entry['owner']} {entry['key_id'] or '–'} {entry['client'] or '–'}"
        typer.echo(f"{entry['at'][:19]}Z {by} {entry['method']} {entry['route']}{about}: {answer}")
    if len(found) > limit:
        typer.echo(f"There are older ones: chainrule audit --before {shown[-1]['id']}", err=True)
    return None


def _keys(database_url: str | None, task: Callable[[Any, Any], Any]) -> Any:
    """Do something about keys, on the database itself."""
    with _beside(database_url) as database:
        from chainrule.app.services import keys

        return task(keys, database)


@contextmanager
def _beside(database_url: str | None) -> Iterator[Any]:
    """Open the database itself, all of it, for whoever operates the service."""
    settings = settings_of(database_url=database_url)
    from chainrule.app.errors import AppError
    from chainrule.app.store import migrations
    from chainrule.app.store.database import Database

    database = Database(settings.database_url)
    try:
        migrations.upgrade(database)
        yield database
    except AppError as error:
        typer.echo(f"refused: {error.detail}", err=True)
        raise typer.Exit(REFUSED) from error
    finally:
        database.dispose()


def _state(key: dict[str, Any]) -> str:
    if key["revoked_at"]:
        return "revoked"
    if key["expires_at"] is None:
        return "good"
    expired = datetime.fromisoformat(key["expires_at"]) <= datetime.now(UTC)
    return f"{'expired' if expired else 'good until'} {key['expires_at'][:10]}"
