"""The fast path: the mathematics of `network`, with every buffer made once.

What differs from the reading path, and why:

- Behind the input, units are rows and samples columns: W[l] need not be transposed, and sums and maxima
  over units run along long rows.
- A one stands below each column of A[l-1], so that Z, and dW with db, are one product each.
- Every operation writes into a buffer made beforehand; a step makes no numbers of a batch's size.
- The 1/m of the mean is applied to dZ[L], the smallest array it could be applied to.
- The outputs' Z of a whole epoch are kept, so that cost and error are computed once an epoch.
"""

from inspect import unwrap

import numpy as np

from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray
from chainrule.engine.costs import cost
from chainrule.engine.network import Network, NetworkSpec, blocks


class Gradient:
    """Where a step leaves the gradient: one vector, and its blocks [dW | db]."""

    def __init__(self, spec: NetworkSpec, dtype: np.dtype[np.floating]) -> None:
        self.vector = np.zeros(spec.parameter_count, dtype)
        self.blocks = blocks(spec, self.vector)


class BatchPass:
    """Forward and backward for batches of one size.

    Args:
        network: whose parameters are read at each pass.
        gradient: where the gradient goes.
        cost_name: of the cost.
        m: samples in a batch.
    """

    def __init__(self, network: Network, gradient: Gradient, cost_name: str, m: int) -> None:
        spec, dtype = network.spec, network.parameters.dtype
        last = len(spec.layers)
        self.m, self.outputs = m, spec.outputs

        def buffer(units: int) -> FloatArray:
            return np.empty((units, m), dtype)

        # Each function's own errstate is left out, `run` is called within one: entering it takes as long as the work.
        g = {number: activation(layer.activation) for number, layer in enumerate(spec.layers, start=1)}
        A_one = {number: np.ones((spec.sizes[number] + 1, m), dtype) for number in range(1, last)}
        A = {number: held[:-1] for number, held in A_one.items()}
        Z, dA, dZ = ({number: buffer(spec.sizes[number]) for number in range(1, last)} for _ in range(3))
        dZ[last] = buffer(spec.outputs)

        self._forward = [
            (network.blocks[number], Z[number], unwrap(g[number].forward), A[number], A_one[number])
            for number in range(1, last)
        ]
        self._block = network.blocks[last]
        self._output, self._output_forward = g[last], unwrap(g[last].forward)
        self._output_dZ = cost(cost_name).output_dZ
        self._A, self._dZ, self._work = buffer(spec.outputs), dZ[last], buffer(spec.outputs)
        self._scale = np.array(1 / m, dtype)
        self._backward = [
            # From the layer after: its dZ to its [dW | db], and to dA and dZ of this one.
            (
                gradient.blocks[number + 1],
                A_one[number].T,
                network.W[number + 1].T,
                dA[number],
                unwrap(g[number].backward),
                Z[number],
                A[number],
                dZ[number],
            )
            for number in range(last - 1, 0, -1)
        ]
        self._first = gradient.blocks[1]

    def run(self, X: FloatArray, Y: FloatArray, Z_output: FloatArray) -> None:
        """Compute the gradient of the batch's cost; to be called where overflow is ignored.

        Args:
            X: (m, n_0 + 1) samples with a last column of ones.
            Y: (n_L, m) targets, units as rows.
            Z_output: (n_L, m), where Z[L] is left, units as rows.
        """
        dot = np.dot
        A_prev = X.T
        for block, Z, g, A, A_one in self._forward:
            dot(block, A_prev, out=Z)
            g(Z, A, 0)
            A_prev = A_one
        dot(self._block, A_prev, out=Z_output)
        A = self._output_forward(Z_output, self._A, 0)
        dZ = self._output_dZ(Z_output, A, Y, self._output, 0, self._dZ, self._work)
        np.multiply(dZ, self._scale, out=dZ)
        for d_block, A_prev_T, W_T, dA, g_back, Z, A, dZ_prev in self._backward:
            dot(dZ, A_prev_T, out=d_block)
            dot(W_T, dZ, out=dA)
            dZ = g_back(dA, Z, A, dZ_prev, 0)
        dot(dZ, X, out=self._first)


class Batches:
    """Batches of one size, one after another: all full ones of an epoch, or its last smaller one.

    Args:
        one: the pass for this size.
        X: the epoch's samples in their order, with a last column of ones.
        steps: how many batches.
        first: the step they begin with.
        row: the sample they begin with.

    Attributes:
        X: (steps, m, n_0 + 1), a view.
        Y: (steps, n_L, m) targets, units as rows.
        Z: (steps, n_L, m), where each step leaves Z[L].
        rows: the samples.
    """

    def __init__(self, one: BatchPass, X: FloatArray, steps: int, first: int, row: int) -> None:
        self.one, self.steps, self.first = one, steps, first
        self.rows = slice(row, row + steps * one.m)
        self.X = X[self.rows].reshape(steps, one.m, -1)
        self.Y = np.empty((steps, one.outputs, one.m), X.dtype)
        self.Z = np.empty((steps, one.outputs, one.m), X.dtype)

    def fill(self, Y: FloatArray) -> None:
        """Take the targets over from those of all samples in the epoch's order, (m, n_L)."""
        self.Y[:] = Y[self.rows].reshape(self.steps, self.one.m, -1).transpose(0, 2, 1)

    def between(self, start: int, stop: int) -> slice:
        """Of the epoch's steps from `start` to `stop`, choose those in here."""
        return slice(max(start - self.first, 0), max(min(stop - self.first, self.steps), 0))
