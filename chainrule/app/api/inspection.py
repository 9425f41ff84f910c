"""The inspector over HTTP: what is asked by GET is answered with an ETag, and kept for good by those who name an epoch.

The same can be posted, with samples sent along.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from pydantic import ValidationError

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
    quantities,
    selection_of,
)
from chainrule.app.api.representations import JSON, NPZ, choose, finite, json_response, listed
from chainrule.app.api.schemas.inspection import (
    MOST_TERMS,
    Coherence,
    CoherenceRequest,
    CompareRequest,
    Comparison,
    ExplainRequest,
    Explanation,
    Selected,
    Walk,
    WalkRequest,
)
from chainrule.app.errors import (
    InvalidInput,
    LimitExceeded,
    Malformed,
    NotAcceptable,
    NotFound,
    TooLarge,
    UnsupportedMediaType,
)
from chainrule.app.services import checkpoints, coherence, comparisons, explanations, walks
from chainrule.app.services.batches import Selection
from chainrule.app.services.explanations import Explained
from chainrule.app.services.weights import encode_npz
from chainrule.engine.coherence import EQUATIONS
from chainrule.engine.explain import BIAS, SAMPLES
from chainrule.engine.normalization import EVALUATION
from chainrule.engine.pictures import picture

router = APIRouter(prefix="/runs/{run_id}/checkpoints/{epoch}", tags=["gradients"])
MOST_NORMS = 10_000
PICTURED, MATRIX = 10_000, 2
OFFERS = {"json": JSON, "npz": NPZ}
READING = (NotFound, NotAcceptable, InvalidInput, LimitExceeded)
POSTING = (Malformed, TooLarge, UnsupportedMediaType, *READING)
BINARY = {NPZ: {"schema": {"type": "string", "format": "binary"}}}

Format = Annotated[str | None, Query(description="json or npz (the arrays only); in place of `Accept`.")]


def _sent(query: Selected) -> Selection:
    return Selection(query.rows, query.samples, query.labels, query.targets, query.split)


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
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    rows: RowNumbers,
    split: Split = None,
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
) -> Any:
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
        **documented(*POSTING),
    },
)
def post_walk(
    request: Request, service: Service, run_id: RunId, epoch: EpochName, query: WalkRequest, format: Format = None
) -> Any:
    """The same as by GET, also for samples that are not in the dataset."""
    chosen = choose(request, format, OFFERS)
    kept = checkpoints.weights(service.database, run_id, epoch)
    return _walked(
        service, kept, _sent(query), query.mode, query.reduce, query.names, values=query.values, chosen=chosen
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


def _index(
    index: Annotated[
        str | None,
        Query(
            max_length=40,
            description="Of the number in it, from 0: `unit,unit below` of dW, `unit` of db, dγ and dβ, `sample,unit` "
            "of all else, `sample` of E, none of C.",
        ),
    ] = None,
) -> list[int]:
    parts = [part.strip() for part in index.split(",")] if index else []
    if not all(part.isascii() and part.isdigit() and len(part) <= 12 for part in parts):
        raise InvalidInput.at("/index", f"{index!r} is no index; write numbers from 0, such as 4,5.")
    return [int(part) for part in parts]


@router.get(
    "/explain",
    summary="Break one number into its terms",
    response_model=Explanation,
    responses={
        200: {"description": "The number, its largest terms and the sum of the others.", "headers": ETAG},
        **UNCHANGED,
        **documented(NotFound, InvalidInput, LimitExceeded),
    },
)
def read_explanation(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    rows: RowNumbers,
    index: Annotated[list[int], Depends(_index)],
    split: Split = None,
    name: Annotated[
        str, Query(max_length=64, description="C, E, or a quantity by name: Z1, A1, dA1, dZ1, dW1, db1, ….")
    ] = "C",
    top: Annotated[int, Query(ge=0, le=MOST_TERMS, description="How many terms to give one by one.")] = 10,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """dW, db and C are means over samples, Z sums over the units below, dA over the units above; the terms with the
    largest magnitude are given one by one, the rest as a sum, and all add up to the number. What is no sum (A, dZ)
    is given as a function of its operands. The network is taken as it is used: without dropout, with running
    statistics of batch normalization.
    """
    selection = selection_of(rows, split)
    return kept_answer(
        request, service, run_id, epoch, if_none_match,
        lambda kept: _explained(
            explanations.take(service.database, service.settings, kept, selection, name, index, top)
        ),
    )  # fmt: skip


@router.post(
    "/explain",
    summary="Break one number of samples sent along into its terms",
    response_description="The number, its largest terms and the sum of the others.",
    response_model=Explanation,
    dependencies=[Depends(json_only)],
    responses=documented(Malformed, NotFound, TooLarge, UnsupportedMediaType, InvalidInput, LimitExceeded),
)
def post_explanation(service: Service, run_id: RunId, epoch: EpochName, query: ExplainRequest) -> Any:
    """The same as by GET, also for samples that are not in the dataset."""
    kept = checkpoints.weights(service.database, run_id, epoch)
    found = explanations.take(
        service.database, service.settings, kept, _sent(query), query.name, query.index, query.top
    )  # fmt: skip
    return _explained(found)


def _explained(found: Explained) -> Response:
    one, batch = found.explanation, found.batch
    of_samples = one.over == SAMPLES
    return json_response(
        {
            "run": found.run_id,
            "epoch": found.epoch,
            "m": batch.m,
            "name": one.name,
            "index": list(one.index),
            "value": finite(one.value),
            "equation": one.equation,
            "function": one.function,
            "over": one.over or None,
            "terms": [
                {
                    "sample": term.number if of_samples else None,
                    "row": batch.row(term.number) if of_samples else None,
                    "unit": None if of_samples or term.number == BIAS else term.number,
                    "factors": {name: finite(factor) for name, factor in term.factors.items()},
                    "contribution": finite(term.contribution),
                }
                for term in one.terms
            ],
            "rest": {"count": one.count - len(one.terms), "sum": finite(one.rest)},
            "operands": {name: finite(operand) for name, operand in one.operands.items()},
            "recomputed": finite(one.recomputed),
            "dtype": found.dtype,
        }
    )


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
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    rows: RowNumbers,
    split: Split = None,
    mode: Annotated[
        Literal["evaluation", "training"] | None,
        Query(description="With NPZ: where batch normalization takes μ and σ² from; evaluation by default."),
    ] = None,
) -> Any:
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
        _compared, service, run_id, epoch, _sent(query), query.gradients, query.mode
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


@router.get(
    "/coherence",
    summary="Measure each sample's own gradient",
    response_model=Coherence,
    responses={
        200: {"description": "Norms, signal and noise, each with its equation.", "headers": ETAG},
        **UNCHANGED,
        **documented(NotFound, InvalidInput, LimitExceeded),
    },
)
def read_coherence(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    rows: RowNumbers,
    split: Split = None,
    mode: FromMode = "evaluation",
    gram: Annotated[bool, Query(description="Give inner products and cosines of each pair of samples too.")] = False,
    classes: Annotated[
        bool, Query(description="Give mean cosines between classes and between batches, without those of each pair.")
    ] = False,
    top: Annotated[int, Query(ge=0, le=MOST_TERMS, description="How many of the largest gradients to name.")] = 10,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """The norm of each sample's gradient and its cosine with their mean; tr Σ, |G|², the noise scale B_simple, the
    coherence, and the tests of norm, inner product and orthogonality; with `gram` all inner products, mean cosines
    between classes, and those between mini-batches. No sample's gradient of the weights is made for it: it is a product
    of two vectors. What is undefined is null, with the reason. Without rows and split: all the run trains on.
    """
    selection = selection_of(rows, "training" if rows is None and split is None else split)
    return kept_answer(
        request, service, run_id, epoch, if_none_match,
        lambda kept: _measured(
            coherence.take(service.database, service.settings, kept, selection, mode, with_pairs=gram or classes),
            top, gram=gram,
        ),
    )  # fmt: skip


@router.post(
    "/coherence",
    summary="Measure the gradients of samples sent along",
    response_description="Norms, signal and noise, each with its equation.",
    response_model=Coherence,
    dependencies=[Depends(json_only)],
    responses=documented(Malformed, NotFound, TooLarge, UnsupportedMediaType, InvalidInput, LimitExceeded),
)
def post_coherence(service: Service, run_id: RunId, epoch: EpochName, query: CoherenceRequest) -> Any:
    """The same as by GET, also for samples that are not in the dataset."""
    kept = checkpoints.weights(service.database, run_id, epoch)
    found = coherence.take(
        service.database, service.settings, kept, _sent(query), query.mode, with_pairs=query.gram or query.classes
    )
    return _measured(found, query.top, gram=query.gram)


def _measured(found: coherence.Coherence, top: int, *, gram: bool) -> Response:
    batch, samples, pairs = found.batch, found.samples, found.pairs
    largest: list[dict[str, Any]] = []
    if samples is not None:
        labels = batch.labels if batch.labels is not None and batch.labels.ndim == 1 and batch.classes else None
        cosines = samples.cosines
        largest = [
            {
                "sample": i,
                "row": batch.row(i),
                "label": None if labels is None else batch.classes[labels[i]],
                "norm": finite(float(samples.norms[i])),
                "cosine": finite(float(cosines[i])),
            }
            for i in np.argsort(-samples.norms, kind="stable")[:top].tolist()
        ]
    return json_response(
        {
            "run": found.run_id,
            "epoch": found.epoch,
            "m": batch.m,
            "mode": found.mode,
            "quantities": quantities(found.measured, EQUATIONS),
            "norms": None if samples is None or batch.m > MOST_NORMS else listed(samples.norms),
            "largest": largest,
            "pairs": None
            if pairs is None
            else {
                "gram": listed(pairs.gram) if gram else None,
                "cosines": listed(pairs.cosines) if gram else None,
                "classes": None if pairs.classes is None else listed(pairs.classes),
                "batch_size": pairs.batch_size,
                "batches": None if pairs.batches is None else listed(pairs.batches),
            },
        }
    )
