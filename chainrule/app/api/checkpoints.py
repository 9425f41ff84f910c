"""Checkpoints over HTTP: what they are, their weights, what they predict."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

import chainrule
from chainrule.app.api.dependencies import After, EpochName, IfNoneMatch, RunId, Service, json_only, matches, names_one
from chainrule.app.api.problems import documented
from chainrule.app.api.representations import JSON, NPZ, ONNX, SAFETENSORS, choose, json_response, listed, partial
from chainrule.app.api.schemas.checkpoints import Checkpoint, CheckpointPage, Predictions, PredictRequest
from chainrule.app.errors import (
    InvalidInput,
    LimitExceeded,
    Malformed,
    NotAcceptable,
    NotFound,
    RangeNotSatisfiable,
    TooLarge,
    UnsupportedMediaType,
)
from chainrule.app.services import checkpoints, exports
from chainrule.app.services.weights import decode_safetensors, encode_npz

FORMATS = {"safetensors": SAFETENSORS, "npz": NPZ, "json": JSON, "onnx": ONNX, "torch": SAFETENSORS}
"""Of weights, and their media types; those for torch are safetensors under other names."""

router = APIRouter(prefix="/runs/{run_id}/checkpoints", tags=["checkpoints"])


@router.get(
    "",
    summary="List a run's checkpoints",
    response_description="The checkpoints.",
    response_model=CheckpointPage,
    responses=documented(NotFound, InvalidInput),
)
def list_checkpoints(
    service: Service,
    run_id: RunId,
    after: After = -1,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most items of an answer.")] = 100,
) -> Any:
    """Which epochs' weights are kept, with hash, size and costs."""
    items, next_after = checkpoints.page(service.database, run_id, after=after, limit=limit)
    return {"items": items, "next_after": next_after}


@router.get(
    "/{epoch}",
    summary="Look at a checkpoint",
    response_description="The checkpoint.",
    response_model=Checkpoint,
    responses=documented(NotFound, InvalidInput),
)
def get_checkpoint(service: Service, run_id: RunId, epoch: EpochName) -> Any:
    """Its epoch, hash, size and costs; the same hash means the same weights, to the bit."""
    return checkpoints.get(service.database, run_id, epoch)


@router.get(
    "/{epoch}/weights",
    summary="Fetch the weights of an epoch",
    response_class=Response,
    responses={
        200: {
            "description": "W1 (n_1, n_0), b1 (n_1,), W2, …; W has the shape of the common frameworks' linear layers. "
            "As ONNX, a model that computes `outputs` and `label` of `samples`; for torch, `0.weight`, `0.bias`, "
            "`2.weight`, … of the `torch.nn.Sequential` that the file's metadata describes.",
            "headers": {
                "ETag": {
                    "description": "The weights' SHA-256; for other formats than safetensors with more behind it.",
                    "schema": {"type": "string"},
                }
            },
            "content": {
                SAFETENSORS: {"schema": {"type": "string", "format": "binary"}},
                NPZ: {"schema": {"type": "string", "format": "binary"}},
                JSON: {"schema": {"$ref": "#/components/schemas/Weights"}},
                ONNX: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        206: {"description": "The range of bytes that was asked for."},
        304: {"description": "They are what you have."},
        **documented(NotFound, NotAcceptable, RangeNotSatisfiable, InvalidInput),
    },
)
def fetch_weights(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    format: Annotated[
        str | None, Query(description="safetensors, npz, json, onnx or torch; in place of `Accept`.")
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """As they were at the end of the epoch. The ETag is their SHA-256, and ranges of bytes are served."""
    chosen = choose(request, format, FORMATS)
    kept = checkpoints.weights(service.database, run_id, epoch)
    etag = f'"{kept.sha256}"' if chosen == "safetensors" else f'"{kept.sha256}-{chosen}-{chainrule.__version__}"'
    place = f"/v1/runs/{kept.run_id}/checkpoints/{kept.epoch}/weights"
    lasting = names_one(request, epoch)
    headers = {
        "Content-Location": place,
        "Cache-Control": "private, max-age=31536000, immutable" if lasting else "no-cache",
        "Vary": "Accept",
    }
    if matches(if_none_match, etag):
        return Response(status_code=304, headers=headers | {"ETag": etag})
    if chosen == "json":
        arrays = {name: array.tolist() for name, array in _ordered(kept.weights).items()}
        body = {"run": kept.run_id, "epoch": kept.epoch, "sha256": kept.sha256, "weights": arrays}
        return json_response(body, headers=headers | {"ETag": etag})
    ending = "torch.safetensors" if chosen == "torch" else chosen
    headers["Content-Disposition"] = f'attachment; filename="{kept.run_id}-epoch-{kept.epoch}.{ending}"'
    return partial(request, _encoded(service, kept, chosen), FORMATS[chosen], etag, headers)


@router.post(
    "/{epoch}/predict",
    summary="Predict with the weights of an epoch",
    response_description="The outputs, and the classes they mean.",
    response_model=Predictions,
    dependencies=[Depends(json_only)],
    responses=documented(Malformed, NotFound, TooLarge, UnsupportedMediaType, InvalidInput, LimitExceeded),
)
async def predict(service: Service, run_id: RunId, epoch: EpochName, query: PredictRequest) -> Any:
    """Outputs A[L] for the samples sent along, and for classifiers the class of each by name."""
    predicted = await run_in_threadpool(
        checkpoints.predict_rows, service.database, service.settings, run_id, epoch, query.samples
    )
    return json_response(predicted | {"outputs": listed(predicted["outputs"])})


def _encoded(service: Service, kept: checkpoints.Kept, chosen: str) -> bytes:
    if chosen == "onnx":
        return exports.onnx(service.database, kept)
    if chosen == "torch":
        return exports.torch(service.database, kept)
    return encode_npz(_ordered(kept.weights)) if chosen == "npz" else kept.weights


def _ordered(weights: bytes) -> dict[str, Any]:
    arrays = decode_safetensors(weights)

    def by_layer(name: str) -> tuple[int, str]:
        symbol = name.rstrip("0123456789")
        return int(name.removeprefix(symbol)), symbol

    return {name: arrays[name] for name in sorted(arrays, key=by_layer)}
