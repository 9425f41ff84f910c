"""Runs where scikit-learn is installed, such as in the environment of the benchmarks (`make parity` makes it)."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is in the environment of the benchmarks only")

from benchmarks import accuracy


@pytest.mark.parametrize("name", accuracy.PROBLEMS)
def test_test_errors_are_no_worse_than_those_of_scikit_learn_beyond_seed_noise(name: str) -> None:
    ours, theirs = accuracy.errors(accuracy.PROBLEMS[name])
    differences = ours - theirs
    assert len(differences) == len(accuracy.SEEDS)
    assert np.mean(differences) <= 2 * np.std(differences, ddof=1) / np.sqrt(len(differences))
