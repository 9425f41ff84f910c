"""No file that is none is taken for a dataset: each is refused where it is wrong, within little memory."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from chainrule.app.store.database import Database
from tests.app.api.calls import is_a_refusal, refused
from tests.chaos import malformed
from tests.chaos.ground import Ground
from tests.chaos.malformed import CSV, ROWS, Malformed
from tests.chaos.seeds import SCALE, SEED
from tests.service import serving
from tests.waiting import wait_for

UPLOAD_BYTES = 4 << 20
MEMORY_BYTES = 8 * UPLOAD_BYTES
"""What refusing may take beyond what the service takes anyway."""
BY_PLACE = (
    "not UTF-8",
    "at byte",
    "line ",
    "multipart",
    "body is",
    "application/json",
    "Content-Disposition",
    "aximum",
)
"""What stands in the words of a refusal of a body that has no places yet."""
FORM = b'--B\r\nContent-Disposition: form-data; name="file"; filename="d.csv"\r\n\r\n%s\r\n--B--\r\n'


@pytest.fixture(scope="module")
def ground(fresh: Any, cache_dir: Path) -> Iterator[Ground]:
    """A service with small limits that trains nothing."""
    url = fresh.url("sqlite")
    limits = {"max_upload_bytes": UPLOAD_BYTES, "max_rows_bytes": UPLOAD_BYTES, "max_dataset_values": 100_000}
    with serving(database_url=url, cache_dir=cache_dir, slots=0, **limits) as service:
        database = Database(url)
        yield Ground(service, database, {})
        database.dispose()


def peak_bytes(ground: Ground) -> int:
    """The most memory the service has held since it started."""
    status = Path(f"/proc/{ground.service.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def send(client: httpx.Client, made: Malformed) -> httpx.Response:
    if made.files:
        return client.post("/v1/datasets", files=made.files, data=made.fields)
    return client.post("/v1/datasets", content=made.body, headers={"Content-Type": made.content_type})


def test_every_malformed_file_is_refused_where_it_is_wrong_within_little_memory(
    ground: Ground, told: list[str]
) -> None:
    cases = list(malformed.every())
    assert len({made.name for made in cases}) == len(cases) >= 150
    codes, wrong = Counter[str](), []
    with ground.service.client() as client:
        # What is right is read, so that what follows is refused for what is wrong with it; and it warms up.
        for _ in range(3):
            assert client.post("/v1/datasets", files={"file": ("d.csv", CSV)}).status_code in (200, 201)
            assert client.post("/v1/datasets", json=ROWS).status_code in (200, 201)
        before, usual = ground.everything(), peak_bytes(ground)
        for made in cases:
            response = send(client, made)
            if not 400 <= response.status_code < 500:
                wrong.append(f"{made.name}: {response.status_code} {response.text[:200]}")
                continue
            body = refused(response, response.json()["code"])
            codes[made.name.partition(":")[0]] += 1
            says_where = body.get("errors") or body.get("setting") or any(word in body["detail"] for word in BY_PLACE)
            if not says_where and body["code"] != "unsupported_media_type":
                wrong.append(f"{made.name}: does not say where: {body}")
    peak = peak_bytes(ground)
    assert not wrong, "\n".join(wrong)
    assert ground.everything() == before
    assert not ground.faults()
    assert peak - usual < MEMORY_BYTES, f"{peak - usual:,} bytes"
    told.append(f"{codes.total()} malformed files refused, {dict(codes)}; {(peak - usual) / 2**20:.0f} MiB at most")


SPLICES = st.sampled_from(
    [b"", b"\x00", b"\xff", b"--B", b"--B--", b"\r\n", b"\r\n\r\n", b'"', b"[", b"]", b"{", b"NaN", b"1e999"]
)


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Cut, repeat, flip and splice a valid content."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(made))] * 2)))
        match draw(st.sampled_from(["cut", "repeat", "flip", "splice"])):
            case "cut":
                del made[start:end]
            case "repeat":
                made[start:start] = made[start:end]
            case "flip" if start < len(made):
                made[start] ^= 1 << draw(st.integers(0, 7))
            case _:
                made[start:start] = draw(SPLICES)
    return bytes(made)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [(FORM % CSV, "multipart/form-data; boundary=B"), (json.dumps(ROWS).encode(), "application/json")],
    ids=["multipart", "json"],
)
def test_a_damaged_body_is_read_or_refused(ground: Ground, content: bytes, content_type: str) -> None:
    with ground.service.client() as client:

        @seed(SEED)
        @settings(max_examples=80 * SCALE)
        @given(body=mutated(content))
        def post(body: bytes) -> None:
            before = ground.everything()
            response = client.post("/v1/datasets", content=body, headers={"Content-Type": content_type})
            if is_a_refusal(response):
                assert ground.everything() == before

        post()
    assert not ground.faults()


def test_an_upload_cut_anywhere_leaves_nothing_behind(ground: Ground) -> None:
    body = FORM % CSV
    address = urlsplit(ground.service.url)
    head = (
        f"POST /v1/datasets HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: multipart/form-data; boundary=B\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    request = head + body
    process = psutil.Process(ground.service.process.pid)
    with ground.service.client() as client:
        dataset = client.post("/v1/datasets", files={"file": ("d.csv", CSV)}).json()
        assert client.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
        before, open_files = ground.everything(), process.num_fds()
        for end in range(1, len(request), 5):
            with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
                connection.sendall(request[:end])
        wait_for(lambda: client.get("/v1/health/ready").status_code == 200)
        # What was cut is forgotten, its files are closed, and the whole is taken as if nothing had been.
        assert ground.everything() == before
        assert process.num_fds() <= open_files + 5
        assert client.post("/v1/datasets", files={"file": ("d.csv", CSV)}).status_code == 201
    assert not ground.faults()
