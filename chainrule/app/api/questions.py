"""What questions about a checkpoint have in common: which samples, and answers that can be kept for good."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request, Response

import chainrule
from chainrule.app.api.dependencies import Service, matches, names_one
from chainrule.app.api.representations import finite, json_response
from chainrule.app.api.schemas.gradients import MOST_SAMPLES
from chainrule.app.api.schemas.inspection import Selected
from chainrule.app.errors import InvalidInput
from chainrule.app.services import checkpoints
from chainrule.app.services.batches import Selection
from chainrule.app.services.histograms import Which
from chainrule.engine.coherence import Measured

MOST_ROWS_TEXT = 4000
"""Of a query: a longer line may be more than HTTP servers read; more rows are posted."""
MOST_PIXELS = 256
"""On a side of a picture of an array."""
ETAG = {"ETag": {"description": "Names weights, run and question.", "schema": {"type": "string"}}}
UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "It is what you have."}}

MOST_NUMBERS = 10_000
"""Of epochs or layers, in a query."""

Split = Annotated[
    Literal["training", "validation"] | None,
    Query(description="In place of rows: all samples the run trains on, or is validated on."),
]
FromMode = Annotated[
    Literal["evaluation", "training"],
    Query(description="Where batch normalization takes μ and σ² from: running ones, or the samples asked about."),
]


def numbers_of(text: str, place: str, most: int = MOST_NUMBERS) -> list[int]:
    """Read numbers from 0, and ranges of them: 0,4,8-15.

    Raises:
        InvalidInput: it is something else, or they are too many.
    """
    found: list[int] = []
    for part in text.split(","):
        shown = part.strip()[:50]
        first, last = (_number(piece) for piece in part.partition("-")[::2])
        if first is None or (last is None and "-" in part):
            raise InvalidInput.at(f"/{place}", f"{shown!r} is no number, nor a range; write 0,4,8-15.")
        end = first if last is None else last
        if not 0 <= end - first < most - len(found):
            raise InvalidInput.at(f"/{place}", f"The {place} {shown} are none, or more than {most:,}.")
        found += range(first, end + 1)
    return found


def _number(text: str) -> int | None:
    # Digits of other scripts, and ², are digits to Python too.
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None


async def _rows(
    rows: Annotated[
        str | None,
        Query(
            max_length=MOST_ROWS_TEXT,
            description="Row numbers of the run's dataset, from 0, and ranges of them: `0,4,8-15`. By default row 0; "
            "of coherence all the run trains on.",
        ),
    ] = None,
) -> list[int] | None:
    return None if rows is None else numbers_of(rows, "rows", MOST_SAMPLES)


RowNumbers = Annotated[list[int] | None, Depends(_rows)]


def epochs_of(epochs: str | None) -> tuple[int, int | None, list[int] | None]:
    """Read one range, or a list of epochs: the range's first and last, None for the last there is, or the list.

    Raises:
        InvalidInput: it is something else.
    """
    if epochs is None:
        return 0, None, None
    first, last = (_number(piece) for piece in epochs.partition("-")[::2])
    if first is not None and last is not None and first <= last:
        return first, last, None
    return 0, None, numbers_of(epochs, "epochs")


def selection_of(rows: list[int] | None, split: str | None) -> Selection:
    """Say which samples are meant: row 0 if nothing is said.

    Raises:
        InvalidInput: rows and a split are.
    """
    if rows is not None and split is not None:
        raise InvalidInput.at("/split", "Give rows or a split, not both.")
    return Selection(split=split) if split is not None else Selection(rows=[0] if rows is None else rows)


def sent(query: Selected) -> Selection:
    """Say which samples a body means: rows, a split, or those in it."""
    return Selection(query.rows, query.samples, query.labels, query.targets, query.split)


def etag_of(*named: Any) -> str:
    """Make the ETag of what follows from these, as this version computes it."""
    text = " ".join(map(str, (*named, chainrule.__version__)))
    return f'"{hashlib.sha256(text.encode()).hexdigest()}"'


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
    etag = etag_of(place, kept.sha256, chosen)
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


def way_answer(request: Request, which: Which, given: str | None, answer: Callable[[], dict[str, Any]]) -> Response:
    """Answer what follows from the weights of several epochs, for as long as the run keeps these and no others."""
    headers = {"ETag": etag_of(request.url.query, which), "Cache-Control": "no-cache"}
    if matches(given, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return json_response(answer(), headers=headers)


def quantities(measured: Mapping[str, Measured], equations: Mapping[str, str]) -> dict[str, Any]:
    """Show what was measured, or why it is undefined, each with its equation."""
    return {
        name: {"value": finite(one.value), "equation": equations[name], "reason": one.reason or None}
        for name, one in measured.items()
    }
