"""The first page: the runs there are, and three to begin with."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.app.api.calls import LONG, stop, submit
from tests.app.web.conftest import SCHEMES, XOR
from tests.service import Service


@pytest.mark.parametrize("scheme", SCHEMES)
def test_runs_are_listed_with_what_they_came_to(
    open_page: Callable[..., Any], runs: dict[str, Any], findings: Callable[[Any], list[str]], scheme: str
) -> None:
    page = open_page(scheme=scheme)
    row = page.get_by_role("row", name="xor by hand").first
    expect(row).to_contain_text("2–4–1")
    expect(row).to_contain_text("succeeded")
    expect(row).to_contain_text("60/60")
    drawn = row.locator(".spark path").get_attribute("d")
    assert drawn.count("L") == 31
    assert findings(page) == []


def test_a_newcomer_trains_an_example_by_one_click(
    open_page: Callable[..., Any], empty_site: Service, findings: Callable[[Any], list[str]]
) -> None:
    page = open_page(url=empty_site.url)
    expect(page.get_by_text("Nothing has been trained yet")).to_be_visible()
    assert findings(page) == []
    for name in ("spirals", "digits"):
        expect(page.get_by_role("button", name=f"Train {name}")).to_be_enabled()
    page.get_by_role("button", name="Train XOR").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("XOR")
    expect(page.locator(".badge")).to_contain_text("succeeded")
    expect(page.get_by_role("slider", name="Cost")).to_have_attribute("aria-valuenow", "200")
    run_id = page.url.rpartition("/")[2]
    page.close()  # it may still ask about the run, and would complain that it is gone
    with empty_site.client() as client:
        assert client.delete(f"/v1/runs/{run_id}?purge=true").status_code == 204


def test_examples_are_specs_the_service_takes(page: Any, site: Service) -> None:
    specs = page.evaluate(
        """async () => {
          const main = document.querySelector("script[type=module]").src;
          return (await import(main.replace("main.js", "examples.js"))).EXAMPLES.map((one) => one.spec);
        }"""
    )
    assert [spec["dataset"] for spec in specs] == ["xor", "spirals", "digits"]
    with site.client() as client:
        for spec in specs:
            assert client.post("/v1/runs?validate_only=true", json=spec).status_code == 200


def test_a_running_run_is_followed_and_cancelled(open_page: Callable[..., Any], site: Service) -> None:
    with site.client() as client:
        run = submit(client, LONG | {"name": "followed"})
        page = open_page("#/?search=followed")
        row = page.get_by_role("row", name="followed")
        expect(row).to_contain_text("running")
        before = row.locator("td").nth(4).inner_text()
        expect(row.locator("td").nth(4)).not_to_have_text(before)
        row.get_by_role("button", name="Cancel followed").click()
        expect(row).to_contain_text("cancelled")
        stop(client, run["id"])


def test_filters_are_in_the_address_and_lists_are_paged(
    open_page: Callable[..., Any], runs: dict[str, Any], site: Service
) -> None:
    with site.client() as client:
        for number in range(27):
            submit(client, XOR | {"name": f"paged {number}", "epochs": 1})
    page = open_page("#/?status=succeeded&search=paged")
    expect(page.locator("tbody tr")).to_have_count(25)
    page.get_by_role("button", name="Older runs").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(25)
    page.get_by_label("Search by name or dataset").fill("digits")
    expect(page.locator("tbody tr", has_text="64–20–14–10").first).to_be_visible()
    expect(page).to_have_url(f"{site.url}/#/?status=succeeded&search=digits")
    page.get_by_label("Search by name or dataset").fill("paged")
    page.get_by_label("Status", exact=True).select_option("failed")
    expect(page.get_by_text("No run is like that.")).to_be_visible()


def test_runs_that_are_ticked_are_compared(open_page: Callable[..., Any], runs: dict[str, Any]) -> None:
    page = open_page("#/?search=xor by hand")
    first = page.get_by_role("checkbox").first
    first.check()
    expect(page.get_by_role("link", name=re.compile(r"Compare \("))).to_be_hidden()
    page.get_by_label("Search by name or dataset").fill("digits")
    page.locator("tbody tr", has_text="64–20–14–10").first.get_by_role("checkbox").check()
    expect(page.get_by_role("link", name="Compare (2)")).to_have_attribute(
        "href", re.compile("#/compare.runs=run_.*,run_")
    )


def test_a_list_that_has_not_changed_is_not_sent_again(open_page: Callable[..., Any], runs: dict[str, Any]) -> None:
    page = open_page("#/?search=spirals")
    expect(page.locator("tbody tr")).to_have_count(1)
    with page.expect_response(lambda response: "/v1/runs?" in response.url) as looked:
        pass
    assert looked.value.status == 304
