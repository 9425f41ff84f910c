"""The problems every gradient is checked on: each hidden activation, output, cost, depth and normalization."""

from dataclasses import dataclass

import numpy as np

from chainrule.engine import ACTIVATIONS, COSTS, OPTIMIZERS, LayerSpec, Network, NetworkSpec, forward, initialize
from chainrule.engine.arrays import FloatArray
from chainrule.engine.normalization import NORMALIZATIONS

SAMPLES = 7
SHALLOW, DEEP, BARE, ONE_OUTPUT = (4, 5, 3), (3, 5, 4, 6, 3), (4, 3), (3, 4, 1)
HIDDEN = [name for name, found in ACTIVATIONS.items() if not found.output_only]
STEPPING = [name for name, found in OPTIMIZERS.items() if not found.searches]
FITTING = [(output, cost) for cost, found in COSTS.items() for output in found.fits]


@dataclass(frozen=True)
class Problem:
    """A network's shape with a cost; `hidden` is None where there is no hidden layer."""

    sizes: tuple[int, ...]
    hidden: str | None
    output: str
    cost: str
    normalization: str | None = None

    def __str__(self) -> str:
        normalized = f" {self.normalization}" if self.normalization else ""
        return f"{'-'.join(map(str, self.sizes))} {self.hidden or 'none'} {self.output} {self.cost}{normalized}"

    @property
    def spec(self) -> NetworkSpec:
        normalization = self.normalization
        hidden = [LayerSpec(units, self.hidden or "", normalization=normalization) for units in self.sizes[1:-1]]
        return NetworkSpec(self.sizes[0], (*hidden, LayerSpec(self.sizes[-1], self.output)))

    def make(self, samples: int = SAMPLES, dtype: str = "float64") -> tuple[Network, FloatArray, FloatArray]:
        """Make a network with biases, samples and targets, no pre-activation close to a kink.

        Where it normalizes, γ, β and running statistics are none of those training begins with.
        """
        for seed in range(1000):
            rng = np.random.default_rng(seed)
            network = initialize(self.spec, seed, dtype)
            for b in network.b.values():
                b[:] = rng.normal(0, 0.3, b.shape)
            for name, block in network.blocks.items():
                if name.startswith(("gamma", "beta")):
                    block += rng.normal(0, 0.3, block.shape).astype(dtype)
            for mean, variance in network.running_views.values():
                mean[:], variance[:] = rng.normal(0, 0.3, mean.shape), rng.uniform(0.5, 2, variance.shape)
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
        float(np.min(np.abs(cache.N - kink)))
        for training in (False, True)
        for cache in forward(network, X, training=training)
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
    *(
        Problem(sizes, hidden, *FITTING[(number + shift) % len(FITTING)], normalization)
        for shift, normalization in enumerate(NORMALIZATIONS)
        for sizes in (SHALLOW, DEEP)
        for number, hidden in enumerate(HIDDEN)
    ),
]
NORMALIZED = [problem for problem in PROBLEMS if problem.normalization]
