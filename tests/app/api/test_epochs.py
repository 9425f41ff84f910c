"""Epochs: by polling, and as server-sent events."""

import csv
import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from chainrule.app.api.schemas.epochs import Epochs
from chainrule.app.api.schemas.runs import Run
from tests.app.api.calls import LONG, XOR, Event, ended, events, finished, refused, stop, stream, submit
from tests.conftest import KINDS
from tests.service import serving
from tests.waiting import wait_for

COLUMNS = ["epoch", "cost", "error", "validation_cost", "validation_error", "learning_rate", "seconds"]
STREAMED = XOR | {"epochs": 400}
BRIEF = LONG | {"epochs": 300}
"""Trains for about a second."""


def read(client: httpx.Client, run_id: str, **parameters: Any) -> Epochs:
    response = client.get(f"/v1/runs/{run_id}/epochs", params=parameters)
    assert response.status_code == 200, response.text
    page = Epochs.model_validate(response.json())
    columns = page.columns.model_dump()
    assert list(columns) == COLUMNS
    assert len({len(column) for column in columns.values()}) == 1
    return page


@pytest.fixture(scope="session", autouse=True)
def idle_stream(fresh: Any, cache_dir: Path) -> Iterator[list[str]]:
    """The lines of a stream of a run that waits, gathered while the other tests go on."""
    lines: list[str] = []
    with serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=0) as service, service.client() as client:
        run_id = submit(client, XOR)["id"]

        def gather() -> None:
            nonlocal lines
            with client.stream("GET", f"/v1/runs/{run_id}/events", timeout=60) as response:
                for line in response.iter_lines():
                    lines += [line]

        watcher = threading.Thread(target=gather)
        watcher.start()
        yield lines
        service.stop()
        watcher.join(timeout=120)


@pytest.fixture(scope="module")
def many(client: httpx.Client) -> str:
    """A run of some hundred epochs that has ended."""
    run_id: str = finished(client, STREAMED)["id"]
    return run_id


def test_the_epochs_of_a_run_are_columns_from_0_to_the_last(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    page = read(client, digits_run["id"])
    columns = page.columns
    assert (page.run, page.status, page.done, page.next_after, page.downsampled) == (
        digits_run["id"], "succeeded", True, None, None,
    )  # fmt: skip
    assert columns.epoch == list(range(13))
    assert columns.cost[0] > columns.cost[-1] > 0
    assert set(columns.learning_rate) == {0.05}
    assert all(seconds > 0 for seconds in columns.seconds)
    for name in ("cost", "error", "validation_cost", "validation_error"):
        assert getattr(columns, name)[-1] == digits_run[name]
        assert None not in getattr(columns, name)


def test_a_run_without_validation_has_nulls_for_it(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    columns = read(client, xor_run["id"]).columns
    assert set(columns.validation_cost) == set(columns.validation_error) == {None}


def test_polling_behind_the_last_epoch_gives_each_epoch_once(client: httpx.Client, many: str) -> None:
    found, after = list[int](), -1
    for _ in range(100):
        page = read(client, many, after=after, limit=37)
        found += page.columns.epoch
        if page.next_after is None:
            break
        assert page.next_after == page.columns.epoch[-1]
        assert len(page.columns.epoch) == 37
        after = page.next_after
    assert found == list(range(401))


def test_there_is_nothing_behind_the_last_epoch(client: httpx.Client, many: str) -> None:
    for after in (400, 401, 10**12):
        page = read(client, many, after=after)
        assert (page.columns.epoch, page.next_after, page.done) == ([], None, True)
    assert read(client, many, after=399).columns.epoch == [400]


@pytest.mark.parametrize(("at_most", "stride"), [(2, 201), (3, 134), (50, 9), (200, 3), (400, 2)])
def test_downsampling_says_so_and_keeps_the_last_epoch(
    client: httpx.Client, many: str, at_most: int, stride: int
) -> None:
    page = read(client, many, at_most=at_most)
    assert page.downsampled is not None
    assert (page.downsampled.stride, page.downsampled.of) == (stride, 401)
    assert page.columns.epoch == sorted({*range(0, 401, stride), 400})
    assert len(page.columns.epoch) <= at_most + 1
    assert page.next_after is None


def test_downsampling_leaves_what_is_few_as_it_is(client: httpx.Client, many: str) -> None:
    for parameters in ({"at_most": 401}, {"at_most": 10, "after": 395}):
        page = read(client, many, **parameters)
        assert page.downsampled is None
        assert page.columns.epoch == list(range(parameters.get("after", -1) + 1, 401))


@pytest.mark.parametrize("how", [{"params": {"format": "csv"}}, {"headers": {"Accept": "text/csv"}}])
def test_epochs_come_as_csv(client: httpx.Client, digits_run: dict[str, Any], how: dict[str, Any]) -> None:
    response = client.get(f"/v1/runs/{digits_run['id']}/epochs", **how)
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(response.text)))
    columns = read(client, digits_run["id"]).columns.model_dump()
    assert list(rows[0]) == COLUMNS
    for name in COLUMNS:
        assert [float(row[name]) for row in rows] == columns[name]


