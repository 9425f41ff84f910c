"""Steps over HTTP: an epoch replayed from its beginning, and what one of its steps did."""

import math
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service, matches, names_one
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import ETAG, UNCHANGED, etag_of
from chainrule.app.api.representations import JSON, NPZ, SAFETENSORS, choose, finite, json_response, listed
from chainrule.app.api.schemas.steps import CostAlong, StepGradients, Steps
from chainrule.app.errors import Conflict, InvalidInput, LimitExceeded, NotAcceptable, NotFound
from chainrule.app.services import steps
from chainrule.app.services.steps import Inspected, Planned, Replayed
from chainrule.app.services.weights import encode_npz, encode_safetensors
from chainrule.engine import cost
from chainrule.engine.replay import Along, Looked
from chainrule.engine.walk import layer_of

router = APIRouter(prefix="/runs/{run_id}/epochs/{epoch}/steps", tags=["gradients"])
MOST_STEPS = 10_000
OFFERS = {"json": JSON, "npz": NPZ, "safetensors": SAFETENSORS}
REFUSALS = (NotFound, Conflict, InvalidInput, LimitExceeded)
ALONG = {
    "costs": "C(θ + s·Δ), Δ = θ_after − θ_before",
    "slopes": "dC/ds = Δ·∇C(θ + s·Δ)",
    "parabola": "c₀ + c₁·s + c₂·s², fitted to C and dC/ds at s = 0 and 1",
    "alpha": "1/s* − 1, s* = −c₁/(2·c₂)",
}

StepNumber = Annotated[
    int,
    Path(ge=1, le=10**12, description="A step of the epoch, from 1.", openapi_examples={"first": {"value": 1}}),
]


def _answered(
    request: Request,
    service: Service,
    run_id: str,
    epoch: str,
    given: str | None,
    answer: Callable[[Planned], tuple[Response, bool]],
    chosen: str = "json",
) -> Response:
    """Answer what follows from run, epoch and builds; for good, where run and epoch are named and the builds theirs."""
    planned = steps.plan(service.database, service.settings, run_id, epoch)
    behind = request.url.path.partition("/steps")[2]
    path = f"/v1/runs/{planned.run_id}/epochs/{planned.epoch}/steps{behind}"
    place = f"{path}?{request.url.query}" if request.url.query else path
    etag = etag_of(place, planned.sha256, planned.beginning.epoch, chosen, sorted(planned.builds.items()))
    headers = {"Content-Location": place, "Cache-Control": "no-cache", "Vary": "Accept", "ETag": etag}
    if matches(given, etag):
        return Response(status_code=304, headers=headers)
    response, lasting = answer(planned)
    if lasting and names_one(request, epoch):
        headers["Cache-Control"] = "private, max-age=31536000, immutable"
    response.headers.update(headers)
    return response


