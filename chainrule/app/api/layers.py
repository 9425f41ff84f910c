"""Layers over HTTP: how strong signals are in each, at any epoch and before any."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Request

from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service, json_only
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import ETAG, UNCHANGED, kept_answer
from chainrule.app.api.representations import finite, json_response
from chainrule.app.api.schemas.layers import InitializationPreview, Layers
from chainrule.app.api.schemas.specs import RunSpec
from chainrule.app.errors import InvalidInput, LimitExceeded, Malformed, NotFound, TooLarge, UnsupportedMediaType
from chainrule.app.services import layers
from chainrule.app.services.layers import Measured
from chainrule.engine.signals import EQUATIONS

router = APIRouter(tags=["gradients"])


@router.get(
    "/runs/{run_id}/checkpoints/{epoch}/layers",
    summary="Measure the layers of an epoch's network",
    response_model=Layers,
    responses={
        200: {
            "description": "Norms, root mean squares and shares of each layer.",
            "headers": ETAG,
        },
        **UNCHANGED,
        **documented(NotFound, LimitExceeded),
    },
)
def read_layers(
    request: Request, service: Service, run_id: RunId, epoch: EpochName, if_none_match: IfNoneMatch = None
) -> Any:
    """How large W and dW are, how strong Z, A and dZ, which outputs are saturated and which units dead.

    Over up to 512 of the samples the run trains on, by the network as it is used: without dropout, with running
    statistics of batch normalization.
    """
    return kept_answer(
        request, service, run_id, epoch, if_none_match,
        lambda kept: json_response(
            {"run": kept.run_id, "epoch": kept.epoch}
            | _shown(layers.of_checkpoint(service.database, service.settings, kept))
        ),
    )  # fmt: skip


@router.post(
    "/initialization-previews",
    summary="Look at a network before it is trained",
    response_description="Its layers over some samples, its cost, and what a run will take.",
    response_model=InitializationPreview,
    response_model_exclude_unset=True,
    dependencies=[Depends(json_only)],
    responses=documented(Malformed, TooLarge, UnsupportedMediaType, InvalidInput, LimitExceeded),
)
def preview_initialization(service: Service, spec: RunSpec) -> Any:
    """Takes the spec of a run, and submits nothing.

    Where RMS(dZ[l]) falls by orders of magnitude from the last layer to the first, the first layers will hardly learn;
    where the cost is far above that at chance, the outputs are too sure of what they do not know.
    """
    found = layers.at_beginning(service.database, service.settings, spec.model_dump())
    chance = finite(found.cost_at_chance)
    more = {"config": found.config, "estimate": found.estimate, "cost_at_chance": chance}
    return json_response(more | _shown(found.measured))


def _shown(measured: Measured) -> dict[str, Any]:
    return {
        "m": measured.m,
        "cost": finite(measured.cost),
        "layers": [
            {name: finite(value) if isinstance(value, float) else value for name, value in asdict(layer).items()}
            for layer in measured.layers
        ],
        "equations": EQUATIONS,
    }