@pytest.mark.parametrize(
    "how", [{"params": {"format": "ndjson"}}, {"headers": {"Accept": "text/html;q=0.9, application/x-ndjson"}}]
)
def test_epochs_come_as_lines_of_json(client: httpx.Client, xor_run: dict[str, Any], how: dict[str, Any]) -> None:
    response = client.get(f"/v1/runs/{xor_run['id']}/epochs", **how)
    assert response.headers["content-type"] == "application/x-ndjson"
    rows = [json.loads(line) for line in response.text.splitlines()]
    columns = read(client, xor_run["id"]).columns.model_dump()
    assert {name: [row[name] for row in rows] for name in COLUMNS} == columns


def test_a_format_that_is_not_offered_is_refused(client: httpx.Client, xor_run: dict[str, Any]) -> None:
    path = f"/v1/runs/{xor_run['id']}/epochs"
    refused(client.get(path, params={"format": "xml"}), "invalid_input", "/format", "json, ndjson, csv")
    refused(client.get(path, headers={"Accept": "image/png"}), "not_acceptable", None, "text/csv")
    for accept in ("*/*", "application/*", "", "text/html, */*;q=0.1"):
        response = client.get(path, headers={"Accept": accept})
        assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "query", ["after=-2", "after=1.5", "after=1000000000001", "limit=0", "limit=10001", "at_most=1", "at_most=10001"]
)
def test_a_number_out_of_its_range_is_refused(client: httpx.Client, many: str, query: str) -> None:
    refused(client.get(f"/v1/runs/{many}/epochs?{query}"), "invalid_input", f"/{query.partition('=')[0]}")


def test_a_poll_that_says_done_has_given_all_there_will_be(client: httpx.Client) -> None:
    run_id = submit(client, BRIEF)["id"]
    found, after = list[int](), -1
    polls_under_way = 0
    while True:
        page = read(client, run_id, after=after)
        found += page.columns.epoch
        after = found[-1] if found else -1
        if page.done and page.next_after is None:
            break
        polls_under_way += bool(page.columns.epoch)
        time.sleep(0.02)
    assert found == list(range(301))
    assert polls_under_way > 0


def test_a_stream_gives_every_epoch_with_its_number_as_id_and_ends_with_the_run(
    client: httpx.Client, many: str
) -> None:
    *epochs, status, end = stream(client, many)
    assert [event.name for event in epochs] == ["epoch"] * 401
    assert [event.id for event in epochs] == [str(number) for number in range(401)]
    columns = read(client, many).columns.model_dump()
    for name in COLUMNS:
        assert [event.data[name] for event in epochs] == columns[name]
    assert status == Event("status", {"status": "succeeded", "reason": "completed", "detail": ""}, None)
    assert (end.name, end.data) == ("end", client.get(f"/v1/runs/{many}").json())
    Run.model_validate(end.data)


