"""Test errors beside those of scikit-learn's MLPClassifier, on three real sets and over ten seeds.

`python -m benchmarks.accuracy`, or `make parity`. Each seed has a split of its own, a quarter held out by class;
inputs are standardised on the training rows; sizes, optimizer, batch size and epochs are the same. Ours is worse
only if the mean of the paired differences is above twice its standard error.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from benchmarks.report import keep, keeping
from chainrule.engine import Data, Epoch, OptimizerSpec, TrainingConfig, dense, train

SEEDS = range(10)


@dataclass(frozen=True)
class Problem:
    """A set, and how a network is trained on it."""

    load: Callable[..., Any]
    hidden: int
    batch: int
    epochs: int
    learning_rate: float = 0.001


PROBLEMS = {
    "digits": Problem(load_digits, hidden=32, batch=32, epochs=40),
    "wine": Problem(load_wine, hidden=16, batch=16, epochs=100),
    "breast cancer": Problem(load_breast_cancer, hidden=16, batch=32, epochs=60),
}


def main() -> None:
    """Print and keep the table; end in failure if ours is worse beyond noise."""
    lines = [
        f"Test error over {len(SEEDS)} seeds, mean ± standard deviation, against scikit-learn {sklearn.__version__}; "
        "Adam, ReLU, the same sizes, batches and epochs.",
        "",
        "| set | Chainrule | MLPClassifier | difference, seed by seed (± standard error) |",
        "|---|--:|--:|--:|",
    ]
    worse = []
    for name, problem in PROBLEMS.items():
        ours, theirs = errors(problem)
        difference, noise = np.mean(ours - theirs), np.std(ours - theirs, ddof=1) / np.sqrt(len(SEEDS))
        lines.append(
            f"| {name} | {_percent(ours)} | {_percent(theirs)} | {100 * difference:+.2f} ± {100 * noise:.2f} points |"
        )
        worse += [name] if difference > 2 * noise else []
    print("\n".join(lines))
    if output := keeping(__doc__):
        keep("Test errors beside scikit-learn's", "\n".join(lines), output)
    if worse:
        raise SystemExit(f"worse beyond noise: {', '.join(worse)}")


def errors(problem: Problem) -> tuple[Any, Any]:
    """Find the share of test samples got wrong for each seed, ours and theirs."""
    warnings.simplefilter("ignore", ConvergenceWarning)  # it is told how many epochs to take
    X, labels = problem.load(return_X_y=True)
    found = []
    for seed in SEEDS:
        X_train, X_test, y_train, y_test = train_test_split(
            X, labels, test_size=0.25, stratify=labels, random_state=seed
        )
        scaler = StandardScaler().fit(X_train)
        parts = scaler.transform(X_train), y_train, scaler.transform(X_test), y_test
        found.append((_ours(problem, seed, *parts), _theirs(problem, seed, *parts)))
    ours, theirs = np.array(found).T
    return ours, theirs


def _ours(problem: Problem, seed: int, X: Any, y: Any, X_test: Any, y_test: Any) -> float:
    classes = tuple(str(label) for label in np.unique(y))
    output = (1, "sigmoid") if len(classes) == 2 else (len(classes), "softmax")
    config = TrainingConfig(
        dense(X.shape[1], (problem.hidden, "relu"), output),
        optimizer=OptimizerSpec("adam", problem.learning_rate),
        epochs=problem.epochs,
        batch_size=problem.batch,
        seed=seed,
        gradients_every=None,
    )
    test = Data(X_test, labels=y_test, classes=classes)
    *_, last = train(config, Data(X, labels=y, classes=classes), test)
    assert isinstance(last, Epoch)
    assert last.validation_error is not None
    return last.validation_error


def _theirs(problem: Problem, seed: int, X: Any, y: Any, X_test: Any, y_test: Any) -> float:
    model = MLPClassifier(
        (problem.hidden,),
        alpha=0,
        batch_size=problem.batch,
        learning_rate_init=problem.learning_rate,
        max_iter=problem.epochs,
        tol=0,
        n_iter_no_change=problem.epochs + 1,
        random_state=seed,
    )
    return float(1 - model.fit(X, y).score(X_test, y_test))


def _percent(errors: Any) -> str:
    return f"{100 * np.mean(errors):.2f} ± {100 * np.std(errors, ddof=1):.2f} %"


if __name__ == "__main__":
    main()
