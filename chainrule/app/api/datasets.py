"""Datasets over HTTP."""

import hashlib
import json
from codecs import BOM_UTF8
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from chainrule.app.api.dependencies import (
    Cursor,
    DatasetId,
    IdempotencyKey,
    IfNoneMatch,
    Service,
    key_for,
    matches,
    to_cursor,
)
from chainrule.app.api.problems import documented
from chainrule.app.api.schemas.datasets import Dataset, DatasetPage, DatasetRows, Preview
from chainrule.app.errors import (
    Conflict,
    IdempotencyInFlight,
    IdempotencyMismatch,
    InvalidInput,
    LimitExceeded,
    Malformed,
    NotFound,
    OwnerStorageFull,
    StorageFull,
    TooLarge,
    UnsupportedMediaType,
)
from chainrule.app.services import datasets
from chainrule.app.services.formats import Options

router = APIRouter(prefix="/datasets", tags=["datasets"])

FILES = ("file", "labels_file")
FORM: dict[str, dict[str, Any]] = {
    "file": {"type": "string", "format": "binary", "description": "CSV, NPY, NPZ or IDX, gzipped or not."},
    "labels_file": {"type": "string", "format": "binary", "description": "The labels of an IDX file."},
    "name": {"type": "string", "description": "What you call it; the file's name by default."},
    "format": {"type": "string", "enum": ["csv", "npy", "npz", "idx"], "description": "By default told by content."},
    "header": {"type": "boolean", "description": "Whether the first line of a CSV is a header; inferred by default."},
    "label_column": {"type": "string", "description": "Name or number of the column with class labels (CSV)."},
    "target_columns": {"type": "string", "description": "Names of columns with numeric targets, separated by commas."},
    "categorical_columns": {
        "type": "string",
        "description": "Names or numbers of feature columns with categories, separated by commas (CSV); columns of "
        "words are categorical by default.",
    },
    "weight_column": {
        "type": "string",
        "description": "Name or number of the column that says how much each sample's error counts (CSV).",
    },
    "divide_by": {"type": "number", "description": "Divide numeric features by this; IDX bytes by 255 by default."},
}
LISTS = ("target_columns", "categorical_columns")
MOST_FIELD_BYTES = 1 << 20
MOST_FILES, MOST_FIELDS = 10, 100
"""More than are known, so that what is not known is named and not counted."""