@pytest.mark.parametrize("behind", [0, 123, 399])
def test_a_stream_is_taken_up_exactly_behind_the_last_epoch(client: httpx.Client, many: str, behind: int) -> None:
    for found in (stream(client, many, None, **{"Last-Event-ID": str(behind)}), stream(client, many, after=behind)):
        assert [event.id for event in found if event.name == "epoch"] == [str(n) for n in range(behind + 1, 401)]
        assert [event.name for event in found[-2:]] == ["status", "end"]
    both = stream(client, many, after=behind, **{"Last-Event-ID": "398"})
    assert [event.id for event in both if event.name == "epoch"] == ["399", "400"]


def test_whoever_has_the_end_is_told_that_there_is_no_more(client: httpx.Client, many: str) -> None:
    last = stream(client, many)[-1]
    assert (last.name, last.id) == ("end", "end")
    response = client.get(f"/v1/runs/{many}/events", headers={"Last-Event-ID": "end"})
    assert (response.status_code, response.content) == (204, b"")


def test_a_stream_behind_the_end_has_only_the_end(client: httpx.Client, many: str) -> None:
    for after in (400, 10**12):
        assert [event.name for event in stream(client, many, after=after)] == ["status", "end"]


@pytest.mark.parametrize("last", ["x", "1e3", "9" * 13, "1,2", b"\xd9\xa3"])
def test_an_event_id_of_somebody_else_is_refused(client: httpx.Client, many: str, last: str | bytes) -> None:
    header = last if isinstance(last, bytes) else last.encode()
    response = client.get(f"/v1/runs/{many}/events", headers={b"Last-Event-ID": header})
    refused(response, "invalid_input", "/Last-Event-ID")
    assert stream(client, many, after=399, **{"Last-Event-ID": ""})[0].id == "400"


def test_epochs_arrive_while_the_run_trains(client: httpx.Client) -> None:
    run_id = submit(client, LONG)["id"]
    numbers, statuses = list[int](), list[str]()
    with client.stream("GET", f"/v1/runs/{run_id}/events", timeout=30) as response:
        for event in events(response):
            if event.name == "status":
                statuses.append(event.data["status"])
            if event.name == "epoch":
                numbers.append(event.data["epoch"])
                if len(numbers) == 30:
                    assert not client.get(f"/v1/runs/{run_id}").json()["done"]
                    assert client.post(f"/v1/runs/{run_id}/cancel").status_code == 202
            if event.name == "end":
                assert event.data["status"] == "cancelled"
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 30
    assert statuses[-2:] == ["running", "cancelled"]
    assert numbers == read(client, run_id, limit=10_000).columns.epoch[: len(numbers)]
    assert event.data["progress"]["epochs_done"] == numbers[-1]


def test_many_watchers_see_the_same_and_one_that_leaves_does_no_harm(client: httpx.Client) -> None:
    run_id = submit(client, BRIEF)["id"]

    def watch(number: int) -> list[Event]:
        with httpx.Client(base_url=client.base_url, timeout=60) as own:
            if number % 2:
                with own.stream("GET", f"/v1/runs/{run_id}/events") as response:
                    next(events(response))
                return []
            return stream(own, run_id)

    with ThreadPoolExecutor(12) as pool:
        seen = [found for found in pool.map(watch, range(12)) if found]
    assert len(seen) == 6
    for found in seen:
        assert [event.id for event in found if event.name == "epoch"] == [str(n) for n in range(301)]
        assert found[-1] == seen[0][-1]
    wait_for(lambda: client.get("/v1/health/ready").status_code == 200)


def test_a_run_deleted_while_somebody_looks_on_is_over_for_them(client: httpx.Client) -> None:
    run_id = submit(client, LONG, Prefer="wait=1")["id"]
    found: list[Event] = []
    watcher = threading.Thread(target=lambda: found.extend(stream(client, run_id, after=10**12)))
    watcher.start()
    stop(client, run_id)
    assert client.delete(f"/v1/runs/{run_id}").status_code == 204
    watcher.join(timeout=120)
    assert not watcher.is_alive()
    refused(client.get(f"/v1/runs/{run_id}/events"), "not_found")


