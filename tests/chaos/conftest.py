"""What the campaigns have in common: they say at the end what they tried, and with which seed."""

import pytest

from tests.chaos.seeds import SEED

TOLD: list[str] = []


@pytest.fixture(scope="session")
def told() -> list[str]:
    """Takes lines for the end of the report."""
    return TOLD


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was tried."""
    if TOLD:
        terminalreporter.write_line(f"chaos, CHAOS_SEED={SEED}:")
    for line in TOLD:
        terminalreporter.write_line(f"  {line}")
