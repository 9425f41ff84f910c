"""What the command line shows a person: a progress bar, tables, networks in a line."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from chainrule.app.client import Client, Resource

output = Console(highlight=False)
LONGEST_NAME = 12
WIDEST_MATRIX = 20
SCORES = {"precision": "precision", "recall": "recall", "f1": "F1"}
REGRESSION = {"rmse": "RMSE", "mae": "MAE", "r2": "R²"}
COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "paused": "yellow"}


def watch(client: Client, run_id: str) -> Resource:
    """Show a run's progress until it has ended: a bar in a terminal, a line for each tenth elsewhere."""
    run = client.run(run_id)
    total = run["progress"]["epochs_total"]
    called = _shortened(run["name"] or run["id"])
    if not output.is_terminal:
        return _watch_in_lines(client, run["id"], called, total)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[costs]}", markup=False),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=output) as progress:
        bar = progress.add_task(called, total=total, costs=run["status"])
        for name, data in client.events(run["id"]):
            if name == "epoch":
                progress.update(bar, completed=data["epoch"], costs=costs(data))
            elif name == "status" and data["status"] == "queued":
                progress.update(bar, costs=f"queued ({data['reason']})")
            elif name == "status" and data["status"] in ("running", "paused"):
                progress.update(bar, costs=data["status"])
            elif name == "end":
                return Resource(data)
    raise AssertionError("events end with the run's end")


def watch_verification(client: Client, made: Resource) -> Resource:
    """Show how far a verification has come until it has ended: a bar in a terminal, nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=12), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output, disable=not output.is_terminal) as progress:
        bar = progress.add_task("verifying", total=made["progress"]["epochs_total"])
        return client.wait(
            made["id"], progress=lambda run: progress.update(bar, completed=run["progress"]["epochs_done"])
        )


def verification(run: Resource) -> None:
    """Print what a verification came to."""
    found = run["verification"]
    equal = {True: "yes", False: "no", None: "unknown"}[found["equal"]]
    rows: list[tuple[str, Any]] = [
        ("run", run["verifies"]),
        ("status", Text.assemble(status(run["status"]), f" ({run['reason']}) {run['detail']}".rstrip())),
        ("equal", equal),
        ("compared", f"{found['epochs']:,} epochs from {found['first']} on, {found['weights']:,} weights"),
    ]
    if found["difference"] is not None:
        rows.append(("first difference", f"epoch {found['difference']['epoch']}"))
        differing = found["difference"]["quantities"]
        rows += [(one["name"], f"{one['expected']} expected, {one['found']} found") for one in differing]
    rows += [(name, f"{found['builds'][name]} then, {run['builds'][name]} now") for name in found["changed_builds"]]
    table(f"Verification {run['id']}", ("", ""), rows, header=False)


def _watch_in_lines(client: Client, run_id: str, called: str, total: int) -> Resource:
    tenths = 0
    for name, data in client.events(run_id):
        if name == "epoch" and data["epoch"] * 10 // total > tenths:
            tenths = data["epoch"] * 10 // total
            output.print(f"{called}  {data['epoch']}/{total}  {costs(data)}", markup=False, soft_wrap=True)
        elif name == "end":
            return Resource(data)
    raise AssertionError("events end with the run's end")


def costs(data: Mapping[str, Any]) -> str:
    """Say cost and error, and that of validation, in a few words."""
    parts = [f"cost {data['cost']:#.4g}"]
    if data["error"] is not None:
        parts.append(f"error {data['error']:.1%}")
    if data["validation_error"] is not None:
        parts.append(f"(validation {data['validation_error']:.1%})")
    elif data["validation_cost"] is not None:
        parts.append(f"(validation {data['validation_cost']:#.4g})")
    return " ".join(parts)


def network(config: Mapping[str, Any]) -> str:
    """Write a network's shape in a line."""
    spec = config["network"]
    return f"{spec['inputs']} → " + " → ".join(map(_layer, spec["layers"]))


def _layer(layer: Mapping[str, Any]) -> str:
    dropout = layer.get("dropout")
    return f"{layer['units']} {layer['activation']}" + (f" (dropout {dropout:g})" if dropout else "")


def status(name: str) -> Text:
    """Colour a status."""
    return Text(name, style=COLOURS.get(name, ""))


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    shares: Collection[str] = (),
    header: bool = True,
) -> None:
    """Print a small table, numbers to the right, the columns named in `shares` in percent."""
    shown = Table(
        title=Text(title), title_justify="left", title_style="bold", header_style="bold",
        box=None, pad_edge=False, show_header=header,
    )  # fmt: skip
    for position, name in enumerate(columns):
        numeric = header and all(isinstance(row[position], int | float | None) for row in rows)
        shown.add_column(
            Text(name.replace("_", " ")),
            justify="right" if numeric else "left",
            no_wrap=position == 0,
            overflow="fold",
        )
    for row in rows:
        shown.add_row(*(_cell(value, share=name in shares) for name, value in zip(columns, row, strict=True)))
    with output.capture() as captured:
        output.print(shown)
    output.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def run(shown: Resource) -> None:
    """Print one run."""
    progress = shown["progress"]
    done, total = progress["epochs_done"], progress["epochs_total"]
    rows: list[tuple[str, Any]] = [
        ("name", shown["name"] or "–"),
        ("status", Text.assemble(status(shown["status"]), f" ({shown['reason']}) {shown['detail']}".rstrip())),
        ("network", f"{network(shown['config'])}, {shown['parameters']:,} parameters"),
        ("dataset", shown["dataset"]),
        ("training", training(shown["config"])),
        ("epochs", f"{done:,} of {total:,} ({progress['percent']:.0f}%)"),
        ("attempts", f"{shown['attempts']} ({shown['failures']} lost)"),
    ]
    rows += [(kind.replace("_", " "), shown[kind]) for kind in ("extends", "cloned_from") if shown[kind] is not None]
    if shown["best_epoch"] is not None:
        rows.append(("best epoch", shown["best_epoch"]))
    if shown["cost"] is not None:
        wrong = "" if shown["error"] is None else f", error {shown['error']:.2%}"
        rows.insert(6, ("cost", f"{shown['cost']:.4g}{wrong}"))
    if shown["validation_cost"] is not None:
        wrong = "" if shown["validation_error"] is None else f", error {shown['validation_error']:.2%}"
        rows.insert(7, ("validation", f"cost {shown['validation_cost']:.4g}{wrong}"))
    rows += [(one["severity"], _diagnosis(one)) for one in shown["diagnoses"] if one["active"]]
    table(f"Run {shown['id']}", ("", ""), rows, header=False)


