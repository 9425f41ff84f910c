"""The command line: serve and work, submit and look inside."""

import json
import sys
from collections.abc import Callable
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

import chainrule
from chainrule.app import console
from chainrule.app.client import Client, Resource, ServiceError

REFUSED = 2
FAILED = 1

app = typer.Typer(
    name="chainrule",
    help="Train networks over REST and look inside. Client commands talk to CHAINRULE_URL (http://127.0.0.1:8000).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)

Url = Annotated[str | None, typer.Option(envvar="CHAINRULE_URL", help="The service to talk to.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
RunId = Annotated[str, typer.Argument(help="The run's id, or latest.")]
ExactRunId = Annotated[str, typer.Argument(help="The run's id.")]
EpochName = Annotated[str, typer.Option(help="An epoch: a number, last or best.")]


def main() -> None:
    """Run the command line."""
    app()


def _talking(command: Callable[..., None]) -> Callable[..., None]:
    """Have a command end with one line and status 2 where the service refuses or cannot be reached."""

    @wraps(command)
    def talk(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except ServiceError as error:
            typer.echo(f"refused ({error.status} {error.code}): {error}", err=True)
            raise typer.Exit(REFUSED) from error
        except httpx.TransportError as error:
            typer.echo(f"the service cannot be reached: {error}; is `chainrule serve` running?", err=True)
            raise typer.Exit(REFUSED) from error
        except OSError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(REFUSED) from error

    return talk


# The service


@app.command()
def serve(
    slots: Annotated[int | None, typer.Option(help="Runs trained at once; 0 for the API alone.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one.")] = None,
    database_url: Annotated[str | None, typer.Option(help="sqlite:///file or postgresql://user@host/name.")] = None,
) -> None:
    """Serve the API, and train in slots; settings are CHAINRULE_* variables."""
    settings = _settings(slots=slots, host=host, port=port, database_url=database_url)
    from chainrule.app import main as service

    raise typer.Exit(service.serve(settings))


@app.command()
def worker(
    slots: Annotated[int | None, typer.Option(help="Runs trained at once.")] = None,
    database_url: Annotated[str | None, typer.Option(help="sqlite:///file or postgresql://user@host/name.")] = None,
) -> None:
    """Train waiting runs, without the API, on any machine that reaches the database."""
    settings = _settings(slots=slots, database_url=database_url)
    if settings.slots < 1:
        typer.echo("a worker needs at least one slot: --slots 1", err=True)
        raise typer.Exit(REFUSED)
    from chainrule.app import worker as service

    service.run(settings)


@app.command()
def migrate(
    database_url: Annotated[str | None, typer.Option(help="sqlite:///file or postgresql://user@host/name.")] = None,
) -> None:
    """Bring the database's schema up to date."""
    settings = _settings(database_url=database_url)
    from chainrule.app.store import migrations
    from chainrule.app.store.database import Database

    database = Database(settings.database_url)
    before, _ = migrations.revisions(database)
    migrations.upgrade(database)
    after, _ = migrations.revisions(database)
    database.dispose()
    typer.echo(f"schema {after}" if before == after else f"schema {before or 'none'} → {after}")


@app.command()
def demo(
    exit_: Annotated[bool, typer.Option("--exit", help="End after it; else serve until Ctrl-C.")] = False,
    folder: Annotated[Path, typer.Option(help="Where its database and weights go.")] = Path("chainrule-demo"),
) -> None:
    """Train on handwritten digits through the API, and look inside."""
    _settings()
    from chainrule.app import demo as demonstration

    demonstration.run(folder, keep_serving=not exit_)


# Datasets


@app.command()
@_talking
def upload(
    file: Annotated[Path, typer.Argument(help="CSV, NPY, NPZ or IDX, gzipped or not.")],
    labels: Annotated[Path | None, typer.Option(help="The labels file of an IDX pair.")] = None,
    label_column: Annotated[str | None, typer.Option(help="The CSV column with class labels.")] = None,
    target_columns: Annotated[str | None, typer.Option(help="CSV columns with numeric targets, by commas.")] = None,
    name: Annotated[str | None, typer.Option(help="What you call it.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Upload a dataset."""
    with Client(url) as client:
        options = {"label_column": label_column, "target_columns": target_columns, "name": name}
        dataset = client.upload(file, labels=labels, **options)
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
    spec: Annotated[Path, typer.Argument(help="The run's spec as a JSON file; - for standard input.")],
    data: Annotated[Path | None, typer.Option(help="Upload this file and train on it.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Its column with class labels (CSV).")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show progress until it ends.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Submit a run; with --watch wait for its end, and end with status 1 unless it succeeded."""
    with Client(url) as client:
        body = _read_spec(spec)
        if data is not None:
            body["dataset"] = client.upload(data, label_column=label_column)["id"]
        run = client.submit(body)
        if not watch:
            return _print_json(run) if as_json else console.run(run)
        _finish(_watched(client, run["id"], as_json=as_json), as_json=as_json)


@app.command()
@_talking
def watch(run_id: RunId = "latest", url: Url = None, as_json: AsJson = False) -> None:
    """Show a run's progress until it ends; status 1 unless it succeeded."""
    with Client(url) as client:
        _finish(_watched(client, run_id, as_json=as_json), as_json=as_json)


@app.command()
@_talking
def runs(
    status: Annotated[list[str] | None, typer.Option(help="Only this status; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="Only this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    with Client(url) as client:
        filters: dict[str, Any] = {"limit": min(limit, 200)}
        filters |= {"status": status} if status else {}
        filters |= {"name": name} if name else {}
        found = list(islice(client.runs(**filters), limit))
    if as_json:
        return _print_json([dict(run) for run in found])
    rows = [
        (
            run["id"], run["name"], console.status(run["status"]),
            f"{run['progress']['epochs_done']}/{run['progress']['epochs_total']}", run["cost"], run["validation_error"],
        )
        for run in found
    ]  # fmt: skip
    console.table("Runs", ("id", "name", "status", "epochs", "cost", "validation error"), rows)


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
    after: Annotated[int, typer.Option(min=-1, help="Only those behind this one.")] = -1,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show what each epoch came to."""
    with Client(url) as client:
        columns = {name: array.tolist() for name, array in client.epochs(run_id, after=after).items()}
    rows = [[None if value != value else value for value in row] for row in zip(*columns.values(), strict=True)]
    if as_json:
        return _print_json([dict(zip(columns, row, strict=True)) for row in rows])
    console.table("Epochs", list(columns), rows)


@app.command()
@_talking
def cancel(
    run_id: Annotated[str, typer.Argument(help="The run's id.")], url: Url = None, as_json: AsJson = False
) -> None:
    """Cancel a run."""
    with Client(url) as client:
        run = client.cancel(run_id)
    return _print_json(run) if as_json else console.run(run)


@app.command()
@_talking
def delete(
    run_id: Annotated[str, typer.Argument(help="The run's id.")], url: Url = None, as_json: AsJson = False
) -> None:
    """Delete a run that has ended, with all it recorded."""
    with Client(url) as client:
        client.delete(run_id)
    return _print_json({"deleted": run_id}) if as_json else typer.echo(f"deleted {run_id}")


# Inside


@app.command()
@_talking
def weights(
    run_id: RunId = "latest",
    epoch: EpochName = "last",
    out: Annotated[Path | None, typer.Option(help="Save to this file; its ending tells the format.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show the weights of an epoch, or save them as .safetensors, .npz or .json."""
    with Client(url) as client:
        if out is not None:
            ending = out.suffix.removeprefix(".") or "safetensors"
            path = client.save_weights(run_id, out, epoch, format=ending)
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
    epoch: EpochName = "last",
    rows: Annotated[str | None, typer.Option(help="Rows of the dataset, by commas; else what was recorded.")] = None,
    names: Annotated[str | None, typer.Option(help="Quantities, by commas: dW1,dZ2,A1; all by default.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show gradients: recorded statistics, or with --rows any quantity for these rows."""
    with Client(url) as client:
        if rows is None:
            records = [dict(record) for record in client.gradient_records(run_id)]
            if as_json:
                return _print_json(records)
            columns = ("epoch", "gradient", "norm", "mean", "standard_deviation", "zeros", "update_ratio")
            return console.table("Gradients", columns, [[r[name] for name in columns] for r in records])
        numbers = [_whole(text) for text in rows.split(",")]
        wanted = [name.strip() for name in names.split(",")] if names else None
        found = client.explain_gradients(run_id, epoch=epoch, rows=numbers, names=wanted, values=as_json)
    if as_json:
        return _print_json(found)
    shown = [(n, str(tuple(q["shape"])), q["norm"], q["equation"]) for n, q in found["quantities"].items()]
    console.table(f"Epoch {found['epoch']}, rows {rows}", ("name", "shape", "norm", "equation"), shown)


@app.command()
@_talking
def predict(
    samples: Annotated[str, typer.Argument(help="Samples as JSON, [[1.5, 0.2], …], or a JSON file of them.")],
    run_id: Annotated[str, typer.Option("--run", help="The run's id, or latest.")] = "latest",
    epoch: EpochName = "last",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Predict with the weights of an epoch."""
    text = samples if samples.lstrip().startswith("[") else Path(samples).read_text()
    with Client(url) as client:
        found = client.predict(run_id, _json(text, "the samples"), epoch=epoch)
    if as_json:
        return _print_json({**found, "outputs": found["outputs"].tolist()})
    labels = found["labels"] or [""] * len(found["outputs"])
    rows = [(label, *output.tolist()) for label, output in zip(labels, found["outputs"], strict=True)]
    columns = (
        found["classes"] if len(found["classes"]) == len(rows[0]) - 1 else [f"a{n}" for n in range(1, len(rows[0]))]
    )
    console.table("Predictions", ("label", *columns), rows)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(chainrule.__version__)


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


def _read_spec(path: Path) -> dict[str, Any]:
    text = sys.stdin.read() if str(path) == "-" else path.read_text()
    spec = _json(text, str(path))
    if not isinstance(spec, dict):
        raise typer.BadParameter(f"{path} must hold a JSON object")
    return spec


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"{what} is not JSON: {error}") from error


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no row number") from error


def _watched(client: Client, run_id: str, *, as_json: bool) -> Resource:
    return client.wait(run_id) if as_json else console.watch(client, run_id)


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
