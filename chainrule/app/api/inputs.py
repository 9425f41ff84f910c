"""Inputs of runs over HTTP."""

from typing import Any

from fastapi import APIRouter

from chainrule.app.api.dependencies import RunId, Service
from chainrule.app.api.problems import documented
from chainrule.app.api.representations import json_response
from chainrule.app.api.schemas.inputs import RunInputs
from chainrule.app.errors import NotFound
from chainrule.app.services import inputs

router = APIRouter(prefix="/runs/{run_id}/inputs", tags=["runs"])


@router.get(
    "",
    summary="See how features become the network's input",
    response_description="The map, column by column.",
    response_model=RunInputs,
    responses=documented(NotFound),
)
def get_inputs(service: Service, run_id: RunId) -> Any:
    """Scaling and one-hot columns as `inputs` of the spec asked for them, fitted to the training samples alone.

    Predict, gradients and metrics apply it to raw rows; it never changes.
    """
    return json_response(inputs.get(service.database, run_id))
