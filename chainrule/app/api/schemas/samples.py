"""Samples on the wire: what a network makes of each."""

from typing import Any

from pydantic import Field

from chainrule.app.api.schemas.wire import Answer


class Sample(Answer):
    """One sample, and what the network makes of it."""

    index: int = Field(description="Its position in the split, from 0, in the order of the dataset.")
    row: int = Field(description="Its row in the dataset, for `rows` of other questions.")
    target: Any = Field(description="Its class by name; a list of numbers where there are no classes.")
    prediction: Any = Field(description="The class the network takes it for; its outputs where there are no classes.")
    probability: float | None = Field(
        description="How sure the network is of that: `confidence` in `equations`; null for regression."
    )
    target_probability: float | None = Field(
        description="What the network gives the class it should be; null where there are no classes."
    )
    cost: float | None = Field(description="E⁽ⁱ⁾; null where not finite.")
    weight: float = Field(description="w⁽ⁱ⁾, how much its error counts.")
    wrong: bool | None = Field(description="Whether the prediction is wrong; null for regression.")
    gradient_norm: float | None = Field(description="‖g⁽ⁱ⁾‖, of w·E; null where not finite.")
    features: list[Any] | None = Field(
        description="As they are in the dataset, before preprocessing, categories by name; null if not asked for."
    )


class SampleList(Answer):
    """Samples of a split, in the order asked for."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    split: str = Field(description="training or validation.")
    dataset: str = Field(description="Whose rows they are; another than the run's if it is validated on another.")
    m: int = Field(description="How many samples the split has.")
    matching: int = Field(description="How many of them fit class, predicted and wrong.")
    offset: int = Field(description="How many of those are left out before the first one here.")
    sort: str = Field(description="What they are sorted by.")
    order: str = Field(description="largest or smallest first.")
    equations: dict[str, str] = Field(description="Of cost, confidence and gradient_norm.")
    feature_names: list[str] | None = Field(description="If features were asked for; else null.")
    items: list[Sample] = Field(description="The samples.")
