"""What pages draw, over HTTP: one array exactly or as a picture, decision surfaces, embeddings, attributions."""

import hashlib
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response

import chainrule
from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service, matches
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
)
from chainrule.app.api.representations import ANY_BYTES, JSON, NPZ, choose, finite, json_response, listed
from chainrule.app.api.schemas.pictures import Attributions, Embedding, NamedArray, Surface
from chainrule.app.errors import InvalidInput, LimitExceeded, NotAcceptable, NotFound
from chainrule.app.services import checkpoints, metrics, pictures
from chainrule.app.services.pictures import OWN
from chainrule.app.services.weights import encode_npz
from chainrule.engine.attributions import EQUATIONS, INTEGRATED
from chainrule.engine.pictures import SCALE, picture

router = APIRouter(prefix="/runs/{run_id}/checkpoints/{epoch}", tags=["gradients"])
MOST_GRID, MOST_EMBEDDED, MOST_STEPS = 200, 2000, 1000
READING = (NotFound, InvalidInput, LimitExceeded)
PICTURED = "α = (A[l] − μ)·vₖ, μ and v₁, v₂ the mean and the largest principal components of A[l] at basis_epoch"


@router.get(
    "/array",
    summary="Fetch one array, exactly or as a picture",
    response_model=NamedArray,
    responses={
        200: {
            "description": "JSON; `f32`: its elements as little-endian float32, row by row; `u8`: a byte a pixel. What "
            "the bytes mean stands in the headers X-Array-….",
            "headers": {
                **ETAG,
                "X-Array-Name": {"description": "Its name.", "schema": {"type": "string"}},
                "X-Array-Shape": {
                    "description": "The shape of the bytes, such as 128,784.", "schema": {"type": "string"}
                },
                "X-Array-Full-Shape": {"description": "u8: the array's own.", "schema": {"type": "string"}},
                "X-Array-Limit": {"description": "u8: max |v|, the value of code 255.", "schema": {"type": "string"}},
                "X-Array-Block": {
                    "description": "u8: how many rows and columns a pixel stands for; it is the element of largest "
                    "magnitude of them.",
                    "schema": {"type": "string"},
                },
                "X-Array-Nonfinite": {
                    "description": "How many elements are not finite.", "schema": {"type": "string"}
                },
                "Link": {"description": "u8: where the exact elements are.", "schema": {"type": "string"}},
            },
            "content": {ANY_BYTES: {"schema": {"type": "string", "format": "binary"}}},
        },
        **UNCHANGED,
        **documented(NotAcceptable, *READING),
    },
)  # fmt: skip
def read_array(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    rows: RowNumbers,
    split: Split = None,
    name: Annotated[str, Query(max_length=64, description="W1, b1, Z1, A1, dA1, dZ1, dW1, db1, …, A0, dA0, E.")] = "W1",
    mode: FromMode = "evaluation",
    format: Annotated[
        str | None, Query(description="json, f32 or u8; in place of `Accept`, where application/octet-stream is f32.")
    ] = None,
    size: Annotated[int, Query(ge=1, le=MOST_PIXELS, description="u8: most pixels on a side.")] = MOST_PIXELS,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """Any array of a walk, by name: parameters as they are, all else of rows (by default row 0) or of a split, of which
    what has a row for each sample is given as the mean. As a picture: √-scaled, code c meaning
    v = sign(c − 128)·((c − 128)/127)²·limit, code 0 for what is not finite; arrays of more than `size` rows or columns
    are made smaller.
    """
    bytes_wanted = ANY_BYTES in request.headers.get("accept", "") and format is None
    chosen = choose(request, "f32" if bytes_wanted else format, {"json": JSON, "f32": ANY_BYTES, "u8": ANY_BYTES})
    selection = selection_of(rows, split)

    def answer(kept: checkpoints.Kept) -> Response:
        found = pictures.array(service.database, service.settings, kept, selection, name, mode)
        broken = int(np.size(found) - np.count_nonzero(np.isfinite(found)))
        headers = {"X-Array-Name": name, "X-Array-Nonfinite": str(broken)}
        if chosen == "json":
            about = {"run": kept.run_id, "epoch": kept.epoch, "name": name, "shape": list(found.shape)}
            return json_response(about | {"nonfinite": broken, "values": listed(found)})
        if chosen == "f32":
            with np.errstate(over="ignore"):
                content = np.ascontiguousarray(found, "<f4").tobytes()
            return Response(content, headers=headers | {"X-Array-Shape": _shape(found.shape)}, media_type=ANY_BYTES)
        small = picture(found, size)
        exact = request.url.include_query_params(format="f32").remove_query_params("size")
        headers |= {
            "X-Array-Shape": _shape(small.codes.shape),
            "X-Array-Full-Shape": _shape(found.shape),
            "X-Array-Limit": repr(small.limit),
            "X-Array-Block": _shape(small.block),
            "X-Array-Scale": SCALE.encode("ascii", "replace").decode(),
            "Link": f'<{exact.path}?{exact.query}>; rel="alternate"',
        }
        return Response(small.codes.tobytes(), headers=headers, media_type=ANY_BYTES)

    return kept_answer(request, service, run_id, epoch, if_none_match, answer, chosen)


def _shape(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))


