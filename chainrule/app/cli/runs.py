"""Commands about datasets and runs: upload, submit, follow, end, extend, verify."""

import json
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from chainrule.app import console
from chainrule.app.cli.frame import (
    FAILED,
    INTERRUPTED,
    AsJson,
    ExactRunId,
    RunId,
    Url,
    app,
    print_json,
    read_spec,
    talking,
)
from chainrule.app.client import Client, Resource


@app.command()
@talking
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
            return print_json(dataset)
        _describe(dataset)


@app.command()
@talking
def datasets(url: Url = None, as_json: AsJson = False) -> None:
    """List datasets."""
    with Client(url) as client:
        found = list(client.datasets())
    if as_json:
        return print_json([dict(dataset) for dataset in found])
    rows = [(d["id"], d["name"], d["samples"], d["features"], len(d["classes"]) or "–") for d in found]
    console.table("Datasets", ("id", "name", "samples", "features", "classes"), rows)


@app.command()
@talking
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
        body = read_spec(spec)
        if data is not None:
            body["dataset"] = client.upload(data, label_column=label_column, weight_column=weight_column)["id"]
        _made(client, client.submit(body), watch=watch, as_json=as_json)


@app.command()
@talking
def watch(run_id: RunId = "latest", url: Url = None, as_json: AsJson = False) -> None:
    """Show a run's progress until it ends. The exit status is 1 unless it succeeded."""
    with Client(url) as client:
        _finish(_watched(client, run_id, as_json=as_json), as_json=as_json)


@app.command()
@talking
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
        return print_json([dict(run) for run in found])
    rows = [
        (
            run["id"], run["name"] or "–", console.status(run["status"]),
            f"{run['progress']['epochs_done']}/{run['progress']['epochs_total']}", run["cost"], run["error"],
        )
        for run in found
    ]  # fmt: skip
    console.table("Runs", ("id", "name", "status", "epochs", "cost", "error"), rows, shares=("error",))


@app.command()
@talking
def show(run_id: RunId = "latest", url: Url = None, as_json: AsJson = False) -> None:
    """Show a run."""
    with Client(url) as client:
        run = client.run(run_id)
    return print_json(run) if as_json else console.run(run)


@app.command()
@talking
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
        return print_json([dict(zip(columns, row, strict=True)) for row in rows])
    console.table("Epochs", list(columns), rows, shares=("error", "validation_error"))


@app.command()
@talking
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
@talking
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
@talking
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
        print_json(run)
    else:
        console.verification(run)
    if not run["verification"]["equal"]:
        raise typer.Exit(FAILED)


@app.command()
@talking
def attempts(run_id: RunId = "latest", url: Url = None, as_json: AsJson = False) -> None:
    """Show who trained a run, from where to where, and why that ended."""
    with Client(url) as client:
        found = client.attempts(run_id)
    if as_json:
        return print_json([dict(attempt) for attempt in found])
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
@talking
def cancel(run_id: ExactRunId, url: Url = None, as_json: AsJson = False) -> None:
    """Cancel a run."""
    with Client(url) as client:
        run = client.cancel(run_id)
    return print_json(run) if as_json else console.run(run)


@app.command()
@talking
def pause(run_id: ExactRunId, url: Url = None, as_json: AsJson = False) -> None:
    """Pause a run. It leaves its slot to others, and nothing is lost."""
    with Client(url) as client:
        run = client.pause(run_id)
    return print_json(run) if as_json else console.run(run)


@app.command()
@talking
def resume(run_id: ExactRunId, url: Url = None, as_json: AsJson = False) -> None:
    """Let a paused run go on where it stopped."""
    with Client(url) as client:
        run = client.resume(run_id)
    return print_json(run) if as_json else console.run(run)


@app.command()
@talking
def delete(
    run_id: ExactRunId,
    purge: Annotated[bool, typer.Option("--purge", help="For good: it cannot be restored.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a run that has ended. All it recorded goes with it, and comes back with it if it is restored."""
    with Client(url) as client:
        client.delete(run_id, purge=purge)
    return print_json({"deleted": run_id}) if as_json else typer.echo(f"deleted {run_id}")


@app.command()
@talking
def restore(run_id: ExactRunId, url: Url = None, as_json: AsJson = False) -> None:
    """Restore a deleted run, while that can be done."""
    with Client(url) as client:
        run = client.restore(run_id)
    return print_json(run) if as_json else console.run(run)


def _change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} changes nothing; name a field and its value: --set seed=2")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _made(client: Client, run: Resource, *, watch: bool, as_json: bool) -> None:
    if watch:
        return _finish(_watched(client, run["id"], as_json=as_json), as_json=as_json)
    return print_json(run) if as_json else console.run(run)


def _watched(client: Client, run_id: str, *, as_json: bool) -> Resource:
    try:
        return client.wait(run_id) if as_json else console.watch(client, run_id)
    except KeyboardInterrupt:
        typer.echo(f"The run goes on; see it again with: chainrule watch {run_id}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _finish(run: Resource, *, as_json: bool) -> None:
    if as_json:
        print_json(run)
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
