"""Explanations over HTTP: one number as the sum it is, of samples of the dataset by GET, or sent along by POST."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service, json_only
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import ETAG, UNCHANGED, RowNumbers, Split, kept_answer, selection_of, sent
from chainrule.app.api.representations import finite, json_response
from chainrule.app.api.schemas.inspection import MOST_TERMS, ExplainRequest, Explanation
from chainrule.app.errors import InvalidInput, LimitExceeded, Malformed, NotFound, TooLarge, UnsupportedMediaType
from chainrule.app.services import checkpoints, explanations
from chainrule.app.services.explanations import Explained
from chainrule.engine.explain import BIAS, SAMPLES

router = APIRouter(prefix="/runs/{run_id}/checkpoints/{epoch}", tags=["gradients"])


async def _index(
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
    request: Request, service: Service, run_id: RunId, epoch: EpochName, rows: RowNumbers,
    index: Annotated[list[int], Depends(_index)],
    split: Split = None,
    name: Annotated[
        str, Query(max_length=64, description="C, E, or a quantity by name: Z1, A1, dA1, dZ1, dW1, db1, ….")
    ] = "C",
    top: Annotated[int, Query(ge=0, le=MOST_TERMS, description="How many terms to give one by one.")] = 10,
    if_none_match: IfNoneMatch = None,
) -> Any:  # fmt: skip
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
        service.database, service.settings, kept, sent(query), query.name, query.index, query.top
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
