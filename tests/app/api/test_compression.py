"""Large answers, packed for those who take gzip."""

import gzip
import json
from typing import Any

import httpx
import pytest

from chainrule.app.api.compression import LEAST_BYTES

PLAIN = {"Accept-Encoding": "identity"}


def raw(client: httpx.Client, path: str, **options: Any) -> tuple[httpx.Response, bytes]:
    """Get an answer, with the bytes that were sent."""
    with client.stream("GET", path, **options) as response:
        return response, b"".join(response.iter_raw())


@pytest.mark.parametrize("path", ["datasets/digits", "runs/{run}/epochs?format=csv", "runs/{run}/checkpoints/5/walk"])
def test_a_large_answer_is_packed_and_says_the_same(
    client: httpx.Client, digits_run: dict[str, Any], path: str
) -> None:
    path = f"/v1/{path.format(run=digits_run['id'])}"
    whole, content = raw(client, path, headers=PLAIN)
    packed, sent = raw(client, path)
    assert "content-encoding" not in whole.headers
    if len(content) < LEAST_BYTES:
        assert ("content-encoding" not in packed.headers, sent) == (True, content)
        return
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == len(sent) < len(content) / 2
    assert gzip.decompress(sent) == content
    assert "Accept-Encoding" in packed.headers["vary"]
    for name in ("content-type", "etag", "cache-control"):
        assert packed.headers.get(name) == whole.headers.get(name)
    head = client.head(path)
    assert head.headers["content-length"] == packed.headers["content-length"]


@pytest.mark.parametrize(
    ("header", "packed"),
    [
        ("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0.001", True), ("gzip ; q=0", False), ("gzip;q=0.00", False),
        ("br", False), ("", False), ("xgzip", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/datasets/digits", "/openapi.json", "/"])
def test_answers_are_packed_for_those_who_take_gzip_alone(
    client: httpx.Client, path: str, header: str, packed: bool
) -> None:
    response, _ = raw(client, path, headers={"Accept-Encoding": header})
    assert response.headers.get("content-encoding") == ("gzip" if packed else None)
    assert "Accept-Encoding" in response.headers["vary"]


def test_a_packed_answer_is_known_again(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    path = f"/v1/runs/{digits_run['id']}/checkpoints/5/walk"
    first = client.get(path)
    assert first.headers["content-encoding"] == "gzip"
    again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_small_answers_arrays_and_ranges_stay_as_they_are(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    place = f"/v1/runs/{digits_run['id']}/checkpoints/5"
    for path in ("/v1/health/live", f"{place}/weights", f"{place}/walk?format=npz"):
        response, _ = raw(client, path)
        assert (response.status_code, "content-encoding" in response.headers) == (200, False), path
    part, sent = raw(client, f"{place}/weights", headers={"Range": "bytes=0-999"})
    assert (part.status_code, len(sent), "content-encoding" in part.headers) == (206, 1000, False)


def test_events_come_one_by_one_though_gzip_is_taken(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    response, sent = raw(client, f"/v1/runs/{digits_run['id']}/events?after=-1")
    assert "content-encoding" not in response.headers
    assert b"event: end" in sent


def test_a_long_answer_is_packed_too(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    path = f"/v1/runs/{digits_run['id']}/checkpoints/5/samples?features=true&limit=200"
    response, sent = raw(client, path)
    content = gzip.decompress(sent)
    assert len(content) > 100_000
    assert len(sent) < len(content) / 4
    assert len(json.loads(content)["items"]) == 200
    assert response.headers["content-encoding"] == "gzip"