def _diagnosis(one: dict[str, Any]) -> str:
    where = "" if one["layer"] is None else f" (layer {one['layer']})"
    return f"{one['title']}{where}, epochs {one['first_epoch']} to {one['last_epoch']}"


def sweep_line(found: Resource) -> None:
    """Print how far a sweep has come, in a line."""
    states = ", ".join(f"{count} {state}" for state, count in found["statuses"].items() if count)
    best = found["best"]
    told = "" if best is None else f"; best {found['objective']} {_number(best['value'])}"
    output.print(f"{found['progress']['percent']:5.1f} %  {states}{told}")


def sweep(found: Resource, members: Sequence[Resource]) -> None:
    """Print a sweep with its members, the best first."""
    sweep_line(found)
    objective = found["objective"]
    ranked = sorted(members, key=lambda one: (one["value"] is None, one["value"] or 0.0))
    paths = list(dict.fromkeys(path for one in members for path in one["varied"]))
    rows = [
        (one["run"], *(one["varied"].get(path) for path in paths), one["status"], one["epochs_done"], one["value"])
        for one in ranked
    ]
    table(f"{found['id']} {found['name']}".strip(), ("run", *paths, "status", "epochs", objective), rows)


def preview(found: Resource) -> None:
    """Print what the members of a sweep would be."""
    rungs = " → ".join(map(str, found["rungs"]))
    told = f"{found['members']} members ({rungs}), {found['estimate']['steps']:,} steps"
    output.print(f"{told}; best by {found['objective']}")
    paths = list(dict.fromkeys(path for one in found["varied"] for path in one))
    table("Members", paths, [tuple(one.get(path) for path in paths) for one in found["varied"]])


def metrics(found: Resource) -> None:
    """Print metrics: the overall ones in a line, then those of each class, label or target."""
    of = f"Epoch {found['epoch']}, {found['samples']:,} {found['split']} samples"
    if found["kind"] == "regression":
        _heading(f"{of}: {', '.join(f'{name} {_number(found[key])}' for key, name in REGRESSION.items())}")
        rows = [(target["name"], *(target[key] for key in REGRESSION)) for target in found["targets"]]
        table("", ("target", *REGRESSION.values()), rows)
    elif found["kind"] == "multi_label":
        _heading(f"{of}: error {found['error']:.2%}")
        _scores("label", found["labels"], found["macro"] | {"error": found["label_error"]}, SCORES | {"error": "error"})
    else:
        _heading(f"{of}: error {found['error']:.2%}")
        _scores("class", found["classes"], found["macro"], SCORES)
        names = [scores["name"] for scores in found["classes"]]
        if len(names) <= WIDEST_MATRIX:
            _heading("\nConfusion matrix: rows are actual classes, columns predicted ones")
            counts = zip(names, found["confusion_matrix"].tolist(), strict=True)
            table("", ("", *names), [(name, *row) for name, row in counts])


def _scores(
    noun: str, scores: Sequence[Mapping[str, Any]], means: Mapping[str, Any], columns: Mapping[str, str]
) -> None:
    rows = [(each["name"], each["support"], *(each[key] for key in columns)) for each in scores]
    rows.append(("(mean)", None, *(means[key] for key in columns)))
    table("", (noun, "samples", *columns.values()), rows, shares=columns.values())


def training(config: Mapping[str, Any]) -> str:
    """Write cost, optimizer, batch and what else shapes a step in a line."""
    numbers = ", ".join(f"{name} {value:g}" for name, value in config["optimizer"].items() if name != "name")
    batch = config["batch_size"] or "all"
    line = f"{config['cost']}, {config['optimizer']['name']} ({numbers}), batch {batch}, seed {config['seed']}"
    if smoothing := config.get("label_smoothing"):
        line += f", label smoothing {smoothing:g}"
    if weights := config.get("class_weights"):
        line += f", class weights {weights if isinstance(weights, str) else ' '.join(f'{w:g}' for w in weights)}"
    # Runs of before they were known have none.
    for kind in ("schedule", "clip", "regularization", "early_stopping"):
        chosen = (config.get(kind) or {}).items()
        words = [str(v) if name == "name" else f"{name} {v:g}" for name, v in chosen if v not in (0, "constant")]
        if words:
            line += f", {kind.replace('_', ' ')} {' '.join(words)}"
    return line


def _cell(value: Any, *, share: bool) -> Text:
    # Texts, for names may hold what the terminal library takes for markup.
    if isinstance(value, Text):
        return value
    if value is None:
        return Text("–")
    if isinstance(value, float):
        return Text(f"{value:.2%}" if share else f"{value:.4g}")
    return Text(str(value))


def _heading(line: str) -> None:
    # A table would fold its title to its own width.
    output.print(Text(line, style="bold"), soft_wrap=True)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