@router.get(
    "/surface",
    summary="Draw the decision surface",
    response_model=Surface,
    responses={
        200: {
            "description": "The outputs over a grid.",
            "headers": ETAG,
            "content": {NPZ: {"schema": {"type": "string", "format": "binary"}}},
        },
        **UNCHANGED,
        **documented(NotAcceptable, *READING),
    },
)
def read_surface(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    n: Annotated[int, Query(ge=2, le=MOST_GRID, description="Points on each side.")] = 60,
    units: Annotated[bool, Query(description="Give each hidden unit's output too.")] = False,
    format: Annotated[
        str | None,
        Query(
            description="json or npz (x, y, outputs and, of hidden units, A1, A2, … in float32); in place of `Accept`."
        ),
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """The outputs over a grid of n × n points that spans the dataset's two features, as they are in the dataset, and a
    tenth beyond; preprocessing is applied. Of datasets with other features: `invalid_input`.
    """
    chosen = choose(request, format, {"json": JSON, "npz": NPZ})

    def answer(kept: checkpoints.Kept) -> Response:
        found = pictures.surface(service.database, service.settings, kept, n, with_units=units)
        if chosen == "npz":
            hidden = {f"A{layer}": A for layer, A in (found.units or {}).items()}
            arrays = {"x": found.x, "y": found.y, "outputs": found.outputs, **hidden}
            with np.errstate(over="ignore"):
                small = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
            return Response(encode_npz(small), media_type=NPZ)
        planes = None if found.units is None else {f"A{layer}": listed(A) for layer, A in found.units.items()}
        return json_response(
            {
                "run": found.run_id,
                "epoch": found.epoch,
                "feature_names": list(found.names),
                "classes": list(found.classes),
                "x": found.x.tolist(),
                "y": found.y.tolist(),
                "outputs": listed(found.outputs),
                "units": planes,
                "equation": "A[l] = g(A[l-1]·W[l]ᵀ + b[l]) of A[0] = (x, y), preprocessed",
            }
        )

    return kept_answer(request, service, run_id, epoch, if_none_match, answer, chosen)


@router.get(
    "/embedding",
    summary="See samples in a plane",
    response_model=Embedding,
    responses={200: {"description": "Points of the plane.", "headers": ETAG}, **UNCHANGED, **documented(*READING)},
)
def read_embedding(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    layer: Annotated[int | None, Query(ge=0, le=10**6, description="Whose outputs; else the last hidden.")] = None,
    basis: Annotated[
        Literal["last", "epoch"],
        Query(description="Whose principal components: those of the last epoch, the same for all, or this one's own."),
    ] = "last",
    split: Annotated[
        Literal["training", "validation"] | None,
        Query(description="Which samples; by default validation where the run has it."),
    ] = None,
    limit: Annotated[int, Query(ge=3, le=MOST_EMBEDDED, description="How many; the same for all epochs.")] = 500,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """A[l] of some samples, projected onto the two directions in which A[l] of the last epoch kept (`basis=last`)
    varies most: so epochs can be compared. While a run trains its last epoch moves on, so this is asked for anew.
    """

    def answer(kept: checkpoints.Kept) -> Response:
        other = kept if basis == OWN else checkpoints.weights(service.database, kept.run_id, "last")
        chosen = metrics.split_of(kept, split)
        found = pictures.embedding(service.database, service.settings, kept, other, chosen, layer, limit)
        batch, places = found.batch, [int(i) for i in found.chosen]
        labels = batch.labels if batch.classes else None
        return json_response(
            {
                "run": found.run_id,
                "epoch": found.epoch,
                "layer": found.layer,
                "basis_epoch": found.basis_epoch,
                "split": chosen,
                "explained_variance": list(found.explained),
                "equation": PICTURED,
                "items": [
                    {
                        "row": batch.row(i),
                        "label": None if labels is None else batch.classes[labels[i]],
                        "x": float(x),
                        "y": float(y),
                    }
                    for i, (x, y) in zip(places, found.points, strict=True)
                ],
            }
        )

    if basis == OWN:
        return kept_answer(request, service, run_id, epoch, if_none_match, answer)
    response = kept_answer(request, service, run_id, epoch, None, answer)
    etag = f'"{hashlib.sha256(bytes(response.body) + chainrule.__version__.encode()).hexdigest()}"'
    response.headers.update({"ETag": etag, "Cache-Control": "no-cache"})
    return Response(status_code=304, headers={"ETag": etag}) if matches(if_none_match, etag) else response


@router.get(
    "/attributions",
    summary="See which inputs an output is due to",
    response_model=Attributions,
    responses={200: {"description": "A number for each input.", "headers": ETAG}, **UNCHANGED, **documented(*READING)},
)
def read_attributions(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    rows: RowNumbers,
    method: Annotated[
        Literal["saliency", "gradient_times_input", "integrated_gradients"], Query(description="How.")
    ] = "saliency",
    baseline: Annotated[
        Literal["zero", "mean"],
        Query(description="x₀ of integrated gradients: inputs of 0, or the mean of those the run trains on."),
    ] = "zero",
    unit: Annotated[
        int | None, Query(ge=0, le=10**6, description="Which output; by default the largest of each sample.")
    ] = None,
    steps: Annotated[int, Query(ge=1, le=MOST_STEPS, description="n of integrated gradients.")] = 50,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """∂a/∂x of an output, its product with the input, or integrated gradients, which add up to what the output is above
    that of a baseline; the residual says by how much they do not. Inputs are those after preprocessing.
    """

    def answer(kept: checkpoints.Kept) -> Response:
        asked = [0] if rows is None else rows
        made = pictures.attributions(service.database, service.settings, kept, asked, method, baseline, unit, steps)
        found, classes = made.found, made.batch.classes
        named = classes if len(classes) == kept.config["network"]["layers"][-1]["units"] else ()
        return json_response(
            {
                "run": made.run_id,
                "epoch": made.epoch,
                "method": method,
                "baseline": baseline if method == INTEGRATED else None,
                "equation": EQUATIONS[method],
                "input_names": list(made.names),
                "items": [
                    {
                        "row": row,
                        "unit": made.units[i],
                        "label": named[made.units[i]] if named else None,
                        "output": finite(float(found.outputs[i])),
                        "baseline_output": None
                        if found.baseline_outputs is None
                        else finite(float(found.baseline_outputs[i])),
                        "residual": None if found.residuals is None else finite(float(found.residuals[i])),
                        "values": listed(found.values[i]),
                    }
                    for i, row in enumerate(asked)
                ],
            }
        )

    return kept_answer(request, service, run_id, epoch, if_none_match, answer)
