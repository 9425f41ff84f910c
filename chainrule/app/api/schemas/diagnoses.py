"""Diagnoses on the wire: the rules, and the verdicts on a run."""

from pydantic import Field

from chainrule.app.api.schemas.runs import Diagnosis
from chainrule.app.api.schemas.wire import Answer


class DiagnosisRule(Answer):
    """A rule."""

    id: str = Field(description="Its name.")
    severity: str = Field(description="error, warning or info; info is no fault.")
    title: str = Field(description="What it finds, in a few words.")
    quantity: str = Field(description="What it looks at, as an equation.")
    when: str | None = Field(description="The condition under which it counts; null if always.")
    side: str = Field(description="Whether the quantity is a finding above or below the threshold.")
    threshold: float = Field(description="From where on it is one.")
    clear: float = Field(description="Within which it is over: there is a margin, so that verdicts do not flicker.")
    points: int = Field(description="At how many recorded epochs in a row it has to be so.")
    evidence: str = Field(description="Why this threshold.")
    sentence: str = Field(description="What a verdict says; its numbers go where names in braces are.")
    fix: str = Field(description="What helps.")
    source: str = Field(description="Where the rule is from.")


class DiagnosisRules(Answer):
    """All rules."""

    items: list[DiagnosisRule] = Field(description="The rules.")


class Verdict(Diagnosis):
    """What is wrong with a run, with the evidence and what helps."""

    cleared_at: int | None = Field(description="The epoch at which it was over; null while it is not.")
    value: float = Field(description="The quantity at `last_epoch`.")
    worst: float = Field(description="The quantity at its worst.")
    quantity: str = Field(description="What is looked at, as an equation.")
    side: str = Field(description="Whether above or below the threshold is a finding.")
    threshold: float = Field(description="From where on it is one.")
    evidence: str = Field(description="Why this threshold.")
    sentence: str = Field(description="What is wrong.")
    fix: str = Field(description="What helps.")
    link: str = Field(description="Where the API shows more of it; of an epoch whose weights are kept.")


class Verdicts(Answer):
    """The verdicts on a run."""

    run: str = Field(description="The run.")
    status: str = Field(description="Its state.")
    done: bool = Field(description="Whether it has ended; then the verdicts stay.")
    epoch: int = Field(description="Up to which epoch it has been looked at.")
    items: list[Verdict] = Field(description="Those that hold first, of these the worst first.")
