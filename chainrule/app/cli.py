"""The command line: serve and work, submit and look inside."""

import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

import chainrule
from chainrule.app import console
from chainrule.app.client import DEFAULT_URL, Client, Resource, ServiceError, service_url

REFUSED = 2
FAILED = 1
INTERRUPTED = 130

app = typer.Typer(
    name="chainrule",
    help="Train networks over REST and look inside. Commands that talk to a service find it at CHAINRULE_URL, by "
    "default http://127.0.0.1:8000.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)

Url = Annotated[str | None, typer.Option(envvar="CHAINRULE_URL", help="The service to talk to.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DatabaseUrl = Annotated[str | None, typer.Option(help="sqlite:///file or postgresql://user@host/name.")]
KeyId = Annotated[str, typer.Argument(help="The key's id: key_ and the middle part of the key.")]
WebhookId = Annotated[str, typer.Argument(help="The webhook's id.")]
RunId = Annotated[str, typer.Argument(help="The run's id; latest is the one submitted last.")]
ExactRunId = Annotated[str, typer.Argument(help="The run's id.")]
EpochName = Annotated[str, typer.Option(help="An epoch: a number, final, last or best.")]


def main() -> None:
    """Run the command line."""
    app()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"chainrule {chainrule.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
    key: Annotated[
        str | None,
        typer.Option(help="The key to show the service. CHAINRULE_KEY says it where no list of processes shows it."),
    ] = None,
) -> None:
    if key:
        os.environ["CHAINRULE_KEY"] = key


def _talking(command: Callable[..., None]) -> Callable[..., None]:
    """Have a command end with one line and status 2 where the service refuses or cannot be reached."""

    @wraps(command)
    def talk(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except ServiceError as error:
            typer.echo(f"refused ({error.status} {error.code}): {error}", err=True)
            raise typer.Exit(REFUSED) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            url = service_url(options["url"])
            typer.echo(f"{url!r} is no address of a service; one looks like {DEFAULT_URL}", err=True)
            raise typer.Exit(REFUSED) from error
        except httpx.TransportError as error:
            url = service_url(options["url"])
            typer.echo(f"the service at {url} cannot be reached: {error}; is `chainrule serve` running?", err=True)
            raise typer.Exit(REFUSED) from error
        except BrokenPipeError:  # whoever read the output has had enough; the framework ends in silence
            raise
        except OSError as error:
            typer.echo(f"{error.strerror}: {error.filename}" if error.filename else str(error), err=True)
            raise typer.Exit(REFUSED) from error

    return talk


# The service


@app.command()
def serve(
    slots: Annotated[int | None, typer.Option(help="Runs trained at once; 0 for the API alone.")] = None,
    engine: Annotated[str | None, typer.Option(help="Where runs are trained: local, dask or dask://host:port.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    database_url: Annotated[str | None, typer.Option(help="sqlite:///file or postgresql://user@host/name.")] = None,
) -> None:
    """Serve the API and train runs. Settings are CHAINRULE_* variables."""
    settings = _settings(slots=slots, engine=engine, host=host, port=port, database_url=database_url)
    _trace(settings.traces)
    from chainrule.app import main as service

    raise typer.Exit(service.serve(settings))


@app.command()
def worker(
    slots: Annotated[int | None, typer.Option(help="Runs trained at once.")] = None,
    engine: Annotated[str | None, typer.Option(help="Where runs are trained: local, dask or dask://host:port.")] = None,
    database_url: Annotated[str | None, typer.Option(help="sqlite:///file or postgresql://user@host/name.")] = None,
) -> None:
    """Train runs without serving the API. Any machine that reaches the database will do."""
    settings = _settings(slots=slots, engine=engine, database_url=database_url)
    if settings.slots < 1:
        typer.echo("a worker needs at least one slot: --slots 1", err=True)
        raise typer.Exit(REFUSED)
    _trace(settings.traces)
    from chainrule.app import worker as service

    service.run(settings)


@app.command()
def migrate(
    database_url: Annotated[str | None, typer.Option(help="sqlite:///file or postgresql://user@host/name.")] = None,
) -> None:
    """Bring the database's schema up to date."""
    settings = _settings(database_url=database_url)
    from sqlalchemy.exc import SQLAlchemyError

    from chainrule.app.store import migrations
    from chainrule.app.store.database import Database
    from chainrule.app.store.troubles import explained

    try:
        database = Database(settings.database_url)
        before, _ = migrations.revisions(database)
        migrations.upgrade(database)
        after, _ = migrations.revisions(database)
        database.dispose()
    except (OSError, SQLAlchemyError, migrations.NewerSchema) as error:
        typer.echo(f"cannot migrate the database: {explained(error)}", err=True)
        raise typer.Exit(REFUSED) from error
    typer.echo(f"schema {after}" if before == after else f"schema {before or 'none'} → {after}")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes; there must be nothing yet.")],
    database_url: Annotated[str | None, typer.Option(help="sqlite:///file; the service may be using it.")] = None,
) -> None:
    """Copy a SQLite database as it is at this moment, while it is in use."""
    with _kept(database_url) as (database, backups):
        backups.backup(database, file)
    typer.echo(f"{file}: {file.stat().st_size:,} bytes, checked")


@app.command()
def restore_backup(
    file: Annotated[Path, typer.Argument(help="A file that `chainrule backup` wrote.")],
    database_url: Annotated[str | None, typer.Option(help="sqlite:///file; there must be nothing yet.")] = None,
) -> None:
    """Put a backup in the place of the SQLite database; runs that were being trained are queued again."""
    with _kept(database_url) as (database, backups):
        queued = backups.restore(database, file)
        where = database.url.database
    typer.echo(f"{where}: restored; {queued} runs that were being trained wait to go on")


@contextmanager
def _kept(database_url: str | None) -> Iterator[tuple[Any, Any]]:
    """Open the database and what keeps it; where that refuses, end with one line."""
    settings = _settings(database_url=database_url)
    from sqlalchemy.exc import SQLAlchemyError

    from chainrule.app.store import backups
    from chainrule.app.store.database import Database
    from chainrule.app.store.migrations import NewerSchema
    from chainrule.app.store.troubles import explained

    database = Database(settings.database_url)
    try:
        yield database, backups
    except (OSError, sqlite3.Error, SQLAlchemyError, NewerSchema, backups.Refused) as error:
        typer.echo(f"refused: {explained(error)}", err=True)
        raise typer.Exit(REFUSED) from error
    finally:
        database.dispose()


@app.command()
def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="End when done, in place of serving until Ctrl-C.")] = False,
    folder: Annotated[Path, typer.Option(help="Where its database and weights go.")] = Path("chainrule-demo"),
) -> None:
    """Train on handwritten digits and look inside."""
    _settings()
    from chainrule.app import demo as demonstration

    demonstration.run(folder, keep_serving=not exit_)


# Webhooks, asked of the service as all that is one's own

webhooks_app = typer.Typer(
    name="webhooks",
    help="Have changes of your runs posted to an address of yours, signed; add, list, try and remove such webhooks.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(webhooks_app)


@webhooks_app.command("add")
@_talking
def add_webhook(
    address: Annotated[str, typer.Argument(help="Where to post to; https, unless the service allows others.")],
    event: Annotated[
        list[str] | None,
        typer.Option(help="What to be told, such as run.running; may be repeated. By default the ends of runs."),
    ] = None,
    name: Annotated[str, typer.Option(help="What you call it.")] = "",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make a webhook. Its id is printed, and the secret that messages are signed by, which is shown this once."""
    with Client(url) as client:
        made = client.add_webhook(address, events=event, name=name)
    _print_json(made) if as_json else typer.echo(f"{made['id']} {made['secret']}")


@webhooks_app.command("list")
@_talking
def list_webhooks(url: Url = None, as_json: AsJson = False) -> None:
    """List webhooks, the newest first; never their secrets."""
    with Client(url) as client:
        found = list(client.webhooks())
    if as_json:
        return _print_json([dict(webhook) for webhook in found])
    rows = [
        (
            webhook["id"], webhook["name"] or "–", webhook["url"], " ".join(webhook["events"]),
            "enabled" if webhook["enabled"] else webhook["disabled_reason"] or "disabled",
        )
        for webhook in found
    ]  # fmt: skip
    console.table("Webhooks", ("id", "name", "address", "events", "state"), rows)


@webhooks_app.command("test")
@_talking
def test_webhook(webhook_id: WebhookId, url: Url = None, as_json: AsJson = False) -> None:
    """Post a test message now. The exit status is 1 unless it was taken."""
    with Client(url) as client:
        went = client.test_webhook(webhook_id)
    _print_json(went) if as_json else typer.echo(_delivery(went))
    if went["state"] != "delivered":
        raise typer.Exit(FAILED)


@webhooks_app.command("deliveries")
@_talking
def deliveries(
    webhook_id: WebhookId,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show what a webhook was told and is to be told, the newest first."""
    with Client(url) as client:
        found = list(islice(client.deliveries(webhook_id), limit))
    if as_json:
        return _print_json([dict(delivery) for delivery in found])
    for delivery in found:
        typer.echo(f"{delivery['created_at'][:19]}Z {delivery['run'] or '–'} {_delivery(delivery)}")
    return None


@webhooks_app.command("rotate")
@_talking
def rotate_webhook(
    webhook_id: WebhookId,
    grace_s: Annotated[int, typer.Option("--grace", min=0, help="Seconds for which both secrets sign.")] = 86400,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Give a webhook a new secret, which is shown this once."""
    with Client(url) as client:
        made = client.rotate_webhook(webhook_id, grace_s=grace_s)
    _print_json(made) if as_json else typer.echo(made["secret"])


@webhooks_app.command("enable")
@_talking
def enable_webhook(webhook_id: WebhookId, url: Url = None, as_json: AsJson = False) -> None:
    """Enable a webhook again whose receiver said that it is gone."""
    with Client(url) as client:
        found = client.enable_webhook(webhook_id)
    _print_json(found) if as_json else typer.echo(f"enabled {webhook_id}")


@webhooks_app.command("remove")
@_talking
def remove_webhook(webhook_id: WebhookId, url: Url = None, as_json: AsJson = False) -> None:
    """Remove a webhook, with what it has not been told yet."""
    with Client(url) as client:
        client.delete_webhook(webhook_id)
    _print_json({"removed": webhook_id}) if as_json else typer.echo(f"removed {webhook_id}")


def _delivery(delivery: Resource) -> str:
    answered = delivery["error"] or f"answered {delivery['status_code']}"
    tried = "" if delivery["state"] == "pending" and not delivery["attempts"] else f", {answered}"
    again = f", again at {delivery['next_at'][:19]}Z" if delivery["next_at"] and delivery["attempts"] else ""
    return f"{delivery['type']} {delivery['state']} ({delivery['attempts']} tried{tried}{again})"


# Keys, made beside the database: for whoever operates the service, for any owner, and before there is any key

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
    _print_json(made) if as_json else typer.echo(made["key"])


@keys_app.command("list")
def list_keys(
    owner: Annotated[str | None, typer.Option(help="Only this owner's.")] = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """List keys, the newest first; never their secrets."""
    found = _keys(database_url, lambda keys, database: keys.every(database if owner is None else database.of(owner)))
    if as_json:
        return _print_json(found)
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
    _print_json(made) if as_json else typer.echo(made["key"])


@keys_app.command("revoke")
def revoke_key(key_id: KeyId, database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Revoke a key: from the next request on it is good for nothing."""
    found = _keys(database_url, lambda keys, database: keys.revoke(database, key_id))
    _print_json(found) if as_json else typer.echo(f"revoked {key_id}")


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
        return _print_json(shown)
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
    settings = _settings(database_url=database_url)
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


# Datasets


@app.command()
@_talking
def upload(
    file: Annotated[Path, typer.Argument(help="CSV, NPY, NPZ or IDX, gzipped or not.")],
    labels: Annotated[Path | None, typer.Option(help="The labels file of an IDX pair.")] = None,
    label_column: Annotated[str | None, typer.Option(help="The CSV column with class labels.")] = None,
    target_columns: Annotated[
        str | None, typer.Option(help="CSV columns with numeric targets, separated by commas.")
    ] = None,
    categorical_columns: Annotated[
        str | None, typer.Option(help="CSV feature columns with categories, separated by commas; words are by default.")
    ] = None,
    weight_column: Annotated[
        str | None, typer.Option(help="The CSV column that says how much each sample's error counts.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name for it; the file's by default.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Upload a dataset."""
    with Client(url) as client:
        dataset = client.upload(
            file, labels=labels, label_column=label_column, target_columns=target_columns,
            categorical_columns=categorical_columns, weight_column=weight_column, name=name,
        )  # fmt: skip
        if as_json:
            return _print_json(dataset)
        _describe(dataset)


@app.command()
@_talking
def datasets(url: Url = None, as_json: AsJson = False) -> None:
    """List datasets."""
    with Client(url) as client:
        found = list(client.datasets())
    if as_json:
        return _print_json([dict(dataset) for dataset in found])
    rows = [(d["id"], d["name"], d["samples"], d["features"], len(d["classes"]) or "–") for d in found]
    console.table("Datasets", ("id", "name", "samples", "features", "classes"), rows)


# Runs


@app.command()
@_talking
def submit(
    spec: Annotated[Path, typer.Argument(help="A JSON file with the body of POST /v1/runs; - for standard input.")],
    data: Annotated[Path | None, typer.Option(help="Upload this file and train on it.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Its column with class labels (CSV).")] = None,
    weight_column: Annotated[str | None, typer.Option(help="Its column with the samples' weights (CSV).")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show progress until it ends.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Submit a run. With --watch wait for its end; the exit status is then 1 unless it succeeded."""
    with Client(url) as client:
        body = _read_spec(spec)
        if data is not None:
            body["dataset"] = client.upload(data, label_column=label_column, weight_column=weight_column)["id"]
        _made(client, client.submit(body), watch=watch, as_json=as_json)


@app.command()
@_talking
def watch(run_id: RunId = "latest", url: Url = None, as_json: AsJson = False) -> None:
    """Show a run's progress until it ends. The exit status is 1 unless it succeeded."""
    with Client(url) as client:
        _finish(_watched(client, run_id, as_json=as_json), as_json=as_json)


@app.command()
@_talking
def runs(
    status: Annotated[list[str] | None, typer.Option(help="Only this status; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="Only this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted ones that can be restored.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    with Client(url) as client:
        filters: dict[str, Any] = {"limit": min(limit, 200)}
        filters |= {"status": status} if status else {}
        filters |= {"name": name} if name else {}
        filters |= {"deleted": True} if deleted else {}
        found = list(islice(client.runs(**filters), limit))
    if as_json:
        return _print_json([dict(run) for run in found])
    rows = [
        (
            run["id"], run["name"] or "–", console.status(run["status"]),
            f"{run['progress']['epochs_done']}/{run['progress']['epochs_total']}", run["cost"], run["error"],
        )
        for run in found
    ]  # fmt: skip
    console.table("Runs", ("id", "name", "status", "epochs", "cost", "error"), rows, shares=("error",))


@app.command()
@_talking
def show(run_id: RunId = "latest", url: Url = None, as_json: AsJson = False) -> None:
    """Show a run."""
    with Client(url) as client:
        run = client.run(run_id)
    return _print_json(run) if as_json else console.run(run)


@app.command()
@_talking
def epochs(
    run_id: RunId = "latest",
    after: Annotated[int, typer.Option(min=-1, help="Only epochs after this one.")] = -1,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show cost and error of each epoch."""
    with Client(url) as client:
        columns = {name: array.tolist() for name, array in client.epochs(run_id, after=after).items()}
    rows = [[None if value != value else value for value in row] for row in zip(*columns.values(), strict=True)]
    if as_json:
        return _print_json([dict(zip(columns, row, strict=True)) for row in rows])
    console.table("Epochs", list(columns), rows, shares=("error", "validation_error"))


@app.command()
@_talking
def extend(
    run_id: ExactRunId,
    epochs: Annotated[int | None, typer.Option(min=1, help="How many epochs more.")] = None,
    to: Annotated[int | None, typer.Option(min=1, help="Or how many in all.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show progress until it ends.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a run that has ended, as a new run. It ends as if it had never stopped."""
    with Client(url) as client:
        _made(client, client.extend(run_id, epochs=epochs, to=to), watch=watch, as_json=as_json)


@app.command()
@_talking
def clone(
    run_id: ExactRunId,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="A field and its new value, as JSON or text: seed=2; may be repeated."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show progress until it ends.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Submit a run again, with changes. Each one replaces a field of the spec as a whole."""
    changes = dict(map(_change, change or ()))
    with Client(url) as client:
        _made(client, client.clone(run_id, changes), watch=watch, as_json=as_json)


@app.command()
@_talking
def verify(
    run_id: RunId = "latest",
    after: Annotated[int | None, typer.Option(min=1, help="Begin with the weights at the end of this epoch.")] = None,
    to: Annotated[int | None, typer.Option(min=1, help="The last epoch to compare.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Train a run once more and compare with what it stored. Ends with status 1 unless all is equal."""
    with Client(url) as client:
        made = client.verify(run_id, after=after, to=to)
        try:
            run = client.wait(made["id"]) if as_json else console.watch_verification(client, made)
        except KeyboardInterrupt:
            typer.echo(f"The verification goes on; see it with: chainrule show {made['id']}", err=True)
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        _print_json(run)
    else:
        console.verification(run)
    if not run["verification"]["equal"]:
        raise typer.Exit(FAILED)


@app.command()
@_talking
def attempts(run_id: RunId = "latest", url: Url = None, as_json: AsJson = False) -> None:
    """Show who trained a run, from where to where, and why that ended."""
    with Client(url) as client:
        found = client.attempts(run_id)
    if as_json:
        return _print_json([dict(attempt) for attempt in found])
    rows = [
        (
            attempt["number"], attempt["worker"], attempt["started_at"][5:19].replace("T", " "),
            (attempt["ended_at"] or "")[11:19],
            attempt["started_steps"], attempt["ended_steps"],
            f"{attempt['reason'] or 'running'} {attempt['detail']}".rstrip(),
        )
        for attempt in found
    ]  # fmt: skip
    console.table("Attempts", ("", "worker", "from", "to", "from_step", "to_step", "ended"), rows)


@app.command()
@_talking
def cancel(run_id: ExactRunId, url: Url = None, as_json: AsJson = False) -> None:
    """Cancel a run."""
    with Client(url) as client:
        run = client.cancel(run_id)
    return _print_json(run) if as_json else console.run(run)


@app.command()
@_talking
def pause(run_id: ExactRunId, url: Url = None, as_json: AsJson = False) -> None:
    """Pause a run. It leaves its slot to others, and nothing is lost."""
    with Client(url) as client:
        run = client.pause(run_id)
    return _print_json(run) if as_json else console.run(run)


@app.command()
@_talking
def resume(run_id: ExactRunId, url: Url = None, as_json: AsJson = False) -> None:
    """Let a paused run go on where it stopped."""
    with Client(url) as client:
        run = client.resume(run_id)
    return _print_json(run) if as_json else console.run(run)


@app.command()
@_talking
def delete(
    run_id: ExactRunId,
    purge: Annotated[bool, typer.Option("--purge", help="For good: it cannot be restored.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a run that has ended. All it recorded goes with it, and comes back with it if it is restored."""
    with Client(url) as client:
        client.delete(run_id, purge=purge)
    return _print_json({"deleted": run_id}) if as_json else typer.echo(f"deleted {run_id}")


@app.command()
@_talking
def restore(run_id: ExactRunId, url: Url = None, as_json: AsJson = False) -> None:
    """Restore a deleted run, while that can be done."""
    with Client(url) as client:
        run = client.restore(run_id)
    return _print_json(run) if as_json else console.run(run)


# Inside


@app.command()
@_talking
def inputs(run_id: RunId = "latest", url: Url = None, as_json: AsJson = False) -> None:
    """Show how features become the network's input. Scaling and one-hot columns are fitted to the training samples."""
    with Client(url) as client:
        found = client.inputs(run_id)
    if as_json:
        return _print_json(found)
    rows = [(c["name"], c.get("offset"), c.get("scale"), ", ".join(c.get("categories", ()))) for c in found["columns"]]
    console.table(f"Inputs, scaling {found['scaling']}", ("feature", "offset", "scale", "categories"), rows)


@app.command()
@_talking
def weights(
    run_id: RunId = "latest",
    epoch: EpochName = "final",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Save to this file; its ending chooses the format.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="safetensors, npz, json, onnx or torch, whatever the ending.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show or save the weights of an epoch. Files are .safetensors, .npz, .json or .onnx; for torch say --format."""
    if format_ is not None and out is None:
        raise typer.BadParameter("--format is for files; name one with --out")
    with Client(url) as client:
        if out is not None:
            chosen = format_ or out.suffix.removeprefix(".") or "safetensors"
            path = client.save_weights(run_id, out, epoch, format=chosen)
            sha256 = client.checkpoint(run_id, epoch)["sha256"]
            return _print_json({"path": str(path), "sha256": sha256}) if as_json else typer.echo(f"saved {path}")
        arrays = client.weights(run_id, epoch)
    if as_json:
        return _print_json({name: array.tolist() for name, array in arrays.items()})
    rows = [(n, str(a.shape), float(abs(a).max()), float((a * a).sum() ** 0.5)) for n, a in arrays.items()]
    console.table("Weights", ("name", "shape", "largest", "norm"), rows)


@app.command()
@_talking
def gradients(
    run_id: RunId = "latest",
    epoch: Annotated[
        str | None,
        typer.Option(help="An epoch: a number, final, last or best. With --rows final by default, else all."),
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Rows of the dataset, separated by commas: 0,4,8.")] = None,
    names: Annotated[str | None, typer.Option(help="Quantities, separated by commas: dW1,dZ2; by default all.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show recorded or computed gradients. With --rows any quantity for these rows, else recorded statistics."""
    wanted = [name.strip() for name in names.split(",")] if names else None
    with Client(url) as client:
        if rows is None:
            records = _recorded(client, run_id, epoch, wanted)
            if as_json:
                return _print_json(records)
            columns = ("epoch", "gradient", "norm", "mean", "standard_deviation", "zeros", "update_ratio")
            shown = [[record[name] for name in columns] for record in records]
            return console.table("Gradients", columns, shown, shares=("zeros",))
        numbers = [_whole(text) for text in rows.split(",")]
        found = client.explain_gradients(run_id, epoch=epoch or "final", rows=numbers, names=wanted, values=as_json)
    if as_json:
        return _print_json(found)
    quantities = [(n, str(tuple(q["shape"])), q["norm"], q["equation"]) for n, q in found["quantities"].items()]
    console.table(f"Epoch {found['epoch']}, rows {rows}", ("name", "shape", "norm", "equation"), quantities)


@app.command()
@_talking
def metrics(
    run_id: RunId = "latest",
    epoch: EpochName = "final",
    split: Annotated[
        str | None, typer.Option(help="training or validation; by default validation where the run has it.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Measure the network of an epoch: error, precision, recall and confusion matrix, or RMSE, MAE and R²."""
    with Client(url) as client:
        found = client.metrics(run_id, epoch=epoch, split=split)
    if not as_json:
        return console.metrics(found)
    matrix = {"confusion_matrix": found["confusion_matrix"].tolist()} if "confusion_matrix" in found else {}
    _print_json({**found, **matrix})


@app.command()
@_talking
def predict(
    samples: Annotated[str, typer.Argument(help="Samples as JSON, '[[1.5, 0.2], …]', or a file with that.")],
    run_id: Annotated[str, typer.Option("--run", help="The run's id, or latest.")] = "latest",
    epoch: EpochName = "final",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Predict with the weights of an epoch."""
    text = samples if samples.lstrip().startswith(("[", "{")) else _read(Path(samples))
    given = _json(text, "the samples")
    if not isinstance(given, list) or not all(isinstance(row, list) for row in given):
        raise typer.BadParameter("the samples must be a list of rows: [[1.5, 0.2], [5.8, 2.2]]")
    with Client(url) as client:
        try:
            found = client.predict(run_id, given, epoch=epoch)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    if as_json:
        return _print_json({**found, "outputs": found["outputs"].tolist()})
    labels = found["labels"] or [""] * len(found["outputs"])
    rows = [(label, *output.tolist()) for label, output in zip(labels, found["outputs"], strict=True)]
    columns = (
        found["classes"] if len(found["classes"]) == len(rows[0]) - 1 else [f"a{n}" for n in range(1, len(rows[0]))]
    )
    console.table("Predictions", ("label", *columns), rows)


def _settings(**given: Any) -> Any:
    """Read the settings, those given on the command line first; needs the service's packages."""
    try:
        from pydantic import ValidationError

        from chainrule.app.config import Settings
    except ModuleNotFoundError as error:
        typer.echo(f"{error.name} is missing; the service needs: pip install 'chainrule[service]'", err=True)
        raise typer.Exit(REFUSED) from error
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        for problem in error.errors():
            typer.echo(f"CHAINRULE_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}", err=True)
        raise typer.Exit(REFUSED) from error


def _trace(where: str) -> None:
    """Begin to trace, where that is asked for; refuse what cannot be done here."""
    from chainrule.app import tracing

    try:
        tracing.install(where)
    except ModuleNotFoundError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(REFUSED) from error


def _read_spec(path: Path) -> dict[str, Any]:
    text = sys.stdin.read() if str(path) == "-" else _read(path)
    spec = _json(text, str(path))
    if not isinstance(spec, dict):
        raise typer.BadParameter(f"{path} must hold a JSON object")
    return spec


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8 text") from error


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"{what} is not JSON: {error}") from error


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no row number; separate them by commas: 0,4,8") from error


def _change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} changes nothing; name a field and its value: --set seed=2")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


@app.command()
@_talking
def sweep(
    spec: Annotated[Path, typer.Argument(help="A JSON file with the body of POST /v1/sweeps; - for standard input.")],
    watch: Annotated[bool, typer.Option("--watch", help="Show progress until it ends.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show what its members would be; submit nothing.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Submit a sweep: many runs with some fields varied. With --watch the exit status is 1 unless one succeeded."""
    with Client(url) as client:
        body = _read_spec(spec)
        if preview:
            found = client.preview_sweep(body)
            return _print_json(found) if as_json else console.preview(found)
        made = client.submit_sweep(body)
        if watch:
            try:
                made = client.wait_sweep(made["id"], progress=None if as_json else console.sweep_line)
            except KeyboardInterrupt:
                typer.echo(f"The sweep goes on; see it again with: chainrule show-sweep {made['id']}", err=True)
                raise typer.Exit(INTERRUPTED) from None
        _show_sweep(client, made, as_json=as_json)
        if watch and made["status"] != "succeeded":
            raise typer.Exit(FAILED)


@app.command()
@_talking
def sweeps(url: Url = None, as_json: AsJson = False) -> None:
    """List sweeps, the newest first."""
    with Client(url) as client:
        found = list(client.sweeps())
    if as_json:
        return _print_json([dict(each) for each in found])
    rows = [
        (each["id"], each["name"], each["status"], each["members"], (each["best"] or {}).get("value")) for each in found
    ]
    console.table("Sweeps", ("id", "name", "status", "members", "best"), rows)


@app.command()
@_talking
def show_sweep(
    sweep_id: Annotated[str, typer.Argument(help="The sweep's id; latest is the one submitted last.")] = "latest",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show a sweep with its members, the best first."""
    with Client(url) as client:
        _show_sweep(client, client.sweep(sweep_id), as_json=as_json)


@app.command()
@_talking
def cancel_sweep(
    sweep_id: Annotated[str, typer.Argument(help="The sweep's id.")], url: Url = None, as_json: AsJson = False
) -> None:
    """Cancel every run of a sweep that has not ended."""
    with Client(url) as client:
        _show_sweep(client, client.cancel_sweep(sweep_id), as_json=as_json)


def _show_sweep(client: Client, found: Resource, *, as_json: bool) -> None:
    if as_json:
        return _print_json(found)
    console.sweep(found, client.members(found["id"]))


def _made(client: Client, run: Resource, *, watch: bool, as_json: bool) -> None:
    if watch:
        return _finish(_watched(client, run["id"], as_json=as_json), as_json=as_json)
    return _print_json(run) if as_json else console.run(run)


def _watched(client: Client, run_id: str, *, as_json: bool) -> Resource:
    try:
        return client.wait(run_id) if as_json else console.watch(client, run_id)
    except KeyboardInterrupt:
        typer.echo(f"The run goes on; see it again with: chainrule watch {run_id}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _recorded(client: Client, run_id: str, epoch: str | None, names: list[str] | None) -> list[dict[str, Any]]:
    records = [dict(record) for record in client.gradient_records(run_id)]
    known = list(dict.fromkeys(record["gradient"] for record in records))
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise typer.BadParameter(f"there are statistics of {', '.join(known)}; for {', '.join(unknown)} give --rows")
    if epoch is not None:
        number = int(epoch) if epoch.isdecimal() else client.checkpoint(run_id, epoch)["epoch"]
        records = [record for record in records if record["epoch"] == number]
        if not records:
            raise typer.BadParameter(f"no statistics were recorded at epoch {epoch}; with --rows they are computed")
    return [record for record in records if names is None or record["gradient"] in names]


def _finish(run: Resource, *, as_json: bool) -> None:
    if as_json:
        _print_json(run)
    else:
        console.run(run)
    if run["status"] != "succeeded":
        raise typer.Exit(FAILED)


def _describe(dataset: Resource) -> None:
    report = dataset["report"]
    rows = [(c["name"], c["samples"]) for c in report.get("classes", ())]
    typer.echo(f"{dataset['id']}  {dataset['samples']} samples, {dataset['features']} features, {report['task']}")
    for note in report["notes"]:
        typer.echo(f"  {note}")
    if rows:
        console.table("Classes", ("class", "samples"), rows)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(dict(value) if isinstance(value, Resource) else value, indent=2, ensure_ascii=False))
