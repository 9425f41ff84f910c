"""The page that compares runs."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.app.api.calls import finished
from tests.app.web.conftest import SCHEMES, XOR
from tests.service import Service


@pytest.mark.parametrize("scheme", SCHEMES)
def test_runs_are_told_apart_by_spec_curves_and_weights(
    open_page: Callable[..., Any], findings: Any, runs: dict[str, Any], site: Service, scheme: str
) -> None:
    from playwright.sync_api import expect

    with site.client() as client:
        shorter = finished(client, XOR | {"name": "shorter", "epochs": 30})
        other = finished(client, XOR | {"name": "other", "seed": 8, "checkpoints": {"every": 20}})
    chosen = ",".join((runs["xor"]["id"], shorter["id"], other["id"]))
    page = open_page(f"#/compare?runs={chosen}", scheme=scheme)
    rows = page.locator("section", has=page.get_by_role("heading", name="Runs", exact=True)).locator("tbody tr")
    expect(rows.nth(1)).to_contain_text("identical up to epoch 30")
    expect(rows.nth(2)).to_contain_text("differ from epoch 0 on")
    fields = page.locator("section", has=page.get_by_role("heading", name="Where their specs differ"))
    expect(fields.locator("tbody th")).to_contain_text(["epochs", "seed", "checkpoints.every"])
    expect(fields.locator("tbody tr").first).to_have_text("epochs603060")
    cost = page.get_by_role("slider", name="Cost")
    expect(cost).to_have_attribute(
        "aria-valuetext", f"epoch 60: xor by hand {runs['xor']['cost']:.4g}, shorter –, other {other['cost']:.4g}"
    )
    expect(page.get_by_role("slider", name="Layer 2")).to_be_visible()
    page.get_by_role("button", name="steps").click()
    expect(cost).to_have_attribute("aria-valuemax", "60")
    expect(cost).to_have_attribute(
        "aria-valuetext", f"step 60: xor by hand {runs['xor']['cost']:.4g}, shorter –, other {other['cost']:.4g}"
    )
    page.get_by_role("combobox", name="the").select_option("update_ratio")
    page.wait_for_url("**x=steps&measure=update_ratio")
    assert findings(page) == []
    page.get_by_role("button", name="Take other out").click()
    expect(rows).to_have_count(2)
    page.close()  # it asks about these runs
    with site.client() as client:
        for run in (shorter, other):
            client.delete(f"/v1/runs/{run['id']}", params={"purge": True}).raise_for_status()


def test_runs_are_chosen_on_the_page_when_the_address_names_none(
    open_page: Callable[..., Any], findings: Any, runs: dict[str, Any]
) -> None:
    from playwright.sync_api import expect

    page = open_page("#/compare", scheme="dark")
    page.get_by_role("checkbox", name="digits").check()
    page.get_by_role("checkbox", name="spirals").check()
    page.get_by_role("button", name="Compare them").click()
    expect(page.get_by_role("slider", name="Layer 3")).to_be_visible()
    assert set(page.url.partition("runs=")[2].replace("%2C", ",").split(",")) == {
        runs["digits"]["id"],
        runs["spirals"]["id"],
    }
    page.get_by_role("button", name="validation", exact=True).click()
    expect(page.get_by_role("slider", name="Cost")).to_have_attribute(
        "aria-valuetext", f"epoch 20: digits –, spirals {runs['spirals']['validation_cost']:.4g}"
    )
    assert findings(page) == []