@router.post(
    "",
    status_code=201,
    summary="Upload a dataset",
    response_model=Dataset,
    responses={
        200: {"model": Dataset, "description": "A dataset of the same content was there already; this is it."},
        201: {
            "description": "The dataset, with a report of what was read and inferred.",
            "headers": {"Location": {"description": "Where it is.", "schema": {"type": "string"}}},
        },
        **documented(
            Malformed, IdempotencyInFlight, TooLarge, UnsupportedMediaType, InvalidInput, LimitExceeded,
            IdempotencyMismatch, OwnerStorageFull, StorageFull,
        ),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "A file as multipart/form-data, or rows as JSON.",
            "content": {
                "application/json": {
                    "schema": DatasetRows.model_json_schema(ref_template="#/components/schemas/{model}"),
                },
                "multipart/form-data": {
                    "schema": {"type": "object", "required": ["file"], "properties": FORM}
                },
            },
        }
    },
)  # fmt: skip
async def create_dataset(
    request: Request, response: Response, service: Service, idempotency_key: IdempotencyKey = None
) -> Any:
    """Samples with class labels or numeric targets, as a file or as JSON rows.

    A CSV may have a header, a column of labels that are words, and features that are words, which are categories;
    what was inferred is in the report.
    A dataset is known by its content: the same content uploaded again is the same dataset.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES) as form:
            created = await run_in_threadpool(_create_from_form, service, request, idempotency_key, form)
    elif media_type == "application/json":
        body = await request.body()
        if not body:
            raise Malformed("The body is missing; send rows as JSON.")
        created = await run_in_threadpool(_create_from_rows, service, request, idempotency_key, body)
    else:
        raise UnsupportedMediaType(
            f"The body is {media_type or 'of no stated type'}; send a file as multipart/form-data "
            "(curl -F file=@data.csv) or rows as application/json."
        )
    response.status_code = 201 if created.created else 200
    response.headers["Location"] = f"/v1/datasets/{created.dataset['id']}"
    if created.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return created.dataset


@router.get(
    "",
    summary="List datasets",
    response_description="A page of datasets.",
    response_model=DatasetPage,
    responses=documented(),
)
def list_datasets(
    service: Service,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Most items of a page.")] = 50,
) -> Any:
    """The built-in sets come first, then the others in the order of their ids."""
    items = datasets.page(service.database, limit + 1, cursor)
    more = len(items) > limit
    return {"items": items[:limit], "next_cursor": to_cursor(items[limit - 1]["id"]) if more else None}


@router.get(
    "/{dataset_id}",
    summary="Look at a dataset",
    response_description="The dataset.",
    response_model=Dataset,
    responses={304: {"description": "It is what you have."}, **documented(NotFound)},
)
def get_dataset(
    service: Service,
    response: Response,
    dataset_id: DatasetId,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """What it is, and the report made when it was read. A dataset never changes."""
    found = datasets.get(service.database, dataset_id)
    etag = f'"{found["sha256"]}"'
    if matches(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return found


@router.get(
    "/{dataset_id}/preview",
    summary="See the first samples of a dataset",
    response_description="The first samples.",
    response_model=Preview,
    responses=documented(NotFound, InvalidInput),
)
def preview_dataset(
    service: Service,
    dataset_id: DatasetId,
    limit: Annotated[int, Query(ge=1, le=100, description="How many samples.")] = 10,
) -> Any:
    """Features, and labels by name or numeric targets, of the first samples."""
    return datasets.preview(service.database, service.settings, dataset_id, limit)


@router.delete(
    "/{dataset_id}",
    status_code=204,
    summary="Delete a dataset",
    response_description="It is deleted.",
    responses=documented(NotFound, Conflict),
)
def delete_dataset(service: Service, dataset_id: DatasetId) -> None:
    """Only a dataset that no run uses; built-in sets stay."""
    datasets.delete(service.database, dataset_id)


def _create_from_form(service: Service, request: Request, key_name: str | None, form: FormData) -> datasets.Created:
    upload = _upload(form)
    key = None
    if key_name is not None:
        fields = sorted((name, value) for name, value in form.multi_items() if isinstance(value, str))
        files = [_sha256(form.get(name)) for name in FILES]
        key = key_for(request, key_name, json.dumps([fields, files]).encode())
    return datasets.create_from_upload(service.database, service.settings, upload, key=key)


def _upload(form: FormData) -> datasets.Upload:
    for name, value in form.multi_items():
        if name not in FORM:
            raise InvalidInput.at(f"/{name}", f"There is no such field; known: {', '.join(FORM)}.")
        if isinstance(value, UploadFile) != (name in FILES):
            wanted = "a file" if name in FILES else "text, not a file"
            raise InvalidInput.at(f"/{name}", f"The field must be {wanted}.")
        if name not in LISTS and len(form.getlist(name)) > 1:
            raise InvalidInput.at(f"/{name}", "The field is given more than once; give it once.")
    file, labels = (form.get(name) for name in FILES)
    if not isinstance(file, UploadFile):
        raise InvalidInput.at("/file", "There is no file; send one: curl -F file=@data.csv …")
    options = Options(
        filename=(file.filename or "")[:200],
        format=_text(form, "format"),
        header=_flag(form, "header"),
        label_column=_text(form, "label_column"),
        target_columns=_list(form, "target_columns"),
        categorical_columns=_list(form, "categorical_columns"),
        weight_column=_text(form, "weight_column"),
        divide_by=_number(form, "divide_by"),
    )
    labels_file = labels.file if isinstance(labels, UploadFile) else None
    return datasets.Upload(file.file, options, name=_text(form, "name") or "", labels=labels_file)


def _text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    text = value.strip() if isinstance(value, str) else ""
    if "\x00" in text:
        raise InvalidInput.at(f"/{name}", "The text holds a NUL character; leave it out.")
    return text or None


def _list(form: FormData, name: str) -> tuple[str, ...]:
    return tuple(part.strip() for given in form.getlist(name) for part in str(given).split(",") if part.strip())


def _flag(form: FormData, name: str) -> bool | None:
    text = (_text(form, name) or "").lower()
    if text in ("", "true", "false"):
        return text == "true" if text else None
    raise InvalidInput.at(f"/{name}", f"{name} must be true or false, not {text!r}.")


def _number(form: FormData, name: str) -> float | None:
    text = _text(form, name)
    try:
        return None if text is None else float(text)
    except ValueError as error:
        raise InvalidInput.at(f"/{name}", f"{name} must be a number, not {text!r}.") from error


def _sha256(file: Any) -> str:
    if not isinstance(file, UploadFile):
        return ""
    digest = hashlib.file_digest(file.file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.file.seek(0)
    return digest


def _create_from_rows(service: Service, request: Request, key_name: str | None, body: bytes) -> datasets.Created:
    try:
        rows = DatasetRows.model_validate_json(body.removeprefix(BOM_UTF8))
    except ValidationError as error:
        raise RequestValidationError(
            [
                {**found, "loc": ("body", *found["loc"])}
                for found in error.errors(include_input=False, include_url=False)
            ]
        ) from error
    return datasets.create_from_rows(
        service.database,
        service.settings,
        name=rows.name,
        samples=rows.samples,
        targets=rows.targets,
        labels=rows.labels,
        feature_names=rows.feature_names,
        weights=rows.weights,
        key=key_for(request, key_name, body) if key_name else None,
    )
