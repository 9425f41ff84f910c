"""What if over HTTP: a changed input, weight or learning rate, before and after."""

from typing import Any

from fastapi import APIRouter, Depends, Response

from chainrule.app.api.dependencies import EpochName, RunId, Service, json_only
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import sent
from chainrule.app.api.representations import finite, json_response, listed
from chainrule.app.api.schemas.what_if import WhatIf, WhatIfRequest
from chainrule.app.errors import InvalidInput, LimitExceeded, Malformed, NotFound, TooLarge, UnsupportedMediaType
from chainrule.app.services import checkpoints, what_if
from chainrule.app.services.what_if import Input, Parameter, Question, Side
from chainrule.engine import cost
from chainrule.engine.what_if import State

router = APIRouter(prefix="/runs/{run_id}/checkpoints/{epoch}", tags=["gradients"])


@router.post(
    "/what-if",
    summary="Ask what would be if a number were another",
    response_description="Cost, outputs and gradients before and after.",
    response_model=WhatIf,
    dependencies=[Depends(json_only)],
    responses=documented(Malformed, NotFound, TooLarge, UnsupportedMediaType, InvalidInput, LimitExceeded),
)
def ask_what_if(service: Service, run_id: RunId, epoch: EpochName, query: WhatIfRequest) -> Any:
    """Changes features of samples, weights and biases, or the learning rate, and tells cost, errors, outputs and
    gradient norms before and after; with `step` also what one step of training over these samples makes of both, with
    the run's penalties, clip and optimizer. Nothing is stored, and the run stays as it is.
    """
    kept = checkpoints.weights(service.database, run_id, epoch)
    question = Question(
        sent(query),
        [Input(one.sample, one.feature, one.value) for one in query.inputs],
        [Parameter(one.name, one.index, one.value) for one in query.parameters],
        query.learning_rate,
        query.step,
        query.mode,
    )
    found = what_if.ask(service.database, service.settings, kept, question)
    return _shown(found)


def _shown(found: what_if.Answer) -> Response:
    rows = found.batch.rows
    return json_response(
        {
            "run": found.run_id,
            "epoch": found.epoch,
            "m": found.batch.m,
            "rows": None if rows is None else rows.tolist(),
            "mode": found.mode,
            "changes": [vars(change) for change in found.changes],
            "before": _side(found.before),
            "after": _side(found.after),
            "equations": {
                "cost": "C = (1/m) Σᵢ w⁽ⁱ⁾·E⁽ⁱ⁾",
                "errors": cost(found.cost_name).equation,
                "gradient_norm": "‖(dW1, db1, …)‖",
                "update_norm": "‖θ_after − θ_before‖",
            },
            "note": found.forgets,
        }
    )


def _side(side: Side) -> dict[str, Any]:
    step = None
    if side.stepped is not None and side.rate is not None and side.update is not None:
        step = {"learning_rate": side.rate, "update_norm": finite(side.update), "state": _state(side.stepped)}
    return _state(side.state) | {"labels": side.labels, "step": step}


def _state(state: State) -> dict[str, Any]:
    return {
        "cost": finite(state.cost),
        "errors": listed(state.errors),
        "outputs": listed(state.outputs),
        "gradient_norms": {name: finite(norm) for name, norm in state.norms.items()},
        "gradient_norm": finite(state.norm),
    }
