"""Commands that look inside a run: its inputs, weights, gradients, metrics and predictions."""

from pathlib import Path
from typing import Annotated, Any

import typer

from chainrule.app import console
from chainrule.app.cli.frame import AsJson, EpochName, RunId, Url, app, from_json, print_json, read_text, talking
from chainrule.app.client import Client


@app.command()
@talking
def inputs(run_id: RunId = "latest", url: Url = None, as_json: AsJson = False) -> None:
    """Show how features become the network's input. Scaling and one-hot columns are fitted to the training samples."""
    with Client(url) as client:
        found = client.inputs(run_id)
    if as_json:
        return print_json(found)
    rows = [(c["name"], c.get("offset"), c.get("scale"), ", ".join(c.get("categories", ()))) for c in found["columns"]]
    console.table(f"Inputs, scaling {found['scaling']}", ("feature", "offset", "scale", "categories"), rows)


@app.command()
@talking
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
            return print_json({"path": str(path), "sha256": sha256}) if as_json else typer.echo(f"saved {path}")
        arrays = client.weights(run_id, epoch)
    if as_json:
        return print_json({name: array.tolist() for name, array in arrays.items()})
    rows = [(n, str(a.shape), float(abs(a).max()), float((a * a).sum() ** 0.5)) for n, a in arrays.items()]
    console.table("Weights", ("name", "shape", "largest", "norm"), rows)


@app.command()
@talking
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
                return print_json(records)
            columns = ("epoch", "gradient", "norm", "mean", "standard_deviation", "zeros", "update_ratio")
            shown = [[record[name] for name in columns] for record in records]
            return console.table("Gradients", columns, shown, shares=("zeros",))
        numbers = [_whole(text) for text in rows.split(",")]
        found = client.explain_gradients(run_id, epoch=epoch or "final", rows=numbers, names=wanted, values=as_json)
    if as_json:
        return print_json(found)
    quantities = [(n, str(tuple(q["shape"])), q["norm"], q["equation"]) for n, q in found["quantities"].items()]
    console.table(f"Epoch {found['epoch']}, rows {rows}", ("name", "shape", "norm", "equation"), quantities)


@app.command()
@talking
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
    print_json({**found, **matrix})


@app.command()
@talking
def predict(
    samples: Annotated[str, typer.Argument(help="Samples as JSON, '[[1.5, 0.2], …]', or a file with that.")],
    run_id: Annotated[str, typer.Option("--run", help="The run's id, or latest.")] = "latest",
    epoch: EpochName = "final",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Predict with the weights of an epoch."""
    text = samples if samples.lstrip().startswith(("[", "{")) else read_text(Path(samples))
    given = from_json(text, "the samples")
    if not isinstance(given, list) or not all(isinstance(row, list) for row in given):
        raise typer.BadParameter("the samples must be a list of rows: [[1.5, 0.2], [5.8, 2.2]]")
    with Client(url) as client:
        try:
            found = client.predict(run_id, given, epoch=epoch)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    if as_json:
        return print_json({**found, "outputs": found["outputs"].tolist()})
    labels = found["labels"] or [""] * len(found["outputs"])
    rows = [(label, *output.tolist()) for label, output in zip(labels, found["outputs"], strict=True)]
    columns = (
        found["classes"] if len(found["classes"]) == len(rows[0]) - 1 else [f"a{n}" for n in range(1, len(rows[0]))]
    )
    console.table("Predictions", ("label", *columns), rows)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no row number; separate them by commas: 0,4,8") from error


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
