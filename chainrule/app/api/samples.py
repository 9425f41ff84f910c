"""Samples over HTTP: the hardest, the surest, the wrong ones of any epoch, for galleries and tables."""

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from chainrule.app.api.dependencies import EpochName, IfNoneMatch, RunId, Service
from chainrule.app.api.problems import documented
from chainrule.app.api.questions import ETAG, UNCHANGED, kept_answer
from chainrule.app.api.representations import finite, json_response
from chainrule.app.api.schemas.samples import SampleList
from chainrule.app.api.schemas.wire import MOST_LABEL
from chainrule.app.errors import InvalidInput, LimitExceeded, NotFound
from chainrule.app.services import checkpoints, metrics, samples
from chainrule.app.services.samples import INDEX, LARGEST, SMALLEST, Found, Wanted
from chainrule.engine.samples import EQUATIONS

router = APIRouter(prefix="/runs/{run_id}/checkpoints/{epoch}", tags=["gradients"])
MOST_LISTED = 1000


@router.get(
    "/samples",
    summary="List samples by cost, confidence or gradient",
    response_model=SampleList,
    responses={
        200: {"description": "The samples, and what the network makes of each.", "headers": ETAG},
        **UNCHANGED,
        **documented(NotFound, InvalidInput, LimitExceeded),
    },
)
def list_samples(
    request: Request,
    service: Service,
    run_id: RunId,
    epoch: EpochName,
    split: Annotated[
        Literal["training", "validation"] | None,
        Query(description="Which samples: training or validation; by default validation where the run has it."),
    ] = None,
    sort: Annotated[
        Literal["cost", "confidence", "gradient_norm", "index"],
        Query(description="By what: E⁽ⁱ⁾, how sure the network is, ‖g⁽ⁱ⁾‖, or their order in the dataset."),
    ] = "cost",
    order: Annotated[
        Literal["largest", "smallest"] | None,
        Query(description="Which first; by default largest, of the index smallest."),
    ] = None,
    wrong: Annotated[bool | None, Query(description="Only those got wrong, or only those got right.")] = None,
    label: Annotated[
        str | None, Query(alias="class", max_length=MOST_LABEL, description="Only those of this class.")
    ] = None,
    predicted: Annotated[
        str | None, Query(max_length=MOST_LABEL, description="Only those taken for this class.")
    ] = None,
    features: Annotated[bool, Query(description="Give their features too, as they are in the dataset.")] = False,
    offset: Annotated[int, Query(ge=0, le=10**12, description="How many to leave out before the first.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED, description="How many.")] = 20,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """Each with its target, prediction, probability, cost and gradient norm: the hardest samples first, the surest
    mistakes (`sort=confidence&wrong=true`), those that pull at the weights most, or one cell of the confusion matrix
    (`class=4&predicted=9`). The network is taken as it is used: without dropout, with running statistics.
    """

    def answer(kept: checkpoints.Kept) -> Response:
        chosen = metrics.split_of(kept, split)
        wanted = Wanted(chosen, sort, order, wrong, label, predicted, offset, limit, features)
        return _listed(samples.find(service.database, service.settings, kept, wanted), wanted)

    return kept_answer(request, service, run_id, epoch, if_none_match, answer)


def _listed(found: Found, wanted: Wanted) -> Response:
    return json_response(
        {
            "run": found.run_id,
            "epoch": found.epoch,
            "split": wanted.split,
            "dataset": found.dataset,
            "m": found.batch.m,
            "matching": found.matching,
            "offset": wanted.offset,
            "sort": wanted.sort,
            "order": wanted.order or (SMALLEST if wanted.sort == INDEX else LARGEST),
            "equations": EQUATIONS,
            "feature_names": None if found.features is None else list(found.feature_names),
            "items": [_one(found, place, int(i)) for place, i in enumerate(found.chosen)],
        }
    )


def _one(found: Found, place: int, i: int) -> dict[str, Any]:
    batch, judged = found.batch, found.judged
    outputs = judged.outputs[i]
    target: Any = [finite(float(y)) for y in batch.Y[i]]
    prediction: Any = [finite(float(a)) for a in outputs]
    sure = of_target = None
    if judged.confidences is not None:
        sure = finite(float(judged.confidences[i]))
    if batch.classes and batch.labels is not None and judged.predictions is not None:
        number = int(batch.labels[i])
        target, prediction = batch.classes[number], batch.classes[int(judged.predictions[i])]
        of_class = outputs if len(outputs) > 1 else np.array([1 - outputs[0], outputs[0]])
        of_target = finite(float(of_class[number]))
    return {
        "index": i,
        "row": batch.row(i),
        "target": target,
        "prediction": prediction,
        "probability": sure,
        "target_probability": of_target,
        "cost": finite(float(judged.costs[i])),
        "weight": 1.0 if batch.weights is None else float(batch.weights[i]),
        "wrong": None if judged.wrong is None else bool(judged.wrong[i]),
        "gradient_norm": finite(float(found.norms[place])),
        "features": None if found.features is None else found.features[place],
    }
