"""Gradients over HTTP: recorded statistics, any quantity on demand, gradient checks."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from chainrule.app.api.dependencies import After, EpochName, RunId, Service, json_only
from chainrule.app.api.problems import documented
from chainrule.app.api.representations import JSON, NPZ, SAFETENSORS, choose, finite, json_response, listed
from chainrule.app.api.schemas.gradients import (
    GradientCheck,
    GradientCheckRequest,
    GradientRecords,
    Gradients,
    GradientsRequest,
)
from chainrule.app.errors import (
    InvalidInput,
    LimitExceeded,
    Malformed,
    NotAcceptable,
    NotFound,
    TooLarge,
    UnsupportedMediaType,
)
from chainrule.app.services import gradient_checks, gradients
from chainrule.app.services.gradients import Inspection, Question
from chainrule.app.services.weights import encode_npz, encode_safetensors

router = APIRouter(tags=["gradients"])


@router.get(
    "/runs/{run_id}/gradients",
    summary="Read recorded gradient statistics",
    response_description="The statistics.",
    response_model=GradientRecords,
    responses=documented(NotFound, InvalidInput),
)
def read_gradients(
    service: Service,
    run_id: RunId,
    after: After = -1,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most epochs of an answer.")] = 500,
    layer: Annotated[int | None, Query(ge=1, le=10**6, description="Only this layer.")] = None,
) -> Any:
    """Norm, moments, extremes, share of zeros and update ratio of each layer's dW and db, per recorded epoch."""
    items, next_after, thinned_at = gradients.recorded(service.database, run_id, after=after, limit=limit, layer=layer)
    return json_response({"items": items, "next_after": next_after, "thinned_at": thinned_at})


@router.post(
    "/runs/{run_id}/checkpoints/{epoch}/gradients",
    summary="Compute any quantity of backpropagation",
    response_model=Gradients,
    response_model_exclude_unset=True,
    dependencies=[Depends(json_only)],
    responses={
        200: {
            "description": "Each quantity with equation, shape and norm; NPZ and safetensors have the arrays only.",
            "content": {
                NPZ: {"schema": {"type": "string", "format": "binary"}},
                SAFETENSORS: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **documented(
            Malformed, NotFound, NotAcceptable, TooLarge, UnsupportedMediaType, InvalidInput, LimitExceeded
        ),
    },
)  # fmt: skip
def compute_gradients(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    query: GradientsRequest,
    format: Annotated[str | None, Query(description="json, npz or safetensors; in place of `Accept`.")] = None,
) -> Any:
    """Z, A, dA, dZ, dW and db of any layer, for rows of the run's data or samples sent along, at the weights of
    an epoch. Row i of Z, A, dA and dZ belongs to sample i; dW and db are means over the samples. They are those of
    the run's own cost C: with its label smoothing and its weights, without penalties, and of the network as it is,
    without dropout, and with running statistics of batch normalization unless `mode` is training.
    """
    chosen = choose(request, format, {"json": JSON, "npz": NPZ, "safetensors": SAFETENSORS})
    question = Question(**query.model_dump(exclude={"values"}))
    found = gradients.inspect(service.database, service.settings, run_id, epoch, question)
    if chosen == "npz":
        return Response(encode_npz(found.arrays), media_type=NPZ)
    if chosen == "safetensors":
        return Response(encode_safetensors(found.arrays), media_type=SAFETENSORS)
    return json_response(_shown(found, values=query.values))


@router.post(
    "/gradient-checks",
    summary="Check gradients against central differences",
    response_description="The comparison, block by block.",
    response_model=GradientCheck,
    dependencies=[Depends(json_only)],
    responses=documented(Malformed, TooLarge, UnsupportedMediaType, InvalidInput, LimitExceeded),
)
def check_gradients(service: Service, query: GradientCheckRequest) -> Any:
    """Moves every entry of every W and b a little, looks at the cost, and compares with backpropagation.

    In float64, on a network at its beginning: relative errors below 1e-6 mean that the gradients are right.
    """
    return gradient_checks.run(service.database, service.settings, query.model_dump())


def _shown(found: Inspection, *, values: bool) -> dict[str, Any]:
    quantities: dict[str, Any] = {}
    for name, array in found.arrays.items():
        statistics = {"equation": found.equations[name], "shape": list(array.shape), "norm": finite(found.norms[name])}
        quantities[name] = statistics | ({"values": listed(array)} if values else {})
    return {
        "run": found.run_id,
        "epoch": found.epoch,
        "m": found.m,
        "rows": found.rows,
        "cost": finite(found.cost),
        "cost_name": found.cost_name,
        "cost_equation": found.cost_equation,
        "weights": None if found.weights is None else found.weights.tolist(),
        "dtype": found.dtype,
        "per_sample": found.per_sample,
        "mode": found.mode,
        "quantities": quantities,
    }
