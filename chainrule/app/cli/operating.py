"""Commands for whoever operates a service: serve, worker, migrate, backups; and the demonstration."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from chainrule.app.cli.frame import REFUSED, app, settings_of


@app.command()
def serve(
    slots: Annotated[int | None, typer.Option(help="Runs trained at once; 0 for the API alone.")] = None,
    engine: Annotated[str | None, typer.Option(help="Where runs are trained: local, dask or dask://host:port.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    database_url: Annotated[str | None, typer.Option(help="sqlite:///file or postgresql://user@host/name.")] = None,
) -> None:
    """Serve the API and train runs. Settings are CHAINRULE_* variables."""
    settings = settings_of(slots=slots, engine=engine, host=host, port=port, database_url=database_url)
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
    settings = settings_of(slots=slots, engine=engine, database_url=database_url)
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
    settings = settings_of(database_url=database_url)
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
    settings = settings_of(database_url=database_url)
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
    settings_of()
    from chainrule.app import demo as demonstration

    demonstration.run(folder, keep_serving=not exit_)


def _trace(where: str) -> None:
    """Begin to trace, where that is asked for; refuse what cannot be done here."""
    from chainrule.app import tracing

    try:
        tracing.install(where)
    except ModuleNotFoundError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(REFUSED) from error
