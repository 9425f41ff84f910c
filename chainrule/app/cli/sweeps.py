"""Commands about sweeps: submit, list, show, cancel."""

from pathlib import Path
from typing import Annotated

import typer

from chainrule.app import console
from chainrule.app.cli.frame import FAILED, INTERRUPTED, AsJson, Url, app, print_json, read_spec, talking
from chainrule.app.client import Client, Resource


@app.command()
@talking
def sweep(
    spec: Annotated[Path, typer.Argument(help="A JSON file with the body of POST /v1/sweeps; - for standard input.")],
    watch: Annotated[bool, typer.Option("--watch", help="Show progress until it ends.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show what its members would be; submit nothing.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Submit a sweep: many runs with some fields varied. With --watch the exit status is 1 unless one succeeded."""
    with Client(url) as client:
        body = read_spec(spec)
        if preview:
            found = client.preview_sweep(body)
            return print_json(found) if as_json else console.preview(found)
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
@talking
def sweeps(url: Url = None, as_json: AsJson = False) -> None:
    """List sweeps, the newest first."""
    with Client(url) as client:
        found = list(client.sweeps())
    if as_json:
        return print_json([dict(each) for each in found])
    rows = [
        (each["id"], each["name"], each["status"], each["members"], (each["best"] or {}).get("value")) for each in found
    ]
    console.table("Sweeps", ("id", "name", "status", "members", "best"), rows)


@app.command()
@talking
def show_sweep(
    sweep_id: Annotated[str, typer.Argument(help="The sweep's id; latest is the one submitted last.")] = "latest",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show a sweep with its members, the best first."""
    with Client(url) as client:
        _show_sweep(client, client.sweep(sweep_id), as_json=as_json)


@app.command()
@talking
def cancel_sweep(
    sweep_id: Annotated[str, typer.Argument(help="The sweep's id.")], url: Url = None, as_json: AsJson = False
) -> None:
    """Cancel every run of a sweep that has not ended."""
    with Client(url) as client:
        _show_sweep(client, client.cancel_sweep(sweep_id), as_json=as_json)


def _show_sweep(client: Client, found: Resource, *, as_json: bool) -> None:
    if as_json:
        return print_json(found)
    console.sweep(found, client.members(found["id"]))
