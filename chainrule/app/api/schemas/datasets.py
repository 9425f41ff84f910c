"""Datasets on the wire."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from chainrule.app.api.schemas.wire import Answer, Label, Name, Request, Rows, Samples

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
    samples: Samples = Field(
        min_length=1,
        max_length=MOST_ROWS,
        description="X: a row for each sample, of finite numbers, and of texts where a feature is categorical.",
    )
    labels: list[Label] | None = Field(
        default=None, max_length=MOST_ROWS, description="The class of each sample, for classification."
    )
    targets: Rows | None = Field(
        default=None, max_length=MOST_ROWS, description="Y: a row of numbers for each sample, for regression."
    )
    feature_names: list[Name] | None = Field(default=None, description="A name for each feature.")
    weights: list[float] | None = Field(
        default=None,
        max_length=MOST_ROWS,
        description="w: how much each sample's error counts, in C = (1/m) Σᵢ w⁽ⁱ⁾·E⁽ⁱ⁾; numbers of at least 0.",
    )


class Dataset(Answer):
    """Samples with their labels or targets; the same content is stored once."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "ds_9fc02c72d00eb879b686d1e1",
                    "name": "flowers.csv",
                    "builtin": False,
                    "sha256": "9fc02c72d00eb879b686d1e19b9be43ccfb0659f40ae5023707be4aa64f451fa",
                    "samples": 12,
                    "features": 2,
                    "targets": 1,
                    "classes": ["setosa", "versicolor", "virginica"],
                    "size_bytes": 376,
                    "created_at": "2026-11-24T22:36:31.418312Z",
                    "report": {
                        "format": "csv",
                        "header": True,
                        "label_column": "species",
                        "task": "classification",
                        "notes": [
                            "The first line is a header (inferred).",
                            "Column 'species' holds class labels: the last column, and its values are words.",
                        ],
                    },
                }
            ]
        }
    )

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
        description="What was read and inferred: format, header, label column, task, classes with counts, columns "
        "(name, kind numeric or categorical, names of categories), range of each numeric feature, range of weights, "
        "and notes in words."
    )


class DatasetPage(Answer):
    """A page of datasets, the built-in ones first."""

    items: list[Dataset] = Field(description="The datasets.")
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last.")


class Preview(Answer):
    """The first samples of a dataset."""

    feature_names: list[str] = Field(description="Names of the features.")
    rows: Annotated[Samples, Field(description="X of the first samples, categories by name.")]
    labels: list[str] | None = Field(description="Their classes by name; null for regression.")
    targets: Rows | None = Field(description="Their numeric targets; null for classification.")
    weights: list[float] | None = Field(description="How much each counts; null where all count 1.")
