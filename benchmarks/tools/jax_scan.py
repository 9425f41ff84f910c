"""JAX with the whole training compiled into one call: a scan over epochs of a scan over steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.tools.jax_step import State, start, step_of, use
from benchmarks.workloads import Weights, Workload


class Training:
    """See `benchmarks.tools.Training`."""

    def __init__(self, workload: Workload) -> None:
        use(workload.config.dtype)
        self._state = start(workload.weights)
        self._orders = jnp.asarray(np.array(workload.orders, np.int32))
        self._run = jax.jit(training_of(workload))

    def restart(self) -> None:
        """Have nothing to undo: nothing is written over."""

    def train(self) -> None:
        """Make the call."""
        self._now = jax.block_until_ready(self._run(self._state, self._orders))

    def weights(self) -> Weights:
        """Give W and b of each layer."""
        return [(np.asarray(W), np.asarray(b)) for W, b in self._now[0]]


def training_of(workload: Workload) -> Callable[[State, Any], State]:
    """Make the training of one network, from its state and the orders of its epochs."""
    X, Y = jnp.asarray(workload.X), jnp.asarray(workload.Y)
    step, m, batch = step_of(workload), workload.data.samples, workload.batch

    def on(state: State, rows: Any) -> tuple[State, None]:
        return step(state, X[rows], Y[rows]), None

    def epoch(state: State, order: Any) -> tuple[State, None]:
        if batch == m:
            return step(state, X, Y), None
        full = m // batch * batch
        state, _ = jax.lax.scan(on, state, order[:full].reshape(-1, batch))
        return on(state, order[full:]) if full < m else (state, None)

    def run(state: State, orders: Any) -> State:
        return jax.lax.scan(epoch, state, orders)[0]  # type: ignore[no-any-return]

    return run
