"""The problems every gradient is checked on: each hidden activation, output, cost that fits it, and depth."""

from dataclasses import dataclass

import numpy as np

from chainrule.engine import ACTIVATIONS, COSTS, LayerSpec, Network, NetworkSpec, forward, initialize
from chainrule.engine.arrays import FloatArray

SAMPLES = 7
SHALLOW, DEEP, BARE, ONE_OUTPUT = (4, 5, 3), (3, 5, 4, 6, 3), (4, 3), (3, 4, 1)
HIDDEN = [name for name, found in ACTIVATIONS.items() if not found.output_only]
FITTING = [(output, cost) for cost, found in COSTS.items() for output in found.fits]


@dataclass(frozen=True)
class Problem:
    """A network's shape with a cost; `hidden` is None where there is no hidden layer."""

    sizes: tuple[int, ...]
    hidden: str | None
    output: str
    cost: str

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))} {self.hidden or 'none'} {self.output} {self.cost}"

    @property
    def spec(self) -> NetworkSpec:
        hidden = [LayerSpec(units, self.hidden or "") for units in self.sizes[1:-1]]
        return NetworkSpec(self.sizes[0], (*hidden, LayerSpec(self.sizes[-1], self.output)))

    def make(self, samples: int = SAMPLES, dtype: str = "float64") -> tuple[Network, FloatArray, FloatArray]:
        """Make a network with biases, samples and targets, no pre-activation close to a kink."""
        for seed in range(1000):
            rng = np.random.default_rng(seed)
            network = initialize(self.spec, seed, dtype)
            for b in network.b.values():
                b[:] = rng.normal(0, 0.3, b.shape)
            X = rng.normal(size=(samples, self.sizes[0])).astype(dtype)
            if _distance_from_kinks(network, X) > 1e-3:
                return network, X, self.targets(rng, samples).astype(dtype)
        raise AssertionError("no seed keeps its distance from the kinks")

    def targets(self, rng: np.random.Generator, samples: int) -> FloatArray:
        """Draw classes for the cross-entropies, numbers for all else."""
        units = self.sizes[-1]
        if "cross_entropy" not in self.cost:
            return rng.normal(size=(samples, units))
        if self.output == "softmax":
            return np.eye(units)[rng.integers(0, units, samples)]
        return rng.integers(0, 2, (samples, units)).astype(np.float64)


def _distance_from_kinks(network: Network, X: FloatArray) -> float:
    distances = [
        float(np.min(np.abs(cache.Z - kink)))
        for cache in forward(network, X)
        for kink in ACTIVATIONS[cache.activation].kinks
    ]
    return min(distances, default=np.inf)


PROBLEMS = [
    *(Problem(sizes, hidden, *fit) for sizes in (SHALLOW, DEEP) for hidden in HIDDEN for fit in FITTING),
    *(Problem(BARE, None, *fit) for fit in FITTING),
    *(
        Problem(ONE_OUTPUT, hidden, output, cost)
        for hidden in HIDDEN
        for output, cost in FITTING
        if output != "softmax"
    ),
]
