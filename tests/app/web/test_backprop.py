"""The backpropagation page: every number on it is NumPy's, computed from downloaded weights."""

import contextlib
import io
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.app.api.calls import finished
from tests.app.web.conftest import SCHEMES
from tests.service import Service

Arrays = dict[str, NDArray[Any]]
MINUS = {"\u2212": "-", ",": "", "\u00b710": "e"}
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
XOR_SAMPLES = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]


@pytest.fixture(scope="module")
def client(site: Service) -> Any:
    with site.client() as client:
        yield client


def weights(client: httpx.Client, run: str, epoch: int) -> Arrays:
    """Download the weights of an epoch."""
    content = client.get(f"/v1/runs/{run}/checkpoints/{epoch}/weights?format=npz").content
    return {name: array.astype(np.float64) for name, array in np.load(io.BytesIO(content)).items()}


def by_hand(w: Arrays, layers: list[dict[str, Any]], X: NDArray[Any], Y: NDArray[Any]) -> Arrays:
    """Compute every array of a walk: tanh, relu, and sigmoid or softmax with cross-entropy at the end."""
    found: Arrays = dict(w) | {"A0": X, "Y": Y}
    L, m = len(layers), len(X)
    for n, layer in enumerate(layers, start=1):
        Z = found[f"A{n - 1}"] @ w[f"W{n}"].T + w[f"b{n}"]
        powers = np.exp(Z - Z.max(axis=1, keepdims=True))
        g = {"tanh": np.tanh(Z), "relu": np.maximum(Z, 0), "sigmoid": 1 / (1 + np.exp(-Z)),
             "softmax": powers / powers.sum(axis=1, keepdims=True)}  # fmt: skip
        found |= {f"Z{n}": Z, f"A{n}": g[layer["activation"]]}
    A = found[f"A{L}"]
    two = A.shape[1] == 1
    found["E"] = -(Y * np.log(A) + ((1 - Y) * np.log(1 - A) if two else 0)).sum(axis=1)
    found["C"] = np.asarray(found["E"].mean())
    found[f"dA{L}"] = -(Y / A - (1 - Y) / (1 - A)) if two else -Y / A
    for n in range(L, 0, -1):
        a = found[f"A{n}"]
        slope = {"tanh": 1 - a**2, "relu": (a > 0) * 1.0}.get(layers[n - 1]["activation"])
        dZ = A - Y if slope is None else found[f"dA{n}"] * slope
        found |= {f"dZ{n}": dZ, f"dW{n}": dZ.T @ found[f"A{n - 1}"] / m, f"db{n}": dZ.mean(axis=0)}
        found[f"dA{n - 1}"] = dZ @ w[f"W{n}"]
    return found


def read(text: str) -> float:
    """Read a number as the page writes it."""
    for written, plain in MINUS.items():
        text = text.replace(written, plain)
    mantissa, e, exponent = text.partition("e")
    return float(f"{mantissa}e{exponent.translate(RAISED)}" if e else mantissa)


def opened(open_page: Callable[..., Any], run: str, query: str, **options: Any) -> Any:
    """Open the page and wait for its picture."""
    page = open_page(f"#/runs/{run}/backprop?{query}", **options)
    page.locator("main[data-epoch] .tensor, main[data-epoch] .network-drawing").first.wait_for(state="attached")
    return page


def hover(page: Any, name: str, *index: int) -> Any:
    """Point at a cell of an array."""
    canvas = page.locator(f'figure[data-name="{name}"] canvas').last
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    size = page.evaluate(
        "(name) => { const node = document.querySelector(`figure[data-name=${name}]`);"
        " return node.classList.contains('form-matrix') ? 2 : 1; }", name,
    )  # fmt: skip
    label = canvas.get_attribute("aria-label")
    if size == 2:
        rows, columns = (int(n) for n in re.findall(r"(\d+) × (\d+)", label)[0])
        place = {"x": box["width"] * (index[1] + 0.5) / columns, "y": box["height"] * (index[0] + 0.5) / rows}
    else:
        count = int(re.findall(r"(\d+) numbers", label)[0])
        flat = box["width"] > box["height"]
        share = (index[0] + 0.5) / count
        place = {"x": box["width"] * (share if flat else 0.5), "y": box["height"] * (0.5 if flat else share)}
    canvas.hover(position=place)
    return page.locator(".number-line .factors")


