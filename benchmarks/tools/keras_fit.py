"""Keras on JAX: compile and fit; it shuffles for itself."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

from benchmarks.workloads import Weights, Workload


class Training:
    """See `benchmarks.tools.Training`."""

    def __init__(self, workload: Workload) -> None:
        self._workload, config = workload, workload.config
        spec, one = config.optimizer, config.network.outputs == 1
        layers = [keras.layers.Dense(layer.units, _activation(layer.activation)) for layer in config.network.layers]
        self._model = keras.Sequential([keras.Input((config.network.inputs,)), *layers])
        rate = spec.learning_rate
        optimizer = (
            keras.optimizers.SGD(rate)
            if spec.name == "sgd"
            else keras.optimizers.Adam(rate, spec.beta1, spec.beta2, spec.epsilon)
        )
        losses = keras.losses
        loss = losses.BinaryCrossentropy if one else losses.SparseCategoricalCrossentropy
        self._model.compile(optimizer, loss(from_logits=True))
        optimizer.build(self._model.trainable_variables)
        self._y = workload.Y if one else workload.labels
        self._variables = self._model.trainable_variables + optimizer.variables
        start = [array for W, b in workload.weights for array in (W.T, b)]
        self._start = start + [np.array(variable) for variable in optimizer.variables]

    def restart(self) -> None:
        """Put the initial values into the model and its optimizer."""
        for variable, value in zip(self._variables, self._start, strict=True):
            variable.assign(value)

    def train(self) -> None:
        """Fit."""
        workload = self._workload
        self._model.fit(workload.X, self._y, workload.batch, workload.config.epochs, verbose=0)

    def weights(self) -> Weights:
        """Give W and b of each layer."""
        return [(np.asarray(layer.kernel).T, np.asarray(layer.bias)) for layer in self._model.layers]


def _activation(name: str) -> str | None:
    """Leave the output's to the cost."""
    return None if name in ("sigmoid", "softmax") else name
