"""The figures of the service for Prometheus, in the text format it reads.

What belongs to this process is counted here: its requests, its memory. What belongs to the service as a
whole is read from the database, so that it is the same whichever process is asked.
"""

from collections.abc import Iterable, Iterator, Mapping

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

import chainrule
from chainrule.app.api.health import parts_of
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services import tally
from chainrule.app.services.monitoring import Figures

router = APIRouter(tags=["health"])
LOSSES = (Reason.CHILD_LOST, Reason.CHILD_STALLED, Reason.WORKER_LOST, Reason.TRAINING_ERROR)


@router.get(
    "/metrics",
    summary="Read the figures of the service for Prometheus",
    response_class=Response,
    responses={200: {"description": "The figures, as text.", "content": {"text/plain": {}}}},
)
async def read_figures(request: Request) -> Response:
    """Requests and memory of this process; queue, slots, runs, steps, epochs, attempts and writes of the service as a
    whole, the same from each of its processes. While the database does not answer these are left out, and
    `chainrule_database_up` is 0. Names and meanings are in the guide to monitoring.
    """
    try:
        figures = await parts_of(request).monitoring.figures()
    except (TimeoutError, SQLAlchemyError):
        figures = None
    whole = CollectorRegistry()
    whole.register(_Whole(figures))
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    own: CollectorRegistry = request.app.state.registry
    if "openmetrics" in content_type:  # which may end but once
        encode, content_type = generate_latest, "text/plain; version=0.0.4; charset=utf-8"
    content = encode(own) + encode(whole)
    return Response(content, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


def new_registry() -> CollectorRegistry:
    """Make a registry for what belongs to this process."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the moments of their making are of no use, and a third of the text
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


class _Whole(Collector):
    """Shows what the database tells of the service as a whole."""

    def __init__(self, figures: Figures | None) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Go through the figures."""
        yield _gauge("build_info", "The version that answers.", {chainrule.__version__: 1}, "version")
        up = _gauge("database_up", "Whether the database answers.", {"": 0 if self._figures is None else 1})
        yield up
        if self._figures is not None:
            yield from _of(self._figures)


def _of(figures: Figures) -> Iterator[Metric]:
    yield _gauge("queue_depth", "Runs that wait and could be trained now.", {"": figures.waiting})
    yield _gauge("queue_oldest_seconds", "How long the oldest of them waits.", {"": figures.oldest_wait_s})
    counts = {status.value: figures.runs.get(status, 0) for status in RunStatus}
    yield _gauge("runs", "Runs in each status.", counts, "status")
    yield _gauge("workers", "Processes that host slots and live.", {"": figures.workers})
    slots = {"busy": figures.busy, "free": max(figures.slots - figures.busy, 0)}
    yield _gauge("slots", "Slots of these.", slots, "state")
    total = figures.totals
    yield _counter("steps", "Steps trained and stored.", {"": total.get((tally.STEPS, ""), 0)})
    yield _counter("epochs", "Epochs trained and stored.", {"": total.get((tally.EPOCHS, ""), 0)})
    ended = {status.value: total.get((tally.ENDED, status), 0) for status in RunStatus if status != RunStatus.RUNNING}
    yield _counter("attempts_ended", "Attempts by what their run became; queued when drained.", ended, "status")
    lost = {reason.value: total.get((tally.LOST, reason), 0) for reason in LOSSES}
    yield _counter("attempts_lost", "Attempts lost with their process or worker.", lost, "reason")
    yield _histogram("run_wait_seconds", "From a run's submission to its first start.", tally.WAIT, figures)
    yield _histogram("flush_seconds", "Transactions of training processes, repeats included.", tally.FLUSH, figures)


def _gauge(name: str, meaning: str, values: Mapping[str, float], label: str = "") -> Metric:
    return _filled(GaugeMetricFamily(f"chainrule_{name}", meaning, labels=[label] if label else []), values, label)


def _counter(name: str, meaning: str, values: Mapping[str, float], label: str = "") -> Metric:
    return _filled(CounterMetricFamily(f"chainrule_{name}", meaning, labels=[label] if label else []), values, label)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float], label: str) -> Metric:
    for key, value in values.items():
        family.add_metric([key] if label else [], value)
    return family


def _histogram(name: str, meaning: str, counted: str, figures: Figures) -> Metric:
    buckets, below = [], 0.0
    for bound in [*(f"{bound:g}" for bound in tally.BOUNDS_S[counted]), tally.BEYOND]:
        below += figures.totals.get((counted, bound), 0)
        buckets.append((bound, below))
    family = HistogramMetricFamily(f"chainrule_{name}", meaning)
    family.add_metric([], buckets, figures.totals.get((counted, tally.SUM), 0))
    return family
