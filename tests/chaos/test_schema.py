"""Every operation of the API is sent what its schema allows, what it forbids, and examples with slips in them."""

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.app.api.calls import STATUS_OF
from tests.chaos.ground import ANSWER_S, Ground, prepared
from tests.chaos.seeds import SCALE, SEED
from tests.conftest import KINDS

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance, negative_data_rejection,
]  # fmt: skip
EXAMPLES = 6 * SCALE
SLIPS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(
        [[], {}, [[]], [1, 2], ["a"], {"": None}, "digits", "xor", "softmax", "lbfgs", "balanced", "latest"]
    ),
)
quietly = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", params=KINDS)
def ground(request: pytest.FixtureRequest, fresh: Any, cache_dir: Path) -> Iterator[Ground]:
    """A service with something of every kind in it, on each database."""
    with prepared(fresh.url(request.param), cache_dir) as ground:
        yield ground


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Name every place within a JSON value but itself."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(part, (*path, key))


@st.composite
def with_slips(draw: st.DrawFn, examples: list[Any]) -> Any:
    """Take an example and put something else in a few of its places, or nothing."""
    body = copy.deepcopy(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(0, 3))):
        found = list(places(body))
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        part = body
        for key in path:
            part = part[key]
        if isinstance(part, dict) and draw(st.booleans()) and draw(st.booleans()):
            del part[last]
        else:
            part[last] = draw(SLIPS)
    return body


def example_bodies(operation: Any) -> list[Any]:
    """List the documented examples of an operation's JSON body."""
    content = operation.definition.raw.get("requestBody", {}).get("content", {}).get("application/json", {})
    shown = [example["value"] for example in content.get("examples", {}).values()]
    schema = content.get("schema", {})
    if "$ref" in schema:
        schema = operation.schema.raw_schema["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return shown or schema.get("examples", [])


def ways(operation: Any, names: dict[str, str]) -> Iterator[tuple[str, st.SearchStrategy[Any]]]:
    """Go through the ways to make up requests of an operation."""
    fixed = {one.name: names[one.name] for one in operation.path_parameters} or None
    yield "allowed", operation.as_strategy(GenerationMode.POSITIVE, path_parameters=fixed)
    yield "forbidden", operation.as_strategy(GenerationMode.NEGATIVE, path_parameters=fixed)
    if fixed and not operation.path.endswith("/events"):  # of a run that waits, they never end
        yield "elsewhere", operation.as_strategy(GenerationMode.POSITIVE)
    if bodies := example_bodies(operation):
        yield (
            "slips",
            with_slips(bodies).map(
                lambda body: operation.Case(body=body, path_parameters=fixed, media_type="application/json")
            ),
        )


def checks_of(response: Any, way: str) -> Iterator[Any]:
    """Go through what must hold of an answer."""
    for check in CHECKS:
        if check is negative_data_rejection and way == "slips":
            continue  # most slips are allowed
        if (
            check is response_schema_conformance
            and "text/event-stream" in response.headers.get("content-type", [""])[0]
        ):
            continue  # the schema says that it is text; each event is tested where streams are
        yield check


def ask(ground: Ground, session: requests.Session, requests_: Any, way: str, statuses: Counter[int]) -> None:
    """Send made-up requests of one operation, and hold each answer against the schema and the database."""
    before = ground.everything()

    @seed(SEED)
    @quietly
    @given(case=requests_)
    def send(case: Any) -> None:
        nonlocal before
        note(way)
        case.headers.pop("Prefer", None)  # to wait is what it says
        response = case.call(session=session, timeout=ANSWER_S)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=list(checks_of(response, way)))
        after = ground.everything()
        if response.status_code >= 400:
            assert STATUS_OF[response.json()["code"]] == response.status_code
            assert after == before, f"refused, and yet something has changed: {before} to {after}"
        before = after

    send()


def test_no_request_breaks_the_service_or_its_word_or_leaves_something_behind_when_refused(
    ground: Ground, told: list[str]
) -> None:
    schema = schemathesis.openapi.from_url(f"{ground.service.url}/openapi.json")
    statuses = Counter[int]()
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    with requests.Session() as session:
        # What deletes comes last: the others want something to ask about.
        for operation in sorted(operations, key=lambda operation: operation.method == "delete"):
            for way, made_up in ways(operation, ground.names):
                with suppress(Unsatisfiable):  # nothing is forbidden where anything is allowed
                    ask(ground, session, made_up, way, statuses)
    assert not ground.faults()
    assert len(operations) > 30
    assert statuses.total() > len(operations) * EXAMPLES
    kind = ground.service.database_url.partition(":")[0]
    told.append(f"{kind}: {statuses.total()} requests to {len(operations)} operations, by status {dict(statuses)}")
