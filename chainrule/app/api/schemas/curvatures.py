"""Curvature on the wire."""

from pydantic import Field

from chainrule.app.api.schemas.wire import Answer


class LargestEigenvalue(Answer):
    """λ_max of the Hessian, by the Lanczos method."""

    value: float | None = Field(description="λ_max; null where the cost's derivatives are not finite.")
    residual: float | None = Field(
        description="‖H·v − λ_max·v‖/max(|λ_max|, |smallest_seen|): how far it may be from exact."
    )
    converged: bool = Field(description="Whether that is below 10⁻⁶; if not, more `products` make it better.")
    smallest_seen: float | None = Field(
        description="The smallest eigenvalue seen on the way; H's own is at most that. Below 0 the cost bends "
        "down there."
    )
    layers: dict[str, float | None] = Field(
        description="By layer the share of v², v of length 1 being the direction of λ_max: where the bend is."
    )


class HessianTrace(Answer):
    """tr H, by vectors of random signs."""

    value: float | None = Field(description="The mean of vᵀ·H·v.")
    standard_error: float | None = Field(description="Of that mean; null of a single vector.")
    probes: int = Field(description="How many vectors.")


class Curvature(Answer):
    """How the cost bends at the weights of an epoch."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="Whose weights were used.")
    m: int = Field(description="How many samples; by default the first min(512, m) of those trained on.")
    parameters: int = Field(description="p, of which H has the square.")
    largest: LargestEigenvalue = Field(description="λ_max.")
    trace: HessianTrace | None = Field(description="tr H; null if no probes were asked for.")
    learning_rate: float = Field(description="η of the steps that followed.")
    edge: float | None = Field(
        description="2/η: plain gradient descent over all samples is stable where λ_max is below it; null where η is 0."
    )
    note: str = Field(description="Why 2/η is no more than a guide for this run, if so; else empty.")
    products: int = Field(description="How many products H·v it took; each takes about two gradients.")
    operations: int = Field(description="About how many multiplications that were.")
    seed: int = Field(description="Of what was drawn.")
    equations: dict[str, str] = Field(description="Of each.")
