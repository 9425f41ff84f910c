"""The five pictures, each drawn in a browser from numbers chosen here."""

import itertools
import json
import re
from typing import Any

import pytest

DRAW = """async ({ kind, data }) => {
  const charts = await import(document.querySelector("script[type=module]").src.replace("main.js", "charts.js"));
  const revived = JSON.parse(data, (_, x) => x === "NaN" ? NaN : x === "Infinity" ? Infinity : x);
  const main = document.getElementById("page");
  main.replaceChildren();
  window.told = [];
  const tell = (...told) => window.told.push(told);
  window.chart = charts[kind]({ ...revived, onCursor: tell, onPick: tell });
  main.append(window.chart);
}"""
UPDATE = "(data) => window.chart.update(JSON.parse(data))"


@pytest.fixture(scope="module")
def page(module_page: Any) -> Any:
    """One page for all that is drawn here."""
    module_page.get_by_role("heading", level=1).wait_for()
    return module_page


@pytest.fixture
def draw(page: Any) -> Any:
    """Draws one chart on an empty page."""

    def drawn(kind: str, **data: Any) -> Any:
        page.evaluate(DRAW, {"kind": kind, "data": json.dumps(data)})
        chart = page.locator("figure.chart")
        chart.wait_for()
        return chart

    return drawn


def test_a_line_chart_has_a_cursor_that_keys_move_and_a_table(page: Any, draw: Any) -> None:
    from playwright.sync_api import expect

    series = [{"name": "training", "values": [2.0, 1.0, 0.5]}, {"name": "validation", "values": [2.5, 1.25, 0.75]}]
    chart = draw("lineChart", label="Cost", x=[0, 1, 2], series=series, log=True, xLabel="epoch")
    slider = chart.get_by_role("slider", name="Cost")
    expect(slider).to_have_attribute("aria-valuetext", "epoch 2: training 0.5, validation 0.75")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuetext", "epoch 1: training 1, validation 1.25")
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "0")
    assert page.evaluate("window.told") == [[1], [0]]
    expect(chart.locator("path.curve")).to_have_count(2)
    assert len({path.get_attribute("stroke-dasharray") for path in chart.locator("path.curve").all()}) == 2
    chart.get_by_role("button", name="Cost: table").click()
    expect(chart.locator("tbody tr")).to_have_count(3)
    expect(chart.locator("tbody tr").nth(2)).to_have_text("20.50.75")


def test_a_range_that_is_dragged_over_is_shown_alone_and_there_are_ways_back(page: Any, draw: Any) -> None:
    from playwright.sync_api import expect

    values = [100.0 - i for i in range(101)]
    chart = draw("lineChart", label="Cost", x=list(range(101)), series=[{"name": "C", "values": values}])
    slider, back = chart.get_by_role("slider", name="Cost"), chart.get_by_role("button", name="Whole range")
    box = slider.bounding_box()
    across = box["width"] - 52 - 14

    def drag(first: float, last: float) -> None:
        for share, act in ((first, page.mouse.down), (last, page.mouse.up)):
            page.mouse.move(box["x"] + 52 + share * across, box["y"] + 60, steps=4)
            act()

    expect(back).to_have_count(0)
    drag(0.2, 0.6)
    expect(slider).to_have_attribute("aria-valuemin", "20")
    expect(slider).to_have_attribute("aria-valuemax", "60")
    expect(page.locator("#live")).to_have_text("Cost: x 20 to 60")
    labels = [float(text) for text in chart.locator("svg text[text-anchor=end]").all_text_contents()]
    assert min(labels) >= 35, "heights fit what is seen"
    chart.get_by_role("button", name="Cost: table").click()
    expect(chart.locator("tbody tr")).to_have_count(101)
    chart.get_by_role("button", name="Cost: table").click()
    drag(0.75, 0.25)
    expect(slider).to_have_attribute("aria-valuemin", "30")
    expect(slider).to_have_attribute("aria-valuemax", "50")
    page.keyboard.press("Escape")
    slider.focus()
    page.keyboard.press("Escape")
    expect(slider).to_have_attribute("aria-valuemax", "100")
    expect(back).to_have_count(0)
    page.keyboard.press("Home")
    page.keyboard.press("+")
    expect(slider).to_have_attribute("aria-valuemax", "50")
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuenow", "50")
    page.keyboard.press("-")
    expect(slider).to_have_attribute("aria-valuemax", "100")
    drag(0.5, 0.9)
    back.click()
    expect(slider).to_have_attribute("aria-valuemin", "0")
    expect(slider).to_be_focused()
    told = len(page.evaluate("window.told"))
    slider.click(position={"x": 52 + across / 4, "y": 60})
    assert page.evaluate("window.told")[told:] == [[25]], "a click chooses, a drag does not"


