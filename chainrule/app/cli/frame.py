"""What all commands have in common: the app, options and arguments, how they end where they are refused."""

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

import chainrule
from chainrule.app.client import DEFAULT_URL, Resource, ServiceError, service_url

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
RunId = Annotated[str, typer.Argument(help="The run's id; latest is the one submitted last.")]
ExactRunId = Annotated[str, typer.Argument(help="The run's id.")]
EpochName = Annotated[str, typer.Option(help="An epoch: a number, final, last or best.")]


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


def talking(command: Callable[..., None]) -> Callable[..., None]:
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


def settings_of(**given: Any) -> Any:
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


def read_spec(path: Path) -> dict[str, Any]:
    """Read an object of JSON from a file, or from standard input."""
    text = sys.stdin.read() if str(path) == "-" else read_text(path)
    spec = from_json(text, str(path))
    if not isinstance(spec, dict):
        raise typer.BadParameter(f"{path} must hold a JSON object")
    return spec


def read_text(path: Path) -> str:
    """Read a file of UTF-8 text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8 text") from error


def from_json(text: str, what: str) -> Any:
    """Read JSON; `what` says where it is from."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"{what} is not JSON: {error}") from error


def print_json(value: Any) -> None:
    """Print an answer as JSON, for programs."""
    typer.echo(json.dumps(dict(value) if isinstance(value, Resource) else value, indent=2, ensure_ascii=False))
