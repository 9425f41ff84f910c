"""Histograms over HTTP: several epochs in one answer, and pairs of a weight and its gradient."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import ETAG, UNCHANGED, epochs_of, kept_answer, numbers_of, way_answer
from chainrule.app.api.representations import finite, json_response
from chainrule.app.api.schemas.histograms import Histograms, JointHistograms
from chainrule.app.errors import InvalidInput, LimitExceeded, NotFound
from chainrule.app.services import histograms
from chainrule.app.services.histograms import MOST_EPOCHS
from chainrule.engine.histograms import Histogram, edges
from chainrule.engine.walk import layer_of, symbol_of

router = APIRouter(prefix="/runs/{run_id}", tags=["gradients"])
REFUSALS = (NotFound, InvalidInput, LimitExceeded)


async def _layers(
    layers: Annotated[
        str | None, Query(max_length=400, description="Layers, from 1, and ranges of them: `1,3-5`; all by default.")
    ] = None,
) -> list[int] | None:
    return None if layers is None else list(dict.fromkeys(numbers_of(layers, "layers")))


Layers = Annotated[list[int] | None, Depends(_layers)]


@router.get(
    "/histograms",
    summary="Read histograms of several epochs",
    response_model=Histograms,
    responses={
        200: {"description": "Counts, a row for each epoch.", "headers": ETAG},
        **UNCHANGED,
        **documented(*REFUSALS),
    },
)
def read_histograms(
    request: Request,
    service: Service,
    run_id: RunId,
    layers: Layers,
    names: Annotated[
        str,
        Query(max_length=200, description=f"Of what, separated by commas: {', '.join(histograms.NAMES)}."),
    ] = "W,dW,Z,A,dZ,update",
    epochs: Annotated[
        str | None,
        Query(
            max_length=4000,
            description="Epochs: one range `0-50`, or a list `0,5,10`; of these those whose weights are kept. All by "
            "default.",
        ),
    ] = None,
    at_most: Annotated[
        int, Query(ge=1, le=MOST_EPOCHS, description="Most epochs; of more so many, evenly spread, are looked at.")
    ] = MOST_EPOCHS,
    split: Annotated[
        Literal["training", "validation"] | None,
        Query(description="Over a whole split, in place of the first min(512, m) training samples."),
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """Weights W and b, activations Z and A, gradients dA, dZ, dW and db, and updates of the epochs a run has kept,
    counted in bins that are powers of two on either side of zero, the same for all. Zeros, NaN and infinities are
    counted apart. `update` is W minus W at the end of the kept epoch before.
    """
    first, last, listed = epochs_of(epochs)
    which = histograms.choose(service.database, run_id, first, last, listed, at_most)
    asked = list(dict.fromkeys(name.strip() for name in names.split(",")))

    def answer() -> dict[str, Any]:
        found = histograms.count(service.database, service.settings, which, asked, layers, split)
        chosen = list(which.epochs)
        return {
            "run": which.run_id,
            "epochs": chosen,
            "before": [which.before[epoch] for epoch in chosen],
            "kept": which.kept,
            "sampled": which.sampled,
            "samples": found.m,
            "split": split,
            "edges": [finite(edge) for edge in edges()],
            "histograms": {
                name: _rows(name, [of_epochs[epoch] for epoch in chosen]) for name, of_epochs in found.counted.items()
            },
        }

    return way_answer(request, which, if_none_match, answer)


@router.get(
    "/checkpoints/{epoch}/joint-histogram",
    summary="Count pairs of a weight and its gradient",
    response_model=JointHistograms,
    responses={
        200: {"description": "The cells that are not empty.", "headers": ETAG},
        **UNCHANGED,
        **documented(*REFUSALS),
    },
)
def read_joint_histogram(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    layers: Layers,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """Each weight with its own entry of dW, the mean over the first min(512, m) training samples, in two dimensions
    of the same bins as of `histograms`: whether large weights have large gradients, and which have none.
    """

    def answer(kept: Any) -> Response:
        found, m = histograms.together(service.database, service.settings, kept, layers)
        return json_response(
            {
                "run": kept.run_id,
                "epoch": kept.epoch,
                "samples": m,
                "edges": [finite(edge) for edge in edges()],
                "layers": {
                    str(number): {"cells": one.cells.tolist(), "nonfinite": one.nonfinite}
                    for number, one in found.items()
                },
            }
        )

    return kept_answer(request, service, run_id, epoch, if_none_match, answer)


def _rows(name: str, found: list[Histogram | None]) -> dict[str, Any]:
    number = layer_of(name)
    text = histograms.NAMES[symbol_of(name)].replace("[l-1]", f"[{number - 1}]").replace("[l]", f"[{number}]")
    apart = ("zeros", "nan", "positive_infinite", "negative_infinite")
    return {
        "equation": text,
        "layer": number,
        "counts": [None if one is None else one.counts.tolist() for one in found],
        **{kind: [None if one is None else getattr(one, kind) for one in found] for kind in apart},
    }
