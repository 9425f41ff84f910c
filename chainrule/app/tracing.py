"""Traces for OpenTelemetry: of a request, of the claims and attempts of the run it submitted, and of their writes.

The context of the request is stored with its run, in the W3C's form, so that whoever trains it, on whichever
machine and however much later, goes on with the same trace. Without a tracer all of this does nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import chainrule

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

_tracer: "Tracer | None" = None


class Span:
    """A part of a trace, while it lasts; may be given a better name and more attributes."""

    def __init__(self, of: Any = None) -> None:
        self._of = of

    def tell(self, name: str = "", **attributes: str | int | float) -> None:
        """Say what has been found out meanwhile."""
        if self._of is not None:
            self._of.set_attributes({f"chainrule.{key}": value for key, value in attributes.items()})
            if name:
                self._of.update_name(name)


def install(where: str) -> None:
    """Send spans by OTLP over HTTP; where to is said by OpenTelemetry's own variables, `OTEL_EXPORTER_OTLP_…`.

    Raises:
        ModuleNotFoundError: OpenTelemetry is not installed.
    """
    if where == "off":
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is missing; traces need: pip install 'chainrule[otel]'") from error
    about = Resource.create({"service.name": "chainrule", "service.version": chainrule.__version__})
    provider = TracerProvider(resource=about)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)


def use(provider: "TracerProvider | None") -> None:
    """Make spans with a provider from now on, or none at all."""
    global _tracer  # a process has one log, and one place for its traces
    _tracer = None if provider is None else provider.get_tracer("chainrule", chainrule.__version__)


@contextmanager
def span(name: str, *parents: str | None, **attributes: str | int | float) -> Iterator[Span]:
    """Trace what is done meanwhile.

    Args:
        name: what is done.
        parents: the stored contexts it goes on with: a part of the first one's trace, and linked to the others.
        attributes: what is known of it.
    """
    if _tracer is None:
        yield Span()
        return
    known = [parent for parent in parents if parent]
    links = _links(known[1:])
    with _tracer.start_as_current_span(name, context=_context(known), links=links) as made:
        shown = Span(made)
        shown.tell("", **attributes)
        yield shown


def record(name: str, started_ns: int, seconds: float, *parents: str | None, **attributes: str | int | float) -> None:
    """Trace what is over: a part of the stored context that is given, or of what is done now."""
    if _tracer is not None:
        known = [parent for parent in parents if parent]
        made = _tracer.start_span(name, context=_context(known), links=_links(known[1:]), start_time=started_ns)
        Span(made).tell("", **attributes)
        made.end(started_ns + round(seconds * 1e9))


def current() -> str | None:
    """Tell the context of what is done now, to be stored; None if it is not traced."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def _context(known: Sequence[str]) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": known[0]}) if known else None


def _links(known: Sequence[str]) -> list[Any]:
    from opentelemetry.trace import Link, get_current_span

    return [Link(get_current_span(_context([parent])).get_span_context()) for parent in known]
