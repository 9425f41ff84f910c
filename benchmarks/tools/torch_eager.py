"""PyTorch as its users tune it on a CPU: tensors loaded once, fused optimizer, no cost read back."""

from typing import Any

import torch

from benchmarks.workloads import Weights, Workload

ACTIVATIONS = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}
SMALL_BYTES = 8 << 20
"""Below this, one gather of the whole epoch is quicker than one for each step; above it, slower."""


class Training:
    """See `benchmarks.tools.Training`."""

    def __init__(self, workload: Workload) -> None:
        torch.set_num_threads(1)
        self._workload = workload
        self._X, self._y = tensors(workload)
        self._orders = [torch.from_numpy(order) for order in workload.orders]
        self._batch = workload.batch
        self._small = workload.X.nbytes < SMALL_BYTES
        self._full = self._batch == workload.data.samples

    def restart(self) -> None:
        """Make a model with the initial weights."""
        self._model = model(self._workload)
        self._cost = cost(self._workload)
        self._optimizer = optimizer(self._workload, self._model, fused=True)

    def train(self) -> None:
        """Go through all batches."""
        step = self._step
        for order in self._orders:
            if self._full:
                step(self._X, self._y)
            elif self._small:
                X, y = self._X[order], self._y[order]
                for X_batch, y_batch in zip(X.split(self._batch), y.split(self._batch), strict=True):
                    step(X_batch, y_batch)
            else:
                for rows in order.split(self._batch):
                    step(self._X[rows], self._y[rows])

    def weights(self) -> Weights:
        """Give W and b of each layer."""
        return weights(self._model)

    def _step(self, X: Any, y: Any) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._cost(self._model(X), y).backward()
        self._optimizer.step()


def tensors(workload: Workload) -> tuple[Any, Any]:
    """Samples, and what the cost wants: class numbers, or a column for one output."""
    y = workload.Y if workload.config.network.outputs == 1 else workload.labels
    return torch.from_numpy(workload.X), torch.from_numpy(y)


def model(workload: Workload) -> Any:
    """Layers as far as the last pre-activation; the cost takes logits."""
    modules: list[Any] = []
    for (W, b), layer in zip(workload.weights, workload.config.network.layers, strict=True):
        linear = torch.nn.Linear(W.shape[1], W.shape[0])
        linear.weight.data, linear.bias.data = torch.from_numpy(W), torch.from_numpy(b)
        modules += [linear, ACTIVATIONS[layer.activation]()] if layer.activation in ACTIVATIONS else [linear]
    return torch.nn.Sequential(*modules)


def cost(workload: Workload) -> Any:
    """Cross-entropy by logits."""
    one = workload.config.network.outputs == 1
    return torch.nn.BCEWithLogitsLoss() if one else torch.nn.CrossEntropyLoss()


def optimizer(workload: Workload, of: Any, **how: Any) -> Any:
    """SGD or Adam with the workload's numbers."""
    spec = workload.config.optimizer
    if spec.name == "sgd":
        return torch.optim.SGD(of.parameters(), lr=spec.learning_rate, **how)
    betas = (spec.beta1, spec.beta2)
    return torch.optim.Adam(of.parameters(), lr=spec.learning_rate, betas=betas, eps=spec.epsilon, **how)


def weights(of: Any) -> Weights:
    """Take a model apart."""
    return [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in of if isinstance(m, torch.nn.Linear)]
