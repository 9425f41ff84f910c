"""What if a number were another: a network and its samples as they are and changed, and one step of training of each.

    C, E⁽ⁱ⁾, A[L]     at the weights as they are, and as they would be
    ‖dW‖, ‖db‖, …     of the gradient there
    one step          the run's own: penalty, clip, optimizer, max-norm, from the gradient over these samples

An optimizer that remembers earlier steps begins anew: it takes the first step of a training, t = 1.
"""

from dataclasses import dataclass

import numpy as np

from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray
from chainrule.engine.clipping import by_norm, by_value
from chainrule.engine.config import TrainingConfig
from chainrule.engine.costs import cost
from chainrule.engine.network import Network, backward, forward
from chainrule.engine.optimizers import Stepper
from chainrule.engine.regularization import MaxNorm, add_penalty, of_weights


@dataclass(frozen=True)
class State:
    """What a network comes to over some samples.

    Attributes:
        cost: C.
        errors: (m,) w·E of each sample.
        outputs: (m, n_L) A[L].
        norms: ‖dW1‖, ‖db1‖, … by name of the gradient.
        norm: ‖·‖ of all of them.
    """

    cost: float
    errors: FloatArray
    outputs: FloatArray
    norms: dict[str, float]
    norm: float


def state(
    network: Network, cost_name: str, X: FloatArray, Y: FloatArray, weights: FloatArray | None, *, training: bool
) -> State:
    """Compute it; `training` as of `forward`."""
    caches = forward(network, X, training=training)
    last = caches[-1]
    E = cost(cost_name).per_sample(last.Z, last.A, Y.astype(last.A.dtype), activation(last.activation))
    E = E if weights is None else E * weights
    back = backward(caches, cost_name, Y, weights)
    norms = {f"d{name}": float(np.linalg.norm(back[f"d{name}"].astype(np.float64))) for name in network.blocks}
    return State(
        float(np.mean(E, dtype=np.float64)), E, last.A, norms, float(np.linalg.norm(np.array(list(norms.values()))))
    )


def stepped(
    network: Network, config: TrainingConfig, rate: float, X: FloatArray, Y: FloatArray, weights: FloatArray | None
) -> Network:
    """Take one step of a training with these samples as its batch, and give the network it leads to.

    Running statistics stay as they are. Dropout is left out: what would be dropped is no question of this.

    Raises:
        ConfigError: the optimizer takes no steps along one gradient.
    """
    made = network.copy()
    P, spec = made.parameters, network.spec
    optimizer = Stepper(config.optimizer, P)
    optimizer.set_learning_rate(rate)  # a schedule may have brought it to 0
    back = backward(forward(network, X, training=True), config.cost, Y, weights)
    G = np.zeros_like(P)
    for name, block in Network(spec, G).blocks.items():
        block[:] = back[f"d{name}"]
    regularization, clip = config.regularization, config.clip
    l1, l2 = (
        of_weights(spec, P.dtype) * P.dtype.type(factor) if factor > 0 else None
        for factor in (regularization.l1, regularization.l2)
    )
    add_penalty(P, G, l1, l2)
    if clip is not None and clip.value is not None:
        by_value(G, np.array(-clip.value, P.dtype), np.array(clip.value, P.dtype))
    if clip is not None and clip.norm is not None:
        by_norm(clip.norm)(G)
    optimizer.step(P, G, 1)
    if regularization.max_norm is not None:
        MaxNorm(regularization.max_norm, spec, P.dtype).shorten(P)
    return made