@router.get(
    "",
    summary="Replay an epoch, step by step",
    response_model=Steps,
    responses={
        200: {"description": "The steps, in columns.", "headers": ETAG},
        **UNCHANGED,
        **documented(*REFUSALS),
    },
)
def read_steps(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    after: Annotated[int, Query(ge=0, le=10**12, description="Only steps behind this one; 0 for all.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_STEPS, description="Most steps of an answer.")] = 1000,
    rows: Annotated[bool, Query(description="Name the dataset's rows in each step's batch.")] = False,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """Trains the epoch once more, from its beginning, by the code and to the bits of the run, and gives cost, norms
    of gradients and updates, and update ratios of each step. `verified` says that the epoch ended with the weights the
    run has kept. Of an optimizer that remembers earlier steps the epoch's beginning may not be kept; then the training
    begins before it, at `begins_at`. Of a run that diverged, the epoch it diverged in can be replayed too.
    """
    return _answered(
        request, service, run_id, epoch, if_none_match,
        lambda planned: _shown(
            steps.look(service.database, service.settings, planned, after=after, limit=limit, with_rows=rows), after
        ),
    )  # fmt: skip


@router.get(
    "/{step}/gradients",
    summary="Compute any quantity of a step's backpropagation",
    response_model=StepGradients,
    response_model_exclude_unset=True,
    responses={
        200: {
            "description": "Each quantity with equation, shape and norm; NPZ and safetensors have the arrays only.",
            "headers": ETAG,
            "content": {
                NPZ: {"schema": {"type": "string", "format": "binary"}},
                SAFETENSORS: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **UNCHANGED,
        **documented(NotAcceptable, *REFUSALS),
    },
)
def read_step_gradients(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    step: StepNumber,
    names: Annotated[
        str | None,
        Query(max_length=4000, description="Z1,A1,dA1,dZ1,dW1,db1,…, separated by commas; all by default."),
    ] = None,
    values: Annotated[bool, Query(description="Give the arrays; false for shapes and norms only.")] = True,
    format: Annotated[str | None, Query(description="json, npz or safetensors; in place of `Accept`.")] = None,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """The same quantities as of a checkpoint, over the step's own batch and at the weights before its update, with
    the step's masks of dropout and the batch's μ and σ². dW and db are those of C, before penalties, clip and
    optimizer make an update of them.
    """
    chosen = choose(request, format, OFFERS)
    asked = None if names is None else [name.strip() for name in names.split(",")]

    def answer(planned: Planned) -> tuple[Response, bool]:
        found = steps.inspect(service.database, service.settings, planned, step, asked)
        arrays = found.arrays | {f"mask{number}": mask for number, mask in found.masks.items()}
        if chosen == "npz":
            return Response(encode_npz(arrays), media_type=NPZ), planned.alike
        if chosen == "safetensors":
            return Response(encode_safetensors(arrays), media_type=SAFETENSORS), planned.alike
        return json_response(_inspected(found, values=values)), planned.alike

    return _answered(request, service, run_id, epoch, if_none_match, answer, chosen)


@router.get(
    "/{step}/cost-along",
    summary="Compute the cost along a step",
    response_model=CostAlong,
    responses={
        200: {"description": "Places and costs, the fitted parabola, and α.", "headers": ETAG},
        **UNCHANGED,
        **documented(*REFUSALS),
    },
)
def read_cost_along(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    step: StepNumber,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """C(θ + s·Δ) over the step's own batch at 21 places from s = −½ to 2; the step itself went from 0 to 1. The
    fitted parabola tells whether it fell short of the minimum along its way, or went too far.
    """

    def answer(planned: Planned) -> tuple[Response, bool]:
        found = steps.along(service.database, service.settings, planned, step)
        return json_response(_along(planned, step, found)), planned.alike

    return _answered(request, service, run_id, epoch, if_none_match, answer)


def _shown(found: Replayed, after: int) -> tuple[Response, bool]:
    planned, looked = found.plan, found.looked
    last, broken = after + len(looked), next((one for one in looked if not _is_finite(one)), None)
    blocks = {}
    for name in looked[0].blocks if looked else ():
        updates = [one.blocks[name] for one in looked]
        blocks[name] = {
            "layer": layer_of(name),
            "gradient_norm": [None if each is None else finite(each.gradient) for each in updates],
            "update_norm": [None if each is None else finite(each.update) for each in updates],
            "update_ratio": [None if each is None else finite(each.ratio) for each in updates],
        }
    answer = {
        "run": planned.run_id,
        "epoch": planned.epoch,
        "steps": found.steps,
        "begins_at": planned.beginning.epoch,
        "remembers": planned.remembers,
        "verified": found.verified,
        "reason": found.reason,
        "sha256": found.end_sha256,
        "diverged": found.diverged,
        "nonfinite_step": None if broken is None else broken.number,
        "nonfinite": None if broken is None else broken.broken,
        "columns": {
            "step": [one.number for one in looked],
            "samples": [one.samples for one in looked],
            "cost": [finite(one.cost) for one in looked],
            "learning_rate": [found.learning_rate] * len(looked),
            "gradient_norm": [finite(one.gradient) for one in looked],
            "update_norm": [finite(one.update) for one in looked],
            "update_ratio": [finite(one.ratio) for one in looked],
        },
        "blocks": blocks,
        "rows": found.rows,
        "next_after": last if looked and last < found.steps else None,
    }
    return json_response(answer), found.verified is True


def _is_finite(one: Looked) -> bool:
    return one.update is not None and all(map(math.isfinite, (one.cost, one.gradient, one.update)))


def _inspected(found: Inspected, *, values: bool) -> dict[str, Any]:
    planned = found.plan
    return {
        "run": planned.run_id,
        "epoch": planned.epoch,
        "step": found.step,
        "steps": planned.steps,
        "begins_at": planned.beginning.epoch,
        "m": len(found.rows),
        "rows": found.rows,
        "cost": finite(found.cost),
        "cost_name": planned.engine.cost,
        "cost_equation": cost(planned.engine.cost).equation,
        "weights": None if found.weights is None else found.weights.tolist(),
        "dtype": planned.engine.dtype,
        "quantities": {
            name: {"equation": found.equations[name], "shape": list(array.shape), "norm": finite(found.norms[name])}
            | ({"values": listed(array)} if values else {})
            for name, array in found.arrays.items()
        },
        "masks": {f"mask{number}": listed(mask) for number, mask in found.masks.items()} if values else {},
    }


def _along(planned: Planned, step: int, found: Along) -> dict[str, Any]:
    return {
        "run": planned.run_id,
        "epoch": planned.epoch,
        "step": step,
        "begins_at": planned.beginning.epoch,
        "s": found.s.tolist(),
        "costs": listed(found.costs),
        "slope_before": finite(found.slopes[0]),
        "slope_after": finite(found.slopes[1]),
        "parabola": dict(zip(("c0", "c1", "c2"), map(finite, found.parabola), strict=True)),
        "weighted": found.weighted,
        "alpha": finite(found.alpha),
        "reason": found.reason,
        "equations": ALONG,
    }
