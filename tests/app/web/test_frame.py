"""How the dashboard is served, and the frame that all its pages stand in."""

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.app.web.conftest import SCHEMES
from tests.service import Service

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "


@pytest.fixture(scope="module")
def client(empty_site: Service) -> Any:
    with empty_site.client() as client:
        yield client


def test_the_first_page_is_asked_for_anew_and_all_else_is_kept_for_good(client: httpx.Client) -> None:
    index = client.get("/")
    assert index.headers["content-type"].startswith("text/html")
    assert index.headers["cache-control"] == "no-cache"
    assert client.get("/", headers={"If-None-Match": index.headers["etag"]}).status_code == 304
    named = re.findall(r'(?:src|href)="(ui/[^"]+)"', index.text)
    assert len(named) >= 5
    for name in named:
        found = client.get(f"/{name}")
        assert found.status_code == 200, name
        assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert found.headers["content-encoding"] == "gzip"
        assert found.content == client.get(f"/{name}", headers={"Accept-Encoding": "identity"}).content


def test_every_answer_of_the_dashboard_has_the_strict_policy(client: httpx.Client) -> None:
    index = client.get("/")
    for path in ("/", *re.findall(r'src="(/?ui/[^"]+\.js)"', index.text)):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith(POLICY)
        assert policy.endswith("require-trusted-types-for 'script'")
        assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|<style", index.text)


@pytest.mark.parametrize("name", ["../main.js", "pages/none.js", "", "main.js/", "index.html", "%2e%2e/config.py"])
def test_a_path_names_one_of_the_files_or_nothing(client: httpx.Client, name: str) -> None:
    version = re.findall(r"ui/(\w+)/main.js", client.get("/").text)[0]
    assert client.get(f"/ui/{version}/{name}").status_code == 404
    assert client.get("/ui/0123456789ab/main.js").status_code == 404


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_theme_follows_the_system_until_the_reader_chooses(open_page: Callable[..., Any], scheme: str) -> None:
    from playwright.sync_api import expect

    page = open_page(scheme=scheme)
    other = SCHEMES[1 - SCHEMES.index(scheme)]

    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    before = ground()
    page.get_by_role("button", name=f"{other.capitalize()} colours").click()
    assert ground() != before
    page.reload()
    expect(page.get_by_role("button", name=f"{scheme.capitalize()} colours")).to_be_visible()
    assert ground() != before


def test_an_address_that_names_no_page_says_so(open_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = open_page("#/nothing/here")
    expect(page.get_by_role("alert")).to_contain_text("There is no such page")
    page.get_by_role("link", name="Runs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")


def test_the_keyboard_reaches_the_content_past_the_navigation(page: Any) -> None:
    from playwright.sync_api import expect

    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert "#page" not in page.url


def test_numbers_are_written_for_reading_and_absent_ones_are_not_zero(page: Any) -> None:
    given = [0, None, -0.000012345, 1234567.0, 0.123456, -3, 1797, "NaN", "Infinity", "-Infinity"]
    written = page.evaluate(
        """async (given) => {
          const main = document.querySelector("script[type=module]").src;
          const { number } = await import(main.replace("main.js", "dom.js"));
          return given.map((x) => number(typeof x === "string" ? Number(x) : x));
        }""",
        given,
    )
    assert written == ["0", "–", "−1.234·10⁻⁵", "1.235·10⁶", "0.1235", "−3", "1,797", "NaN", "∞", "−∞"]


def test_a_service_that_asks_for_keys_is_given_one(
    browser: Any, open_page: Callable[..., Any], fresh: Any, cache_dir: Any
) -> None:
    from playwright.sync_api import expect

    from chainrule.app.services import keys
    from chainrule.app.store.database import Database
    from tests.service import serving

    url = fresh.url("sqlite")
    database = Database(url)
    made = keys.create(database, owner="ada", name="", scope="submit")
    database.dispose()
    with serving(database_url=url, cache_dir=cache_dir, slots=0, auth="keys") as service:
        page = open_page(url=service.url, allow=("401",))
        page.get_by_role("textbox", name="Key").fill("chainrule_wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("does not know that key")
        page.get_by_role("textbox", name="Key").fill(made["key"])
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Train XOR")).to_be_visible()
        page.close()  # before the service, or it would complain


@pytest.mark.parametrize("name", ["runs", "backprop", "dynamics", "learn"])
def test_all_modules_of_a_page_are_named_in_the_first_answer(
    client: httpx.Client, open_page: Callable[..., Any], runs: dict[str, Any], name: str
) -> None:
    index = client.get("/").text
    (parts,) = re.findall(r'<meta name="parts" content="([^"]+)">', index)
    named = set(dict(part.split(":") for part in parts.split(";"))[name].split())
    named |= {address.split("/", 2)[2] for address in re.findall(r'href="(ui/[^"]+\.js)"', index)} | {"main.js"}
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith(".js") else None)
    where = {"runs": "", "learn": "learn"}.get(name, f"runs/{runs['xor']['id']}/{name}")
    page.goto(f"{page.url.split('#')[0]}?again#/{where}")
    page.locator("main:not([aria-busy]) h1").wait_for()
    loaded = {address.split("/ui/")[1].split("/", 1)[1] for address in asked}
    assert f"pages/{name}.js" in loaded
    assert loaded <= named
