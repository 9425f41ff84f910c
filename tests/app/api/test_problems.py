"""The conventions of refusals: what cannot be read, what is not there, what is too large."""

import json
import socket
from collections.abc import Iterator
from itertools import product
from typing import Any

import httpx
import pytest

from tests.app.api.calls import FLOWERS, XOR, finished, is_a_refusal, refused
from tests.service import Service

GRADIENTS = "/v1/runs/latest/checkpoints/last/gradients"
PREDICT = "/v1/runs/latest/checkpoints/last/predict"
CHECKS = "/v1/gradient-checks"
CHECK: dict[str, Any] = {"dataset": "xor", "network": XOR["network"]}
TAKE_JSON = ("/v1/runs", PREDICT, GRADIENTS, CHECKS)
JSON = {"Content-Type": "application/json"}
NASTY = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400, "-1", "0", "1.5", "1e-400",
    "9223372036854775808", "true",
    "null", '"1"', '""', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\udfff\\ud800"', '"\\uffff"', '"\\n"',
    '"' + "x" * 300 + '"', '"../../etc/passwd"', "[]", "{}", "[[]]", '[{"a": 1}]', '{"": null}', "[" * 90 + "]" * 90,
)  # fmt: skip


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Name every place in a JSON value."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in entries:
        yield from paths(part, (*path, key))


def with_text(value: Any, path: tuple[Any, ...], text: str) -> bytes:
    """Write a JSON value with one place in it replaced by a text that may be no JSON at all."""
    if not path:
        return text.encode()
    copy = json.loads(json.dumps(value))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "@@"
    return json.dumps(copy).replace('"@@"', text).encode()


@pytest.fixture(autouse=True, scope="module")
def a_run_to_ask_about(client: httpx.Client) -> None:
    """Have `latest` name a run of XOR."""
    finished(client, XOR)


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/job", "/v1/runs/latest/nothing", "/v1/health", "/docs/nothing"]
)
def test_a_path_that_is_not_there_is_named(client: httpx.Client, path: str) -> None:
    refused(client.get(path), "not_found", None, path, "/docs")


@pytest.mark.parametrize("path", ["/v1/runs/", "/v1/datasets/", "/v1/runs/latest/"])
def test_a_slash_at_the_end_is_answered_with_the_way_out(client: httpx.Client, path: str) -> None:
    refused(client.get(path), "not_found", None, path, "leave the slash")


@pytest.mark.parametrize(
    "run_id",
    ["run_0", "x%00y", "%ff", "%ED%A0%80", "a" * 65, "a" * 5000, "%2e%2e", "latest%0a", "%F0%9F%8E%88", "' OR 1=1"],
)
def test_an_id_that_is_none_is_not_found_whatever_is_in_it(client: httpx.Client, run_id: str) -> None:
    for path in (
        f"/v1/runs/{run_id}",
        f"/v1/datasets/{run_id}",
        f"/v1/runs/{run_id}/epochs",
        f"/v1/runs/{run_id}/events",
    ):
        refused(client.get(path), "not_found")
    for path in (f"/v1/runs/{run_id}", f"/v1/datasets/{run_id}"):
        refused(client.delete(path), "not_found")
    refused(client.post(f"/v1/runs/{run_id}/cancel"), "not_found")


