"""Everything that can go wrong, drawn once: each error knows its status, its code and the way out.

AppError
├── Malformed              400  malformed
├── Unauthenticated        401  unauthenticated
├── Forbidden              403  forbidden
│   ├── CrossOrigin             cross_origin
│   └── OwnerStorageFull        owner_storage_full
├── NotFound               404  not_found
├── NotAllowed             405  not_allowed
├── NotAcceptable          406  not_acceptable
├── RequestTimeout         408  request_timeout
├── Conflict               409  conflict
│   └── IdempotencyInFlight     idempotency_in_flight
├── PreconditionFailed     412  precondition_failed
├── TooLarge               413  too_large
├── UnsupportedMediaType   415  unsupported_media_type
├── RangeNotSatisfiable    416  range_not_satisfiable
├── Misdirected            421  misdirected
├── InvalidInput           422  invalid_input
│   ├── LimitExceeded           limit_exceeded
│   └── IdempotencyMismatch     idempotency_mismatch
├── QueueFull              429  queue_full
│   └── OwnerQueueFull          owner_queue_full
├── TooManyRequests        429  too_many_requests
├── Unavailable            503  unavailable
├── StorageFull            507  storage_full
└── DiskFull               507  disk_full
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """One wrong place in the input: a JSON pointer (RFC 6901) and what to do about it."""

    pointer: str
    detail: str


class AppError(Exception):
    """A refusal the client can act on; `detail` is a full sentence that names the way out."""

    status = 500
    code = "internal"
    title = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        errors: tuple[FieldError, ...] = (),
        headers: dict[str, str] | None = None,
        extra: dict[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.extra = extra or {}


class Malformed(AppError):
    """The request cannot be read at all."""

    status, code, title = 400, "malformed", "Malformed request"


class Unauthenticated(AppError):
    """The service asks for a key, and none that is valid was sent."""

    status, code, title = 401, "unauthenticated", "A valid key is needed"


class Forbidden(AppError):
    """The key's scope does not reach as far as this operation."""

    status, code, title = 403, "forbidden", "The key may not do this"


class CrossOrigin(Forbidden):
    """A page of another origin may not have a browser change anything here."""

    code, title = "cross_origin", "Refused to a page of another origin"


class NotFound(AppError):
    """The thing named in the path does not exist."""

    status, code, title = 404, "not_found", "Not found"


class NotAllowed(AppError):
    """The path exists, and not with this method."""

    status, code, title = 405, "not_allowed", "Method not allowed"


class NotAcceptable(AppError):
    """The representation asked for by `Accept` is not offered."""

    status, code, title = 406, "not_acceptable", "Not acceptable"


class RequestTimeout(AppError):
    """The body did not come, or came too slowly."""

    status, code, title = 408, "request_timeout", "The body came too slowly"


class Conflict(AppError):
    """The thing is in a state in which this is not lawful."""

    status, code, title = 409, "conflict", "Conflict with the current state"


class IdempotencyInFlight(Conflict):
    """A request with this idempotency key is still being answered."""

    code, title = "idempotency_in_flight", "The first request with this key is still in flight"


class PreconditionFailed(AppError):
    """`If-Match` names another version than the current one."""

    status, code, title = 412, "precondition_failed", "Precondition failed"


class TooLarge(AppError):
    """The body is larger than the service accepts."""

    status, code, title = 413, "too_large", "Body too large"


