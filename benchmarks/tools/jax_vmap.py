"""JAX with all members in one call: the scan of `jax_scan`, mapped over seeds."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.tools.jax_scan import training_of
from benchmarks.tools.jax_step import start, use
from benchmarks.workloads import Weights, Workload


class Training:
    """See `benchmarks.tools.Training`."""

    def __init__(self, workload: Workload) -> None:
        use(workload.config.dtype)
        first = workload.config.seed
        members = [
            replace(workload, config=replace(workload.config, seed=seed))
            for seed in range(first, first + workload.members)
        ]
        self._states = jax.tree.map(lambda *of: jnp.stack(of), *(start(member.weights) for member in members))
        self._orders = jnp.asarray(np.array([member.orders for member in members], np.int32))
        self._run = jax.jit(jax.vmap(training_of(workload)))

    def restart(self) -> None:
        """Have nothing to undo: nothing is written over."""

    def train(self) -> None:
        """Make the call."""
        self._now = jax.block_until_ready(self._run(self._states, self._orders))

    def weights(self) -> Weights:
        """Give W and b of each layer of the first member: it is the one that the other tools train."""
        return [(np.asarray(W[0]), np.asarray(b[0])) for W, b in self._now[0]]
