"""Comparisons over HTTP: gradients computed elsewhere, held against ours, and the mistake in them named."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from chainrule.app.api.dependencies import EpochName, RunId, Service
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import RowNumbers, Split, selection_of, sent
from chainrule.app.api.representations import JSON, NPZ, finite, json_response
from chainrule.app.api.schemas.inspection import CompareRequest, Comparison
from chainrule.app.errors import InvalidInput, LimitExceeded, Malformed, NotFound, TooLarge, UnsupportedMediaType
from chainrule.app.services import checkpoints, comparisons
from chainrule.app.services.batches import Selection
from chainrule.engine.normalization import EVALUATION

router = APIRouter(prefix="/runs/{run_id}/checkpoints/{epoch}", tags=["gradients"])


@router.post(
    "/gradient-comparisons",
    summary="Compare gradients of your own",
    response_description="The comparison, block by block, with the mistake and its fix where one is known.",
    response_model=Comparison,
    responses=documented(Malformed, NotFound, TooLarge, UnsupportedMediaType, InvalidInput, LimitExceeded),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "JSON with samples and gradients; or an NPZ archive of dW1, db1, …, with the samples as "
            "query parameters.",
            "content": {
                "application/json": {
                    "schema": CompareRequest.model_json_schema(ref_template="#/components/schemas/{model}")
                },
                NPZ: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
async def compare_gradients(
    request: Request, service: Service, run_id: RunId, epoch: EpochName, rows: RowNumbers, split: Split = None,
    mode: Annotated[
        Literal["evaluation", "training"] | None,
        Query(description="With NPZ: where batch normalization takes μ and σ² from; evaluation by default."),
    ] = None,
) -> Any:  # fmt: skip
    """Send dW and db as you computed them, and the samples they are means over. Each block is told to be exact,
    close, or different; of what is different the mistake is named where it is one of those that are often made:
    a flipped sign, a sum in place of a mean, a transposed matrix, g′ missing, one row off, and others. Gradients are
    of C: without penalties, with label smoothing and weights if the run has them. Query parameters go with NPZ only.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if media_type == NPZ:
        selection = selection_of(rows, split)
        return await run_in_threadpool(_compared, service, run_id, epoch, selection, body, mode or EVALUATION)
    if media_type != JSON:
        raise UnsupportedMediaType(
            f"The body is {media_type or 'of no stated type'}; send {JSON}, or an archive of arrays as {NPZ}."
        )
    if rows is not None or split is not None or mode is not None:
        raise InvalidInput.at("", "Query parameters go with an NPZ body; with JSON all is in the body.")
    query = await run_in_threadpool(_to_compare, body)
    return await run_in_threadpool(
        _compared, service, run_id, epoch, sent(query), query.gradients, query.mode
    )  # fmt: skip


def _to_compare(body: bytes) -> CompareRequest:
    try:
        return CompareRequest.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in found]) from error


def _compared(
    service: Service, run_id: str, epoch: str, selection: Selection, given: bytes | dict[str, Any], mode: str
) -> Response:
    arrays = comparisons.of_npz(given, service.settings) if isinstance(given, bytes) else comparisons.of_lists(given)
    kept = checkpoints.weights(service.database, run_id, epoch)
    found = comparisons.take(service.database, service.settings, kept, selection, arrays, mode)
    return json_response(
        {
            "run": found.run_id,
            "epoch": found.epoch,
            "m": found.batch.m,
            "mode": found.mode,
            "verdict": found.verdict,
            "tolerance": found.tolerance,
            "blocks": [
                {
                    "name": block.name,
                    "shape": list(block.shape),
                    "verdict": block.verdict,
                    "relative_error": finite(block.relative_error),
                    "mistakes": list(block.mistakes),
                    "factor": finite(block.factor),
                    "sentence": block.sentence,
                    "worst": None
                    if block.worst is None
                    else {
                        "index": list(block.worst.index),
                        "ours": finite(block.worst.ours),
                        "theirs": finite(block.worst.theirs),
                    },
                }
                for block in found.blocks
            ],
            "missing": found.missing,
        }
    )
