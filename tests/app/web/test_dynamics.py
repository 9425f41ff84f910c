"""The page of a run's dynamics: distributions by epoch, and what becomes of sizes."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.app.web.conftest import SCHEMES
from tests.service import Service


@pytest.mark.parametrize("scheme", SCHEMES)
def test_distributions_are_those_that_the_api_counts(
    open_page: Callable[..., Any], findings: Any, runs: dict[str, Any], site: Service, scheme: str
) -> None:
    from playwright.sync_api import expect

    run = runs["digits"]["id"]
    page = open_page(f"#/runs/{run}/dynamics?epoch=6", scheme=scheme)
    with site.client() as client:
        found = client.get(f"/v1/runs/{run}/histograms", params={"names": "dW"}).json()
        layers = client.get(f"/v1/runs/{run}/checkpoints/6/layers").json()["layers"]
    expect(page.get_by_role("heading", level=1)).to_have_text("Dynamics of digits")
    for layer in (1, 2, 3):
        figure = page.get_by_role("slider", name=f"dW{layer} by epoch")
        expect(figure).to_have_attribute("aria-valuenow", "6")
        table = page.get_by_role("button", name=f"dW{layer} by epoch: table")
        table.click()
        cells = page.locator(".distribution").nth(layer - 1).locator("tbody tr").nth(6).locator("td")
        rows = found["histograms"][f"dW{layer}"]
        expect(cells.nth(5)).to_have_text(str(rows["zeros"][6]))
        half = len(rows["counts"][6]) // 2
        expect(cells.nth(6)).to_have_text(f"{sum(rows['counts'][6][:half]):,}")
        table.click()
    signals = page.locator("#panel-signals")
    for number, layer in enumerate(layers):
        expect(signals.locator(".legend .value").nth(number)).to_have_text(f"{layer['dZ_rms']:.4g}")
    page.locator("#panel-noise").scroll_into_view_if_needed()
    expect(page.locator("#panel-noise")).to_contain_text("Over the first 256 training samples, at 10 kept epochs.")
    assert findings(page) == []


def test_tensor_view_epoch_and_panel_are_in_the_address(open_page: Callable[..., Any], runs: dict[str, Any]) -> None:
    from playwright.sync_api import expect

    run = runs["xor"]["id"]
    page = open_page(f"#/runs/{run}/dynamics?panel=ratios")
    expect(page.locator("#panel-ratios")).to_have_class("panel third named")
    page.get_by_role("button", name="ΔW", exact=True).click()
    page.get_by_role("button", name="Percentiles").click()
    figure = page.get_by_role("slider", name="update1 by epoch")
    figure.press("Home")
    page.wait_for_url("**/dynamics?panel=ratios&tensor=update&view=bands&epoch=0")
    expect(figure).to_have_attribute("aria-valuetext", "epoch 0: no kept epoch before it to compare with")
    page.get_by_role("button", name="Ridgeline").click()
    expect(page.get_by_role("img", name="update2 by epoch: 24 histograms")).to_be_visible()


def test_the_way_of_the_weights_their_spectra_and_on_request_the_curvature(
    open_page: Callable[..., Any], findings: Any, runs: dict[str, Any], site: Service
) -> None:
    from playwright.sync_api import expect

    run = runs["xor"]["id"]
    page = open_page(f"#/runs/{run}/dynamics?epoch=60&panel=curvature", scheme="dark")
    with site.client() as client:
        way = client.get(f"/v1/runs/{run}/distance").json()
        spectrum = client.get(f"/v1/runs/{run}/checkpoints/60/spectrum").json()["layers"]
        bent = client.get(f"/v1/runs/{run}/checkpoints/60/curvature", params={"products": 20}).json()
    curvature = page.locator("#panel-curvature")
    expect(curvature).to_contain_text("at most 640 gradients over min(512, m) samples and 17 parameters")
    curvature.get_by_role("button", name="Measure the curvature").click()
    expect(curvature).to_contain_text("products in all")
    shown = curvature.locator(".legend .value")
    expect(shown).to_have_text([f"{bent['largest']['value']:.4g}", "40", f"{bent['trace']['value']:.4g}"])
    distance = page.locator("#panel-distance")
    distance.scroll_into_view_if_needed()
    expect(distance.locator(".legend .value").first).to_have_text(f"{way['distance'][-1]:.4g}")
    spectra = page.locator("#panel-spectrum")
    spectra.scroll_into_view_if_needed()
    expect(spectra.locator(".legend .value").first).to_have_text(f"{spectrum['1']['norm']:.4g}")
    expect(spectra).to_contain_text("at epoch 60")
    assert findings(page) == []


def test_one_step_with_other_learning_rates_is_what_the_api_says(
    open_page: Callable[..., Any], runs: dict[str, Any], site: Service
) -> None:
    from playwright.sync_api import expect

    run = runs["xor"]["id"]
    page = open_page(f"#/runs/{run}/backprop?epoch=10&of=batch&rows=0-3")
    with site.client() as client:
        asked = {"rows": [0, 1, 2, 3], "learning_rate": 0.5, "step": True}
        found = client.post(f"/v1/runs/{run}/checkpoints/10/what-if", json=asked).json()
    expect(page.locator("#page")).to_have_attribute("data-epoch", "10")
    page.get_by_role("button", name="Another learning rate").click()
    page.get_by_role("button", name="From η/10 to 10η").click()
    rows = page.locator(".what-if tbody tr")
    expect(rows).to_have_count(5)
    expect(rows.nth(2)).to_contain_text("0.05 the run's own")
    after = f"{found['after']['step']['state']['cost']:.4g}"
    expect(rows.nth(4).locator("td").nth(2)).to_have_text(after)
