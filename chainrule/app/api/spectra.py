"""Spectra over HTTP: singular values of an epoch's weights, and how far they have come."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import ETAG, UNCHANGED, epochs_of, kept_answer, way_answer
from chainrule.app.api.representations import finite, json_response, listed
from chainrule.app.api.schemas.spectra import Distance, Spectra
from chainrule.app.errors import InvalidInput, LimitExceeded, NotFound
from chainrule.app.services import checkpoints, histograms, spectra
from chainrule.app.services.spectra import LONGEST

router = APIRouter(prefix="/runs/{run_id}", tags=["gradients"])
REFUSALS = (NotFound, InvalidInput, LimitExceeded)
SPECTRUM = "W = U·diag(σ)·Vᵀ; ‖dZ[l]·W[l]‖ ≤ σ₁·‖dZ[l]‖"
EQUATIONS = {
    "distance": "‖θ_e − θ_first‖",
    "path": "Σ ‖θ_k − θ_{k−1}‖",
    "moved": "‖θ_e − θ_before‖",
    "cosine": "(θ_e − θ_{e−1})·(θ_{e−1} − θ_{e−2})/(‖·‖·‖·‖)",
    "norm": "‖θ_e‖",
}


@router.get(
    "/checkpoints/{epoch}/spectrum",
    summary="Read the singular values of each W",
    response_model=Spectra,
    responses={
        200: {"description": "Singular values, stable rank and condition of each layer.", "headers": ETAG},
        **UNCHANGED,
        **documented(*REFUSALS),
    },
)
def read_spectrum(
    request: Request, service: Service, run_id: RunId, epoch: EpochName, if_none_match: IfNoneMatch = None
) -> Any:
    """How much each W can lengthen and shorten what goes through it, forward and back: its singular values, the
    largest first; how many of them count (stable rank); and how unlike they are (condition).
    """

    def answer(kept: checkpoints.Kept) -> Response:
        found = spectra.take(service.settings, kept)
        layers = {
            str(number): {
                "shape": list(one.shape),
                "singular_values": listed(one.singular_values),
                "norm": finite(float(one.singular_values[0])),
                "frobenius": finite(one.frobenius),
                "stable_rank": finite(one.stable_rank),
                "condition": finite(one.condition),
            }
            for number, one in found.items()
        }
        return json_response({"run": kept.run_id, "epoch": kept.epoch, "equation": SPECTRUM, "layers": layers})

    return kept_answer(request, service, run_id, epoch, if_none_match, answer)


@router.get(
    "/distance",
    summary="Read how far the weights have come",
    response_model=Distance,
    responses={
        200: {"description": "Distance, path and turns, by epoch.", "headers": ETAG},
        **UNCHANGED,
        **documented(*REFUSALS),
    },
)
def read_distance(
    request: Request,
    service: Service,
    run_id: RunId,
    epochs: Annotated[
        str | None,
        Query(max_length=4000, description="Epochs: one range `0-50`, or a list `0,5,10`; all kept ones by default."),
    ] = None,
    at_most: Annotated[
        int, Query(ge=1, le=LONGEST, description="Most epochs; of more so many, evenly spread, are looked at.")
    ] = LONGEST,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """The distance of all weights and biases from where they began, the length of the way there, and the cosine of
    each two displacements that follow one another, of the epochs whose weights are kept.
    """
    first, last, listed = epochs_of(epochs)
    which = histograms.choose(service.database, run_id, first, last, listed, at_most)

    def answer() -> dict[str, Any]:
        found = spectra.way(service.database, service.settings, which)
        columns = {name: [finite(getattr(place, name)) for place in found] for name in EQUATIONS}
        layers = {str(number): [finite(place.layers[number]) for place in found] for number in found[0].layers}
        return {
            "run": which.run_id,
            "epochs": [place.epoch for place in found],
            "kept": which.kept,
            "sampled": which.sampled,
            **columns,
            "layers": layers,
            "equations": EQUATIONS,
        }

    return way_answer(request, which, if_none_match, answer)
