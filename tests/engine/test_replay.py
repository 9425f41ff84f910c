"""A replayed epoch ends with the same bits; what its steps show follows from their equations."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from chainrule.engine import (
    ClipSpec,
    Data,
    DivergedError,
    EarlyStoppingSpec,
    Epoch,
    LayerSpec,
    Network,
    NetworkSpec,
    OptimizerSpec,
    RegularizationSpec,
    ScheduleSpec,
    ShapeError,
    TrainingConfig,
    compiled,
    dense,
    digits,
    train,
)
from chainrule.engine.replay import PLACES, Replay, Step

SPEC = dense(64, (9, "tanh"), (10, "softmax"))
DROPPING = NetworkSpec(
    64, (LayerSpec(9, "relu", None, 0.3), LayerSpec(7, "tanh", None, 0.2, "batch"), LayerSpec(10, "softmax"))
)
SMALL = dataclasses.replace(digits(), X=digits().X[:150], labels=np.asarray(digits().labels)[:150])


def config(**changes: Any) -> TrainingConfig:
    given: dict[str, Any] = {
        "network": SPEC, "optimizer": OptimizerSpec("sgd", 0.2), "epochs": 4, "batch_size": 32, "seed": 5,
        "dtype": "float64", "gradients_every": 2,
    }  # fmt: skip
    return TrainingConfig(**(given | changes))


CONFIGS = {
    "sgd": config(),
    "float32": config(dtype="float32", shuffle=False),
    "adam, dropout, batch normalization": config(network=DROPPING, optimizer=OptimizerSpec("adam")),
    "momentum, clip, cosine": config(
        optimizer=OptimizerSpec("momentum", 0.1), clip=ClipSpec(norm=0.1), schedule=ScheduleSpec("cosine")
    ),
    "max-norm, l2, balanced": config(
        regularization=RegularizationSpec(l2=0.01, max_norm=1.0), class_weights="balanced", label_smoothing=0.1
    ),
    "plateau": config(schedule=ScheduleSpec("plateau", patience=1, factor=0.5), optimizer=OptimizerSpec("sgd", 2.0)),
    "early stopping": config(early_stopping=EarlyStoppingSpec(patience=4)),
    "all samples at once": config(batch_size=None, optimizer=OptimizerSpec("rmsprop")),
    "all samples at once, dropout": config(batch_size=None, network=DROPPING),
    "shards": config(shards=3, network=dataclasses.replace(DROPPING, layers=(DROPPING.layers[0], *SPEC.layers[1:]))),
    "lbfgs": config(batch_size=None, optimizer=OptimizerSpec("lbfgs")),
    "compiled": config(step="compiled", optimizer=OptimizerSpec("nesterov")),
}


def trained(config: TrainingConfig, data: Data = SMALL) -> tuple[list[Any], list[Any]]:
    """Train to the end; every epoch with its network, and its resume point."""
    epochs, points = [], []
    for event in train(config, data):
        assert isinstance(event, Epoch)
        epochs.append((event, event.network))
        points.append(event.resume_point())
    return epochs, points


def replayed(config: TrainingConfig, epoch: int, **where: Any) -> tuple[Replay, list[Step]]:
    replay = Replay(config, SMALL, epoch, **where)
    return replay, list(replay.steps())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_replayed_epoch_ends_with_the_same_bits(name: str) -> None:
    config = CONFIGS[name]
    if config.step == "compiled" and compiled.version() is None:
        pytest.skip("Numba is not here")
    epochs, points = trained(config)
    for epoch, resume in ((1, None), (3, None), (3, points[2]), (3, points[1]), (4, points[3])):
        replay, steps = replayed(config, epoch, resume=resume)
        expected, network = epochs[epoch]
        assert [step.number for step in steps] == list(range(1, replay.count + 1))
        last = steps[-1].after
        assert last is not None
        np.testing.assert_array_equal(last.parameters, network.parameters)
        np.testing.assert_array_equal(last.running, network.running)
        np.testing.assert_array_equal(steps[0].before.parameters, epochs[epoch - 1][1].parameters)
        for one, next_one in itertools.pairwise(steps):
            assert one.after is next_one.before
        assert replay.end is not None
        assert (replay.end.cost, replay.end.learning_rate) == (expected.cost, expected.learning_rate)
        assert replay.begin is not None
        assert replay.begin.to_arrays().keys() == points[epoch - 1].to_arrays().keys()
        for key, array in points[epoch - 1].to_arrays().items():
            np.testing.assert_array_equal(replay.begin.to_arrays()[key], array, err_msg=key)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ("float32", "lbfgs", "compiled")])
def test_the_costs_of_steps_are_what_the_epoch_is_the_mean_of(name: str) -> None:
    replay, steps = replayed(CONFIGS[name], 2)
    looked = [replay.look(step) for step in steps]
    assert replay.end is not None
    mean = sum(one.cost * one.samples for one in looked) / 150
    np.testing.assert_allclose(mean, replay.end.cost, rtol=1e-11)
    rows = np.concatenate([replay.batch(step.number).rows for step in steps])
    np.testing.assert_array_equal(np.sort(rows), np.arange(150))


@pytest.mark.parametrize("network", [SPEC, DROPPING], ids=["plain", "dropout and batch normalization"])
def test_a_step_of_sgd_goes_against_the_gradient_that_is_shown(network: NetworkSpec) -> None:
    from chainrule.engine.gradients import gradients

    replay, steps = replayed(config(network=network), 2)
    for step in steps:
        batch, looked = replay.batch(step.number), replay.look(step)
        names = [f"d{name}" for name in step.before.blocks]
        found = gradients(
            step.before, "cross_entropy", batch.X, batch.Y, names, weights=batch.weights, training=True,
            masks=batch.masks,
        )  # fmt: skip
        assert step.after is not None
        for name, block in step.before.blocks.items():
            moved = step.after.blocks[name] - block
            np.testing.assert_allclose(moved, -0.2 * found[f"d{name}"], rtol=1e-9, atol=1e-14)
            update = looked.blocks[name]
            assert update is not None
            np.testing.assert_allclose(update.gradient, np.linalg.norm(found[f"d{name}"]), rtol=1e-12)
            np.testing.assert_allclose(update.update, np.linalg.norm(moved), rtol=1e-12)
            size = float(np.linalg.norm(block))
            assert (update.ratio is None) == (size == 0)
            if update.ratio is not None:
                np.testing.assert_allclose(update.ratio, np.linalg.norm(moved) / size, rtol=1e-12)
        whole = np.sqrt(sum(np.sum(G * G) for G in found.values()))
        np.testing.assert_allclose(looked.gradient, whole, rtol=1e-12)


def test_along_a_step_the_cost_and_its_slopes_are_those_of_the_network() -> None:
    replay, steps = replayed(config(network=DROPPING), 1)
    for step in steps[:2]:
        found = replay.along(step)
        assert (len(found.s), found.s[0], found.s[-1]) == (21, -0.5, 2)
        at = {round(float(s), 3): float(C) for s, C in zip(found.s, found.costs, strict=True)}
        np.testing.assert_allclose(at[0.0], replay.look(step).cost, rtol=1e-12)
        assert step.after is not None
        np.testing.assert_allclose(
            at[1.0], replay.look(Step(step.number, step.after, step.after)).cost, rtol=1e-10
        )  # fmt: skip
        for place, slope in zip((0.0, 1.0), found.slopes, strict=True):
            chord = (at[round(place + 0.125, 3)] - at[round(place - 0.125, 3)]) / 0.25
            np.testing.assert_allclose(slope, chord, rtol=0.05, atol=1e-3)
        assert not found.weighted


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_alpha_is_exact_where_the_cost_is_a_parabola(rate: float) -> None:
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    linear = config(network=dense(3, (2, "linear")), cost="mse", optimizer=OptimizerSpec("sgd", rate), batch_size=None)
    replay = Replay(linear, Data(X, Y=Y), 1)
    (step,) = replay.steps()
    found = replay.along(step)
    c_0, c_1, c_2 = found.parabola
    np.testing.assert_allclose(c_0 + c_1 * PLACES + c_2 * PLACES**2, found.costs, rtol=1e-9)
    assert step.after is not None
    D = Network(linear.network, step.after.parameters - step.before.parameters)
    moved = X @ D.W[1].T + D.b[1]
    curvature = np.sum(moved**2) / 40  # d²C/ds² of a linear network
    np.testing.assert_allclose(2 * c_2, curvature, rtol=1e-9)
    assert found.alpha is not None
    np.testing.assert_allclose(found.alpha, curvature / -found.slopes[0] - 1, rtol=1e-9)
    assert found.weighted


def test_a_diverged_epoch_is_replayed_up_to_where_it_went() -> None:
    wild = config(
        network=dense(64, (10, "linear")), cost="mse", optimizer=OptimizerSpec("sgd", 1e10), epochs=9,
        gradients_every=None,
    )  # fmt: skip
    with pytest.raises(DivergedError) as caught:
        list(train(wild, SMALL))
    replay, steps = replayed(wild, caught.value.epoch)
    assert replay.diverged
    assert replay.end is None
    assert [step.number for step in steps] == [1, 2, 3, 4, 5]
    assert steps[-1].after is None
    with np.errstate(all="ignore"):
        last = replay.look(steps[-1])
        names = [replay.look(step).broken for step in steps]
    assert (last.update, last.ratio, last.blocks["W1"]) == (None, None, None)
    # The update's length is too large for a number before any element is, and then the sum of the errors.
    assert names == [None, None, None, "‖ΔW1‖", "C"]
    with pytest.raises(DivergedError):
        replay.along(steps[-1])
    with pytest.raises(DivergedError):
        replayed(wild, caught.value.epoch + 1)


def test_a_place_behind_the_beginning_is_refused() -> None:
    _, points = trained(config())
    with pytest.raises(ShapeError):
        Replay(config(), SMALL, 2, resume=points[2])