def test_a_percent_encoded_id_is_the_id(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    encoded = "".join(f"%{ord(character):02x}" for character in xor_run["id"])
    assert client.get(f"/v1/runs/{encoded}").json() == xor_run


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/runs", "GET, HEAD, POST"),
        ("/v1/runs/latest", "GET, HEAD, DELETE"),
        ("/v1/runs/latest/cancel", "POST"),
        ("/v1/runs/latest/epochs", "GET, HEAD"),
        ("/v1/runs/latest/checkpoints/last/weights", "GET, HEAD"),
        ("/v1/runs/latest/checkpoints/last/gradients", "POST"),
        ("/v1/datasets", "GET, HEAD, POST"),
        ("/v1/datasets/xor", "GET, HEAD, DELETE"),
        ("/v1/gradient-checks", "POST"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_for_a_path_is_told_all_that_are(client: httpx.Client, path: str, allowed: str) -> None:
    for method in ("PUT", "PATCH", "OPTIONS", "TRACE"):
        response = client.request(method, path)
        refused(response, "not_allowed", None, method, path, allowed)
        assert response.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/v1/runs", "/v1/runs/latest", "/v1/runs/latest/epochs", "/v1/runs/latest/checkpoints", "/v1/datasets/xor",
        "/v1/runs/latest/checkpoints/last/weights", "/v1/health/live", "/v1/health/ready", "/docs", "/openapi.json",
    ],
)  # fmt: skip
def test_head_is_get_without_the_body(client: httpx.Client, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    assert "content-encoding" in got.headers or got.headers["content-length"] == str(len(got.content))
    for name in ("content-length", "content-encoding", "etag", "content-type", "content-disposition"):
        assert head.headers.get(name) == got.headers.get(name)


def test_head_of_a_stream_is_over_at_once(client: httpx.Client) -> None:
    response = client.head("/v1/runs/latest/events")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("path", TAKE_JSON)
def test_a_body_that_is_no_json_is_told_at_which_byte(client: httpx.Client, path: str) -> None:
    for body in ('{"name": }', '{"näme": }', '{"a": 1,\n "b": [1, 2}'):
        with pytest.raises(json.JSONDecodeError) as caught:
            json.loads(body)
        byte = len(body[: caught.value.pos].encode())
        refused(client.post(path, content=body.encode(), headers=JSON), "malformed", None, f"at byte {byte}.")


def test_dataset_rows_that_are_no_json_are_told_at_which_line_and_column(client: httpx.Client) -> None:
    for body, place in ((b'{"name": }', "line 1 column 10"), (b'{"a": 1,\n "b": }', "line 2 column 7")):
        refused(client.post("/v1/datasets", content=body, headers=JSON), "malformed", None, place)


@pytest.mark.parametrize("path", [*TAKE_JSON, "/v1/datasets"])
@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[" * 100_000, b"[" * 20_000 + b"]" * 20_000, b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        b'{"name": "\xff\xfe"}', b'{"seed": 1' + b"0" * 5000 + b"}", b"\x00", b"name=x&epochs=3",
    ],
    ids=["nothing", "truncated", "deep", "deep and closed", "deep objects", "not UTF-8", "5001 digits", "NUL", "form"],
)  # fmt: skip
def test_a_body_that_cannot_be_read_is_malformed(client: httpx.Client, path: str, body: bytes) -> None:
    refused(client.post(path, content=body, headers=JSON), "malformed")


@pytest.mark.parametrize("path", [*TAKE_JSON, "/v1/datasets"])
@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true"])
def test_a_body_that_is_no_object_is_refused(client: httpx.Client, path: str, body: bytes) -> None:
    refused(client.post(path, content=body, headers=JSON), "invalid_input", "", "JSON object")


def test_a_byte_order_mark_before_json_does_no_harm(client: httpx.Client) -> None:
    mark = b"\xef\xbb\xbf"
    body = mark + json.dumps(CHECK).encode()
    assert client.post(CHECKS, content=body, headers=JSON).status_code == 200
    rows = mark + b'{"samples": [[0], [1]], "labels": ["a", "b"]}'
    assert client.post("/v1/datasets", content=rows, headers=JSON).status_code in (200, 201)


@pytest.mark.parametrize("path", [*TAKE_JSON, "/v1/datasets"])
@pytest.mark.parametrize(
    "given", ["application/x-www-form-urlencoded", "text/plain", "text/x+json", "application/xml", ""]
)
def test_a_body_of_another_type_is_told_to_be_json(client: httpx.Client, path: str, given: str) -> None:
    response = client.post(path, content=b"{}", headers={"Content-Type": given} if given else {})
    refused(response, "unsupported_media_type", None, given or "of no stated type", "application/json")