def digits(client: httpx.Client, runs: dict[str, Any], epoch: int) -> tuple[str, int, Arrays]:
    """The hardest validation sample of the digits run, and its walk by hand."""
    run = runs["digits"]
    hardest = client.get(f"/v1/runs/{run['id']}/checkpoints/{epoch}/samples?features=true&limit=1").json()["items"][0]
    Y = np.eye(10)[[int(hardest["target"])]]
    layers = run["config"]["network"]["layers"]
    return run["id"], hardest["row"], by_hand(weights(client, run["id"], epoch), layers,
                                              np.array([hardest["features"]]), Y)  # fmt: skip


def test_the_number_under_the_pointer_and_its_factors_are_numpys(
    client: httpx.Client, runs: dict[str, Any], open_page: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    run, row, mine = digits(client, runs, 8)
    page = opened(open_page, run, f"epoch=8&sample={row}")
    asked: list[tuple[str, tuple[int, ...], list[float]]] = [
        ("dW2", (4, 5), [mine["dZ2"][0, 4], mine["A1"][0, 5]]),
        ("dW1", (3, 20), [mine["dZ1"][0, 3], mine["A0"][0, 20]]),
        ("dZ1", (2,), [mine["dA1"][0, 2], 1 - mine["A1"][0, 2] ** 2]),
        ("dZ3", (7,), [mine["A3"][0, 7], mine["Y"][0, 7]]),
        ("A2", (6,), [mine["Z2"][0, 6]]),
        ("Z2", (3,), []),
        ("dA2", (1,), []),
        ("W3", (2, 9), []),
    ]
    for name, index, operands in asked:
        factors = hover(page, name, *index)
        where = name.rstrip("0123456789") + f"[{name[-1]}][{','.join(map(str, index))}]"
        expect(factors).to_have_attribute("data-cell", where)
        value = mine[name][index] if name[0] == "W" or name[:2] == "dW" else mine[name][(0, *index)]
        shown = [float(node.get_attribute("data-value")) for node in factors.locator(".value").all()]
        assert float(factors.get_attribute("data-value")) == pytest.approx(value, rel=1e-3, abs=1e-7)
        assert value in [pytest.approx(one, rel=1e-3, abs=1e-7) for one in shown]
        for operand in operands:
            assert any(one == pytest.approx(operand, rel=1e-3, abs=1e-6) for one in shown), (name, operand, shown)
        if len(operands) == 2:
            first, second, product = shown[:3]
            assert product == pytest.approx(first - second if name == "dZ3" else first * second, rel=1e-5, abs=1e-9)
        read_back = [read(node.inner_text()) for node in factors.locator(".value").all()]
        assert read_back == pytest.approx(shown, rel=1e-3)


def test_every_operand_and_result_of_a_walk_is_numpys(
    client: httpx.Client, runs: dict[str, Any], open_page: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    run = runs["xor"]
    X = np.array(XOR_SAMPLES)[[2]]
    mine = by_hand(weights(client, run["id"], 30), run["config"]["network"]["layers"], X, np.array([[1.0]]))
    told = client.get(f"/v1/runs/{run['id']}/checkpoints/30/walk?rows=2&values=false").json()
    page = opened(open_page, run["id"], "epoch=30&sample=2")
    names = {name for step in told["steps"] for name in [*step["operands"], *(one["name"] for one in step["results"])]}
    assert names == set(mine)
    for name in names:
        page.locator("#table").select_option(name)
        written = page.locator(".table-view td")
        symbol, number = re.findall(r"(\D+)(\d*)", name)[0]
        expect(page.get_by_role("region", name=f"Table of {symbol}{f'[{number}]' if number else ''}")).to_be_visible()
        assert [read(text) for text in written.all_inner_texts()] == pytest.approx(
            mine[name].ravel().tolist(), rel=1e-4, abs=1e-7
        ), name


def test_steps_show_what_is_known_what_goes_in_and_what_comes_out(
    client: httpx.Client, runs: dict[str, Any], open_page: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    run = runs["xor"]["id"]
    steps = client.get(f"/v1/runs/{run}/checkpoints/last/walk?rows=0&values=false").json()["steps"]
    page = opened(open_page, run, "sample=0&step=1")
    there = page.locator(".tensor:not(.unknown)")
    shown = {node.get_attribute("data-name") for node in page.locator(".tensor").all()}
    known = {"A0", "Y", "W1", "W2", "b1", "b2"}
    for step in steps:
        expect(page.locator(".step-text")).to_contain_text(f"{step['number']} of {len(steps)} · {step['phase']}")
        results = {one["name"] for one in step["results"]}
        known |= results
        assert {node.get_attribute("data-name") for node in there.all()} == known & shown
        for role, wanted in (("operand", set(step["operands"])), ("result", results)):
            found = {node.get_attribute("data-name") for node in page.locator(f".tensor.{role}").all()}
            assert found == wanted & shown
        equations = page.locator(".step-equation [role=math]")
        assert [node.get_attribute("aria-label") for node in equations.all()] == [
            one["equation"] for one in step["results"]
        ]
        page.keyboard.press("ArrowRight")
    expect(page.locator(".step-text")).to_have_text(f"all {len(steps)} steps")
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile(f"step={len(steps)}"))
    page.get_by_role("button", name="Step 3: Z[2]", exact=True).click()
    hover(page, "A0", 1)
    canvas = page.locator('figure[data-name="dW1"] canvas')
    expect(canvas).to_have_attribute("aria-label", re.compile("not computed yet"))
    page.locator('figure[data-name="dW1"] .frame').hover()
    expect(page.locator(".number-line")).to_have_text(
        "dW[1] is not computed yet: it comes with step 11. Absent is not 0."
    )


def test_a_click_explains_a_number_by_its_samples(
    client: httpx.Client, runs: dict[str, Any], open_page: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    run = runs["xor"]
    mine = by_hand(weights(client, run["id"], 20), run["config"]["network"]["layers"],
                   np.array(XOR_SAMPLES), np.array([[0.0], [1.0], [1.0], [0.0]]))  # fmt: skip
    page = opened(open_page, run["id"], "epoch=20&of=split&split=training")
    expect(page.locator(".chips")).to_contain_text("mean of 4 samples")
    hover(page, "dW2", 0, 3)
    box = page.locator('figure[data-name="dW2"] canvas').bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.99, box["y"] + box["height"] / 2)
    total = page.locator(".explanation .total b")
    assert float(total.get_attribute("data-value")) == pytest.approx(mine["dW2"][0, 3], rel=1e-4)
    together = page.locator(".terms tfoot .value")
    assert float(together.get_attribute("data-value")) == pytest.approx(mine["dW2"][0, 3], rel=1e-4)
    terms = mine["dZ2"][:, 0] * mine["A1"][:, 3] / 4
    written = {
        row.locator("th").inner_text(): read(row.locator(".value").inner_text())
        for row in page.locator(".terms tbody tr").all()
    }
    assert written == {f"row {i}": pytest.approx(terms[i], rel=1e-3, abs=1e-9) for i in range(4)}
    page.get_by_role("button", name="row 2", exact=True).click()
    expect(page).to_have_url(re.compile("sample=2"))
    expect(page.get_by_role("radio", name="One sample")).to_be_checked()


@pytest.mark.parametrize(("dataset", "query"), [
    ("digits", "epoch=5&sample=17"), ("digits", "epoch=5&of=batch&rows=0-15&step=13"), ("xor", "of=split&step=10"),
])  # fmt: skip
def test_the_copied_code_recomputes_the_step(
    runs: dict[str, Any], open_page: Callable[..., Any], dataset: str, query: str
) -> None:
    page = opened(open_page, runs[dataset]["id"], query)
    page.get_by_role("button", name="Copy as NumPy").click()
    code = page.locator("pre.code").inner_text()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "copied", "exec"), {})
    differences = [float(line.rsplit(" ", 1)[1]) for line in printed.getvalue().splitlines()]
    assert differences
    assert max(differences) < 1e-5