@pytest.mark.parametrize("kind", KINDS)
def test_streams_are_closed_when_the_service_ends(fresh: Any, cache_dir: Path, kind: str) -> None:
    with serving(database_url=fresh.url(kind), cache_dir=cache_dir, slots=0) as service, service.client() as client:
        run_id = submit(client, XOR)["id"]
        opened = threading.Barrier(4, timeout=120)

        def watch() -> bool:
            """Follow the run; tell whether the stream was brought to its proper end."""
            with service.client() as own, own.stream("GET", f"/v1/runs/{run_id}/events", timeout=60) as response:
                found = events(response)
                assert next(found).data["status"] == "queued"
                opened.wait()
                return list(found) == []

        def wait() -> int:
            opened.wait()
            return client.get(f"/v1/runs/{run_id}", headers={"Prefer": "wait=60"}, timeout=90).status_code

        with ThreadPoolExecutor(3) as pool:
            watchers, waiter = [pool.submit(watch) for _ in range(2)], pool.submit(wait)
            opened.wait()
            time.sleep(0.3)
            started = time.monotonic()
            assert service.stop() == 0
            assert time.monotonic() - started < 50, "it waited for those who wait"
            assert all(watcher.result() for watcher in watchers)
            assert waiter.result() == 200
        assert "Traceback" not in service.log.read_text()


def test_a_stream_in_which_nothing_happens_is_kept_open_by_comments(idle_stream: list[str]) -> None:
    deadline = time.monotonic() + 180
    while not (comments := [line for line in idle_stream if line.startswith(":")]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert idle_stream[0].startswith("retry: ")
    assert "event: status" in idle_stream
    assert all(re.fullmatch(r":[^\r\n]*", line) for line in comments)


@contextmanager
def gone(url: str) -> Iterator[None]:
    """Have a database of PostgreSQL refuse everybody."""
    name = url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(url.replace(f"/{name}", "/postgres"), autocommit=True) as elsewhere:
        elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        elsewhere.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            yield
        finally:
            elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())


def test_a_run_and_its_watcher_outlive_a_database_that_goes_away_for_a_while(fresh: Any, cache_dir: Path) -> None:
    url = fresh.url("postgresql")
    with (
        serving(database_url=url, cache_dir=cache_dir, slots=1, flush_interval_s=0.1) as service,
        service.client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        run_id = submit(client, LONG | {"epochs": 2500})["id"]
        watching = pool.submit(stream, client, run_id)
        while client.get(f"/v1/runs/{run_id}").json()["progress"]["epochs_done"] < 20:
            time.sleep(0.02)
        with gone(url):
            unreachable = client.get(f"/v1/runs/{run_id}")
            refused(unreachable, "unavailable", None, "Try again")
            assert int(unreachable.headers["retry-after"]) > 0
            refused(client.get("/v1/health/ready"), "unavailable")
            assert client.get("/v1/health/live").status_code == 200
            time.sleep(1)
        found = watching.result(timeout=180)
        assert [event.id for event in found if event.name == "epoch"] == [str(n) for n in range(2501)]
        assert found[-1].data["status"] == "succeeded"
        assert ended(client, run_id)["attempts"] == 1


def test_a_watcher_who_is_behind_outlives_a_database_that_goes_away_for_a_while(fresh: Any, cache_dir: Path) -> None:
    url, epochs = fresh.url("postgresql"), 30_000
    small = httpx.HTTPTransport(socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)])
    with (
        serving(database_url=url, cache_dir=cache_dir, slots=1) as service,
        service.client(transport=small) as client,
    ):
        run_id = finished(
            client, XOR | {"epochs": epochs, "checkpoints": {"every": epochs}, "gradients": {"every": 0}}
        )["id"]
        with client.stream("GET", f"/v1/runs/{run_id}/events", timeout=60) as response:
            found = events(response)
            seen = [next(found)]
            with gone(url):
                seen += takewhile(lambda event: event.name != ":", found)
            assert len(seen) < epochs
            seen += [event for event in found if event.name != ":"]
    assert [event.id for event in seen if event.name == "epoch"] == [str(n) for n in range(epochs + 1)]
    assert [event.name for event in seen[-2:]] == ["status", "end"]
