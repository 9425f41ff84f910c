"""The OpenAPI document and the interactive page made of it: complete, true, and offline."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chainrule.app.api.problems import kinds
from chainrule.app.errors import AppError
from tests.app.api.calls import XOR, finished
from tests.service import serving

METHODS = ("get", "post", "put", "patch", "delete")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    """The document, as a client gets it."""
    response = client.get("/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Go through method, path and description of each operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert method in METHODS
            yield method.upper(), path, operation


def parts(value: Any, place: str = "#") -> Iterator[tuple[str, Any]]:
    """Go through everything in a document, with its place."""
    yield place, value
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in entries:
        yield from parts(part, f"{place}/{key}")


def filled(client: httpx.Client, path: str) -> str:
    """Fill the parameters of a path with their documented examples; of what has none, one is made."""
    if "{webhook_id}" in path:
        wanted = {"url": "https://hooks.example/", "events": ["run.paused"]}
        return path.format(webhook_id=client.post("/v1/webhooks", json=wanted).json()["id"])
    if "{key_id}" in path:
        return path.format(key_id=client.post("/v1/keys", json={"scope": "read"}).json()["id"])
    return path.format(run_id="latest", sweep_id="latest", epoch="last", dataset_id="xor", step=1)


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def example_bodies(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[Any]:
    """Go through the documented examples of a JSON body."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    shown = [example["value"] for example in content.get("examples", {}).values()]
    yield from shown or resolved(document, content.get("schema", {})).get("examples", ())


def test_the_document_is_of_the_newest_kind_and_its_references_lead_somewhere(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"] == "Chainrule"
    schemas = document["components"]["schemas"]
    referenced = {value for place, value in parts(document) if place.endswith("/$ref") and isinstance(value, str)}
    assert referenced == {f"#/components/schemas/{name}" for name in schemas}


def test_operations_have_names_of_their_own_and_known_tags(document: dict[str, Any]) -> None:
    found = [operation for _, _, operation in operations(document)]
    assert len({operation["operationId"] for operation in found}) == len(found) > 15
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert {tag for operation in found for tag in operation["tags"]} == described


def test_everything_is_described(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert len(operation["description"]) > 20, where
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], f"{where}: {parameter['name']}"
        for status, answer in operation["responses"].items():
            assert answer["description"] not in ("", "Successful Response", "Validation Error"), f"{where}: {status}"
    for place, value in parts(document):
        if place.endswith("/properties") and isinstance(value, dict):
            for name, field in value.items():
                assert field.get("description") or "$ref" in field, f"{place}/{name}"


def test_the_parameters_of_every_path_are_those_it_names(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        named = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


def test_every_refusal_is_documented_as_a_problem(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                (media_type,) = answer["content"]
                assert media_type == "application/problem+json", f"{method} {path}: {status}"
                assert answer["content"][media_type]["schema"] == {"$ref": "#/components/schemas/Problem"}
                for code, example in answer["content"][media_type]["examples"].items():
                    assert (example["value"]["code"], str(example["value"]["status"])) == (code, status)


def test_every_code_is_in_the_table_and_with_the_operations_that_answer_it(document: dict[str, Any]) -> None:
    codes = {kind.code: kind for kind in kinds(AppError)}
    for code, kind in codes.items():
        assert f"| `{code}` | {kind.status} | " in document["info"]["description"]
    documented = {
        code
        for _, _, operation in operations(document)
        for answer in operation["responses"].values()
        for code in answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
    }
    assert documented == set(codes) - {"not_allowed"}  # which no operation answers


def test_every_example_runs_as_it_stands(client: httpx.Client, document: dict[str, Any]) -> None:
    posted = 0
    for method, path, operation in operations(document):
        for body in example_bodies(document, operation):
            if path != "/v1/runs":
                finished(client, XOR)  # what `latest` names after the first example
            response = client.request(method, filled(client, path), json=body, headers={"Prefer": "wait=60"})
            documented = [int(status) for status in operation["responses"] if int(status) < 300]
            assert response.status_code in documented, f"{method} {path}: {response.text}"
            if path == "/v1/runs":
                assert response.json()["status"] == "succeeded"
            posted += 1
    assert posted >= 6


def test_every_operation_with_a_body_has_an_example(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        if "requestBody" in operation:
            assert list(example_bodies(document, operation)), f"{method} {path}"


def test_every_reading_operation_runs_with_its_examples(client: httpx.Client, document: dict[str, Any]) -> None:
    sweep = {"run": XOR, "strategy": {"kind": "seeds", "count": 2}}
    assert client.post("/v1/sweeps", json=sweep, headers={"Prefer": "wait=60"}, timeout=90).json()["done"]
    finished(client, XOR)
    for method, path, operation in operations(document):
        if method == "GET":
            response = client.get(filled(client, path))
            assert response.status_code == 200, f"{method} {path}: {response.text}"
            media_type = response.headers["content-type"].partition(";")[0]
            assert media_type in operation["responses"]["200"]["content"], f"{method} {path}: {media_type}"


def test_the_page_asks_for_nothing_from_elsewhere(client: httpx.Client) -> None:
    for address in ("/docs", "/docs/"):
        page = client.get(address)
        assert page.headers["content-type"].startswith("text/html")
        assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page.text)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "http" not in policy
        assert "unsafe" not in policy
    assets = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(assets) == 4
    for asset in assets:
        assert client.get(asset).status_code == 200, asset
    script = client.get("/docs/docs.js").text
    assert "//" not in script
    assert "validatorUrl: null" in script


def test_the_page_submits_a_run_in_a_browser(fresh: Any, cache_dir: Path) -> None:
    if not Path(CHROMIUM).exists():
        pytest.skip("NO CHROMIUM: the interactive documentation was not tried in a browser")
    from playwright.sync_api import expect, sync_playwright

    complaints: list[str] = []
    with (
        serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=1) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', (e) => console.error(e.violatedDirective))"
        )
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                complaints.append(request.url)
                if not request.url.startswith((f"{server.url}/", "data:", "blob:"))
                else None
            ),
        )
        page.goto(f"{server.url}/docs")
        operation = page.locator(".opblock", has_text="Submit a run").first
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Execute").click()
        answer = operation.locator(".live-responses-table .response")
        expect(answer.locator(".response-col_status")).to_contain_text("201", timeout=20_000)
        expect(answer.locator("pre").first).to_contain_text('"status"')
        browser.close()
    assert complaints == []