def test_scrubbing_asks_one_thing_at_a_time_and_ends_where_the_slider_does(
    runs: dict[str, Any], open_page: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    page = opened(open_page, runs["digits"]["id"], "epoch=0&sample=3")
    at_once: list[int] = [0]
    most: list[int] = [0]

    def began(request: Any) -> None:
        if "/walk?" in request.url:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])

    def ended(request: Any) -> None:
        at_once[0] -= "/walk?" in request.url

    page.on("request", began)
    page.on("requestfinished", ended)
    page.on("requestfailed", ended)
    slider = page.get_by_role("slider", name="Epoch")
    for epoch in range(13):
        slider.evaluate("(node, at) => { node.value = at; node.dispatchEvent(new Event('input')); }", epoch)
    expect(page.locator("main")).to_have_attribute("data-epoch", "12")
    assert most == [1]
    expect(page).to_have_url(re.compile("epoch=12"))
    expect(page.locator(".epoch-text")).to_contain_text("12 of 12")


def test_the_epoch_that_comes_next_is_there_already(runs: dict[str, Any], open_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = opened(open_page, runs["digits"]["id"], "epoch=6&sample=3")
    with page.expect_request(lambda request: "/checkpoints/4/walk" in request.url):
        page.get_by_role("slider", name="Epoch").press("ArrowLeft")
        expect(page.locator("main")).to_have_attribute("data-epoch", "5")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/checkpoints/4/walk" in request.url else None)
    page.get_by_role("slider", name="Epoch").press("ArrowLeft")
    expect(page.locator("main")).to_have_attribute("data-epoch", "4")
    assert asked == []


def test_keys_move_over_the_cells_and_what_they_are_is_said(
    runs: dict[str, Any], open_page: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    page = opened(open_page, runs["xor"]["id"], "sample=1&step=9")
    page.locator('figure[data-name="W2"] canvas').focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#live")).to_have_text(re.compile(r"^W\[2\]\[0,2\] = "))
    expect(page.locator(".factors")).to_have_attribute("data-cell", "W[2][0,2]")
    expect(page).to_have_url(re.compile("step=9"))
    page.keyboard.press("Enter")
    expect(page.locator(".explanation")).to_contain_text("is learnt; this is its gradient")


@pytest.fixture(scope="module")
def wide(client: httpx.Client) -> tuple[dict[str, Any], NDArray[Any]]:
    """A run of 784 features and 128 units, and its samples."""
    pixels = np.random.default_rng(0).random((24, 784)).round(3)
    lines = "\n".join(",".join([*map(str, row), "ab"[i % 2]]) for i, row in enumerate(pixels.tolist()))
    made = client.post("/v1/datasets", files={"file": ("pictures.csv", lines)})
    spec = {"dataset": made.json()["id"], "epochs": 1, "batch_size": 8, "network": {"layers": [
        {"units": 128, "activation": "relu"}, {"units": 2, "activation": "softmax"}]}}  # fmt: skip
    return finished(client, spec), pixels


def test_a_wide_matrix_is_pooled_and_says_so(
    client: httpx.Client, wide: tuple[dict[str, Any], NDArray[Any]], open_page: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    run, pixels = wide
    page = opened(open_page, run["id"], "sample=3&step=11")
    figure = page.locator('figure[data-name="W1"]')
    expect(figure.locator("figcaption")).to_contain_text("max |·| of 1 × 4")
    expect(figure.get_by_role("img")).to_have_attribute("aria-label", re.compile("128 × 784.*pooled by largest"))
    assert figure.locator("canvas").evaluate("(node) => [node.width, node.height]") == [196, 128]
    assert page.locator(".equation-picture *").count() < 400
    w = weights(client, run["id"], 1)
    W, Y = w["W1"], np.eye(2)[[1]]
    mine = by_hand(w, run["config"]["network"]["layers"], pixels[[3]], Y)
    for name in ("dW1", "dZ1"):
        page.locator("#table").select_option(name)
        cells = page.locator(".table-view td").all_inner_texts()
        wanted = mine[name][:, :100].ravel()[: len(cells)] if name == "dW1" else mine[name][0]
        assert [read(text) for text in cells] == pytest.approx(wanted.tolist(), rel=1e-3, abs=1e-7)
    box = figure.locator("canvas").bounding_box()
    figure.locator("canvas").hover(position={"x": box["width"] * 50.5 / 196, "y": box["height"] * 7.5 / 128})
    block = W[7, 200:204]
    shown = page.locator(".factors")
    expect(shown).to_have_attribute("data-cell", f"W[1][7,{200 + int(np.argmax(np.abs(block)))}]")
    assert float(shown.get_attribute("data-value")) == pytest.approx(block[np.argmax(np.abs(block))])
    figure.locator("canvas").click(position={"x": box["width"] * 50.5 / 196, "y": box["height"] * 7.5 / 128})
    column = 200 + int(np.argmax(np.abs(block)))
    around = page.locator(".neighbourhood")
    expect(around).to_contain_text(f"rows 0–16, columns {column - 16}–{column + 16}")
    around.get_by_role("img").focus()
    page.keyboard.press("ArrowUp")
    expect(shown).to_have_attribute("data-cell", f"W[1][6,{column}]")
    assert float(shown.get_attribute("data-value")) == pytest.approx(W[6, column])


PIXELS = """(node) => [...node.getContext("2d").getImageData(0, 0, node.width, node.height).data]"""


def test_a_large_network_is_drawn_from_pictures_and_its_numbers_come_when_they_are_pointed_at(
    client: httpx.Client, wide: tuple[dict[str, Any], NDArray[Any]], open_page: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    run, pixels = wide
    page = open_page("#/check")
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    received: list[int] = []
    session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    page.evaluate("(id) => { location.hash = `#/runs/${id}/backprop?of=batch&rows=0-23`; }", run["id"])
    canvases = {name: page.locator(f'figure[data-name="{name}"] canvas') for name in ("W1", "dW1")}
    for canvas in canvases.values():
        expect(canvas).to_have_attribute("data-pictured", "")
    page.wait_for_load_state("networkidle")
    assert sum(received) < 250_000
    before = {name: np.array(canvas.evaluate(PIXELS), float) for name, canvas in canvases.items()}
    w, Y = weights(client, run["id"], 1), np.eye(2)[np.arange(24) % 2]
    mine = by_hand(w, run["config"]["network"]["layers"], pixels, Y)
    shown = page.locator(".factors")
    for name in ("W1", "dW1"):
        box = canvases[name].bounding_box()
        canvases[name].hover(position={"x": box["width"] * 30.5 / 196, "y": box["height"] * 10.5 / 128})
        row = 10
        block = mine[name][row, 120:124]
        column = 120 + int(np.argmax(np.abs(block)))
        expect(shown).to_have_attribute("data-cell", f"{name[:-1]}[1][{row},{column}]")
        value = mine[name][row, column]
        assert float(shown.get_attribute("data-value")) == pytest.approx(value, rel=1e-3, abs=1e-8)
        expect(canvases[name]).not_to_have_attribute("data-pictured", "")
        after = np.array(canvases[name].evaluate(PIXELS), float)
        assert np.abs(after - before[name]).max() <= 3, "the picture is that of the numbers"
    page = opened(open_page, run["id"], "sample=3")
    expect(page.locator('figure[data-name="W1"] canvas')).to_have_attribute("data-pictured", "")
    page.locator('figure[data-name="Z1"] canvas').hover(position={"x": 5, "y": 5})
    one = by_hand(w, run["config"]["network"]["layers"], pixels[[3]], Y[[3]])
    assert float(shown_value(page)) == pytest.approx(one["Z1"][0, 2], rel=1e-3)
    terms = one["A0"][0] * w["W1"][2]
    operands = [float(node.get_attribute("data-value")) for node in page.locator(".factors .value").all()]
    largest = int(np.argmax(np.abs(terms)))
    assert operands[:2] == pytest.approx([one["A0"][0, largest], w["W1"][2, largest]], rel=1e-3)


def shown_value(page: Any) -> str:
    """The number of the line under the picture."""
    value: str = page.locator(".factors").get_attribute("data-value")
    return value


NOT_FINITE = """async () => {
  const base = document.querySelector("script[type=module]").src.replace("main.js", "");
  const [{ Picture }, { Walk, factors }] = await Promise.all([import(base + "picture.js"), import(base + "walk.js")]);
  const array = (shape, ...data) => ({ shape, data: Float64Array.from(data) });
  const arrays = new Map(Object.entries({ A0: array([1, 2], 1, 2), W1: array([2, 2], 1, NaN, Infinity, -3),
    b1: array([2], 0, 0), Z1: array([1, 2], NaN, Infinity), A1: array([1, 2], NaN, 1),
    dW1: array([2, 2], 0, 0, 0, 0) }));
  const told = { m: 1, reduced: false, dtype: "float64", steps: [] };
  const walk = new Walk(told, arrays, [{ units: 2, activation: "tanh" }]);
  const host = document.createElement("div");
  document.getElementById("page").replaceChildren(host);
  new Picture(host, { classes: [], point() {}, pick() {} }).show(walk, 0);
  return factors(walk, "Z1", [0]).pieces.some((piece) => Number.isNaN(piece.value));
}"""


def test_numbers_that_are_not_finite_are_marked_and_break_nothing(page: Any) -> None:
    from playwright.sync_api import expect

    page.get_by_role("heading", level=1).wait_for()
    assert page.evaluate(NOT_FINITE) is True
    expect(page.locator('figure[data-name="W1"] figcaption')).to_contain_text("⚠ 2 not finite")
    label = page.locator('figure[data-name="W1"] canvas').get_attribute("aria-label")
    assert "colours to ±3, 2 not finite" in label
    assert page.locator('figure[data-name="Z1"] figcaption').inner_text().endswith("⚠2")


def test_a_small_network_is_also_drawn_as_nodes_and_edges(runs: dict[str, Any], open_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = opened(open_page, runs["xor"]["id"], "sample=1&step=4")
    page.get_by_role("button", name="edges").click()
    drawing = page.get_by_role("img", name=re.compile("The network 2–4–1: W by width"))
    expect(drawing.locator(".edges .positive, .edges .negative")).to_have_count(12)
    expect(drawing.locator(".node circle")).to_have_count(7)
    assert all(line.get_attribute("stroke-dasharray") for line in drawing.locator(".negative").all())
    page.get_by_role("button", name="Step 10: ").click()
    expect(page.get_by_role("img", name=re.compile("The network 2–4–1: dW by width"))).to_be_visible()
    digits_page = opened(open_page, runs["digits"]["id"], "sample=1&view=edges")
    expect(digits_page.get_by_role("button", name="edges")).to_be_hidden()
    expect(digits_page.locator(".equation-picture")).to_be_visible()


def test_the_sample_shown_first_is_one_that_is_got_wrong(
    client: httpx.Client, runs: dict[str, Any], open_page: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    run, row, _ = digits(client, runs, 2)
    page = opened(open_page, run, "epoch=2")
    expect(page).to_have_url(re.compile(f"sample={row}(&|$)"))
    expect(page.locator(".sample[aria-pressed=true]")).to_have_attribute("data-row", str(row))
    expect(page.locator(".sample").first).to_have_class(re.compile("wrong"))
    expect(page.locator(".sample canvas")).to_have_count(24)
    hard = client.get(f"/v1/runs/{run}/checkpoints/2/samples?limit=24").json()["items"]
    other = next(one for one in hard if one["target"] != hard[0]["target"])
    expect(page.locator(".class-names .target")).to_have_text(hard[0]["target"])
    page.locator(f".sample[data-row='{other['row']}']").click()
    expect(page.locator(".sample[aria-pressed=true]")).to_have_count(1)
    expect(page.locator(".class-names .target")).to_have_text(other["target"])
    expect(page.locator(".chips")).to_contain_text(f"class {other['target']}")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_that_is_more_than_minor(
    runs: dict[str, Any], open_page: Callable[..., Any], findings: Callable[[Any], list[str]], scheme: str
) -> None:
    page = opened(open_page, runs["digits"]["id"], "epoch=4&sample=5&step=13&cell=dW2:4,5&table=dW3", scheme=scheme)
    page.locator(".explanation").wait_for()
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing reaches out of the page"
    page = opened(open_page, runs["xor"]["id"], "sample=1&view=edges", scheme=scheme)
    page.get_by_role("button", name="Check numerically").click()
    page.locator(".check").wait_for()
    assert findings(page) == []


def test_nothing_plays_by_itself_where_motion_is_reduced(runs: dict[str, Any], open_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = open_page()
    page.emulate_media(reduced_motion="reduce")
    page.goto(page.url.split("#")[0] + f"#/runs/{runs['xor']['id']}/backprop?sample=1")
    page.locator("main[data-epoch]").wait_for()
    expect(page.get_by_role("button", name="Play the steps")).to_be_disabled()
    page.get_by_role("button", name="Next step").click()
    expect(page.locator(".step-text")).to_contain_text("1 of 12")


def test_a_refusal_is_shown_and_the_picture_stays(runs: dict[str, Any], open_page: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = opened(open_page, runs["xor"]["id"], "sample=1", allow=("422",))
    page.get_by_role("radio", name="Mean of a batch").check()
    page.get_by_role("textbox", name="Rows").fill("2-9")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("the dataset has rows 0 to 3")
    page.get_by_role("textbox", name="Rows").fill("0-2")
    page.keyboard.press("Enter")
    expect(page.locator(".chips")).to_contain_text("mean of 3 samples")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_an_archive_is_read_as_numpy_writes_it(page: Any) -> None:
    given = {"W1": np.arange(6, dtype=np.float32).reshape(2, 3), "C": np.array(0.25), "b1": np.array([1.5, -2.0])}
    page.get_by_role("heading", level=1).wait_for()
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **given)  # type: ignore[arg-type]
        found = page.evaluate(
            """async (bytes) => {
              const base = document.querySelector("script[type=module]").src;
              const { readNpz } = await import(base.replace("main.js", "npz.js"));
              const arrays = await readNpz(Uint8Array.from(bytes).buffer);
              return [...arrays].map(([name, { shape, data }]) => [name, shape, [...data]]);
            }""",
            list(buffer.getvalue()),
        )
        assert found == [[name, list(array.shape), array.ravel().tolist()] for name, array in given.items()]
        assert json.dumps(found)


def test_what_if_a_weight_were_another_and_its_slope_by_differences(
    client: httpx.Client, runs: dict[str, Any], open_page: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    run = runs["xor"]
    w = weights(client, run["id"], 10)
    layers, X = run["config"]["network"]["layers"], np.array(XOR_SAMPLES)
    Y = np.array([[0.0], [1.0], [1.0], [0.0]])
    other = w | {"W1": w["W1"].copy()}
    other["W1"][2, 1] = 1.5
    costs = [float(by_hand(one, layers, X, Y)["C"]) for one in (w, other)]
    page = opened(open_page, run["id"], "epoch=10&of=batch&rows=0-3&cell=dW1:2,1")
    field = page.get_by_role("spinbutton", name="Another value of W[1][2,1]")
    assert float(field.input_value()) == pytest.approx(w["W1"][2, 1], rel=1e-3)
    field.fill("1.5")
    page.keyboard.press("Tab")
    row = page.locator(".what-if-answer tbody tr").first
    expect(row.locator("th")).to_have_text("C")
    assert [float(cell.get_attribute("data-value")) for cell in row.locator("td").all()] == pytest.approx(
        costs, rel=1e-5
    )
    page.get_by_role("button", name="Slope by differences").click()
    numeric = float(page.locator(".numeric").get_attribute("data-value"))
    assert numeric == pytest.approx(by_hand(w, layers, X, Y)["dW1"][2, 1], rel=1e-2, abs=1e-4)
    page = opened(open_page, runs["xor"]["id"], "epoch=10&sample=2&cell=dA0:0")
    page.get_by_role("button", name="Slope by differences").click()
    numeric = float(page.locator(".numeric").get_attribute("data-value"))
    assert numeric == pytest.approx(by_hand(w, layers, X[[2]], Y[[2]])["dA0"][0, 0], rel=1e-2, abs=1e-4)


def test_the_page_of_a_run_that_trains_begins_with_its_first_weights_and_goes_on(
    client: httpx.Client, open_page: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    spec = {"dataset": "xor", "network": {"layers": [{"units": 4, "activation": "tanh"},
            {"units": 1, "activation": "sigmoid"}]}, "epochs": 1_000_000, "batch_size": 1,
            "checkpoints": {"every": 2000}, "gradients": {"every": 2000}}  # fmt: skip
    run = client.post("/v1/runs", json=spec).json()["id"]
    try:
        page = open_page(f"#/runs/{run}/backprop?sample=1")
        page.locator("main[data-epoch]").wait_for()
        first = int(page.locator("main").get_attribute("data-epoch"))
        slider = page.get_by_role("slider", name="Epoch")
        expect(slider).not_to_have_attribute("max", slider.get_attribute("max"), timeout=15_000)
        expect(page.locator("main")).not_to_have_attribute("data-epoch", str(first), timeout=15_000)
        page.close()
    finally:
        client.post(f"/v1/runs/{run}/cancel")
