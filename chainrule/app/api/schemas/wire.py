"""What all of the wire shares: strict requests, answers, problem documents."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import CoreSchema

MOST_LABEL = 200
MOST = 10**9
"""Where a size stops being a size; the limits of the service are far below and say so by name."""

Name = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Choice = Annotated[str, StringConstraints(max_length=64)]
"""One of a list of names that the engine knows; it does the refusing, and its error lists them."""
DatasetName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
Rows = list[list[float]]


@dataclass(frozen=True)
class Either:
    """Tries the members of a union in turn, and says what is wrong once, not once for each of them."""

    message: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Refine the schema of the union."""
        return {
            **handler(source),
            "mode": "left_to_right",
            "custom_error_type": "neither",
            "custom_error_message": self.message,
        }


Samples = list[list[Annotated[float | str, Either("This must be a finite number, or the name of a category")]]]
"""Raw rows: numbers, and texts for categorical features."""


def _label(given: Any) -> str:
    """Name a class as its label is written: 3 and 3.0 are "3", true is "true"."""
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, float) and not math.isfinite(given):
        raise ValueError("A label must not be NaN or infinite.")
    if isinstance(given, int | float):
        return str(int(given)) if given == int(given) else str(given)
    if not isinstance(given, str) or not given.strip() or len(given) > MOST_LABEL:
        raise ValueError(f"A label is a name of 1 to {MOST_LABEL} characters, or a number.")
    if any("\ud800" <= character <= "\udfff" for character in given):
        raise ValueError("A label must not hold half of a surrogate pair; it is no text.")
    return given


Label = Annotated[
    str,
    BeforeValidator(_label),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]}),
]


class Request(BaseModel):
    """Input: unknown fields, numbers as strings, NaN and infinity are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Answer(BaseModel):
    """Output; clients must ignore fields they do not know."""

    model_config = ConfigDict(extra="forbid")


class FieldProblem(Answer):
    """One wrong place in the input."""

    pointer: str = Field(description="JSON pointer (RFC 6901) to the place; a form field or parameter by its name.")
    detail: str = Field(description="What is wrong there and what to do about it.")


class Problem(BaseModel):
    """A refusal, as RFC 9457 has it."""

    type: str = Field(description="Always about:blank: `code` says what kind of problem it is.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status, again.")
    detail: str = Field(description="What is wrong this time and the way out.")
    code: str = Field(description="The kind of problem, for programs; listed in the description of this API.")
    errors: list[FieldProblem] = Field(default=[], description="The wrong places of the input, if that is the problem.")
    limit: int | None = Field(default=None, description="Where something is over a limit: the limit.")
    value: int | None = Field(default=None, description="Where something is over a limit: what it would be.")
    setting: str | None = Field(
        default=None, description="Where something is over a limit: the setting an operator can change."
    )
    checks: list[dict[str, str | bool]] | None = Field(
        default=None, description="For a service that is not ready: each check with `name`, `ok` and `detail`."
    )
    current_status: str | None = Field(default=None, description="For `conflict` of a run: its present status.")
