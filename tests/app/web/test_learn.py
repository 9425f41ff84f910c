"""The tutorial, and pages that stand on an empty service."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.app.web.conftest import SCHEMES
from tests.service import Service


def settle(page: Any) -> None:
    """Have every part loaded, as by a reader who goes through all of them."""
    from playwright.sync_api import expect

    expect(page.locator(".part")).to_have_count(8)
    for part in page.locator(".part").all():
        part.scroll_into_view_if_needed()
        expect(part.locator(".live > *").first).to_be_visible()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_part_of_the_tutorial_is_live_on_a_trained_run(
    open_page: Callable[..., Any], findings: Any, runs: dict[str, Any], site: Service, scheme: str
) -> None:
    from playwright.sync_api import expect

    page = open_page(f"#/learn?xor={runs['xor']['id']}&digits={runs['digits']['id']}", scheme=scheme)
    settle(page)
    expect(page.locator(".equation-picture")).to_have_count(2)
    layers = [one.bounding_box() for one in page.locator("#part-functions .layer-picture").all()]
    assert layers[1]["x"] > layers[0]["x"] + layers[0]["width"] / 2, "a layer stands beside the one before"
    expect(page.locator(".live .problem")).to_have_count(0)
    expect(page.locator(".invitation")).to_have_count(0)
    back = page.locator("#part-equations")
    expect(back.locator(".step-text")).to_contain_text("6 of 12 · backward · layer 2")
    back.get_by_role("button", name="Step on").click()
    expect(back.locator(".step-text")).to_contain_text("7 of 12")
    page.wait_for_url("**back=7")
    with site.client() as client:
        items = client.get(f"/v1/runs/{runs['xor']['id']}/checkpoints/60/samples", params={"sort": "index"}).json()[
            "items"
        ]
    mean = sum(one["cost"] for one in items) / 4
    expect(page.locator("#part-cost tbody tr").last).to_contain_text(f"{mean:.4g}")
    shares = page.locator("#part-wrong .bars")
    expect(shares).to_have_count(2)
    expect(shares.first.locator("li.warn").first).to_contain_text("layer 1, sigmoid")
    assert findings(page) == []


def test_one_click_trains_what_a_part_is_about(
    browser: Any, open_page: Callable[..., Any], empty_site: Service
) -> None:
    from playwright.sync_api import expect

    page = open_page("#/learn", url=empty_site.url)
    settle(page)
    page.locator("#part-functions").get_by_role("button", name="Train XOR").click()
    expect(page.locator("#part-functions .equation-picture canvas").first).to_be_visible()
    expect(page.locator("#part-loop .scatter")).to_be_visible()
    address = page.url
    page.goto(f"{empty_site.url}/#/nowhere")  # a page that may still ask about the run would complain that it is gone
    with empty_site.client() as client:
        (run,) = client.get("/v1/runs").json()["items"]
        assert f"xor={run['id']}" in address
        client.delete(f"/v1/runs/{run['id']}", params={"purge": True}).raise_for_status()
    page.goto(f"{empty_site.url}/#/compare")
    expect(page.get_by_text("Nothing has been trained yet. Train two runs")).to_be_visible()
    page.goto(f"{empty_site.url}/#/check")
    expect(page.get_by_text("Nothing has been trained yet, so")).to_be_visible()
    page.get_by_role("button", name="Check the gradients of this spec").click()
    expect(page.get_by_text("✓ pass")).to_have_count(5)
