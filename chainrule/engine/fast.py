"""The fast path: the mathematics of `network`, with every buffer made once.

What differs from the reading path, and why:

- A column of ones stands behind each A[l-1], so that Z, and dW with db, are one product each.
- Every operation writes into a buffer made beforehand; a step makes no array of a batch's size.
- The output layer is kept with units as rows, (n_L, m): sums and maxima over units run along long rows.
- The 1/m of the mean is applied to dZ[L], the smallest array it could be applied to.
- The outputs' Z of a whole epoch are kept, so that cost and error are computed once an epoch.
"""

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
        self._last = len(spec.layers)
        self._cost = cost(cost_name)
        self._activations = [activation(layer.activation) for layer in spec.layers]
        self._blocks = [network.blocks[number] for number in range(1, self._last + 1)]
        self._transposed = [block.T for block in self._blocks]
        self._W = [block[:, :-1] for block in self._blocks]
        self._gradients = [gradient.blocks[number] for number in range(1, self._last + 1)]
        self._scale = 1 / m
        hidden = spec.sizes[1:-1]
        self._with_ones = [np.ones((m, units + 1), dtype) for units in hidden]
        self._A = [held[:, :-1] for held in self._with_ones]
        self._Z = [np.empty((m, units), dtype) for units in hidden]
        self._dA = [np.empty((m, units), dtype) for units in hidden]
        self._dZ = [np.empty((m, units), dtype) for units in hidden]
        self._output = np.empty((spec.outputs, m), dtype)
        self._dZ_output = np.empty((spec.outputs, m), dtype)

    def run(self, X: FloatArray, Y: FloatArray, Z_output: FloatArray) -> None:
        """Compute the gradient of the batch's cost.

        Args:
            X: (m, n_0 + 1) samples with a last column of ones.
            Y: (n_L, m) targets, units as rows.
            Z_output: (n_L, m), where Z[L] is left, units as rows.
        """
        A_prev, last = X, self._last - 1
        for at in range(last):
            np.dot(A_prev, self._transposed[at], out=self._Z[at])
            self._activations[at].forward(self._Z[at], out=self._A[at])
            A_prev = self._with_ones[at]
        np.dot(self._blocks[last], A_prev.T, out=Z_output)
        output, dZ = self._activations[last], self._dZ_output
        A = output.forward(Z_output, out=self._output, axis=0)
        self._cost.output_dZ(Z_output, A, Y, output, axis=0, out=dZ)
        np.multiply(dZ, self._scale, out=dZ)
        np.dot(dZ, A_prev, out=self._gradients[last])
        if last:
            np.dot(dZ.T, self._W[last], out=self._dA[last - 1])
        for at in range(last - 1, -1, -1):
            dZ = self._activations[at].backward(self._dA[at], self._Z[at], self._A[at], out=self._dZ[at])
            np.dot(dZ.T, self._with_ones[at - 1] if at else X, out=self._gradients[at])
            if at:
                np.dot(dZ, self._W[at], out=self._dA[at - 1])
