"""What is trained: a network, its data, and the order of the batches, the same for every tool."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from chainrule.engine import Data, NetworkSpec, OptimizerSpec, TrainingConfig, dense, digits, initialize, xor
from chainrule.engine.arrays import FloatArray, IntArray, generator

Weights = list[tuple[FloatArray, FloatArray]]


@dataclass
class Workload:
    """A training that every tool can do: dense layers, cross-entropy, SGD or Adam.

    Attributes:
        about: one line for the table's head.
        config: with `gradients_every=None`, since no other tool records gradients.
        make: its data.
        members: how many networks of this shape are trained; above 1 for tools that stack them.
    """

    about: str
    config: TrainingConfig
    make: Callable[[], Data]
    members: int = 1

    @cached_property
    def data(self) -> Data:
        """The samples, features in the float type of the training."""
        data = self.make()
        X = np.ascontiguousarray(data.X, self.config.dtype)
        return Data(X, labels=data.labels, classes=data.classes)

    @property
    def X(self) -> NDArray[np.floating]:
        """(m, n_0) features."""
        return self.data.X

    @property
    def labels(self) -> IntArray:
        """(m,) class numbers."""
        assert self.data.labels is not None
        return self.data.labels

    @property
    def Y(self) -> FloatArray:
        """(m, n_L) targets: a column of 0 and 1 for one output, else one-hot rows."""
        classes = self.config.network.outputs
        dense_labels = self.labels[:, None] if classes == 1 else np.eye(classes)[self.labels]
        return dense_labels.astype(self.config.dtype)

    @property
    def weights(self) -> Weights:
        """W (n_l, n_{l-1}) and b (n_l,) of each layer before the first step."""
        network = initialize(self.config.network, self.config.seed, self.config.dtype)
        return [(W.copy(), b.copy()) for W, b in zip(network.W.values(), network.b.values(), strict=True)]

    @cached_property
    def orders(self) -> list[IntArray]:
        """The samples in the order of each epoch, by the engine's own rule."""
        m, config = self.data.samples, self.config
        if config.batch(m) == m:
            return [np.arange(m)] * config.epochs
        return [generator(config.seed, "shuffle", epoch).permutation(m) for epoch in range(1, config.epochs + 1)]

    @property
    def batch(self) -> int:
        """The samples of a full batch."""
        return self.config.batch(self.data.samples)

    @property
    def steps(self) -> int:
        """The steps of the whole training of one network."""
        return self.config.epochs * self.config.steps_per_epoch(self.data.samples)

    def batches(self) -> list[list[IntArray]]:
        """The samples of each step of each epoch; the last batch of an epoch may be smaller."""
        starts = range(self.batch, self.data.samples, self.batch)
        return [np.split(order, starts) for order in self.orders]


def mnist_like(samples: int, inputs: int = 784) -> Data:
    """Pictures of the size of MNIST: a fifth of the pixels lit, a pattern for each class, a tenth mislabelled."""
    rng = generator(0, "mnist-like")
    patterns = np.where(rng.random((10, inputs), np.float32) < 0.25, np.float32(0.32), np.float32(0.17))
    truth = rng.integers(10, size=samples)
    lit = rng.random((samples, inputs), np.float32) < patterns[truth]
    X = lit * (rng.integers(64, 256, (samples, inputs), np.uint8) / np.float32(255))
    labels = np.where(rng.random(samples) < 0.1, rng.integers(10, size=samples), truth)
    return Data(X, labels=labels, classes=tuple("0123456789"))


def dead_units(samples: int) -> Data:
    """Every pixel lit and labels at random: most ReLUs die, and the optimizer's state of their weights decays."""
    rng = generator(0, "dead units")
    X = rng.random((samples, 784), np.float32)
    return Data(X, labels=rng.integers(10, size=samples), classes=tuple("0123456789"))


def workloads(*, smoke: bool = False) -> dict[str, Workload]:
    """All workloads by name; for a smoke test the same with fewer samples and epochs."""
    m = 1_000 if smoke else 60_000
    epochs = 2 if smoke else 20
    xor_net, digits_net = dense(2, (8, "tanh"), (1, "sigmoid")), dense(64, (32, "relu"), (10, "softmax"))
    mnist_net = dense(784, (128, "relu"), (10, "softmax"))
    wide_net = dense(784, (2048, "relu"), (2048, "relu"), (10, "softmax"))
    wide_m = 96 if smoke else 4_096
    sgd, adam, hot = OptimizerSpec("sgd", 0.1), OptimizerSpec("adam", 0.001), OptimizerSpec("adam", 0.01)

    def training(network: NetworkSpec, optimizer: OptimizerSpec, epochs: int, batch: int | None) -> TrainingConfig:
        return TrainingConfig(
            network,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch,
            seed=1,
            gradients_every=None,
        )

    all_at_once = training(xor_net, OptimizerSpec("sgd", 0.5), 50 if smoke else 5_000, None)
    full, wide = partial(mnist_like, m), partial(mnist_like, wide_m)
    names = {
        "A": Workload("XOR, 2-8-1, full batch, SGD", all_at_once, xor),
        "B-sgd": Workload("digits, 64-32-10, batch 32, SGD", training(digits_net, sgd, epochs, 32), digits),
        "B-adam": Workload("digits, 64-32-10, batch 32, Adam", training(digits_net, adam, epochs, 32), digits),
        "C64-sgd": Workload("MNIST-sized, 784-128-10, batch 64, SGD", training(mnist_net, sgd, 1, 64), full),
        "C64-adam": Workload("MNIST-sized, 784-128-10, batch 64, Adam", training(mnist_net, adam, 1, 64), full),
        "C256-sgd": Workload("MNIST-sized, 784-128-10, batch 256, SGD", training(mnist_net, sgd, 1, 256), full),
        "C256-adam": Workload("MNIST-sized, 784-128-10, batch 256, Adam", training(mnist_net, adam, 1, 256), full),
        "C64dead-adam": Workload(
            "784-128-10 with dead units, batch 64, Adam", training(mnist_net, hot, 1, 64), partial(dead_units, m)
        ),
        "D-sgd": Workload(
            "wide, 784-2048-2048-10, batch 512, SGD",
            training(wide_net, OptimizerSpec("sgd", 0.02), 1, 48 if smoke else 512),
            wide,
        ),
        "D-adam": Workload(
            "wide, 784-2048-2048-10, batch 512, Adam",
            training(wide_net, OptimizerSpec("adam", 0.0001), 1, 48 if smoke else 512),
            wide,
        ),
        "E": Workload(
            "MNIST-sized, 784-128-10, 10,000 samples, full batch, SGD",
            training(mnist_net, sgd, 2 if smoke else 15, None),
            partial(mnist_like, 1_000 if smoke else 10_000),
        ),
    }
    for name, few in (("A", 50 if smoke else 2_000), ("B-sgd", epochs), ("B-adam", epochs)):
        one = names[name]
        config = training(one.config.network, one.config.optimizer, few, one.config.batch_size)
        names[f"{name}-x64"] = Workload(f"64 at once: {one.about}", config, one.make, members=64)
    return names
