"""Inputs of runs on the wire: how raw features become what the network takes."""

from pydantic import ConfigDict, Field

from chainrule.app.api.schemas.wire import Answer


class InputColumn(Answer):
    """What becomes of one feature."""

    name: str = Field(description="Name of the feature.")
    kind: str = Field(description="numeric or categorical.")
    offset: float | None = Field(
        default=None, description="Of x′ = (x − offset)·scale, for a numeric feature; 0 if it is not scaled."
    )
    scale: float | None = Field(
        default=None,
        description="Of x′ = (x − offset)·scale, for a numeric feature; 1 if it is not scaled, or was the same in all "
        "training rows.",
    )
    categories: list[str] | None = Field(
        default=None, description="Of a categorical feature, in the order of the inputs they become."
    )


class RunInputs(Answer):
    """How a run maps raw features to its network's input A[0]; fitted to its training samples at submission."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run": "run_01m87we6w9qp3ar0nqxq113x7y",
                    "scaling": "standardize",
                    "scaling_equation": "x′ = (x − μ)/σ, μ the mean and σ the standard deviation of the training rows",
                    "categorical": "one_hot",
                    "categorical_equation": "x′ = [x is c₁], …, [x is c_k]: 1 for the row's own category, 0 for the "
                    "rest",
                    "features": 2,
                    "inputs": 4,
                    "columns": [
                        {"name": "length", "kind": "numeric", "offset": 3.76, "scale": 0.57},
                        {"name": "colour", "kind": "categorical", "categories": ["blue", "red", "white"]},
                    ],
                }
            ]
        }
    )

    run: str = Field(description="The run.")
    scaling: str = Field(description="How numeric features are scaled.")
    scaling_equation: str = Field(description="Its equation.")
    categorical: str = Field(description="How categorical features become numbers.")
    categorical_equation: str = Field(description="Its equation.")
    features: int = Field(description="Width of a raw row, as predict takes it.")
    inputs: int = Field(description="Width of the network's input, n_0.")
    columns: list[InputColumn] = Field(description="The features in the order of the dataset.")
