"""One run: curves, layers and what it has learned, at any epoch, as it grows, and over a restart of the service."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.app.api.calls import DIGITS, LONG, finished, stop, submit, upload
from tests.app.web.conftest import SCHEMES
from tests.service import Service, serving


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_ended_run_shows_its_curves_layers_and_mistakes(
    open_page: Callable[..., Any],
    runs: dict[str, Any],
    findings: Callable[[Any], list[str]],
    site: Service,
    scheme: str,
) -> None:
    run = runs["digits"]
    page = open_page(f"#/runs/{run['id']}", scheme=scheme)
    expect(page.get_by_role("heading", level=1)).to_have_text("digits")
    expect(page.get_by_role("heading", name="Layers at epoch 12")).to_be_visible()
    with site.client() as client:
        path = f"/v1/runs/{run['id']}/checkpoints/12"
        layers, metrics = client.get(f"{path}/layers").json()["layers"], client.get(f"{path}/metrics").json()
    for layer, row in zip(layers, page.locator("table.layers tbody tr").all(), strict=True):
        assert shown(row.locator("td").nth(1).inner_text()) == pytest.approx(layer["W_norm"], rel=1e-3)
        assert shown(row.locator("td").nth(4).inner_text()) == pytest.approx(layer["dZ_rms"], rel=1e-2)
    confusion = page.locator("table.confusion tbody tr")
    for counts, row in zip(metrics["confusion_matrix"], confusion.all(), strict=True):
        cells = [cell.inner_text() for cell in row.locator("td").all()[:-1]]
        assert cells == [str(count) if count else "·" for count in counts]
    assert findings(page) == []


def shown(text: str) -> float:
    """Read a number as it is written."""
    text = text.replace("−", "-").replace(",", "").strip()
    mantissa, _, power = (
        text.partition("·10") if "·10" in text else ("1", "", text[2:]) if "⁻" in text else (text, "", "")
    )
    return float(mantissa) * 10.0 ** int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)


def test_the_epoch_is_in_the_address_and_moved_by_slider_chart_and_player(
    open_page: Callable[..., Any], runs: dict[str, Any]
) -> None:
    page = open_page(f"#/runs/{runs['spirals']['id']}?epoch=3")
    expect(page.get_by_role("heading", name="Layers at epoch 3")).to_be_visible()
    cost = page.get_by_role("slider", name="Cost")
    expect(cost).to_have_attribute("aria-valuenow", "3")
    surface = page.locator("figure.scatter image")
    before = surface.get_attribute("href")
    cost.focus()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile("epoch=4$"))
    expect(page.get_by_role("heading", name="Layers at epoch 4")).to_be_visible()
    expect(surface).not_to_have_attribute("href", before)
    page.get_by_label("Epoch", exact=True).focus()
    page.keyboard.press("End")
    expect(page.get_by_role("heading", name="Layers at epoch 20")).to_be_visible()
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    expect(page).to_have_url(re.compile("epoch=20$"))
    page.get_by_role("button", name="Newest").click()
    expect(page).to_have_url(re.compile(r"[0-9a-z]$"))


def test_the_range_that_charts_show_is_in_the_address(open_page: Callable[..., Any], runs: dict[str, Any]) -> None:
    page = open_page(f"#/runs/{runs['spirals']['id']}?zoom=4..12")
    charts = [page.get_by_role("slider", name=name) for name in ("Cost", "Classification error")]
    for chart in charts:
        expect(chart).to_have_attribute("aria-valuemin", "4")
        expect(chart).to_have_attribute("aria-valuemax", "12")
    charts[0].focus()
    page.keyboard.press("+")
    expect(page).to_have_url(re.compile(r"zoom=8\.\.12$"))
    expect(charts[1]).to_have_attribute("aria-valuemin", "8")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"/run_\w+$"))
    expect(charts[1]).to_have_attribute("aria-valuemax", "20")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_decision_surface_is_drawn_for_two_features(
    open_page: Callable[..., Any], runs: dict[str, Any], findings: Callable[[Any], list[str]], scheme: str
) -> None:
    page = open_page(f"#/runs/{runs['spirals']['id']}", scheme=scheme)
    expect(page.locator("figure.scatter image")).to_have_count(1)
    expect(page.locator("figure.scatter svg[role=img] > path.point")).to_have_count(480)
    assert findings(page) == []


def test_a_sick_run_says_what_is_wrong_and_what_helps(
    open_page: Callable[..., Any], findings: Callable[[Any], list[str]], site: Service
) -> None:
    layers = [*({"units": 20, "activation": "sigmoid"} for _ in range(6)), {"units": 10, "activation": "softmax"}]
    spec = DIGITS | {"name": "sick", "network": {"layers": layers}, "epochs": 10, "gradients": {"every": 1}}
    with site.client() as client:
        run = finished(client, spec | {"optimizer": {"name": "sgd", "learning_rate": 0.1}})
        verdicts = client.get(f"/v1/runs/{run['id']}/diagnoses").json()["items"]
    assert "vanishing" in [one["rule"] for one in verdicts if one["active"]]
    page = open_page(f"#/runs/{run['id']}")
    panel = page.get_by_role("region", name="Diagnoses")
    for one in verdicts:
        if one["active"]:
            expect(panel).to_contain_text(one["sentence"])
            expect(panel).to_contain_text(one["fix"])
    assert findings(page) == []
    page.get_by_role("link", name="Runs", exact=True).click()
    faults = len([one for one in verdicts if one["active"] and one["severity"] != "info"])
    expect(page.get_by_role("row", name="sick").first).to_contain_text(f"⚠ {faults}")


def test_a_run_is_followed_paused_resumed_and_cancelled(open_page: Callable[..., Any], site: Service) -> None:
    with site.client() as client:
        run = submit(client, LONG | {"name": "live"})
        page = open_page(f"#/runs/{run['id']}")
        cost = page.get_by_role("slider", name="Cost")
        expect(page.get_by_text("● live")).to_be_visible()
        expect(cost).to_have_attribute("aria-valuenow", re.compile(r"[1-9]\d"))
        page.get_by_role("button", name="Pause", exact=True).click()
        expect(page.locator(".head .badge")).to_contain_text("paused")
        page.get_by_role("button", name="Resume").click()
        expect(page.locator(".head .badge")).to_contain_text("running")
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".head .badge")).to_contain_text("cancelled")
        ended = stop(client, run["id"])
        expect(cost).to_have_attribute("aria-valuenow", str(ended["progress"]["epochs_done"]))


def test_where_no_stream_gets_through_the_run_is_polled(open_page: Callable[..., Any], site: Service) -> None:
    page = open_page(allow=("ERR_FAILED",))
    page.route("**/events?*", lambda route: route.abort())
    with site.client() as client:
        run = submit(client, LONG | {"name": "polled"})
        page.evaluate("(id) => { location.hash = `#/runs/${id}`; }", run["id"])
        expect(page.get_by_text("polling")).to_be_visible()
        cost = page.get_by_role("slider", name="Cost")
        expect(cost).to_have_attribute("aria-valuenow", re.compile(r"[1-9]\d"))
        ended = stop(client, run["id"])
        expect(page.locator(".head .badge")).to_contain_text("cancelled")
        expect(cost).to_have_attribute("aria-valuenow", str(ended["progress"]["epochs_done"]))


def test_a_run_that_waits_or_has_diverged_breaks_nothing(
    open_page: Callable[..., Any], empty_site: Service, findings: Callable[[Any], list[str]]
) -> None:
    line = "x,y\n" + "".join(f"{x},{1e6 * x}\n" for x in range(40))
    linear = {"layers": [{"units": 4, "activation": "relu"}, {"units": 1, "activation": "linear"}]}
    with empty_site.client() as client:
        dataset = upload(client, line, "line.csv", target_columns="y")["id"]
        spec = {"name": "apart", "dataset": dataset, "network": linear, "epochs": 50}
        apart = finished(client, spec | {"optimizer": {"name": "sgd", "learning_rate": 9.0}}, "failed")
        busy = submit(client, LONG)
        waiting = submit(client, LONG | {"name": "waits"})
        page = open_page(f"#/runs/{apart['id']}", url=empty_site.url)
        expect(page.locator(".head .badge")).to_contain_text("failed")
        expect(page.get_by_role("heading", name=re.compile("Layers at epoch"))).to_be_visible()
        expect(page.get_by_role("heading", name="How far off it is")).to_be_visible()
        expect(page.locator("table.layers")).to_contain_text("not finite")
        expect(page.get_by_text("on line.csv")).to_be_visible()
        assert findings(page) == []
        page.evaluate("(id) => { location.hash = `#/runs/${id}`; }", waiting["id"])
        expect(page.locator(".head .badge")).to_contain_text("queued")
        expect(page.get_by_text("Nothing recorded yet.").first).to_be_visible()
        assert findings(page) == []
        page.close()
        for run in (waiting, busy):
            stop(client, run["id"])
        for run in (waiting, busy, apart):
            assert client.delete(f"/v1/runs/{run['id']}?purge=true").status_code == 204


def test_a_run_that_is_not_there_says_so(open_page: Callable[..., Any]) -> None:
    page = open_page("#/runs/run_none", allow=("404",))
    expect(page.get_by_role("alert")).to_contain_text("run_none")


def test_the_chart_goes_on_over_a_kill_and_restart_without_a_reload(
    open_page: Callable[..., Any], fresh: Any, cache_dir: Path
) -> None:
    layers = [{"units": 300, "activation": "relu"}, {"units": 10, "activation": "softmax"}]
    spec = DIGITS | {"name": "outlives", "epochs": 300, "network": {"layers": layers}, "batch_size": 8}
    spec |= {"checkpoints": {"every": 100}, "gradients": {"every": 0}}
    url = fresh.url("sqlite")
    common = {"database_url": url, "cache_dir": cache_dir, "slots": 1, "attempt_timeout_s": 2}
    with serving(**common) as service:
        with service.client() as client:
            run = submit(client, spec)
        page = open_page(f"#/runs/{run['id']}", url=service.url, allow=("ERR_",))
        cost = page.get_by_role("slider", name="Cost")
        expect(cost).to_have_attribute("aria-valuenow", re.compile(r"[1-9]\d"))
        page.evaluate("window.unreloaded = true")
        service.process.kill()
        service.process.wait()
        expect(page.get_by_text("waiting for the service")).to_be_visible()
        port = service.url.rpartition(":")[2]
    with serving(**common, port=port) as again, again.client() as client:
        expect(page.locator(".head .badge")).to_contain_text("succeeded", timeout=90_000)
        expect(cost).to_have_attribute("aria-valuenow", "300")
        assert page.evaluate("window.unreloaded") is True
        page.get_by_role("button", name="Cost: table").click()
        rows = page.get_by_role("region", name="Cost: table").locator("tbody tr").all_inner_texts()
        stored = client.get(f"/v1/runs/{run['id']}/epochs").json()["columns"]["cost"]
        assert [int(row.split()[0]) for row in rows] == list(range(301))
        assert [shown(row.split()[1]) for row in rows] == pytest.approx(stored, rel=1e-3)
        page.close()
