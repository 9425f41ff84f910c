"""Curvature over HTTP: the largest eigenvalue and the trace of the cost's second derivatives."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import ETAG, UNCHANGED, RowNumbers, Split, kept_answer, selection_of
from chainrule.app.api.representations import finite, json_response
from chainrule.app.api.schemas.curvatures import Curvature
from chainrule.app.errors import InvalidInput, LimitExceeded, NotFound
from chainrule.app.services import checkpoints, curvatures
from chainrule.engine import Network
from chainrule.engine.arrays import FloatArray
from chainrule.engine.network import NetworkSpec
from chainrule.engine.walk import layer_of

router = APIRouter(prefix="/runs/{run_id}/checkpoints/{epoch}", tags=["gradients"])
EQUATIONS = {
    "hessian": "H = ∂²C/∂θ², θ all parameters; with l2 λ₂ is added at the weights",
    "largest": "λ_max = max vᵀ·H·v over ‖v‖ = 1",
    "trace": "tr H = E[vᵀ·H·v], v of random signs",
    "edge": "2/η",
}


@router.get(
    "/curvature",
    summary="Measure how the cost bends",
    response_model=Curvature,
    responses={
        200: {"description": "λ_max, 2/η, the trace, and what it took.", "headers": ETAG},
        **UNCHANGED,
        **documented(NotFound, InvalidInput, LimitExceeded),
    },
)
def read_curvature(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    rows: RowNumbers,
    split: Split = None,
    products: Annotated[int, Query(ge=1, le=1000, description="Most products H·v that λ_max may take.")] = 40,
    probes: Annotated[int, Query(ge=0, le=1000, description="Vectors the trace is estimated by; 0 for none.")] = 20,
    seed: Annotated[int, Query(ge=0, le=2**63 - 1, description="Of the first vector and of the probes.")] = 0,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """The largest eigenvalue of the Hessian and its trace, from exact products H·v, which take about two gradients
    each; H itself is never made. Computed in float64, of the network as it is, without dropout. Refused where there
    is no second derivative of one function: l1, and batch normalization. Over rows, a split, or by default the first
    min(512, m) training samples.
    """
    selection = None if rows is None and split is None else selection_of(rows, split)

    def answer(kept: checkpoints.Kept) -> Response:
        found = curvatures.take(
            service.database, service.settings, kept, selection, products=products, probes=probes, seed=seed
        )
        return json_response(_shown(found, kept, seed))

    return kept_answer(request, service, run_id, epoch, if_none_match, answer)


def _shown(found: curvatures.Curvature, kept: checkpoints.Kept, seed: int) -> dict[str, Any]:
    top, trace = found.largest, found.trace
    return {
        "run": kept.run_id,
        "epoch": kept.epoch,
        "m": found.m,
        "parameters": found.parameters,
        "largest": {
            "value": finite(top.value),
            "residual": finite(top.residual),
            "converged": top.converged,
            "smallest_seen": finite(top.smallest),
            "layers": _shares(found.spec, top.vector),
        },
        "trace": None
        if trace is None
        else {
            "value": finite(trace.value),
            "standard_error": finite(trace.standard_error),
            "probes": trace.probes,
        },
        "learning_rate": found.rate,
        "edge": finite(2 / found.rate) if found.rate > 0 else None,
        "note": found.note,
        "products": found.products,
        "operations": found.operations,
        "seed": seed,
        "equations": EQUATIONS,
    }


def _shares(spec: NetworkSpec, vector: FloatArray) -> dict[str, float | None]:
    shares = dict.fromkeys(range(1, len(spec.layers) + 1), 0.0)
    for name, block in Network(spec, vector).blocks.items():
        shares[layer_of(name)] += float(np.sum(block**2))
    return {str(number): finite(share) for number, share in shares.items()}
