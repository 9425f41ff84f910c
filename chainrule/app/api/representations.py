"""Which representation to answer with, and how: by `format` or `Accept`, whole or in part."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from numpy.typing import NDArray

from chainrule.app.errors import InvalidInput, NotAcceptable, RangeNotSatisfiable

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
SAFETENSORS, NPZ, ONNX = "application/x-safetensors", "application/x-npz", "application/x-onnx"
ANY_BYTES = "application/octet-stream"


def choose(request: Request, given: str | None, offers: Mapping[str, str]) -> str:
    """Choose one of the formats on offer; the first is the default.

    Args:
        request: with its `Accept` header.
        given: the `format` parameter, which has the last word.
        offers: format to media type; of several with one media type `Accept` means the first.

    Raises:
        InvalidInput: there is no format of this name.
        NotAcceptable: `Accept` leaves none.
    """
    default = next(iter(offers))
    if given is not None:
        if given not in offers:
            raise InvalidInput.at("/format", f"There is no format {given!r} here; known: {', '.join(offers)}.")
        return given
    accept = request.headers.get("accept", "")
    wanted = sorted((_range(part) for part in accept.split(",") if part.strip()), key=lambda w: -w[1])
    if not wanted:
        return default
    for media_range, quality in wanted:
        if quality <= 0:
            continue
        if media_range in ("*/*", ANY_BYTES) or (media_range == "application/*" and JSON not in accept):
            return default
        for name, media_type in offers.items():
            if media_range in (media_type, media_type.partition("/")[0] + "/*"):
                return name
    raise NotAcceptable(f"Accept is {accept}; offered are {', '.join(dict.fromkeys(offers.values()))}.")


def _range(part: str) -> tuple[str, float]:
    media_range, *parameters = (piece.strip() for piece in part.split(";"))
    quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
    try:
        return media_range.lower(), float(quality)
    except ValueError:
        return media_range.lower(), 0.0


def json_response(content: Any, status_code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with JSON, strictly: a number that is not finite would be our mistake."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text, status_code, headers, JSON)


def listed(array: NDArray[Any]) -> Any:
    """Nest an array as lists; null where a number is not finite."""
    if np.isfinite(array).all():
        return array.tolist()
    values = array.astype(object)
    values[~np.isfinite(array)] = None
    return values.tolist()


def finite(value: float | None) -> float | None:
    """Give a number, or null where there is none or it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def partial(request: Request, content: bytes, media_type: str, etag: str, headers: dict[str, str]) -> Response:
    """Answer with bytes, or with the one range of them that was asked for (RFC 9110, section 14).

    Raises:
        RangeNotSatisfiable: the range lies outside.
    """
    headers = headers | {"ETag": etag, "Accept-Ranges": "bytes"}
    asked = request.headers.get("range")
    if_range = request.headers.get("if-range")
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", asked.strip()) if asked else None
    if not found or found.groups() == ("", "") or (if_range is not None and if_range.strip() != etag):
        return Response(content, 200, headers, media_type)
    first, last = found.groups()
    size = len(content)
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end or (first and last and int(last) < int(first)):
        raise RangeNotSatisfiable(
            f"The range {asked} lies outside the {size} bytes there are.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    part = {"Content-Range": f"bytes {start}-{end}/{size}"}
    return Response(content[start : end + 1], 206, headers | part, media_type)
