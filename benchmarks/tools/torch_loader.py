"""PyTorch as its introductions show it: a DataLoader, the optimizer as it comes, the cost read in every step."""

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.tools.torch_eager import cost, model, optimizer, tensors, weights
from benchmarks.workloads import Weights, Workload


class Orders:
    """A sampler that gives the order of each epoch in turn."""

    def __init__(self, workload: Workload) -> None:
        self._orders = [order.tolist() for order in workload.orders]
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        """Go through the next epoch's order."""
        self.epoch += 1
        return iter(self._orders[self.epoch - 1])

    def __len__(self) -> int:
        """Count the samples."""
        return len(self._orders[0])


class Training:
    """See `benchmarks.tools.Training`."""

    def __init__(self, workload: Workload) -> None:
        torch.set_num_threads(1)
        self._workload = workload
        self._orders = Orders(workload)
        data: Any = torch.utils.data.TensorDataset(*tensors(workload))
        self._loader = torch.utils.data.DataLoader(data, workload.batch, sampler=self._orders)

    def restart(self) -> None:
        """Make a model with the initial weights."""
        self._orders.epoch = 0
        self._model, self._cost = model(self._workload), cost(self._workload)
        self._optimizer = optimizer(self._workload, self._model)

    def train(self) -> None:
        """Go through all epochs, adding up the cost."""
        for _ in range(self._workload.config.epochs):
            total = 0.0
            for X, y in self._loader:
                self._optimizer.zero_grad()
                found = self._cost(self._model(X), y)
                found.backward()
                self._optimizer.step()
                total += found.item() * len(X)

    def weights(self) -> Weights:
        """Give W and b of each layer."""
        return weights(self._model)
