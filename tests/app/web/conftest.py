"""The dashboard as its reader sees it: a real browser, the real service, and nothing a page may not do."""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.app.api import calls
from tests.app.api.calls import finished
from tests.service import Service, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCHEMES = ("light", "dark")
PATIENCE_MS = 30_000
"""How long a busy machine may take."""
WATCH = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""
XOR: dict[str, Any] = calls.XOR | {
    "name": "xor by hand",
    "network": {"layers": [{"units": 4, "activation": "tanh"}, {"units": 1, "activation": "sigmoid"}]},
    "epochs": 60,
}
SPIRALS: dict[str, Any] = {
    "name": "spirals",
    "dataset": "spirals",
    "validation": {"fraction": 0.2, "seed": 0},
    "network": {"layers": [{"units": 16, "activation": "tanh"}, {"units": 3, "activation": "softmax"}]},
    "optimizer": {"name": "adam", "learning_rate": 0.01},
    "epochs": 20,
    "batch_size": 32,
    "seed": 3,
}
DIGITS: dict[str, Any] = {
    "name": "digits",
    "dataset": "digits",
    "validation": {"fraction": 0.2, "seed": 0},
    "network": {
        "layers": [
            {"units": 20, "activation": "tanh"},
            {"units": 14, "activation": "relu"},
            {"units": 10, "activation": "softmax"},
        ]
    },
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "epochs": 12,
    "batch_size": 50,
    "seed": 1,
}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium for all."""
    if CHROMIUM is None:
        message = "NO CHROMIUM: the dashboard was not tried in a browser"
        if os.environ.get("CI"):
            pytest.fail(message)
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(fresh: Any, cache_dir: Path) -> Iterator[Service]:
    """The service with a few runs that have ended."""
    with serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=2) as service:
        yield service


@pytest.fixture(scope="session")
def runs(site: Service) -> dict[str, dict[str, Any]]:
    """Those runs: `xor`, `spirals`, `digits`."""
    with site.client() as client:
        return {spec["dataset"]: finished(client, spec) for spec in (XOR, SPIRALS, DIGITS)}


@pytest.fixture(scope="session")
def empty_site(fresh: Any, cache_dir: Path) -> Iterator[Service]:
    """The service before anything was submitted; tests that submit end what they began and delete it."""
    with serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=1) as service:
        yield service


@contextmanager
def watched(browser: Any, site: Service) -> Iterator[Callable[..., Any]]:
    """Open pages, each in a context of its own, and fail in the end if one of them had anything to complain of.

    `open_page(hash, scheme="dark", url=…, allow=("text of a console error that is expected",))`
    """
    contexts: list[Any] = []
    complaints: list[str] = []
    allowed: list[str] = []

    def opened(hash: str = "", *, scheme: str = "light", url: str | None = None, allow: tuple[str, ...] = ()) -> Any:
        base = url or site.url
        allowed.extend(allow)
        context = browser.new_context(color_scheme=scheme, viewport={"width": 1366, "height": 900})
        contexts.append(context)
        context.add_init_script(WATCH)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                complaints.append(f"asked elsewhere: {request.url}")
                if not request.url.startswith((f"{base}/", "data:", "blob:"))
                else None
            ),
        )
        page.goto(f"{base}/{hash}")
        return page

    try:
        yield opened
    finally:
        for context in contexts:
            context.close()
    assert [text for text in complaints if not any(known in text for known in allowed)] == []


@pytest.fixture
def open_page(browser: Any, site: Service) -> Iterator[Callable[..., Any]]:
    """Opens pages, and fails the test if one of them had anything to complain of; see `watched`."""
    with watched(browser, site) as opened:
        yield opened


@pytest.fixture(scope="module")
def module_page(browser: Any, site: Service) -> Iterator[Any]:
    """The first page, once for all tests of a file."""
    with watched(browser, site) as opened:
        yield opened()


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Any:
    """The dashboard at its first page, in light colours."""
    return open_page()


@pytest.fixture
def findings() -> Callable[[Any], list[str]]:
    """Says what axe finds on a page that is more than minor, with what it concerns."""
    from axe_playwright_python.sync_playwright import Axe

    def found(page: Any) -> list[str]:
        violations = Axe().run(page).response["violations"]
        return [
            f"{one['id']} ({one['impact']}): {one['help']}: {[node['target'] for node in one['nodes']][:5]}"
            for one in violations
            if one["impact"] != "minor"
        ]

    return found
