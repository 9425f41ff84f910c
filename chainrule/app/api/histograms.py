"""Histograms over HTTP: several epochs in one answer, and pairs of a weight and its gradient."""

import hashlib
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

import chainrule
from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service, matches
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import ETAG, UNCHANGED, kept_answer
from chainrule.app.api.representations import finite, json_response
from chainrule.app.api.schemas.histograms import Histograms, JointHistograms
from chainrule.app.errors import InvalidInput, LimitExceeded, NotFound
from chainrule.app.services import histograms
from chainrule.app.services.histograms import MOST_EPOCHS
from chainrule.engine.histograms import Histogram, edges
from chainrule.engine.walk import symbol_of

router = APIRouter(prefix="/runs/{run_id}", tags=["gradients"])
REFUSALS = (NotFound, InvalidInput, LimitExceeded)
MOST_NUMBERS = 10_000


def numbers_of(text: str | None, place: str) -> list[int] | None:
    """Read numbers from 0, and ranges of them: 0,4,8-15.

    Raises:
        InvalidInput: it is something else.
    """
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        given = [first, last] if dash else [first]
        if not all(piece.isascii() and piece.isdigit() and len(piece) <= 12 for piece in given):
            raise InvalidInput.at(f"/{place}", f"{part.strip()[:50]!r} is no number, nor a range; write 0,4,8-15.")
        start, end = int(first), int(last or first)
        if not 0 <= end - start < MOST_NUMBERS - len(found):
            raise InvalidInput.at(
                f"/{place}", f"The {place} {part.strip()[:50]} are none, or more than {MOST_NUMBERS:,}."
            )
        found += range(start, end + 1)
    return found


def _layers(
    layers: Annotated[
        str | None, Query(max_length=400, description="Layers, from 1, and ranges of them: `1,3-5`; all by default.")
    ] = None,
) -> list[int] | None:
    return numbers_of(layers, "layers")


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
    named = f"{request.url.query} {which.run_id} {which.epochs} {which.kept} {chainrule.__version__}"
    etag = f'"{hashlib.sha256(named.encode()).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    asked = list(dict.fromkeys(name.strip() for name in names.split(",")))
    found = histograms.count(service.database, service.settings, which, asked, layers, split)
    chosen = list(which.epochs)
    return json_response(
        {
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
        },
        headers=headers,
    )


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


def epochs_of(epochs: str | None) -> tuple[int, int | None, list[int] | None]:
    """Read one range, or a list of epochs: the range's first and last, None for the last there is, or the list."""
    if epochs is None:
        return 0, None, None
    first, dash, last = (part.strip() for part in epochs.partition("-"))
    if dash and first.isdigit() and last.isdigit() and max(len(first), len(last)) <= 12 and int(first) <= int(last):
        return int(first), int(last), None
    return 0, None, numbers_of(epochs, "epochs")


def _rows(name: str, found: list[Histogram | None]) -> dict[str, Any]:
    symbol = symbol_of(name)
    number = int(name[len(symbol) :])
    text = histograms.NAMES[symbol].replace("[l-1]", f"[{number - 1}]").replace("[l]", f"[{number}]")
    apart = ("zeros", "nan", "positive_infinite", "negative_infinite")
    return {
        "equation": text,
        "layer": number,
        "counts": [None if one is None else one.counts.tolist() for one in found],
        **{kind: [None if one is None else getattr(one, kind) for one in found] for kind in apart},
    }
