"""Walks over HTTP: samples taken through the network and back, of the dataset by GET, or sent along by POST."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from numpy.typing import NDArray

from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service, json_only
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import (
    ETAG,
    MOST_PIXELS,
    UNCHANGED,
    FromMode,
    RowNumbers,
    Split,
    kept_answer,
    selection_of,
    sent,
)
from chainrule.app.api.representations import JSON, NPZ, choose, json_response, listed
from chainrule.app.api.schemas.inspection import Walk, WalkRequest
from chainrule.app.errors import (
    InvalidInput,
    LimitExceeded,
    Malformed,
    NotAcceptable,
    NotFound,
    TooLarge,
    UnsupportedMediaType,
)
from chainrule.app.services import checkpoints, walks
from chainrule.app.services.batches import Selection
from chainrule.app.services.weights import encode_npz
from chainrule.engine.pictures import picture

router = APIRouter(prefix="/runs/{run_id}/checkpoints/{epoch}", tags=["gradients"])
PICTURED, MATRIX = 10_000, 2
OFFERS = {"json": JSON, "npz": NPZ}
READING = (NotFound, NotAcceptable, InvalidInput, LimitExceeded)
BINARY = {NPZ: {"schema": {"type": "string", "format": "binary"}}}

Format = Annotated[str | None, Query(description="json or npz (the arrays only); in place of `Accept`.")]


@router.get(
    "/walk",
    summary="Walk a sample through the network and back",
    response_model=Walk,
    response_model_exclude_unset=True,
    responses={
        200: {"description": "The steps, and every array they mention.", "headers": ETAG, "content": BINARY},
        **UNCHANGED,
        **documented(*READING),
    },
)
def read_walk(
    request: Request, service: Service, run_id: RunId, epoch: EpochName, rows: RowNumbers, split: Split = None,
    mode: FromMode = "evaluation",
    reduce: Annotated[
        Literal["none", "mean"] | None,
        Query(description="none: a row for each sample; mean: their mean. By default mean for a split, else none."),
    ] = None,
    values: Annotated[bool, Query(description="Give the arrays; false for their shapes only.")] = True,
    names: Annotated[
        str | None,
        Query(max_length=1000, description="Only these arrays: `A0,Z1,A1,dZ1`; by default all of the walk."),
    ] = None,
    pictures: Annotated[
        str | None,
        Query(
            max_length=10,
            description=f"npz: of matrices of more than {PICTURED:,} elements pictures of at most so many rows and "
            "columns, `128,196`: their codes as of `…/array`, and as `W1.picture` their rows and columns, how many of "
            "these a pixel stands for, the limit, and how many elements are not finite.",
        ),
    ] = None,
    format: Format = None,
    if_none_match: IfNoneMatch = None,
) -> Any:  # fmt: skip
    """Two steps forward for each layer, Z and A, the cost, then dA[L], and three steps back for each layer: dZ, dW and
    db, dA of the layer before; normalization and dropout are said. Each step with its equations and the names of its
    operands, all of which are in `arrays`, so that it can be recomputed by hand. Of several samples arrays have a row
    for each, or are means over them.
    """
    chosen = choose(request, format, OFFERS)
    selection = selection_of(rows, split)
    wanted = None if names is None else [name.strip() for name in names.split(",")]
    frame = _frame(pictures, chosen)
    return kept_answer(
        request, service, run_id, epoch, if_none_match,
        lambda kept: _walked(
            service, kept, selection, mode, reduce, wanted, values=values, chosen=chosen, frame=frame
        ), chosen,
    )  # fmt: skip


def _frame(pictures: str | None, chosen: str) -> tuple[int, int] | None:
    if pictures is None:
        return None
    rows, _, columns = pictures.partition(",")
    if not all(n.isascii() and n.isdigit() and 1 <= int(n) <= MOST_PIXELS for n in (rows, columns)):
        raise InvalidInput.at("/pictures", f"{pictures!r} are no two numbers from 1 to {MOST_PIXELS}; write 128,196.")
    if chosen != "npz":
        raise InvalidInput.at("/pictures", "Pictures are bytes: they go with format=npz.")
    return int(rows), int(columns)


@router.post(
    "/walk",
    summary="Walk samples sent along through the network and back",
    response_model=Walk,
    response_model_exclude_unset=True,
    dependencies=[Depends(json_only)],
    responses={
        200: {"description": "The steps, and every array they mention.", "content": BINARY},
        **documented(Malformed, TooLarge, UnsupportedMediaType, *READING),
    },
)
def post_walk(
    request: Request, service: Service, run_id: RunId, epoch: EpochName, query: WalkRequest, format: Format = None
) -> Any:
    """The same as by GET, also for samples that are not in the dataset."""
    chosen = choose(request, format, OFFERS)
    kept = checkpoints.weights(service.database, run_id, epoch)
    return _walked(
        service, kept, sent(query), query.mode, query.reduce, query.names, values=query.values, chosen=chosen
    )  # fmt: skip


def _walked(
    service: Service, kept: checkpoints.Kept, selection: Selection, mode: str, reduce: str | None,
    names: Sequence[str] | None, *, values: bool, chosen: str, frame: tuple[int, int] | None = None,
) -> Response:  # fmt: skip
    found = walks.take(service.database, service.settings, kept, selection, mode=mode, reduce=reduce, names=names)
    if chosen == "npz":
        arrays = found.arrays if frame is None else _pictured(found.arrays, frame)
        return Response(encode_npz(arrays), media_type=NPZ)
    return json_response(
        {
            "run": found.run_id,
            "epoch": found.epoch,
            "m": found.batch.m,
            "rows": None if selection.rows is None else list(selection.rows),
            "mode": found.mode,
            "reduced": found.reduced,
            "dtype": found.dtype,
            "steps": [
                {
                    "number": number,
                    "phase": step.phase,
                    "layer": step.layer,
                    "operands": list(step.operands),
                    "results": [{"name": name, "equation": text} for name, text in step.results.items()],
                    "function": step.function,
                    "note": step.note,
                    "follows": follows,
                }
                for number, (step, follows) in enumerate(zip(found.steps, found.follows, strict=True), start=1)
            ],
            "arrays": {
                name: {"shape": list(array.shape)} | ({"values": listed(array)} if values else {})
                for name, array in found.arrays.items()
            },
        }
    )


def _pictured(arrays: Mapping[str, NDArray[Any]], frame: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Put pictures in the place of large matrices, each with the numbers it is read by."""
    found: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        if array.ndim != MATRIX or array.size <= PICTURED:
            found[name] = array
            continue
        small = picture(array, frame)
        found[name] = small.codes
        found[f"{name}.picture"] = np.array([*array.shape, *small.block, small.limit, small.nonfinite], np.float64)
    return found
