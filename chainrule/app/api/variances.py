"""Variances over HTTP: each weight's gradient from sample to sample, and batches' gradients from each other."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import ETAG, UNCHANGED, RowNumbers, Split, kept_answer, quantities, selection_of
from chainrule.app.api.representations import JSON, NPZ, choose, finite, json_response, listed
from chainrule.app.api.schemas.variances import GradientVariance
from chainrule.app.errors import InvalidInput, LimitExceeded, NotAcceptable, NotFound
from chainrule.app.services import checkpoints, variances
from chainrule.app.services.variances import Confusion, Variances
from chainrule.app.services.weights import encode_npz
from chainrule.engine.variance import EQUATIONS

router = APIRouter(prefix="/runs/{run_id}/checkpoints/{epoch}", tags=["gradients"])
OFFERS = {"json": JSON, "npz": NPZ}


@router.get(
    "/gradient-variance",
    summary="Measure the variance of each weight's gradient",
    response_model=GradientVariance,
    response_model_exclude_unset=True,
    responses={
        200: {
            "description": "Signal and noise of each block; NPZ has the arrays var_dW1, … only.",
            "headers": ETAG,
            "content": {NPZ: {"schema": {"type": "string", "format": "binary"}}},
        },
        **UNCHANGED,
        **documented(NotFound, NotAcceptable, InvalidInput, LimitExceeded),
    },
)
def read_gradient_variance(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    rows: RowNumbers,
    split: Split = None,
    values: Annotated[bool, Query(description="Give ḡ and σ² of every weight too.")] = False,
    format: Annotated[str | None, Query(description="json or npz (the variances only); in place of `Accept`.")] = None,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """The variance of each weight's gradient over samples, its ratio of signal to noise, whether the mean gradient is
    more than noise (EB) and which batch size would go with the learning rate (CABS), both for plain gradient descent;
    and how far the mean gradients of batches agree. The network is taken as it is used. Without rows and split: all
    the run trains on.
    """
    chosen = choose(request, format, OFFERS)
    selection = selection_of(rows, "training" if rows is None and split is None else split)

    def answer(kept: checkpoints.Kept) -> Response:
        found = variances.take(
            service.database, service.settings, kept, selection, values=values or chosen == "npz"
        )  # fmt: skip
        if chosen == "npz":
            arrays = {f"var_{name}": block for name, block in found.spread.variance.items()}
            return Response(encode_npz(arrays), media_type=NPZ)
        return json_response(_shown(found, kept, values=values))

    return kept_answer(request, service, run_id, epoch, if_none_match, answer, chosen)


def _shown(found: Variances, kept: checkpoints.Kept, *, values: bool) -> dict[str, Any]:
    spread = found.spread
    return {
        "run": kept.run_id,
        "epoch": kept.epoch,
        "m": found.m,
        "quantities": quantities(found.measured, EQUATIONS),
        "confusion": _confused(found.confusion),
        "blocks": {
            name: {
                "shape": list(block.shape),
                "trace_sigma": finite(float(np.sum(block))),
                "gsnr": finite(spread.gsnr(name)),
                "constant": spread.constant(name),
            }
            | ({"mean": listed(spread.mean[name]), "variance": listed(block)} if values else {})
            for name, block in spread.variance.items()
        },
        "equation": EQUATIONS["variance"],
    }


def _confused(found: Confusion) -> dict[str, Any]:
    return {
        "batches": found.batches,
        "batch_size": found.batch_size,
        "minimum": found.minimum.value,
        "mean": found.mean.value,
        "reason": found.minimum.reason or None,
        "equation": EQUATIONS["confusion"],
    }
