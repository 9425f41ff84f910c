"""What questions about a checkpoint have in common: which samples, and answers that can be kept for good."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request, Response

import chainrule
from chainrule.app.api.dependencies import Service, matches, names_one
from chainrule.app.api.schemas.gradients import MOST_SAMPLES
from chainrule.app.errors import InvalidInput
from chainrule.app.services import checkpoints
from chainrule.app.services.batches import Selection

MOST_ROWS_TEXT = 4000
"""Of a query: a longer line may be more than HTTP servers read; more rows are posted."""
ETAG = {"ETag": {"description": "Names weights, run and question.", "schema": {"type": "string"}}}
UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "It is what you have."}}

Split = Annotated[
    Literal["training", "validation"] | None,
    Query(description="In place of rows: all samples the run trains on, or is validated on."),
]
FromMode = Annotated[
    Literal["evaluation", "training"],
    Query(description="Where batch normalization takes μ and σ² from: running ones, or the samples asked about."),
]


def _rows(
    rows: Annotated[
        str | None,
        Query(
            max_length=MOST_ROWS_TEXT,
            description="Row numbers of the run's dataset, from 0, and ranges of them: `0,4,8-15`. By default row 0; "
            "of coherence all the run trains on.",
        ),
    ] = None,
) -> list[int] | None:
    if rows is None:
        return None
    found: list[int] = []
    for part in rows.split(","):
        first, dash, last = (text.strip() for text in part.partition("-"))
        numbers = [first, last] if dash else [first]
        if not all(number.isascii() and number.isdigit() and len(number) <= 12 for number in numbers):
            raise InvalidInput.at("/rows", f"{part.strip()[:50]!r} is no row, nor a range of rows; write 0,4,8-15.")
        start, end = int(first), int(last or first)
        if not 0 <= end - start < MOST_SAMPLES - len(found):
            raise InvalidInput.at("/rows", f"The rows {part.strip()[:50]} are none, or more than {MOST_SAMPLES:,}.")
        found += range(start, end + 1)
    return found


RowNumbers = Annotated[list[int] | None, Depends(_rows)]


def selection_of(rows: list[int] | None, split: str | None) -> Selection:
    """Say which samples are meant: row 0 if nothing is said.

    Raises:
        InvalidInput: rows and a split are.
    """
    if rows is not None and split is not None:
        raise InvalidInput.at("/split", "Give rows or a split, not both.")
    return Selection(split=split) if split is not None else Selection(rows=[0] if rows is None else rows)


def kept_answer(
    request: Request,
    service: Service,
    run_id: str,
    epoch: str,
    given: str | None,
    answer: Callable[[checkpoints.Kept], Response],
    chosen: str = "json",
) -> Response:
    """Answer what follows from stored weights alone: once and for all, where the path names one epoch of one run."""
    kept = checkpoints.weights(service.database, run_id, epoch)
    path = f"/v1/runs/{kept.run_id}/checkpoints/{kept.epoch}/{request.url.path.rpartition('/')[2]}"
    place = f"{path}?{request.url.query}" if request.url.query else path
    named = f"{place} {kept.sha256} {chosen} {chainrule.__version__}"
    etag = f'"{hashlib.sha256(named.encode()).hexdigest()}"'
    headers = {
        "Content-Location": place,
        "Cache-Control": "private, max-age=31536000, immutable" if names_one(request, epoch) else "no-cache",
        "Vary": "Accept",
        "ETag": etag,
    }
    if matches(given, etag):
        return Response(status_code=304, headers=headers)
    response = answer(kept)
    response.headers.update(headers)
    return response
