"""A new run: the form takes what the schema takes, says what is refused where it is wrong, and shows the beginning."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.app.web.conftest import SCHEMES
from tests.service import Service


@pytest.fixture(scope="module")
def page(module_page: Any) -> Any:
    """One page for all that does not leave it."""
    return module_page


@pytest.fixture
def fresh_form(page: Any) -> Any:
    """The form, filled in with the example of XOR."""
    page.evaluate("location.hash = '#/'")
    page.evaluate("location.hash = '#/new'")
    page.get_by_role("button", name="XOR", exact=True).click()
    expect(page.get_by_label("Dataset").first).to_have_value("xor")
    return page


def as_json(page: Any) -> Any:
    """Read the spec as it stands."""
    page.get_by_role("button", name="JSON").click()
    spec = json.loads(page.get_by_label("Spec as JSON").input_value())
    page.get_by_role("button", name="JSON").click()
    return spec


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_form_is_usable_by_all(
    open_page: Callable[..., Any], findings: Callable[[Any], list[str]], scheme: str
) -> None:
    page = open_page("#/new", scheme=scheme)
    expect(page.get_by_role("heading", level=1)).to_have_text("New run")
    expect(page.get_by_text("Parameters")).to_be_visible()
    expect(page.locator("figure.bars")).to_have_count(2)
    page.get_by_text("More:").click()
    assert findings(page) == []


def test_every_property_of_the_schema_has_a_field(fresh_form: Any, site: Service) -> None:
    with site.client() as client:
        schema = client.get("/openapi.json").json()["components"]["schemas"]["RunSpec"]["properties"]
    labels = set(fresh_form.locator("form.spec label, form.spec legend").all_text_contents())
    named = {label.strip() for label in labels}
    assert {name.replace("_", " ").capitalize() for name in schema} <= named


def test_a_change_is_checked_and_its_beginning_shown(fresh_form: Any) -> None:
    facts = fresh_form.locator(".beside dl.facts").first
    expect(facts).to_contain_text("Parameters17")
    fresh_form.get_by_label("Units").first.fill("9")
    expect(facts).to_contain_text("Parameters37")
    bars = fresh_form.locator("figure.bars").first
    expect(bars.locator("li")).to_have_count(2)
    fresh_form.get_by_role("button", name="Add a hidden layer").click()
    expect(bars.locator("li")).to_have_count(3)
    assert [layer["units"] for layer in as_json(fresh_form)["network"]["layers"]] == [9, 16, 1]


def test_gradients_that_will_vanish_are_told_before_training(fresh_form: Any) -> None:
    fresh_form.get_by_role("button", name="JSON").click()
    layers = [*({"units": 10, "activation": "sigmoid"} for _ in range(6)), {"units": 1, "activation": "sigmoid"}]
    spec = {"dataset": "xor", "epochs": 5, "network": {"layers": layers}}
    fresh_form.get_by_label("Spec as JSON").fill(json.dumps(spec))
    expect(fresh_form.get_by_text("the first layers will hardly learn")).to_be_visible()
    assert fresh_form.locator("figure.bars li.warn").count() >= 1
    fresh_form.get_by_role("button", name="JSON").click()
    expect(fresh_form.get_by_label("Units")).to_have_count(7)


def test_what_is_refused_is_said_beside_its_field(open_page: Callable[..., Any]) -> None:
    page = open_page("#/new", allow=("422",))
    page.get_by_role("button", name="XOR", exact=True).click()
    units = page.get_by_label("Units").first
    units.fill("-3")
    expect(units).to_have_attribute("aria-invalid", "true")
    message = page.locator(f"#{units.get_attribute('aria-describedby')}")
    expect(message).to_contain_text("must be at least 1")
    expect(page.get_by_role("button", name="Train")).to_be_disabled()
    page.get_by_label("Activation").first.select_option("softmax")
    units.fill("4")
    expect(page.locator("form.spec .error-text:visible")).to_contain_text("softmax")
    page.get_by_label("Activation").first.select_option("tanh")
    expect(page.get_by_role("button", name="Train")).to_be_enabled()
    expect(page.locator("form.spec .error-text:visible")).to_have_count(0)
    page.get_by_role("button", name="JSON").click()
    page.get_by_label("Spec as JSON").fill("{")
    expect(page.get_by_role("alert")).to_contain_text("This is no JSON")
    page.get_by_label("Spec as JSON").fill('{"dataset": "none"}')
    expect(page.get_by_role("alert")).to_contain_text("/network")


def test_a_run_is_cloned_with_changes_and_trained(
    open_page: Callable[..., Any], runs: dict[str, Any], site: Service
) -> None:
    original = runs["xor"]
    page = open_page(f"#/new?from={original['id']}")
    expect(page.get_by_label("Name").first).to_have_value("xor by hand")
    page.get_by_label("Seed").first.fill("8")
    page.get_by_label("Learning rate").fill("0.04")
    page.get_by_role("button", name="Train").click()
    expect(page.locator(".head .badge")).to_contain_text("succeeded")
    with site.client() as client:
        config = client.get(f"/v1/runs/{page.url.rpartition('/')[2]}").json()["config"]
    assert config == original["config"] | {
        "seed": 8, "optimizer": original["config"]["optimizer"] | {"learning_rate": 0.04},
    }  # fmt: skip


def test_the_spec_as_code_submits_what_the_form_shows(fresh_form: Any, site: Service, tmp_path: Any) -> None:
    spec = as_json(fresh_form)
    fresh_form.get_by_role("button", name="Copy as Python").click()
    script = fresh_form.get_by_label("Code").inner_text()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "succeeded", done.stderr
    fresh_form.get_by_role("button", name="Copy as curl").click()
    command = fresh_form.get_by_label("Code").inner_text()
    body = re.search(r"-d '(.*)'$", command, re.DOTALL)
    assert body is not None
    assert json.loads(body.group(1)) == spec
    shell = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(shell.stdout)["config"]["seed"] == spec["seed"]
    with site.client() as client:
        newest, before = client.get("/v1/runs", params={"limit": 2, "search": "XOR"}).json()["items"]
    assert newest["config"] == before["config"]


FLOWERS = "length,width,kind\n" + "".join(
    f"{4 + 0.1 * n:.1f},{1 + 0.05 * n:.2f},{kind}\n" for n in range(8) for kind in ("daisy", "rose", "tulip")
)


def test_a_file_of_ones_own_is_sent_looked_at_and_trained_on(fresh_form: Any, tmp_path: Path) -> None:
    page, file = fresh_form, tmp_path / "flowers.csv"
    file.write_text(FLOWERS)
    beside = page.locator("section", has=page.get_by_role("heading", name="The data"))
    expect(beside).to_contain_text("4 samples of 2 features")
    page.get_by_text("Send a file of your own").click()
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_role("button", name="Send").click()
    expect(beside).to_contain_text("24 samples of 2 features · 3 classes: daisy, rose, tulip")
    expect(beside.locator("tbody tr").first.locator("td")).to_have_text(["4", "1", "daisy"])
    expect(page.locator(".beside dl.facts").first).to_contain_text("Parameters")
    spec = as_json(page)
    assert spec["dataset"].startswith("ds_")
    assert spec["network"]["layers"][-1] == {"units": 3, "activation": "softmax"}
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.get_by_text("succeeded")).to_be_visible()


def test_a_file_that_cannot_be_read_is_refused_with_its_place(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page, file = open_page("#/new", scheme="dark", allow=("422",)), tmp_path / "broken.csv"
    file.write_text("a,b,kind\n1,2,x\n1,y\n")
    page.get_by_text("Send a file of your own").click()
    page.get_by_label("File", exact=True).set_input_files(file)
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".data-form .problem")).to_contain_text("Line 3 has 2 columns")
