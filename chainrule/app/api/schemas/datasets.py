"""Datasets on the wire."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from chainrule.app.api.schemas.wire import Answer, Label, Name, Request, Rows

MOST_ROWS = 10_000_000


class DatasetRows(Request):
    """A dataset sent as JSON: samples as rows, with either class labels or numeric targets."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "and",
                    "samples": [[0, 0], [0, 1], [1, 0], [1, 1]],
                    "labels": ["no", "no", "no", "yes"],
                    "feature_names": ["left", "right"],
                }
            ]
        }
    )

    name: Name = Field(default="", description="What you call it.")
    samples: Rows = Field(
        min_length=1, max_length=MOST_ROWS, description="X: one row of finite numbers for each sample."
    )
    labels: list[Label] | None = Field(
        default=None, max_length=MOST_ROWS, description="The class of each sample, for classification."
    )
    targets: Rows | None = Field(
        default=None, max_length=MOST_ROWS, description="Y: a row of numbers for each sample, for regression."
    )
    feature_names: list[Name] | None = Field(default=None, description="A name for each feature.")


class Dataset(Answer):
    """Samples with their targets, stored once for each content."""

    id: str = Field(description="Its identifier: a hash of its content, or the name of a built-in set.")
    name: str = Field(description="What it was called.")
    builtin: bool = Field(description="Whether it was there from the start.")
    sha256: str = Field(description="Hash of the samples, targets and names.")
    samples: int = Field(description="Number of samples, m.")
    features: int = Field(description="Number of features, n_0.")
    targets: int = Field(description="Numeric targets of a sample; 1 for classification.")
    classes: list[str] = Field(description="Names of the classes in the order of output units; empty for regression.")
    size_bytes: int = Field(description="Size of the stored arrays.")
    created_at: datetime | None = Field(description="When it was uploaded; null if built in.")
    report: dict[str, Any] = Field(
        description="What was read and inferred: format, header, label column, task, classes with counts, range of "
        "each feature, and notes in words."
    )


class DatasetPage(Answer):
    """A page of datasets, the built-in ones first."""

    items: list[Dataset] = Field(description="The datasets.")
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last.")


class Preview(Answer):
    """The first samples of a dataset."""

    feature_names: list[str] = Field(description="Names of the features.")
    rows: Annotated[Rows, Field(description="X of the first samples.")]
    labels: list[str] | None = Field(description="Their classes by name; null for regression.")
    targets: Rows | None = Field(description="Their numeric targets; null for classification.")
