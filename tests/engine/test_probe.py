"""What is recorded over the probe, held against the reading path and against gradients that are made."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from chainrule.engine import (
    Epoch,
    LayerSpec,
    NetworkSpec,
    OptimizerSpec,
    Round,
    Trainee,
    TrainingConfig,
    backward,
    dense,
    digits,
    forward,
    goal,
    train,
    train_stacked,
    xor,
)
from chainrule.engine.coherence import measure, summarize
from chainrule.engine.probe import Inputs, Probe

NETWORKS = {
    "relu and tanh": dense(64, (12, "relu"), (9, "tanh"), (10, "softmax")),
    "sigmoid": dense(64, (12, "sigmoid"), (10, "sigmoid")),
    "normalized": NetworkSpec(64, (LayerSpec(12, "relu", normalization="layer"), LayerSpec(10, "softmax"))),
}


def config(spec: NetworkSpec, **changes: Any) -> TrainingConfig:
    made = TrainingConfig(spec, epochs=2, batch_size=50, optimizer=OptimizerSpec("sgd", 0.1), dtype="float64")
    return dataclasses.replace(made, **changes)


def epochs_of(made: TrainingConfig) -> list[Epoch]:
    return [epoch for epoch in train(made, digits()) if isinstance(epoch, Epoch) and epoch.network is not None]


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("weights", [None, tuple(np.linspace(0.5, 2, 10))], ids=["even", "weighed"])
def test_the_probe_is_what_the_reading_path_finds(kind: str, weights: tuple[float, ...] | None) -> None:
    made, data = config(NETWORKS[kind], class_weights=weights), digits()
    sought = goal(made, data)
    X, Y, w = data.X[:512], sought.Y[:512], None if sought.weights is None else sought.weights[:512]
    for epoch in epochs_of(made):
        probe = epoch.probe
        assert probe is not None
        caches = forward(epoch.network, X)
        back = backward(caches, made.cost, Y, w)
        for number, layer in enumerate(probe.layers, start=1):
            A, hidden = caches[number - 1].A, number < len(caches)
            activation = made.network.layers[number - 1].activation
            assert layer.error_rms == pytest.approx(np.sqrt(np.mean(back[f"dZ{number}"] ** 2)), rel=1e-10)
            relu = hidden and activation == "relu"
            assert layer.zeros == (pytest.approx(np.mean(A == 0)) if relu else None)
            assert layer.dead == (pytest.approx(np.mean((A == 0).all(axis=0))) if relu else None)
            far = np.abs(A) > 0.97 if activation == "tanh" else (A < 0.02) | (A > 0.98)
            bounded = hidden and activation in ("tanh", "sigmoid")
            assert layer.saturated == (pytest.approx(np.mean(far)) if bounded else None)
        assert probe.predicted == len(set(caches[-1].A.argmax(axis=1).tolist()))
        if kind != "normalized":  # whose γ and β are no part of it
            found = summarize(measure(epoch.network, made.cost, X, Y, w))
            assert probe.mean_square == pytest.approx(found["mean_square_norm"].value, rel=1e-9)
            assert probe.signal == pytest.approx(found["signal"].value, rel=1e-7)
            assert probe.trace == pytest.approx(found["trace_sigma"].value, rel=1e-9)
            assert probe.noise_scale == pytest.approx(found["noise_scale"].value, rel=1e-7)
        assert Probe.from_dict(probe.to_dict()) == probe


@pytest.mark.parametrize("output", ["linear", "sigmoid"])
def test_one_output_for_two_classes_is_held_against_a_half(output: str) -> None:
    made = TrainingConfig(dense(2, (1, output)), epochs=2, cost="mse", optimizer=OptimizerSpec("sgd", 1.0), seed=1)
    for epoch in (epoch for epoch in train(made, xor()) if isinstance(epoch, Epoch)):
        A = forward(epoch.network, xor().X)[-1].A
        assert epoch.probe is not None
        assert epoch.probe.predicted == len(set((A > 0.5).ravel().tolist()))


def test_rows_that_are_alike_and_inputs_are_looked_at_once() -> None:
    spec = NetworkSpec(64, (LayerSpec(4, "tanh", "zeros"), LayerSpec(10, "softmax", "zeros")))
    first, second, _ = (epoch.probe for epoch in epochs_of(config(spec)))
    half = NetworkSpec(64, (LayerSpec(4, "tanh", "zeros"), LayerSpec(10, "softmax")))
    told_apart = epochs_of(config(half))[0].probe
    assert told_apart is not None
    assert told_apart.layers[0].twins == 0
    assert first is not None
    assert second is not None
    assert [layer.twins for layer in first.layers] == [1, None]
    assert [layer.twins for layer in second.layers] == [None, None]
    X = digits().X[:512]
    varying = X[:, X.min(axis=0) < X.max(axis=0)].std(axis=0)
    assert first.largest_input == 1
    assert first.spread_of_inputs == pytest.approx(varying.max() / varying.min())
    assert second.largest_input is None


def test_a_member_of_a_stack_has_the_probe_it_would_have_alone() -> None:
    made = [config(NETWORKS["relu and tanh"], seed=seed, dtype="float32") for seed in (1, 2)]
    alone = [[epoch.probe for epoch in epochs_of(one)] for one in made]
    together: list[list[Any]] = [[], []]
    for event in train_stacked([Trainee(one, digits()) for one in made]):
        assert isinstance(event, Round)
        for k, found in event.items():
            assert isinstance(found, Epoch)
            together[k].append(found.probe)
    assert together == alone


def test_resuming_records_what_never_stopping_does() -> None:
    made = config(NETWORKS["sigmoid"], dtype="float32")
    whole, points = [], []
    for epoch in train(made, digits()):
        assert isinstance(epoch, Epoch)
        whole.append(epoch.probe)
        points.append(epoch.resume_point())
    rest = [e.probe for e in train(made, digits(), resume=points[1]) if isinstance(e, Epoch)]
    assert rest == whole[2:]


def test_inputs_too_large_for_their_squares_are_described_without_complaint() -> None:
    X = np.array([[1e200, 1.0, 7.0], [-1e200, 2.0, 7.0], [3e200, 0.5, 7.0]])
    found = Inputs(X)
    assert found.largest == 3e200
    assert found.spread == pytest.approx(1e200 * (X[:, 0] / 1e200).std() / X[:, 1].std())
