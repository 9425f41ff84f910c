"""What the command line shows a person: a progress bar, tables, networks in a line."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from chainrule.app.client import Client, Resource

output = Console(highlight=False)
COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def watch(client: Client, run_id: str) -> Resource:
    """Show a run's progress until it has ended."""
    run = client.run(run_id)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[costs]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=output) as progress:
        bar = progress.add_task(run["name"] or run["id"], total=run["progress"]["epochs_total"], costs=run["status"])
        for name, data in client.events(run_id):
            if name == "epoch":
                progress.update(bar, completed=data["epoch"], costs=costs(data))
            elif name == "status" and data["status"] == "queued":
                progress.update(bar, costs=f"queued ({data['reason']})")
            elif name == "end":
                return Resource(data)
    raise AssertionError("events end with the run's end")


def costs(data: Mapping[str, Any]) -> str:
    """Say cost and error, and those of validation, in a few words."""
    parts = [f"cost {data['cost']:.4f}"]
    if data["error"] is not None:
        parts.append(f"error {data['error']:.1%}")
    if data["validation_cost"] is not None:
        parts.append(f"validation {data['validation_cost']:.4f}")
    if data["validation_error"] is not None:
        parts.append(f"{data['validation_error']:.1%}")
    return "  ".join(parts)


def network(config: Mapping[str, Any]) -> str:
    """Write a network's shape in a line."""
    spec = config["network"]
    return f"{spec['inputs']} → " + " → ".join(f"{layer['units']} {layer['activation']}" for layer in spec["layers"])


def status(name: str) -> str:
    """Colour a status."""
    colour = COLOURS.get(name)
    return f"[{colour}]{name}[/{colour}]" if colour else name


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a small table, numbers to the right."""
    shown = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for position, name in enumerate(columns):
        numeric = any(isinstance(row[position], int | float) for row in rows)
        shown.add_column(name, justify="right" if numeric else "left", no_wrap=position == 0)
    for row in rows:
        shown.add_row(*(_cell(value) for value in row))
    output.print(shown)


def run(shown: Resource) -> None:
    """Print one run."""
    progress = shown["progress"]
    rows = [
        ("name", shown["name"] or "–"),
        ("status", f"{status(shown['status'])} ({shown['reason']}) {shown['detail']}".strip()),
        ("network", f"{network(shown['config'])}, {shown['parameters']:,} parameters"),
        ("data", shown["dataset"]),
        ("training", training(shown["config"])),
        ("epochs", f"{progress['epochs_done']} of {progress['epochs_total']} ({progress['percent']:.0f} %)"),
        ("attempts", f"{shown['attempts']}, {shown['failures']} lost"),
    ]
    if shown["cost"] is not None:
        rows.insert(6, ("cost", costs(shown)))
    table(f"Run {shown['id']}", ("", ""), rows)


def training(config: Mapping[str, Any]) -> str:
    """Write cost, optimizer and batch in a line."""
    numbers = ", ".join(f"{name} {value:g}" for name, value in config["optimizer"].items() if name != "name")
    batch = config["batch_size"] or "all"
    return f"{config['cost']}, {config['optimizer']['name']} ({numbers}), batch {batch}, seed {config['seed']}"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
