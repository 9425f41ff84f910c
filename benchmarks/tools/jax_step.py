"""JAX with one compiled step, called from a Python loop."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workloads import Weights, Workload
from chainrule.engine import OptimizerSpec

State = tuple[Any, Any, Any, Any]
"""Parameters, M, S, t."""


class Training:
    """See `benchmarks.tools.Training`."""

    def __init__(self, workload: Workload) -> None:
        use(workload.config.dtype)
        X, Y = jnp.asarray(workload.X), jnp.asarray(workload.Y)
        self._state, self._batches = (
            start(workload.weights),
            [[jnp.asarray(rows.astype(np.int32)) for rows in epoch] for epoch in workload.batches()],
        )
        step = step_of(workload)
        if workload.batch == workload.data.samples:
            whole = jax.jit(lambda state: step(state, X, Y), donate_argnums=0)
            self._take: Callable[[State, Any], State] = lambda state, rows: whole(state)
        else:
            self._take = jax.jit(lambda state, rows: step(state, X[rows], Y[rows]), donate_argnums=0)

    def restart(self) -> None:
        """Copy the initial weights; a step may write over those it is given."""
        self._now = jax.tree.map(jnp.copy, self._state)
        jax.block_until_ready(self._now)

    def train(self) -> None:
        """Go through all batches."""
        state, take = self._now, self._take
        for epoch in self._batches:
            for rows in epoch:
                state = take(state, rows)
        self._now = jax.block_until_ready(state)

    def weights(self) -> Weights:
        """Give W and b of each layer."""
        return [(np.asarray(W), np.asarray(b)) for W, b in self._now[0]]


def use(dtype: str) -> None:
    """Have JAX keep float64 where it is asked for."""
    jax.config.update("jax_enable_x64", dtype == "float64")


def start(weights: Weights) -> State:
    """Make the state before the first step."""
    parameters = [(jnp.asarray(W), jnp.asarray(b)) for W, b in weights]
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    return parameters, zeros, jax.tree.map(jnp.zeros_like, parameters), jnp.zeros((), parameters[0][0].dtype)


def step_of(workload: Workload) -> Callable[[State, Any, Any], State]:
    """Make the step: cost by logits, its gradient, SGD or Adam."""
    layers, optimizer = workload.config.network.layers, workload.config.optimizer

    def cost(parameters: Any, X: Any, Y: Any) -> Any:
        A = X
        for (W, b), layer in zip(parameters, layers, strict=True):
            Z = A @ W.T + b
            A = {"relu": jax.nn.relu, "tanh": jnp.tanh}.get(layer.activation, lambda Z: Z)(Z)
        if layers[-1].activation == "softmax":
            return -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(A), axis=1))
        return jnp.mean(jnp.sum(jax.nn.softplus(A) - Y * A, axis=1))

    def step(state: State, X: Any, Y: Any) -> State:
        return update(optimizer, state, jax.grad(cost)(state[0], X, Y))

    return step


def update(o: OptimizerSpec, state: State, G: Any) -> State:
    """Move the parameters against their gradient."""
    P, M, S, t = state
    t = t + 1
    if o.name == "sgd":
        return jax.tree.map(lambda p, g: p - o.learning_rate * g, P, G), M, S, t
    M = jax.tree.map(lambda m, g: o.beta1 * m + (1 - o.beta1) * g, M, G)
    S = jax.tree.map(lambda s, g: o.beta2 * s + (1 - o.beta2) * g * g, S, G)
    first, second = 1 - o.beta1**t, 1 - o.beta2**t

    def moved(p: Any, m: Any, s: Any) -> Any:
        return p - o.learning_rate * (m / first) / (jnp.sqrt(s / second) + o.epsilon)

    return jax.tree.map(moved, P, M, S), M, S, t
