"""Layers on the wire: how strong signals are in each."""

from pydantic import Field

from chainrule.app.api.schemas.runs import Estimate
from chainrule.app.api.schemas.specs import RunSpec
from chainrule.app.api.schemas.wire import Answer


class LayerSignals(Answer):
    """One layer over some samples; null where a number is not finite or undefined."""

    layer: int = Field(description="Its number, from 1.")
    units: int = Field(description="Its width n_l.")
    activation: str = Field(description="Its activation function.")
    parameters: int = Field(description="Weights and biases, and γ and β where it normalizes.")
    W_norm: float | None = Field(description="‖W[l]‖.")
    dW_norm: float | None = Field(description="‖dW[l]‖.")
    Z_rms: float | None = Field(description="RMS(Z[l]), over samples and units.")
    A_rms: float | None = Field(description="RMS(A[l]).")
    dZ_rms: float | None = Field(description="RMS(dZ[l]), each sample's own.")
    zeros: float | None = Field(description="Share of A[l] that is exactly 0.")
    saturated: float | None = Field(description="Share of A[l] near an end of its range; of tanh and sigmoid only.")
    dead: float | None = Field(description="Share of units that are 0 for every sample; of relu only.")


class Layers(Answer):
    """The layers of the network of an epoch."""

    run: str = Field(description="The run.")
    epoch: int = Field(description="The epoch.")
    m: int = Field(description="Over how many of the samples it trains on, spread evenly: 512 at most.")
    cost: float | None = Field(description="C over them; null if it is not finite.")
    layers: list[LayerSignals] = Field(description="Layers 1…L.")
    equations: dict[str, str] = Field(description="What each quantity is.")


class InitializationPreview(Answer):
    """The network that a run of a spec would begin with."""

    config: RunSpec = Field(description="The spec with every default filled in.")
    estimate: Estimate = Field(description="What a run of it will take.")
    m: int = Field(description="Over how many samples of the dataset, spread evenly: 512 at most.")
    cost: float | None = Field(description="C at the beginning; null if it is not finite.")
    cost_at_chance: float | None = Field(
        description="C of outputs that know nothing: ln k for softmax, n_L·ln 2 for sigmoid with cross-entropy, half "
        "the variance of the targets for mse, each with what samples weigh; null for other costs. A good beginning is "
        "near it."
    )
    layers: list[LayerSignals] = Field(description="Layers 1…L.")
    equations: dict[str, str] = Field(description="What each quantity is.")
