"""Hosts, origins and headers: what a web page elsewhere must not reach through its reader's browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chainrule.app.api import web
from chainrule.app.api.headers import STRICT
from chainrule.app.api.hosts import is_loopback
from tests.app.api.calls import XOR, refused
from tests.service import Service, serving

PAGES = {"/": web.POLICY, "/docs": web.OWN_FILES}
"""Where a page may load files of ours, and nothing else."""


@pytest.fixture(scope="module")
def named(fresh: Any, cache_dir: Path) -> Iterator[httpx.Client]:
    """A service without keys that answers to one name more."""
    with (
        serving(
            database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=0, allowed_hosts="train.example, B.example"
        ) as service,
        service.client() as client,
    ):
        yield client


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.7", "",
     "[::2]", "train.example@evil.example", "0.0.0.0", "[", "127.0.0.1:x"],
)  # fmt: skip
def test_a_name_that_is_not_ours_is_refused(named: httpx.Client, host: str) -> None:
    for method, path in (("GET", "/v1/runs"), ("POST", "/v1/runs"), ("GET", "/docs"), ("GET", "/v1/health/live")):
        response = named.request(method, path, headers={"Host": host})
        if response.status_code == 400 and "json" not in response.headers["content-type"]:
            continue  # the server itself could not read it
        refused(response, "misdirected", None, "CHAINRULE_ALLOWED_HOSTS")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:8000", "127.9.9.9", "train.example",
             "train.example:443", "b.example"],
)  # fmt: skip
def test_a_name_that_is_ours_is_answered(named: httpx.Client, host: str) -> None:
    assert named.get("/v1/runs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
    ],
)  # fmt: skip
def test_a_page_of_another_origin_changes_nothing(client: httpx.Client, headers: dict[str, str]) -> None:
    host = client.base_url.netloc.decode()
    sent = {name: value.replace("{host}", host) for name, value in headers.items()}
    for method, path in (("POST", "/v1/runs"), ("DELETE", "/v1/datasets/ds_x"), ("POST", "/v1/keys")):
        refused(client.request(method, path, json=XOR, headers=sent), "cross_origin")
    form = client.post("/v1/datasets", files={"file": ("x.csv", "a,b\n1,2\n")}, headers=sent)
    refused(form, "cross_origin")
    assert client.get("/v1/runs", headers=sent).status_code == 200  # which its page cannot read: nothing allows it to
    assert "access-control-allow-origin" not in client.get("/v1/runs", headers=sent).headers


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://{host}"}]
)
def test_our_own_page_and_programs_may_ask_for_changes(client: httpx.Client, headers: dict[str, str]) -> None:
    host = client.base_url.netloc.decode()
    sent = {name: value.replace("{host}", host) for name, value in headers.items()}
    assert client.post("/v1/runs", params={"validate_only": True}, json=XOR, headers=sent).status_code == 200


def test_every_answer_has_strict_headers(client: httpx.Client, named: httpx.Client) -> None:
    answers = [
        client.get("/v1/runs"), client.head("/v1/runs"), client.get("/v1/runs/nothing"), client.get("/nothing"),
        client.post("/v1/runs", content=b"{"), client.get("/docs"), client.get("/openapi.json"),
        client.get("/docs/swagger-ui.css"), client.put("/v1/runs"), client.get("/v1/health/live"),
        named.get("/v1/runs", headers={"Host": "evil.example"}), client.get("/", follow_redirects=False),
        client.post("/v1/runs", headers={"Origin": "null"}),
    ]  # fmt: skip
    for answer in answers:
        for name, value in STRICT.items():
            own = PAGES.get(answer.url.path, value) if name == "Content-Security-Policy" else value
            assert answer.headers.get_list(name) == [own], f"{answer.url}: {name}"
        assert "server" not in answer.headers
        if answer.url.path.startswith("/v1/"):
            kept = answer.headers["cache-control"]
            assert "private" in kept or "no-store" in kept
            assert "Authorization" in answer.headers["vary"]


def test_loopback_is_what_nobody_else_reaches() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost", "Localhost.")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com", "", "localhost.example.com")))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_the_service_does_not_listen_elsewhere_without_keys(fresh: Any, cache_dir: Path, host: str) -> None:
    with (
        pytest.raises(AssertionError) as told,
        serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=0, host=host),
    ):
        pass
    for word in (host, "CHAINRULE_AUTH=keys", "chainrule keys create", "127.0.0.1"):
        assert word in str(told.value)


def test_with_keys_any_name_is_answered_to(fresh: Any, cache_dir: Path) -> None:
    with serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=0, auth="keys") as service:
        answered = httpx.get(f"{service.url}/v1/health/live", headers={"Host": "train.example"})
        assert answered.status_code == 200
        refused(httpx.get(f"{service.url}/v1/runs", headers={"Host": "train.example"}), "unauthenticated")
        document = httpx.get(f"{service.url}/openapi.json", timeout=60).json()
        assert document["security"] == [{"key": []}]
        assert document["paths"]["/v1/health/live"]["get"]["security"] == []


def test_without_keys_the_document_asks_for_none(server: Service) -> None:
    assert "security" not in httpx.get(f"{server.url}/openapi.json", timeout=60).json()
