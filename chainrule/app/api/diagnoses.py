"""Diagnoses over HTTP: the rules, and what they say of a run."""

import hashlib
import json
from typing import Any

from fastapi import APIRouter, Request, Response

import chainrule
from chainrule.app.api.dependencies import LATEST, IfNoneMatch, RunId, Service, matches
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import UNCHANGED
from chainrule.app.api.representations import json_response
from chainrule.app.api.schemas.diagnoses import DiagnosisRules, Verdicts
from chainrule.app.errors import NotFound
from chainrule.app.services import diagnoses

router = APIRouter(tags=["gradients"])
ETAG = {"ETag": {"description": "Names what is said.", "schema": {"type": "string"}}}


@router.get(
    "/diagnoses",
    summary="List the rules of the diagnoses",
    response_model=DiagnosisRules,
    responses={
        200: {"description": "The rules, with their thresholds.", "headers": ETAG},
        **UNCHANGED,
        **documented(),
    },
)
def list_rules(if_none_match: IfNoneMatch = None) -> Any:
    """What each looks at, from where on that is a finding, why, and what helps. The thresholds were found with
    trainings that fail in known ways and healthy ones, with SGD and Adam.
    """
    return _answer({"items": diagnoses.rules()}, if_none_match, "no-cache")


@router.get(
    "/runs/{run_id}/diagnoses",
    summary="See what is wrong with a run",
    response_model=Verdicts,
    responses={
        200: {"description": "The verdicts, each with its evidence and what helps.", "headers": ETAG},
        **UNCHANGED,
        **documented(NotFound),
    },
)
def read_diagnoses(request: Request, service: Service, run_id: RunId, if_none_match: IfNoneMatch = None) -> Any:
    """Vanishing and exploding signals, dead and saturated units, steps too long or too short, overfitting, and more:
    each with where and when, the numbers, the threshold and the fix. Looked at are the epochs whose gradient
    statistics are recorded; a number that is not finite is said at once. A run that has ended keeps its verdicts.
    """
    found = diagnoses.of_run(service.database, run_id)
    # An extended run is another run, so what has ended stays as it is.
    lasting = found["done"] and request.path_params["run_id"] != LATEST
    return _answer(found, if_none_match, "private, max-age=31536000, immutable" if lasting else "no-cache")


def _answer(content: dict[str, Any], given: str | None, cache: str) -> Response:
    text = json.dumps([content, chainrule.__version__], sort_keys=True)
    etag = f'"{hashlib.sha256(text.encode()).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": cache}
    return (
        Response(status_code=304, headers=headers) if matches(given, etag) else json_response(content, headers=headers)
    )
