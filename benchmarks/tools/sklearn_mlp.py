"""scikit-learn's MLPClassifier with the same sizes, optimizer and number of steps; it shuffles for itself."""

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.workloads import Weights, Workload


class Training:
    """See `benchmarks.tools.Training`."""

    def __init__(self, workload: Workload) -> None:
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is told how many epochs to take
        self._workload = workload

    def restart(self) -> None:
        """Make a classifier; it begins at random weights of its own."""
        config = self._workload.config
        self._model = MLPClassifier(
            tuple(layer.units for layer in config.network.layers[:-1]),
            activation=config.network.layers[0].activation,
            solver=config.optimizer.name,
            alpha=0,
            batch_size=self._workload.batch,
            learning_rate_init=config.optimizer.learning_rate,
            max_iter=config.epochs,
            tol=0,
            n_iter_no_change=config.epochs + 1,
            momentum=0,
            nesterovs_momentum=False,
            random_state=config.seed,
        )

    def train(self) -> None:
        """Fit."""
        self._model.fit(self._workload.X, self._workload.labels)

    def weights(self) -> Weights:
        """Give W and b of each layer."""
        return [(W.T, b) for W, b in zip(self._model.coefs_, self._model.intercepts_, strict=True)]
