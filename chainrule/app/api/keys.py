"""Keys over HTTP: those of the caller's own owner; others are made on the command line, beside the database."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request

from chainrule.app.api.access import caller_of
from chainrule.app.api.dependencies import Cursor, Service, json_only, to_cursor
from chainrule.app.api.problems import documented
from chainrule.app.api.representations import json_response
from chainrule.app.api.schemas.keys import Key, KeyPage, KeyRequest, NewKey, Rotation
from chainrule.app.errors import Conflict, InvalidInput, Malformed, NotFound, TooLarge, UnsupportedMediaType
from chainrule.app.services import keys

router = APIRouter(prefix="/keys", tags=["keys"])
NOT_KEPT = {"Cache-Control": "no-store"}
KeyId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Id of a key.")]


@router.post(
    "",
    status_code=201,
    summary="Make a key",
    response_model=NewKey,
    dependencies=[Depends(json_only)],
    responses={
        201: {
            "description": "The key, in full this once.",
            "headers": {"Location": {"description": "Where it is.", "schema": {"type": "string"}}},
        },
        **documented(Malformed, TooLarge, UnsupportedMediaType, InvalidInput),
    },
)
def create_key(request: Request, service: Service, wanted: KeyRequest) -> Any:
    """For the owner of the key this is asked with. Only a hash is kept: a key that is lost is rotated, not found.

    It takes no `Idempotency-Key`, since the answer is not kept either; one made twice is revoked.
    """
    owner = caller_of(request).owner
    made = keys.create(
        service.database, owner, name=wanted.name, scope=wanted.scope, expires_at=wanted.expires_at
    )  # fmt: skip
    return json_response(made, 201, NOT_KEPT | {"Location": f"/v1/keys/{made['id']}"})


@router.get(
    "",
    summary="List keys",
    response_description="A page of keys.",
    response_model=KeyPage,
    responses=documented(InvalidInput),
)
def list_keys(
    service: Service,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Most items of a page.")] = 50,
) -> Any:
    """Those of the caller's owner, the newest first, also those that are good no more; never their secrets."""
    items = keys.page(service.database, limit=limit + 1, cursor_id=cursor)
    more = len(items) > limit
    return json_response({"items": items[:limit], "next_cursor": to_cursor(items[limit - 1]["id"]) if more else None})


@router.get(
    "/{key_id}",
    summary="Look at a key",
    response_description="The key, without its secret.",
    response_model=Key,
    responses=documented(NotFound),
)
def get_key(service: Service, key_id: KeyId) -> Any:
    """What it may do, until when, and when it was last used."""
    return json_response(keys.get(service.database, key_id))


@router.post(
    "/{key_id}/rotate",
    summary="Give a key a new secret",
    response_description="The key with its new secret, in full this once.",
    response_model=NewKey,
    dependencies=[Depends(json_only)],
    responses=documented(Malformed, NotFound, Conflict, TooLarge, UnsupportedMediaType, InvalidInput),
)
def rotate_key(service: Service, key_id: KeyId, rotation: Rotation) -> Any:
    """The id stays; the old secret is good for `grace_s` more, so that programs can be given the new one in peace."""
    return json_response(keys.rotate(service.database, key_id, grace_s=rotation.grace_s), headers=NOT_KEPT)


@router.post(
    "/{key_id}/revoke",
    summary="Revoke a key",
    response_description="The key as it is now.",
    response_model=Key,
    responses=documented(NotFound),
)
def revoke_key(service: Service, key_id: KeyId) -> Any:
    """From the next request on it is good for nothing, whatever its grace. Repeating it is harmless."""
    return json_response(keys.revoke(service.database, key_id))
