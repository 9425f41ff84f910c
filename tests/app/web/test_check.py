"""The page that checks gradients."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.app.web.conftest import SCHEMES

MISTAKES = {
    "right": "",
    "summed": "It is m = 4 times too large",
    "flipped": "The sign is flipped",
    "transposed": "It is transposed",
    "slope": "g′ is missing in layer 1",
    "entry": "It is off in the entry",
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mistakes_in_gradients_are_named_and_right_ones_confirmed(
    open_page: Callable[..., Any], findings: Any, runs: dict[str, Any], scheme: str
) -> None:
    from playwright.sync_api import expect

    page = open_page(f"#/check?run={runs['xor']['id']}&epoch=12", scheme=scheme)
    lines = page.locator("section", has=page.get_by_role("heading", name="3 · What came out")).locator("tbody tr")
    for mistake, sentence in MISTAKES.items():
        page.get_by_role("combobox", name="none yet?").select_option(mistake)
        if sentence:
            expect(lines.filter(has_text=sentence).first).to_contain_text("✕ different")
        else:
            expect(lines.filter(has_text="✓ exact")).to_have_count(4)
    page.get_by_role("textbox", name="or JSON").fill("[")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("alert")).to_contain_text("There is nothing to compare")
    page.get_by_role("button", name="Check the gradients of this spec").click()
    expect(page.get_by_text("✓ pass")).to_have_count(5)
    assert findings(page) == []


def test_what_is_downloaded_is_all_it_takes_and_an_archive_can_be_handed_in(
    open_page: Callable[..., Any], runs: dict[str, Any], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = open_page(f"#/check?run={runs['digits']['id']}&epoch=3&rows=5-24")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    given = np.load(io.BytesIO(download.value.path().read_bytes()))
    m = len(given["X"])
    Z1 = given["X"] @ given["W1"].T + given["b1"]
    A1 = np.tanh(Z1)
    A2 = np.maximum(A1 @ given["W2"].T + given["b2"], 0)
    Z3 = A2 @ given["W3"].T + given["b3"]
    A3 = np.exp(Z3) / np.exp(Z3).sum(axis=1, keepdims=True)
    dZ3 = A3 - given["Y"]
    dZ2 = dZ3 @ given["W3"] * (A2 > 0)
    dZ1 = dZ2 @ given["W2"] * (1 - A1**2)
    mine = tmp_path / "mine.npz"
    np.savez(mine, dW1=dZ1.T @ given["X"] / m, db1=dZ1.mean(axis=0), dW2=A1.T @ dZ2 / m, dW3=dZ3.T @ A2)
    page.get_by_label("NPZ file").set_input_files(mine)
    lines = page.locator("section", has=page.get_by_role("heading", name="3 · What came out")).locator("tbody tr")
    expect(lines).to_have_count(4)
    expect(lines.nth(0)).to_contain_text("≈ close")
    expect(lines.nth(2)).to_contain_text("It is transposed")
    expect(lines.nth(3)).to_contain_text("It is m = 20 times too large")
    expect(page.get_by_text("Not handed in: db2, db3.")).to_be_visible()
