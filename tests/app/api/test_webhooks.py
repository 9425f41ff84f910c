"""Webhooks from the outside: messages that come, signed, once a run has changed."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chainrule.app.client import Client
from chainrule.app.services.webhooks import sign
from tests.app.api.calls import XOR, finished, refused
from tests.app.receiver import Receiver, receiving
from tests.conftest import KINDS
from tests.service import Service, serving


@pytest.fixture(scope="module", params=KINDS)
def open_server(request: pytest.FixtureRequest, fresh: Any, cache_dir: Path) -> Iterator[Service]:
    """A service that sends to this machine too."""
    url = fresh.url(request.param)
    with serving(database_url=url, cache_dir=cache_dir, slots=1, webhook_allow_private=True) as service:
        yield service


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_that_ends_is_told_with_a_signature_that_can_be_checked(open_server: Service, receiver: Receiver) -> None:
    with Client(open_server.url) as client, open_server.client() as http:
        hook = client.add_webhook(f"{receiver.url}/hook?a=1", name="mine")
        run = finished(http, XOR)
        until(lambda: len(receiver.came) > 0)
        ((headers, body),) = receiver.came
        assert headers[":path"] == "/hook?a=1"
        assert headers["content-type"] == "application/json"
        message = json.loads(body)
        assert (message["type"], message["data"]["id"]) == ("run.succeeded", run["id"])
        at = int(headers["webhook-timestamp"])
        assert abs(time.time() - at) < 60
        assert headers["webhook-signature"] == f"v1,{sign(hook.secret, headers['webhook-id'], at, body)}"
        until(lambda: next(client.deliveries(hook.id)).state == "delivered")
        delivery = next(client.deliveries(hook.id))
        assert (delivery.id, delivery.attempts, delivery.status_code) == (headers["webhook-id"], 1, 204)
        assert "secret" not in http.get(f"/v1/webhooks/{hook.id}").json()
        client.delete_webhook(hook.id)
        refused(http.get(f"/v1/webhooks/{hook.id}"), "not_found", None, hook.id)


def test_what_was_not_taken_comes_again_under_the_same_id(open_server: Service, receiver: Receiver) -> None:
    receiver.answers = [503, 204]
    with Client(open_server.url) as client, open_server.client() as http:
        hook = client.add_webhook(receiver.url, events=["run.succeeded"])
        finished(http, XOR)
        until(lambda: len(receiver.came) == 2)
        (first, body), (second, again) = receiver.came
        assert (second["webhook-id"], again) == (first["webhook-id"], body)
        until(lambda: next(client.deliveries(hook.id)).state == "delivered")
        client.delete_webhook(hook.id)


def test_a_test_tells_how_it_went_and_is_not_repeated(open_server: Service, receiver: Receiver) -> None:
    with Client(open_server.url) as client:
        hook = client.add_webhook(receiver.url)
        good = client.test_webhook(hook.id)
        assert (good.state, good.type, good.status_code, good.error) == ("delivered", "webhook.test", 204, "")
        receiver.answers = [302]
        redirected = client.test_webhook(hook.id)
        assert (redirected.state, redirected.status_code) == ("failed", 302)
        assert "redirects are not followed" in redirected.error
        assert [headers[":path"] for headers, _ in receiver.came] == ["/", "/"]
        client.delete_webhook(hook.id)
        nobody = client.add_webhook("http://127.0.0.1:1/")
        assert "could not be sent" in client.test_webhook(nobody.id).error
        nowhere = client.add_webhook("https://hooks.example/")
        assert "leads nowhere" in client.test_webhook(nowhere.id).error
        for one in (nobody, nowhere):
            client.delete_webhook(one.id)


def test_a_new_secret_is_shown_once_and_signs(open_server: Service, receiver: Receiver) -> None:
    with Client(open_server.url) as client:
        hook = client.add_webhook(receiver.url)
        secret = client.rotate_webhook(hook.id, grace_s=3600).secret
        client.test_webhook(hook.id)
        ((headers, body),) = receiver.came
        at = int(headers["webhook-timestamp"])
        signed = [f"v1,{sign(one, headers['webhook-id'], at, body)}" for one in (secret, hook.secret)]
        assert headers["webhook-signature"].split() == signed
        assert "secret" not in next(client.webhooks())
        assert client.enable_webhook(hook.id).enabled
        client.delete_webhook(hook.id)


def test_addresses_of_this_machine_are_refused_unless_they_are_allowed(client: httpx.Client) -> None:
    for url in ("https://127.0.0.1/", "https://localhost:8000/v1/runs", "https://[::1]/"):
        answer = client.post("/v1/webhooks", json={"url": url})
        refused(answer, "invalid_input", "/url", "CHAINRULE_WEBHOOK_ALLOW_PRIVATE")
    refused(client.post("/v1/webhooks", json={"url": "http://hooks.example/"}), "invalid_input", "/url", "https://")
    refused(client.post("/v1/webhooks", json={"url": "https://a.example/", "events": ["x"]}), "invalid_input")
