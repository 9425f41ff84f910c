"""The command line: serve and work, submit and look inside."""

# isort: off
# In the order of the help.
from chainrule.app.cli import operating, webhooks, keys, runs, inside, sweeps  # noqa: F401
from chainrule.app.cli.frame import app


def main() -> None:
    """Run the command line."""
    app()
