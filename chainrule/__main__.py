"""`python -m chainrule` and the command `chainrule`."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line; Ctrl-C is no error, not even while it loads."""
    try:
        from chainrule.app.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