class UnsupportedMediaType(AppError):
    """The body is in a format the service does not read."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class RangeNotSatisfiable(AppError):
    """The byte range lies outside the representation."""

    status, code, title = 416, "range_not_satisfiable", "Range not satisfiable"


class Misdirected(AppError):
    """The request was meant for a host by a name that this service does not have."""

    status, code, title = 421, "misdirected", "This is not the host that was meant"


class InvalidInput(AppError):
    """The input is understood, but wrong; `errors` says where."""

    status, code, title = 422, "invalid_input", "Invalid input"

    @classmethod
    def at(cls, pointer: str, detail: str) -> "InvalidInput":
        """Refuse one field."""
        return cls(detail, errors=(FieldError(pointer, detail),))


class LimitExceeded(InvalidInput):
    """The request is over a limit of this service; names the limit, the value and the setting."""

    code, title = "limit_exceeded", "Over a limit of this service"

    def __init__(self, what: str, value: int, limit: int, setting: str, *, pointer: str = "", hint: str = "") -> None:
        detail = f"{what} would be {value:,}, over the limit of {limit:,} (setting {setting})."
        if hint:
            detail = f"{detail} {hint}"
        super().__init__(
            detail,
            errors=(FieldError(pointer, detail),),
            extra={"limit": limit, "value": value, "setting": setting},
        )


class IdempotencyMismatch(InvalidInput):
    """The idempotency key was used before with another body."""

    code, title = "idempotency_mismatch", "Idempotency key used with another body"


class QueueFull(AppError):
    """Too many runs are waiting; try again later."""

    status, code, title = 429, "queue_full", "Too many queued runs"

    whose, setting = "", "CHAINRULE_MAX_QUEUED_RUNS"

    def __init__(self, queued: int, more: int, limit: int, retry_after_s: int) -> None:
        super().__init__(
            f"{queued:,} runs {self.whose}are queued, {more:,} would be added, and the limit is {limit:,} (setting "
            f"{self.setting}); "
            + (
                f"try again in {retry_after_s} s, or cancel some that wait."
                if more <= limit
                else f"submit {limit:,} at once at most."
            ),
            headers={"Retry-After": str(retry_after_s)} if more <= limit else {},
            extra={"limit": limit, "value": queued, "setting": self.setting},
        )


class OwnerQueueFull(QueueFull):
    """Too many runs of the same owner are waiting; try again later."""

    code, title = "owner_queue_full", "Too many queued runs of yours"
    whose, setting = "of yours ", "CHAINRULE_MAX_QUEUED_PER_OWNER"


class TooManyRequests(AppError):
    """This client asks too often, or has too many event streams open; try again later."""

    status, code, title = 429, "too_many_requests", "Too many requests"


class Unavailable(AppError):
    """The database cannot be reached just now; what was to be changed may have been: repeat it under its key."""

    status, code, title = 503, "unavailable", "Service unavailable"


_MAKE_ROOM = (
    "Purge runs (DELETE /v1/runs/{run_id}?purge=true; deleted ones count until then) or datasets, or submit runs that "
    "keep fewer checkpoints (checkpoints.every, checkpoints.keep)."
)


class StorageFull(AppError):
    """There is no room for it, by the limit the operator has set."""

    status, code, title = 507, "storage_full", "No room left"

    def __init__(self, taken: int, more: int, limit: int) -> None:
        super().__init__(
            f"It would take {more:,} bytes, {taken:,} are taken or reserved, and the limit is {limit:,} "
            f"(setting CHAINRULE_MAX_TOTAL_STORAGE_BYTES). {_MAKE_ROOM}",
            extra={"limit": limit, "value": taken + more, "setting": "CHAINRULE_MAX_TOTAL_STORAGE_BYTES"},
        )


class OwnerStorageFull(Forbidden):
    """Its owner has no room left for it, by the limit the operator has set."""

    code, title = "owner_storage_full", "No room of yours left"

    def __init__(self, taken: int, more: int, limit: int) -> None:
        super().__init__(
            f"It would take {more:,} bytes, {taken:,} are taken or reserved by what is yours, and the limit for each "
            f"owner is {limit:,} (setting CHAINRULE_MAX_STORAGE_BYTES_PER_OWNER). {_MAKE_ROOM}",
            extra={"limit": limit, "value": taken + more, "setting": "CHAINRULE_MAX_STORAGE_BYTES_PER_OWNER"},
        )


class DiskFull(AppError):
    """There is no room left on a disk of the service; what was acknowledged is kept."""

    status, code, title = 507, "disk_full", "No room left on a disk"
