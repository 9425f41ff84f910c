"""The page of a run's samples: confusion, gallery, agreement."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.app.web.conftest import SCHEMES
from tests.service import Service


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_shown_are_the_samples_that_the_api_lists(
    open_page: Callable[..., Any], findings: Any, runs: dict[str, Any], site: Service, scheme: str
) -> None:
    from playwright.sync_api import expect

    run = runs["digits"]["id"]
    page = open_page(f"#/runs/{run}/samples?epoch=6", scheme=scheme)
    with site.client() as client:
        at = f"/v1/runs/{run}/checkpoints/6"
        metrics = client.get(f"{at}/metrics").json()
        hardest = client.get(f"{at}/samples", params={"limit": 1}).json()["items"][0]
        coherence = client.get(f"{at}/coherence", params={"split": "validation", "classes": True}).json()
    expect(page.get_by_role("heading", level=1)).to_have_text("Samples of digits")
    first = page.locator(".sample-card").first
    expect(first).to_contain_text(f"{hardest['target']} → {hardest['prediction']}")
    expect(first).to_contain_text(f"row {hardest['row']:,}")
    expect(first.get_by_role("img")).to_be_visible()
    cell = page.get_by_role("button", name=f"{metrics['confusion_matrix'][4][4]} of 4 taken for 4")
    expect(cell).to_be_visible()
    expect(page.locator(".cosine")).to_have_count(100)
    assert abs(float(page.locator(".cosine").nth(22).text_content()) - coherence["pairs"]["classes"][2][2]) <= 0.0051
    expect(page.get_by_role("img", name="Activations of layer 2: 359 points")).to_be_visible()
    assert findings(page) == []
    page.get_by_role("button", name="Surest mistakes").click()
    expect(page.locator(".sample-card .wrong")).to_have_count(min(30, round(metrics["error"] * metrics["samples"])))
    page.get_by_role("button", name="Hardest").click()
    cell.click()
    expect(page.locator(".sample-card")).to_have_count(min(30, metrics["confusion_matrix"][4][4]))
    expect(page.locator(".sample-card .verdict").nth(1)).to_contain_text("4 → 4")
    expect(cell).to_be_focused()
    page.wait_for_url(f"**/#/runs/{run}/samples?epoch=6&sort=hardest&class=4&predicted=4")


def test_another_epoch_is_a_key_away_and_samples_that_are_no_pictures_are_listed(
    open_page: Callable[..., Any], runs: dict[str, Any]
) -> None:
    from playwright.sync_api import expect

    page = open_page(f"#/runs/{runs['xor']['id']}/samples")
    expect(page.locator(".epoch-number")).to_have_text("60 of 60")
    expect(page.locator(".sample-card")).to_have_count(4)
    expect(page.locator(".sample-card dt").first).to_have_text("x1")
    page.get_by_role("slider", name="Epoch").press("Home")
    expect(page.locator(".epoch-number")).to_have_text("0 of 60")
    page.wait_for_url("**/samples?epoch=0")
    expect(page.locator(".sample-card .wrong").first).to_be_visible()
