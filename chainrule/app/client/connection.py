"""The connection of a client: requests that are repeated where that is safe, answers, errors, lists in pages."""

import io
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Self

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
TRIES = 5
LONGEST_PAUSE_S = 5.0


class ServiceError(Exception):
    """What the service refused, and why.

    Attributes:
        status: the HTTP status.
        code: the kind of problem, such as `invalid_input`.
        detail: what is wrong and the way out.
        errors: the wrong places of the input, each with `pointer` and `detail`.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", "unknown"))
        self.detail = str(problem.get("detail", f"the service answered {status}"))
        self.errors: list[dict[str, str]] = list(problem.get("errors", ()))
        super().__init__("\n".join([self.detail, *(f"  {e['pointer']}: {e['detail']}" for e in self.errors[1:])]))


class Resource(Mapping[str, Any]):
    """An answer: its fields by name (`run["id"]`) and as attributes (`run.id`)."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> Any:
        """Give a field."""
        return self._fields[name]

    def __getattr__(self, name: str) -> Any:
        """Give a field."""
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(name) from None

    def __iter__(self) -> Iterator[str]:
        """Name the fields."""
        return iter(self._fields)

    def __len__(self) -> int:
        """Count the fields."""
        return len(self._fields)

    def __repr__(self) -> str:
        """Show the fields."""
        return f"Resource({self._fields!r})"


def service_url(given: str | None = None) -> str:
    """Say where the service is: the address given, or CHAINRULE_URL, or the default; without /v1 at its end."""
    return (given or os.environ.get("CHAINRULE_URL") or DEFAULT_URL).rstrip("/").removesuffix("/v1")


class Connection:
    """One service, and requests to it; see `Client` for what it takes."""

    def __init__(self, url: str | None = None, *, timeout_s: float = 60.0, key: str | None = None) -> None:
        self.url = service_url(url)
        shown = key or os.environ.get("CHAINRULE_KEY")
        headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        self._http = httpx.Client(base_url=f"{self.url}/v1/", timeout=timeout_s, headers=headers)

    def __enter__(self) -> Self:
        """Use it in a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its connections."""
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def ready(self) -> bool:
        """Tell whether the service can do its work."""
        try:
            return self._http.get("health/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _get(self, path: str, **options: Any) -> httpx.Response:
        return self._send("GET", path, **options)

    def _create(self, path: str, *, key: str | None = None, **options: Any) -> httpx.Response:
        return self._send("POST", path, headers={"Idempotency-Key": key or uuid.uuid4().hex}, **options)

    def _send(self, method: str, path: str, *, repeat: bool = True, **options: Any) -> httpx.Response:
        for failed in range(1 if repeat else TRIES, TRIES + 1):
            try:
                response = self._http.request(method, path, **options)
                if response.status_code not in (429, 503) or failed == TRIES:
                    return _checked(response)
                pause_s = _retry_after_s(response)
            except httpx.TransportError:
                if failed == TRIES or isinstance(options.get("files", {}).get("file", ("", b""))[1], io.IOBase):
                    raise
                pause_s = 0.0
            time.sleep(min(max(pause_s, 0.1 * 2**failed), LONGEST_PAUSE_S))
        raise AssertionError("unreachable")

    def _stream(self, run_id: str, after: int) -> Iterator[tuple[str, dict[str, Any]]]:
        # Without a word for a minute the connection is dead: the service sends a comment every 15 s.
        with self._http.stream("GET", f"runs/{run_id}/events", params={"after": after}, timeout=60.0) as response:
            if response.is_error:
                response.read()
            _checked(response)
            name, data = "", ""
            for line in response.iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data += value
                elif not line and data:
                    yield name, json.loads(data)
                    name, data = "", ""

    def _pages(self, path: str, filters: dict[str, Any]) -> Iterator[Resource]:
        cursor: str | None = None
        while True:
            page = self._get(path, params=filters | ({"cursor": cursor} if cursor else {})).json()
            yield from map(Resource, page["items"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _behind(self, path: str, filters: dict[str, Any]) -> Iterator[Resource]:
        after = -1
        while True:
            page = self._get(path, params=filters | {"after": after}).json()
            yield from map(Resource, page["items"])
            if page["next_after"] is None:
                return
            after = page["next_after"]


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        raise ServiceError(response.status_code, problem if isinstance(problem, dict) else {})
    return response


def _retry_after_s(response: httpx.Response) -> float:
    given = response.headers.get("Retry-After", "")
    return float(given) if given.isdigit() else 0.0
