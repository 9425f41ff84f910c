"""One trace from the request that submits a run to each write of its training."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from chainrule.app import tracing
from chainrule.app.api.requests import RequestFigures, Requests
from chainrule.app.config import Settings
from chainrule.app.execution.dispatcher import Dispatcher
from chainrule.app.services import runs as services
from chainrule.app.store.changes import Changes
from chainrule.app.store.database import Database
from tests.app.services.test_runs import SPEC
from tests.service import local_only
from tests.waiting import wait_for

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)
    provider.shutdown()


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


@local_only
def test_a_run_is_one_trace_from_its_request_to_each_write(
    database: Database, settings: Settings, spans: InMemorySpanExporter
) -> None:
    submitted: list[str] = []

    async def submits(_scope: Any, _receive: Any, send: Any) -> None:
        submitted.append(services.submit(database, settings, SPEC | {"dataset": "xor"}, key=None).run["id"])
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def nothing(*_: Any) -> Any:
        pass

    app = Requests(submits, settings, RequestFigures(CollectorRegistry()))
    scope = {"type": "http", "method": "POST", "path": "/v1/runs", "headers": [(b"traceparent", PARENT.encode())]}
    asyncio.run(app(scope, nothing, nothing))
    changes = Changes(database)
    dispatcher = Dispatcher(database, settings, changes)
    changes.start()
    dispatcher.start()
    wait_for(lambda: named(spans, "attempt"))
    dispatcher.drain()
    changes.stop()

    (request,) = named(spans, "POST none")
    (claim,), (attempt,), flushes = named(spans, "claim"), named(spans, "attempt"), named(spans, "flush")
    assert format(request.context.trace_id, "032x") == PARENT.split("-")[1]
    assert {span.context.trace_id for span in spans.get_finished_spans()} == {request.context.trace_id}
    assert claim.parent is not None
    assert attempt.parent is not None
    assert claim.parent.span_id == attempt.parent.span_id == request.context.span_id
    assert flushes
    assert {span.parent.span_id for span in flushes if span.parent} == {attempt.context.span_id}
    assert attempt.attributes is not None
    assert attempt.attributes["chainrule.run_id"] == submitted[0]
    assert request.attributes is not None
    assert request.attributes["chainrule.status"] == 201
    for flush in flushes:
        assert attempt.start_time <= flush.start_time <= flush.end_time <= attempt.end_time  # type: ignore[operator]


def test_what_is_trained_together_is_linked_to_each_runs_request(spans: InMemorySpanExporter) -> None:
    contexts = []
    for _ in range(2):
        with tracing.span("request"):
            contexts.append(tracing.current())
    with tracing.span("attempt", *contexts, None):
        pass
    (attempt,) = named(spans, "attempt")
    first, second = named(spans, "request")
    assert attempt.context.trace_id == first.context.trace_id != second.context.trace_id
    assert [link.context.span_id for link in attempt.links] == [second.context.span_id]


def test_without_a_tracer_nothing_is_traced() -> None:
    with tracing.span("request", PARENT, request_id="x") as span:
        span.tell("better", status=200)
        assert tracing.current() is None
    tracing.record("flush", 0, 1.0)


def test_a_parent_that_is_no_context_begins_a_trace_of_its_own(spans: InMemorySpanExporter) -> None:
    with tracing.span("request", "00-nonsense"):
        pass
    (request,) = named(spans, "request")
    assert request.parent is None
