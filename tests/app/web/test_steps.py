"""The page of steps: an epoch replayed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.app.services import keys
from chainrule.app.store.database import Database
from tests.app.api.calls import finished, stop, submit
from tests.app.web.conftest import SCHEMES, XOR
from tests.service import Service, serving

SLOW: dict[str, Any] = XOR | {"name": "goes on", "epochs": 1_000_000, "batch_size": 1, "checkpoints": {"every": 500}}
"""Trains for minutes, with weights every few moments."""


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


@pytest.mark.parametrize("events", [True, False], ids=["by the stream", "by polling"])
@pytest.mark.parametrize("page_name", ["backprop", "dynamics", "samples", "steps"])
def test_a_run_that_trains_is_followed(
    open_page: Callable[..., Any], site: Service, page_name: str, events: bool
) -> None:
    from playwright.sync_api import expect

    page = open_page(allow=() if events else ("ERR_FAILED",))
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if "/events?" in request.url else None)
    if not events:
        page.route("**/events?*", lambda route: route.abort())
    with site.client() as client:
        run = submit(client, SLOW)
        try:
            page.evaluate("(hash) => { location.hash = hash; }", f"#/runs/{run['id']}/{page_name}")
            field = page.get_by_label("Epoch", exact=True)
            expect(field).to_have_attribute("max", re.compile(r"^[1-9]\d*$"))
            for _ in range(2):
                most = field.get_attribute("max")
                expect(field).not_to_have_attribute("max", str(most))
            if page_name == "steps":
                page.get_by_role("button", name="Epoch before").click()
                expect(page).to_have_url(re.compile(r"epoch=\d+$"))
                most, chosen = field.get_attribute("max"), field.input_value()
                expect(field).not_to_have_attribute("max", str(most))
                assert field.input_value() == chosen, "an epoch that was chosen stays"
                page.get_by_role("button", name="Newest").click()
                expect(field).not_to_have_value(chosen)
            if events:
                assert len(streams) == 1
        finally:
            stop(client, run["id"])
        page.close()


def test_files_are_fetched_with_the_key(open_page: Callable[..., Any], fresh: Any, cache_dir: Path) -> None:
    url = fresh.url("sqlite")
    database = Database(url)
    key = keys.create(database, owner="ada", name="", scope="submit")["key"]
    database.dispose()
    with serving(database_url=url, cache_dir=cache_dir, slots=1, auth="keys") as service:
        with service.client(headers={"Authorization": f"Bearer {key}"}) as client:
            run = finished(client, XOR | {"epochs": 3})["id"]
        page = open_page(f"#/runs/{run}/steps?epoch=2&step=1", url=service.url, allow=("401",))
        page.get_by_role("textbox", name="Key").fill(key)
        page.keyboard.press("Enter")
        with page.expect_download() as taken:
            page.get_by_role("link", name="as NPZ").click()
        assert taken.value.suggested_filename == f"{run}-epoch-2-step-1.npz"
        assert np.load(taken.value.path())["dW1"].shape == (4, 2)
        page.get_by_role("link", name="Overview").click()
        page.get_by_text("Export").click()
        with page.expect_download() as taken:
            page.get_by_role("link", name="weights.npz").click()
        assert np.load(taken.value.path())["W1"].shape == (4, 2)
        page.close()  # before the service, or it would complain