@pytest.mark.parametrize("given", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.spec+json"])
def test_a_body_that_says_it_is_json_is_read(client: httpx.Client, given: str) -> None:
    response = client.post(CHECKS, content=json.dumps(CHECK).encode(), headers={"Content-Type": given})
    assert response.status_code == 200


def test_every_wrong_place_of_a_body_is_named(client: httpx.Client) -> None:
    spec = {"dataset": "xor", "epochs": "1", "network": {"layers": [{"units": 0, "activation": 1, "a/b~c": 2}]}, "x": 1}
    problem = refused(client.post("/v1/runs", json=spec), "invalid_input")
    assert {error["pointer"] for error in problem["errors"]} == {
        "/epochs", "/network/layers/0/units", "/network/layers/0/activation", "/network/layers/0/a~1b~0c", "/x",
    }  # fmt: skip
    assert "5 problems" in problem["detail"]


def test_what_was_sent_is_not_sent_back_at_length(client: httpx.Client) -> None:
    long = "x" * 500_000
    for change in ({"cost": long}, {"dtype": long}, {long: 1}, {"optimizer": {"name": long}}, {"dataset": long}):
        assert len(client.post("/v1/runs", json=XOR | change).content) < 2000


def test_many_wrong_places_are_listed_up_to_a_point(client: httpx.Client) -> None:
    problem = refused(client.post(PREDICT, json={"samples": [[None] * 100] * 10}), "invalid_input", "/samples/0/0")
    assert len(problem["errors"]) == 20


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/runs?statuss=queued", "statuss"), ("/v1/runs/latest?wait=5", "wait"),
        ("/v1/runs/latest/epochs?page=2", "page"),
        ("/v1/datasets?offset=3", "offset"), ("/v1/runs/latest/checkpoints/last/weights?fmt=npz", "fmt"),
    ],
)  # fmt: skip
def test_a_query_parameter_that_has_no_meaning_is_refused(client: httpx.Client, path: str, name: str) -> None:
    refused(client.get(path), "invalid_input", f"/{name}", name)


def test_a_mistyped_validate_only_submits_nothing(client: httpx.Client) -> None:
    before = client.get("/v1/runs").json()
    response = client.post("/v1/runs?validateonly=true", json=XOR)
    refused(response, "invalid_input", "/validateonly", "validate_only")
    assert client.get("/v1/runs").json() == before


def test_a_query_parameter_given_twice_is_refused_unless_it_is_a_list(client: httpx.Client) -> None:
    refused(client.get("/v1/runs?limit=1&limit=2"), "invalid_input", "/limit", "more than once")
    assert client.get("/v1/runs?status=failed&status=queued").status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=201", "limit=1e3", "limit=", "limit=99999999999999999999", "limit=%D9%A1",
        "status=nope", "status=", "status=QUEUED", "name=%00", "name=x%0a", "dataset=%00", "dataset=", "sort=name",
    ],
)  # fmt: skip
def test_a_query_parameter_out_of_its_range_is_named(client: httpx.Client, query: str) -> None:
    name = query.partition("=")[0]
    problem = refused(client.get(f"/v1/runs?{query}"), "invalid_input")
    assert problem["errors"][0]["pointer"].startswith(f"/{name}")


@pytest.mark.parametrize("name", ["%ff", "%ED%A0%80", "%7f", "%F0%9F%8E%88", "'; DROP TABLE runs; --"])
def test_any_name_may_be_looked_for(client: httpx.Client, name: str) -> None:
    assert client.get(f"/v1/runs?name={name}").json()["items"] == []


