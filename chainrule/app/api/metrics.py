"""Metrics over HTTP: error, precision, recall and confusion matrix, or RMSE, MAE and R², of any checkpoint."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

import chainrule
from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service, matches, names_one
from chainrule.app.api.problems import documented
from chainrule.app.api.representations import finite, json_response
from chainrule.app.api.schemas.metrics import Metrics
from chainrule.app.errors import InvalidInput, LimitExceeded, NotFound
from chainrule.app.services import checkpoints, metrics

router = APIRouter(tags=["checkpoints"])


@router.get(
    "/runs/{run_id}/checkpoints/{epoch}/metrics",
    summary="Measure the network of an epoch",
    response_model=Metrics,
    responses={
        200: {
            "description": "The metrics, each with its equation; which ones depends on the targets (`kind`).",
            "headers": {"ETag": {"description": "Names weights, run and split.", "schema": {"type": "string"}}},
        },
        304: {"description": "They are what you have."},
        **documented(NotFound, InvalidInput, LimitExceeded),
    },
)
def read_metrics(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    split: Annotated[
        Literal["training", "validation"] | None,
        Query(description="Which samples: training or validation; by default validation where the run has it."),
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """Classification: error, confusion matrix, precision, recall and F1 of each class. Targets of 0 and 1
    learned by binary cross-entropy: the same for each label. Regression: RMSE, MAE and R² of each target. Computed
    over all samples of the split from the weights that are kept; what is undefined is null.
    """
    kept = checkpoints.weights(service.database, run_id, epoch)
    chosen = metrics.split_of(kept, split)
    etag = f'"{kept.sha256}-{kept.run_id}-{chosen}-{chainrule.__version__}"'
    lasting = names_one(request, epoch)
    headers = {
        "Content-Location": f"/v1/runs/{kept.run_id}/checkpoints/{kept.epoch}/metrics?split={chosen}",
        "Cache-Control": "private, max-age=31536000, immutable" if lasting else "no-cache",
        "ETag": etag,
    }
    if matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    found = metrics.of_checkpoint(service.database, service.settings, kept, chosen)
    about = {"run": kept.run_id, "epoch": kept.epoch, "split": chosen, "kind": found.kind, "equations": found.equations}
    return json_response(about | _shown(asdict(found)), headers=headers)


def _shown(value: Any) -> Any:
    """Make JSON of a metric's fields: matrices as lists, null where a number is not finite."""
    if isinstance(value, dict):
        return {name: _shown(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(part) for part in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return finite(value) if isinstance(value, float) else value
