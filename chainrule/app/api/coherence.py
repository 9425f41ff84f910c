"""Coherence over HTTP: how far samples' own gradients agree, of the dataset by GET, or sent along by POST."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response

from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service, json_only
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import (
    ETAG,
    UNCHANGED,
    FromMode,
    RowNumbers,
    Split,
    kept_answer,
    quantities,
    selection_of,
    sent,
)
from chainrule.app.api.representations import finite, json_response, listed
from chainrule.app.api.schemas.inspection import MOST_TERMS, Coherence, CoherenceRequest
from chainrule.app.errors import InvalidInput, LimitExceeded, Malformed, NotFound, TooLarge, UnsupportedMediaType
from chainrule.app.services import checkpoints, coherence
from chainrule.engine.coherence import EQUATIONS

router = APIRouter(prefix="/runs/{run_id}/checkpoints/{epoch}", tags=["gradients"])
MOST_NORMS = 10_000
"""Of more samples than that, the norm of each is left out."""


@router.get(
    "/coherence",
    summary="Measure each sample's own gradient",
    response_model=Coherence,
    responses={
        200: {"description": "Norms, signal and noise, each with its equation.", "headers": ETAG},
        **UNCHANGED,
        **documented(NotFound, InvalidInput, LimitExceeded),
    },
)
def read_coherence(
    request: Request, service: Service, run_id: RunId, epoch: EpochName, rows: RowNumbers, split: Split = None,
    mode: FromMode = "evaluation",
    gram: Annotated[bool, Query(description="Give inner products and cosines of each pair of samples too.")] = False,
    classes: Annotated[
        bool, Query(description="Give mean cosines between classes and between batches, without those of each pair.")
    ] = False,
    top: Annotated[int, Query(ge=0, le=MOST_TERMS, description="How many of the largest gradients to name.")] = 10,
    if_none_match: IfNoneMatch = None,
) -> Any:  # fmt: skip
    """The norm of each sample's gradient and its cosine with their mean; tr Σ, |G|², the noise scale B_simple, the
    coherence, and the tests of norm, inner product and orthogonality; with `gram` all inner products, mean cosines
    between classes, and those between mini-batches. No sample's gradient of the weights is made for it: it is a product
    of two vectors. What is undefined is null, with the reason. Without rows and split: all the run trains on.
    """
    selection = selection_of(rows, "training" if rows is None and split is None else split)
    return kept_answer(
        request, service, run_id, epoch, if_none_match,
        lambda kept: _measured(
            coherence.take(service.database, service.settings, kept, selection, mode, with_pairs=gram or classes),
            top, gram=gram,
        ),
    )  # fmt: skip


@router.post(
    "/coherence",
    summary="Measure the gradients of samples sent along",
    response_description="Norms, signal and noise, each with its equation.",
    response_model=Coherence,
    dependencies=[Depends(json_only)],
    responses=documented(Malformed, NotFound, TooLarge, UnsupportedMediaType, InvalidInput, LimitExceeded),
)
def post_coherence(service: Service, run_id: RunId, epoch: EpochName, query: CoherenceRequest) -> Any:
    """The same as by GET, also for samples that are not in the dataset."""
    kept = checkpoints.weights(service.database, run_id, epoch)
    found = coherence.take(
        service.database, service.settings, kept, sent(query), query.mode, with_pairs=query.gram or query.classes
    )
    return _measured(found, query.top, gram=query.gram)


def _measured(found: coherence.Coherence, top: int, *, gram: bool) -> Response:
    batch, samples, pairs = found.batch, found.samples, found.pairs
    largest: list[dict[str, Any]] = []
    if samples is not None:
        labels = batch.labels if batch.labels is not None and batch.labels.ndim == 1 and batch.classes else None
        cosines = samples.cosines
        largest = [
            {
                "sample": i,
                "row": batch.row(i),
                "label": None if labels is None else batch.classes[labels[i]],
                "norm": finite(float(samples.norms[i])),
                "cosine": finite(float(cosines[i])),
            }
            for i in np.argsort(-samples.norms, kind="stable")[:top].tolist()
        ]
    return json_response(
        {
            "run": found.run_id,
            "epoch": found.epoch,
            "m": batch.m,
            "mode": found.mode,
            "quantities": quantities(found.measured, EQUATIONS),
            "norms": None if samples is None or batch.m > MOST_NORMS else listed(samples.norms),
            "largest": largest,
            "pairs": None
            if pairs is None
            else {
                "gram": listed(pairs.gram) if gram else None,
                "cosines": listed(pairs.cosines) if gram else None,
                "classes": None if pairs.classes is None else listed(pairs.classes),
                "batch_size": pairs.batch_size,
                "batches": None if pairs.batches is None else listed(pairs.batches),
            },
        }
    )