def test_points_are_walked_by_keys_and_picked(page: Any, draw: Any) -> None:
    from playwright.sync_api import expect

    points = [[0, 0, 0], [1, 0, 1], [2, 0, 0], [1, 1, 0], ["NaN", 0, 0]]
    chart = draw("scatter", label="points", points=points, groups=["a", "b"], xLabel="x1", yLabel="x2")
    chart.get_by_role("img", name="points").focus()
    heard = page.locator("#live")
    for key, said in (
        ("ArrowLeft", "x1 0, x2 0: a"), ("ArrowRight", "x1 1, x2 0: b"), ("ArrowUp", "x1 1, x2 1: a"),
        ("ArrowUp", "x1 1, x2 1: a"), ("ArrowDown", "x1 1, x2 0: b"), ("ArrowRight", "x1 2, x2 0: a"),
    ):  # fmt: skip
        page.keyboard.press(key)
        expect(heard).to_have_text(said)
    expect(chart.locator(".readout")).to_have_text("x1 2, x2 0: a")
    page.keyboard.press("Enter")
    assert page.evaluate("window.told") == [[2]]


def test_numbers_that_are_not_finite_are_marked_and_break_nothing(draw: Any) -> None:
    from playwright.sync_api import expect

    values = [1.0, "NaN", 0.5, "Infinity", None, 0.0, 2.0]
    chart = draw("lineChart", label="Cost", x=list(range(7)), series=[{"name": "C", "values": values}], log=True)
    expect(chart.locator(".nonfinite")).to_have_count(2)
    assert "NaN" not in (chart.locator("path.curve").get_attribute("d") or "")
    assert (chart.locator("path.lone").get_attribute("d") or "").count("M") == 3
    chart = draw("matrix", label="W", values=[[1.0, "NaN"], ["Infinity", -2.0]])
    expect(chart.get_by_role("img")).to_have_attribute("aria-label", "W: 2 rows, 2 columns, from −2 to 2, 2 not finite")
    chart = draw("bars", label="RMS", items=[{"name": "1", "value": "NaN"}, {"name": "2", "value": 0.5}], log=True)
    expect(chart.locator("li").first).to_contain_text("NaN")
    chart = draw("scatter", label="points", points=[[0, 1, 0], ["NaN", 1, 1], [1, 2, 1]], groups=["a", "b"])
    expect(chart.locator("[role=img] .point")).to_have_count(2)
    chart = draw("ridge", label="dW", edges=[0, 1, 2], rows=[{"name": "1", "counts": [1, "NaN"]}])
    expect(chart.locator(".ridge-line")).to_have_count(1)


@pytest.mark.parametrize("kind", ["lineChart", "bars", "scatter", "matrix", "ridge"])
def test_a_chart_of_nothing_is_drawn_and_filled_later(page: Any, draw: Any, kind: str) -> None:
    from playwright.sync_api import expect

    nothing = {"x": [], "series": [], "items": [], "points": [], "values": [], "edges": [0, 1], "rows": []}
    chart = draw(kind, label="nothing", **nothing)
    more = {
        "x": [0, 1], "series": [{"name": "C", "values": [1, 2]}], "items": [{"name": "a", "value": 1}],
        "points": [[0, 0, 0]], "values": [[1, 2]], "rows": [{"name": "a", "counts": [3]}], "label": "something",
    }  # fmt: skip
    page.evaluate(UPDATE, json.dumps(more))
    expect(chart.locator("[aria-label^=something], li").first).to_be_visible()


def test_a_matrix_is_painted_blue_white_red_and_walked_by_keys(page: Any, draw: Any) -> None:
    from playwright.sync_api import expect

    chart = draw("matrix", label="dW", values=[[-1.0, 0.0], [0.25, 1.0]])
    canvas = chart.get_by_role("img")
    pixels = canvas.evaluate("(node) => [...node.getContext('2d').getImageData(0, 0, 2, 2).data]")
    blue, white, pink, red = (pixels[4 * i : 4 * i + 3] for i in range(4))
    assert blue[2] > blue[0]
    assert white == [250, 250, 250]
    assert red[0] > red[2]
    assert red[1] < pink[1] < 250
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#live")).to_have_text("row 1, column 1: 1")
    page.keyboard.press("Enter")
    assert page.evaluate("window.told") == [[1, 1, 1]]


def test_bars_are_as_long_as_their_decades(draw: Any) -> None:
    items = [{"name": str(i), "value": 10.0**-i} for i in range(4)]
    chart = draw("bars", label="RMS(dZ)", items=items, log=True)
    chart.locator(".bar").nth(3).wait_for()
    # One look at all: a page that is still being laid out must not move between one bar and the next.
    widths = chart.locator(".bar").evaluate_all("bars => bars.map((bar) => bar.getBoundingClientRect().width)")
    steps = [a - b for a, b in itertools.pairwise(widths)]
    assert max(steps) - min(steps) < 2
    assert min(widths) > 0


def test_a_long_curve_is_thinned_to_what_can_be_seen_and_keeps_its_extremes(draw: Any) -> None:
    values = [1.0] * 50_000
    values[31_234] = 9.0
    chart = draw("lineChart", label="Cost", x=list(range(50_000)), series=[{"name": "C", "values": values}])
    path = chart.locator("path.curve").get_attribute("d") or ""
    assert len(path) < 50_000
    heights = {float(height) for height in re.findall(r"(?:V| )(\d+\.\d)", path)}
    assert len(heights) == 2