@pytest.mark.parametrize(
    ("path", "body", "harmless"),
    [
        ("/v1/runs?validate_only=true", XOR | {"validation": {"fraction": 0.5}, "checkpoints": {"keep": 2}}, 200),
        (CHECKS, CHECK | {"rows": [0, 1], "entries": 2, "h": 1e-5, "cost": "mse"}, 200),
        (PREDICT, {"samples": [[0, 1], [1, 1]]}, 200),
        (GRADIENTS, {"samples": [[0, 1]], "labels": ["1"], "names": ["dW1"], "per_sample": True, "values": False}, 200),
        (GRADIENTS, {"rows": [0, 3], "names": ["dW1"]}, 200),
        ("/v1/datasets", {"name": "n", "samples": [[0], [2]], "labels": ["a", "b"], "feature_names": ["x"]}, 201),
        ("/v1/datasets", {"name": "n", "samples": [[0, 1], [2, 3]], "targets": [[0.5], [1.5]]}, 201),
    ],
)  # fmt: skip
def test_no_value_anywhere_in_a_body_breaks_the_service(
    client: httpx.Client, server: Service, path: str, body: dict[str, Any], harmless: int
) -> None:
    logged = len(server.log.read_text())
    assert client.post(path, json=body).status_code in (harmless, 200)
    refusals = 0
    for place, text in product(paths(body), NASTY):
        response = client.post(path, content=with_text(body, place, text), headers=JSON)
        refusals += is_a_refusal(response)
    assert refusals > len(NASTY)
    assert "Traceback" not in server.log.read_text()[logged:]


def test_names_that_a_database_cannot_hold_are_refused_and_others_come_back(client: httpx.Client) -> None:
    tiny = XOR | {"epochs": 1}
    for text in ('"a\\u0000b"', '"\\ud800"', '"x\\n"', '"\\u007f"', '"' + "x" * 201 + '"'):
        response = client.post("/v1/runs", content=with_text(tiny, ("name",), text), headers=JSON)
        refused(response, "invalid_input", "/name")
    for name in ("", "\uffff", "🎈" * 200, "'; --", "<b>&amp;</b>", "\u202e", " "):
        assert client.post("/v1/runs", json=tiny | {"name": name}).json()["name"] == name


def test_a_body_over_the_limit_is_refused_however_it_comes(limited: httpx.Client) -> None:
    def in_pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    for path in ("/v1/runs", CHECKS, "/v1/runs/x/checkpoints/last/predict"):
        for content in (b" " * 4097, in_pieces()):
            response = limited.post(path, content=content, headers=JSON)
            problem = refused(response, "too_large", None, "4,096 bytes", "CHAINRULE_MAX_REQUEST_BYTES")
            assert (problem["limit"], problem["setting"]) == (4096, "CHAINRULE_MAX_REQUEST_BYTES")
    at_the_limit = json.dumps(CHECK | {"entries": 1}).encode().ljust(4096)
    assert limited.post(CHECKS, content=at_the_limit, headers=JSON).status_code == 200


def test_a_dataset_over_the_limit_is_refused_however_it_comes(limited: httpx.Client) -> None:
    response = limited.post("/v1/datasets", content=b" " * 8193, headers=JSON)
    refused(response, "too_large", None, "8,192 bytes", "CHAINRULE_MAX_ROWS_BYTES")
    far_over = FLOWERS.encode() + b"1,2,setosa\n" * 200_000
    response = limited.post("/v1/datasets", files={"file": ("a.csv", far_over)})
    refused(response, "too_large", None, "CHAINRULE_MAX_UPLOAD_BYTES")
    little_over = FLOWERS.encode() + b"1,2,setosa\n" * 1000
    response = limited.post("/v1/datasets", files={"file": ("a.csv", little_over)})
    assert response.status_code in (413, 422)
    assert "CHAINRULE_MAX_UPLOAD_BYTES" in response.json()["detail"]


def test_a_connection_is_still_good_after_a_body_was_refused(limited: httpx.Client) -> None:
    for _ in range(3):
        assert limited.post("/v1/runs", content=b" " * 5000, headers=JSON).status_code == 413
        assert limited.get("/v1/health/live").status_code == 200


@pytest.mark.parametrize(
    "headers", ["Content-Length: 1000000000\r\n", "Content-Length: 5000000\r\nExpect: 100-continue\r\n"]
)
def test_a_body_announced_as_too_large_is_refused_before_it_comes(server: Service, headers: str) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            f"POST /v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}\r\n".encode()
        )
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"CHAINRULE_MAX_REQUEST_BYTES" in answer
    assert b"connection: close" in answer.lower()
