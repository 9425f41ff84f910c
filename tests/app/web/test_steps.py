"""The page of steps: an epoch replayed."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.app.web.conftest import SCHEMES
from tests.service import Service


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_epoch_is_replayed_and_each_step_told_in_numbers(
    open_page: Callable[..., Any], findings: Any, runs: dict[str, Any], site: Service, scheme: str
) -> None:
    from playwright.sync_api import expect

    run = runs["digits"]["id"]
    page = open_page(f"#/runs/{run}/steps?epoch=3&step=5", scheme=scheme)
    with site.client() as client:
        at = f"/v1/runs/{run}/epochs/3/steps"
        replay = client.get(at, params={"rows": True}).json()
        along = client.get(f"{at}/5/cost-along").json()
    expect(page.get_by_role("heading", level=1)).to_have_text("Steps of digits")
    expect(page.locator(".steps-state")).to_contain_text("✓replayed bit-exactly: hash equal")
    expect(page.locator(".steps-state code")).to_have_text(replay["sha256"][:12])
    expect(page.locator(".step-head h2")).to_have_text("Step 5 of 29")
    row = page.get_by_role("row", name="W2")
    expect(row.locator("td").nth(1)).to_have_text(f"{replay['blocks']['W2']['update_norm'][4]:.4g}")
    expect(page.get_by_text(f"α = {along['alpha']:.3g}".replace("-", "−"))).to_be_visible()
    expect(page.locator(".sample-card")).to_have_count(24)
    shown = page.locator(".sample-card .hint").all_text_contents()
    assert {int(text.removeprefix("row ").replace(",", "")) for text in shown} <= set(replay["rows"][4])
    assert findings(page) == []
    page.get_by_role("slider", name="Length of each step").press("ArrowRight")
    expect(page.locator(".step-head h2")).to_have_text("Step 6 of 29")
    page.wait_for_url("**/steps?epoch=3&step=6")


def test_another_epoch_is_trained_once_more_when_asked_for(open_page: Callable[..., Any], runs: dict[str, Any]) -> None:
    from playwright.sync_api import expect

    page = open_page(f"#/runs/{runs['xor']['id']}/steps")
    expect(page.locator(".steps-state")).to_contain_text("1 step, trained up to from the end of epoch 0")
    page.get_by_role("button", name="Epoch before").click()
    page.wait_for_url("**/steps?epoch=59")
    expect(page.get_by_role("spinbutton", name="Epoch")).to_have_value("59")
    expect(page.locator(".sample-card")).to_have_count(4)
    expect(page.locator(".sample-card dt").first).to_have_text("x1")
