"""What tutorials write: float64, rows as samples, fresh arrays in every step."""

import numpy as np

from benchmarks.workloads import Weights, Workload
from chainrule.engine.arrays import FloatArray


class Training:
    """See `benchmarks.tools.Training`."""

    def __init__(self, workload: Workload) -> None:
        self._config, self._start, self._batches = workload.config, workload.weights, workload.batches()
        self._X, self._Y = workload.X.astype(np.float64), workload.Y.astype(np.float64)

    def restart(self) -> None:
        """Copy the initial weights."""
        self._W = [W.astype(np.float64) for W, _ in self._start]
        self._b = [b.astype(np.float64) for _, b in self._start]
        self._parameters = self._W + self._b
        self._M = [np.zeros_like(p) for p in self._parameters]
        self._S = [np.zeros_like(p) for p in self._parameters]
        self._t = 0

    def train(self) -> None:
        """Go through all batches."""
        for epoch in self._batches:
            for rows in epoch:
                self._step(self._X[rows], self._Y[rows])

    def weights(self) -> Weights:
        """Give W and b of each layer."""
        return list(zip(self._W, self._b, strict=True))

    def _step(self, X: FloatArray, Y: FloatArray) -> None:
        A = [X]
        for W, b, layer in zip(self._W, self._b, self._config.network.layers, strict=True):
            A.append(_activate(A[-1] @ W.T + b, layer.activation))
        dZ = (A[-1] - Y) / len(X)
        dW: list[FloatArray] = []
        db: list[FloatArray] = []
        for number in range(len(self._W), 0, -1):
            dW.insert(0, dZ.T @ A[number - 1])
            db.insert(0, dZ.sum(axis=0))
            if number > 1:
                below = A[number - 1]
                relu = self._config.network.layers[number - 2].activation == "relu"
                dZ = (dZ @ self._W[number - 1]) * (below > 0 if relu else 1 - below**2)
        self._update(dW + db)

    def _update(self, gradients: list[FloatArray]) -> None:
        optimizer = self._config.optimizer
        self._t += 1
        for n, (p, G) in enumerate(zip(self._parameters, gradients, strict=True)):
            if optimizer.name == "sgd":
                p -= optimizer.learning_rate * G
                continue
            self._M[n] = optimizer.beta1 * self._M[n] + (1 - optimizer.beta1) * G
            self._S[n] = optimizer.beta2 * self._S[n] + (1 - optimizer.beta2) * G**2
            M_hat = self._M[n] / (1 - optimizer.beta1**self._t)
            S_hat = self._S[n] / (1 - optimizer.beta2**self._t)
            p -= optimizer.learning_rate * M_hat / (np.sqrt(S_hat) + optimizer.epsilon)


def _activate(Z: FloatArray, name: str) -> FloatArray:
    if name == "relu":
        return np.maximum(Z, 0)
    if name == "tanh":
        return np.tanh(Z)
    if name == "sigmoid":
        return 1 / (1 + np.exp(-Z))
    e = np.exp(Z - Z.max(axis=1, keepdims=True))
    shares: FloatArray = e / e.sum(axis=1, keepdims=True)
    return shares
