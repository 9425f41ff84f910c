import itertools
import math
import time
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.engine import (
    SCHEDULES,
    ClipSpec,
    ConfigError,
    Data,
    DivergedError,
    EngineError,
    Epoch,
    LayerSpec,
    Network,
    NetworkSpec,
    OptimizerSpec,
    RegularizationSpec,
    ResumePoint,
    Round,
    ScheduleSpec,
    ShapeError,
    StepBoundary,
    Trainee,
    TrainingConfig,
    backward,
    dense,
    digits,
    evaluate,
    forward,
    goal,
    initialize,
    moons,
    predict,
    targets,
    train,
    train_stacked,
    xor,
)
from chainrule.engine.arrays import FloatArray
from chainrule.engine.config import PROBE
from chainrule.engine.gradients import statistics
from chainrule.engine.network import mean_cost
from tests.engine.problems import FITTING, HIDDEN, STEPPING

TWO_CLASSES = dense(2, (4, "tanh"), (2, "softmax"))
CONFIG = TrainingConfig(TWO_CLASSES, optimizer=OptimizerSpec("adam", 0.01), epochs=3, batch_size=4, seed=1)
SAMPLES = moons(22).take(np.r_[0:7, 11:18])
HELD_OUT = moons(10, seed=9)
SHAPED = replace(
    CONFIG,
    schedule=ScheduleSpec("cosine", warmup_epochs=2),
    clip=ClipSpec(norm=0.05),
    regularization=RegularizationSpec(0.01, 0.02, 0.8),
)
"""With everything that shapes a step."""
schedules = st.builds(
    ScheduleSpec,
    st.sampled_from(sorted(SCHEDULES)),
    every=st.integers(1, 3),
    factor=st.floats(0.1, 1),
    minimum=st.floats(0, 0.01),
    warmup_epochs=st.integers(0, 5),
)
bounds = st.floats(0.001, 1)
clips = st.one_of(st.none(), st.builds(ClipSpec, norm=bounds), st.builds(ClipSpec, value=bounds))
regularizations = st.builds(
    RegularizationSpec,
    l1=st.sampled_from([0.0, 0.01]),
    l2=st.sampled_from([0.0, 0.1]),
    max_norm=st.one_of(st.none(), st.floats(0.1, 2)),
)


def epochs_of(config: TrainingConfig, data: Data, validation: Data | None = None, **how: Any) -> list[Epoch]:
    epochs = []
    for event in train(config, data, validation, **how):
        if isinstance(event, Epoch):
            assert event.network.parameters.size  # copied now, before the training goes on
            epochs.append(event)
    return epochs


def told(epoch: Epoch) -> tuple[Any, ...]:
    """Tell all there is to an epoch but the time it took."""
    return (
        epoch.epoch,
        epoch.cost,
        epoch.error,
        epoch.validation_cost,
        epoch.validation_error,
        epoch.learning_rate,
        epoch.gradients,
        epoch.network.parameters.dtype,
        epoch.network.parameters.tobytes(),
    )


def floats_of(epoch: Epoch) -> list[float]:
    numbers = [
        epoch.cost,
        epoch.error,
        epoch.validation_cost,
        epoch.validation_error,
        epoch.learning_rate,
        epoch.seconds,
    ]
    for record in epoch.gradients or []:
        numbers += [number for number in vars(record).values() if isinstance(number, float)]
    parameters: list[float] = epoch.network.parameters.tolist()
    return [number for number in numbers if number is not None] + parameters


def through_arrays(point: ResumePoint) -> ResumePoint:
    return ResumePoint.from_arrays({name: array.copy() for name, array in point.to_arrays().items()})


def test_epochs_are_numbered_from_the_untrained_network_to_the_last() -> None:
    epochs = epochs_of(CONFIG, SAMPLES)
    assert [epoch.epoch for epoch in epochs] == [0, 1, 2, 3]
    untrained = initialize(TWO_CLASSES, CONFIG.seed, CONFIG.dtype)
    assert epochs[0].network.parameters.tobytes() == untrained.parameters.tobytes()
    Y = targets(SAMPLES, 2)
    found, error = evaluate(untrained, "cross_entropy", SAMPLES.X, Y, SAMPLES.labels, 2)
    assert epochs[0].cost == pytest.approx(found, rel=1e-6)
    assert epochs[0].error == error


def test_one_step_worked_by_hand() -> None:
    # One linear unit with W = [2], b = 1; samples x = 1, 3 with y = 1, 9.
    #   A = 3, 7;  dA = A − Y = 2, −2;  C = ½·(½·2² + ½·2²) = 2
    #   dW = ½·(2·1 − 2·3) = −2,  db = ½·(2 − 2) = 0
    #   W ← 2 − 0.25·(−2) = 2.5,  b ← 1
    config = TrainingConfig(
        dense(1, (1, "linear")), "mse", OptimizerSpec("sgd", 0.25), epochs=1, batch_size=None, gradients_every=1
    )
    data = Data(np.array([[1.0], [3.0]]), Y=np.array([[1.0], [9.0]]))
    start = ResumePoint(0, 0, 0, np.array([2.0, 1.0], np.float32))
    (epoch,) = epochs_of(config, data, resume=start)
    assert epoch.cost == 2
    assert epoch.error is None
    np.testing.assert_array_equal(epoch.network.parameters, [2.5, 1.0])
    # After it: A = 3.5, 8.5; dA = 2.5, −0.5; dW = ½·(2.5 − 1.5) = 0.5, db = 1; ‖ΔW‖/‖W‖ = 0.5/2
    assert epoch.gradients is not None
    found = {record.name: (record.norm, record.update_ratio) for record in epoch.gradients}
    assert found == {"dW1": (0.5, 0.25), "db1": (1.0, 0.0)}


@pytest.mark.parametrize("config", [CONFIG, SHAPED], ids=["plain", "shaped"])
def test_costs_are_those_of_the_weights_each_step_started_from_without_a_penalty(config: TrainingConfig) -> None:
    config = replace(config, shuffle=False, dtype="float64")
    seen: list[FloatArray] = []
    Y = targets(SAMPLES, 2)
    epochs = []
    for event in train(config, SAMPLES, snapshot_due=lambda: True):
        if isinstance(event, Epoch):
            epochs.append(event)
        seen.append(event.resume_point().parameters)
    steps = config.steps_per_epoch(SAMPLES.samples)
    for number, epoch in enumerate(epochs[1:]):
        total, wrong = 0.0, 0
        for step, parameters in enumerate(seen[number * steps : (number + 1) * steps]):
            rows, network = slice(4 * step, 4 * step + 4), Network(TWO_CLASSES, parameters)
            total += mean_cost(network, "cross_entropy", SAMPLES.X[rows], Y[rows]) * len(Y[rows])
            assert SAMPLES.labels is not None
            wrong += int(np.sum(np.argmax(predict(network, SAMPLES.X[rows]), axis=1) != SAMPLES.labels[rows]))
        assert epoch.cost == pytest.approx(total / SAMPLES.samples, rel=1e-12)
        assert epoch.error == wrong / SAMPLES.samples


def test_validation_is_judged_at_the_epochs_end() -> None:
    for epoch in epochs_of(CONFIG, SAMPLES, HELD_OUT):
        found, error = evaluate(
            epoch.network, "cross_entropy", HELD_OUT.X, targets(HELD_OUT, 2).astype(np.float32), HELD_OUT.labels, 2
        )
        assert (epoch.validation_cost, epoch.validation_error) == (found, error)


def test_validation_changes_nothing_about_the_training() -> None:
    for with_it, without in zip(epochs_of(CONFIG, SAMPLES, HELD_OUT), epochs_of(CONFIG, SAMPLES), strict=True):
        assert with_it.network.parameters.tobytes() == without.network.parameters.tobytes()
        assert (with_it.cost, without.validation_cost, without.validation_error) == (without.cost, None, None)


def test_each_epoch_sees_each_sample_once_in_an_order_of_its_own() -> None:
    # One linear unit with a learning rate too small to matter: the cost of the steps so far tells who was seen.
    data = Data(np.zeros((9, 1)), Y=2.0 ** np.arange(9)[:, None])
    config = TrainingConfig(
        dense(1, (1, "linear")), "mse", OptimizerSpec("sgd", 1e-300), 3, 2, dtype="float64", gradients_every=None
    )
    orders, seen, before = [], [], 0.0
    for event in train(config, data, snapshot_due=lambda: True):
        if isinstance(event, StepBoundary):
            so_far = event.resume_point().cost_sum
            seen.append(so_far - before)
            before = so_far
        elif event.epoch:
            orders.append([*seen, event.cost * 9 - before])
            seen, before = [], 0.0
    pairs = {(4.0**i + 4.0**j) / 2: {i, j} for i in range(9) for j in range(9) if i != j} | {
        4.0**i / 2: {i} for i in range(9)
    }
    chosen = [[pairs[seen] for seen in order] for order in orders]
    for order in chosen:
        assert [len(batch) for batch in order] == [2, 2, 2, 2, 1]
        assert set.union(*order) == set(range(9))
    assert chosen[0] != chosen[1] != chosen[2]


def test_without_shuffling_each_epoch_keeps_the_datas_order() -> None:
    config = replace(CONFIG, shuffle=False, epochs=1)
    turned = SAMPLES.take(slice(None, None, -1))
    assert told(epochs_of(config, SAMPLES)[1]) != told(epochs_of(config, turned)[1])
    assert told(epochs_of(config, SAMPLES)[1]) == told(epochs_of(config, SAMPLES)[1])


@pytest.mark.parametrize("config", [CONFIG, SHAPED], ids=["plain", "shaped"])
def test_the_same_training_gives_the_same_bytes_and_another_seed_others(config: TrainingConfig) -> None:
    one, same, other = (
        [told(epoch) for epoch in epochs_of(config, SAMPLES, HELD_OUT)]
        for config in (config, config, replace(config, seed=2))
    )
    assert one == same
    assert all(a != b for a, b in zip(one, other, strict=True))


def resumes_exactly(config: TrainingConfig, data: Data, place: int) -> None:
    """Stop at a place, at each of which a copy could be taken, and see that what comes after is the same."""
    uninterrupted = [told(epoch) for epoch in epochs_of(config, data, HELD_OUT if data.features == 2 else None)]
    validation = HELD_OUT if data.features == 2 else None
    events = train(config, data, validation, snapshot_due=lambda: True)
    stopped = next(itertools.islice(events, place, None))
    point = through_arrays(stopped.resume_point())
    after = [told(epoch) for epoch in epochs_of(config, data, validation, resume=point)]
    assert after == uninterrupted[point.epoch + 1 :]
    assert len(after) == config.epochs - point.epoch


def test_epochs_tell_the_learning_rate_of_their_steps() -> None:
    config = replace(CONFIG, schedule=ScheduleSpec("step", every=2, factor=0.5, warmup_epochs=2), epochs=5)
    epochs = epochs_of(config, SAMPLES)
    assert [epoch.learning_rate for epoch in epochs] == [0.01, 0.005, 0.01, 0.005, 0.005, 0.0025]
    assert {epoch.learning_rate for epoch in epochs_of(CONFIG, SAMPLES)} == {0.01}


def test_with_sgd_l2_is_the_weight_decay_of_the_common_frameworks_on_the_weights() -> None:
    config = replace(
        CONFIG,
        optimizer=OptimizerSpec("sgd", 0.1),
        regularization=RegularizationSpec(l2=0.5),
        epochs=1,
        batch_size=None,
        dtype="float64",
    )
    before, after = epochs_of(config, SAMPLES)
    G = backward(forward(before.network, SAMPLES.X), "cross_entropy", targets(SAMPLES, 2))
    for number, W in before.network.W.items():
        # w ← w − η·(g + λ·w)
        np.testing.assert_allclose(after.network.W[number], W - 0.1 * (G[f"dW{number}"] + 0.5 * W), rtol=1e-12)
        np.testing.assert_allclose(
            after.network.b[number], before.network.b[number] - 0.1 * G[f"db{number}"], rtol=1e-12
        )


def test_no_row_of_weights_is_longer_than_max_norm_after_any_step() -> None:
    config = replace(CONFIG, regularization=RegularizationSpec(max_norm=0.7))
    for event in itertools.islice(train(config, SAMPLES, snapshot_due=lambda: True), 1, None):
        for W in Network(TWO_CLASSES, event.resume_point().parameters).W.values():
            assert np.linalg.norm(W, axis=1).max() < 0.7 * (1 + 1e-6)


@settings(max_examples=200)
@given(
    epochs=st.integers(1, 4),
    batch_size=st.one_of(st.none(), st.integers(1, 16)),
    optimizer=st.sampled_from(sorted(STEPPING)),
    dtype=st.sampled_from(["float32", "float64"]),
    shuffle=st.booleans(),
    gradients_every=st.sampled_from([None, 1, 2]),
    schedule=schedules,
    clip=clips,
    regularization=regularizations,
    data=st.data(),
)
def test_resuming_anywhere_equals_never_stopping(
    epochs: int,
    batch_size: int | None,
    optimizer: str,
    dtype: str,
    shuffle: bool,
    gradients_every: int | None,
    schedule: ScheduleSpec,
    clip: ClipSpec | None,
    regularization: RegularizationSpec,
    data: st.DataObject,
) -> None:
    config = TrainingConfig(
        TWO_CLASSES,
        optimizer=OptimizerSpec(optimizer, 0.01),
        epochs=epochs,
        batch_size=batch_size,
        dtype=dtype,
        shuffle=shuffle,
        gradients_every=gradients_every,
        schedule=schedule,
        clip=clip,
        regularization=regularization,
    )
    places = epochs * config.steps_per_epoch(SAMPLES.samples)
    resumes_exactly(config, SAMPLES, data.draw(st.integers(0, places), label="place"))


@pytest.mark.parametrize("batch_size", [1, 3, 8, 20])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_resuming_anywhere_is_exact_with_many_outputs_too(batch_size: int, dtype: str) -> None:
    data = digits().take(slice(0, 20))
    network = dense(64, (5, "relu"), (10, "softmax"))
    config = TrainingConfig(network, optimizer=OptimizerSpec("momentum"), epochs=2, batch_size=batch_size, dtype=dtype)
    for place in range(2 * config.steps_per_epoch(20) + 1):
        resumes_exactly(config, data, place)


def test_resuming_again_and_again_is_exact() -> None:
    uninterrupted = [told(epoch) for epoch in epochs_of(CONFIG, SAMPLES)]
    events = train(CONFIG, SAMPLES, snapshot_due=lambda: True)
    point, found = through_arrays(next(events).resume_point()), []
    while point.epoch < CONFIG.epochs:
        event = next(train(CONFIG, SAMPLES, resume=point, snapshot_due=lambda: True))
        point = through_arrays(event.resume_point())
        if isinstance(event, Epoch):
            found.append(told(event))
    assert found == uninterrupted[1:]


def test_asking_for_snapshots_changes_nothing() -> None:
    quiet = [told(epoch) for epoch in epochs_of(CONFIG, SAMPLES)]
    now_and_then = itertools.cycle([False, True, False])
    assert [told(epoch) for epoch in epochs_of(CONFIG, SAMPLES, snapshot_due=lambda: next(now_and_then))] == quiet
    asked = []
    for event in train(CONFIG, SAMPLES, snapshot_due=lambda: True):
        event.resume_point()
        if isinstance(event, Epoch):
            asked.append(told(event))
        else:
            assert 0 < event.step < CONFIG.steps_per_epoch(SAMPLES.samples)
    assert asked == quiet


def test_an_epochs_seconds_leave_out_what_the_caller_did_between_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    quick = [event.seconds for event in train(CONFIG, SAMPLES, snapshot_due=lambda: True) if isinstance(event, Epoch)]
    slow = []
    for event in train(CONFIG, SAMPLES, snapshot_due=lambda: True):
        if isinstance(event, Epoch):
            slow.append(event.seconds)
        clock = itertools.count(next(clock) + 10**6)
    assert slow == quick


def test_a_resume_point_is_a_copy() -> None:
    events = train(CONFIG, SAMPLES)
    next(events)
    point = next(events).resume_point()
    kept = {name: array.tobytes() for name, array in point.to_arrays().items()}
    list(events)
    assert {name: array.tobytes() for name, array in point.to_arrays().items()} == kept


def test_a_resume_point_of_another_network_is_refused() -> None:
    point = ResumePoint(0, 0, 0, np.zeros(3, np.float32))
    with pytest.raises(ShapeError, match="3 parameters and the network 22"):
        next(train(CONFIG, SAMPLES, resume=point))


def test_a_finished_training_has_nothing_left_to_yield() -> None:
    *_, last = train(CONFIG, SAMPLES)
    assert list(train(CONFIG, SAMPLES, resume=last.resume_point())) == []
    more = epochs_of(replace(CONFIG, epochs=5), SAMPLES, resume=last.resume_point())
    assert [epoch.epoch for epoch in more] == [4, 5]


@pytest.mark.parametrize("batch_size", [14, 15, 10**9])
def test_a_batch_as_large_as_the_data_or_larger_is_all_of_it(batch_size: int) -> None:
    whole = [told(epoch) for epoch in epochs_of(replace(CONFIG, batch_size=None), SAMPLES)]
    assert [told(epoch) for epoch in epochs_of(replace(CONFIG, batch_size=batch_size), SAMPLES)] == whole


@pytest.mark.parametrize(("samples", "batch_size", "steps"), [(10, 3, 4), (9, 3, 3), (2, 3, 1), (7, None, 1)])
def test_the_last_batch_of_an_epoch_may_be_smaller(samples: int, batch_size: int | None, steps: int) -> None:
    config = replace(CONFIG, batch_size=batch_size, epochs=2)
    assert config.steps_per_epoch(samples) == steps
    data = SAMPLES.take(slice(0, samples))
    *_, last = train(config, data)
    assert last.resume_point().steps == 2 * steps


def test_two_classes_can_be_learned_by_one_sigmoid_unit() -> None:
    config = TrainingConfig(
        dense(2, (8, "tanh"), (1, "sigmoid")), optimizer=OptimizerSpec("adam", 0.05), epochs=200, batch_size=4
    )
    epochs = epochs_of(config, xor())
    assert epochs[-1].error == 0
    assert epochs[-1].cost < 0.05 < epochs[0].cost


def test_regression_has_a_cost_and_no_classification_error() -> None:
    X = np.linspace(-1, 1, 40)[:, None]
    data = Data(X, Y=np.hstack([X**2, -X]))
    config = TrainingConfig(
        dense(1, (8, "tanh"), (2, "linear")), "mse", OptimizerSpec("adam", 0.02), epochs=100, batch_size=8
    )
    epochs = epochs_of(config, data, data)
    assert {epoch.error for epoch in epochs} == {epoch.validation_error for epoch in epochs} == {None}
    assert epochs[-1].validation_cost is not None
    assert epochs[-1].validation_cost < 0.01 < epochs[0].cost


def test_digits_are_read_with_less_than_five_percent_error_after_twenty_epochs() -> None:
    training, validation = digits().split(0.2, 0)
    config = TrainingConfig(
        dense(64, (32, "relu"), (10, "softmax")),
        optimizer=OptimizerSpec("adam", 0.003),
        epochs=20,
        gradients_every=None,
    )
    *_, last = epochs_of(config, training, validation)
    assert last.validation_error is not None
    assert last.validation_error < 0.05


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_records_are_those_of_the_epochs_weights_over_the_probe(dtype: str) -> None:
    data = moons(2 * PROBE + 100)
    config = replace(CONFIG, dtype=dtype, epochs=2, batch_size=100)
    before = None
    Y = targets(data, 2)
    for event in train(config, data, snapshot_due=lambda: True):
        if isinstance(event, Epoch):
            assert event.gradients is not None
            assert [record.name for record in event.gradients] == ["dW1", "db1", "dW2", "db2"]
            found = backward(forward(event.network, data.X[:PROBE]), "cross_entropy", Y[:PROBE])
            for record in event.gradients:
                expected = vars(statistics(found[record.name]))
                tolerance = 1e-10 if dtype == "float64" else 1e-4
                for name, value in expected.items():
                    assert getattr(record, name) == pytest.approx(value, rel=tolerance, abs=tolerance)
                now = event.network.named()[record.name[1:]]
                assert record.layer == int(record.name[2:])
                if before is None:
                    assert record.update_ratio is None
                else:
                    then = Network(TWO_CLASSES, before).named()[record.name[1:]].astype(np.float64)
                    ratio = np.linalg.norm(now - then) / np.linalg.norm(then)
                    assert record.update_ratio == pytest.approx(ratio, rel=1e-9)
        before = event.resume_point().parameters


def test_gradients_are_recorded_at_the_ends_and_as_often_as_asked() -> None:
    def recorded(every: int | None) -> list[int]:
        epochs = epochs_of(replace(CONFIG, epochs=7, gradients_every=every), SAMPLES)
        return [epoch.epoch for epoch in epochs if epoch.gradients is not None]

    assert recorded(1) == list(range(8))
    assert recorded(3) == [0, 1, 3, 6, 7]
    assert recorded(None) == []


def test_recording_gradients_changes_nothing_else() -> None:
    with_them, without = epochs_of(CONFIG, SAMPLES), epochs_of(replace(CONFIG, gradients_every=None), SAMPLES)
    for one, other in zip(with_them, without, strict=True):
        assert one.network.parameters.tobytes() == other.network.parameters.tobytes()
        assert one.cost == other.cost


def test_a_weight_of_zero_has_no_update_ratio() -> None:
    (_, epoch) = epochs_of(replace(CONFIG, epochs=1, batch_size=None), SAMPLES)
    assert epoch.gradients is not None
    assert {record.name: record.update_ratio is None for record in epoch.gradients} == {
        "dW1": False,
        "db1": True,
        "dW2": False,
        "db2": True,
    }


def until_diverged(
    config: TrainingConfig, data: Data, validation: Data | None = None
) -> tuple[list[Epoch], int | None]:
    """Give the epochs there are, each finite, and the epoch the training diverged in, None if it did not."""
    epochs: list[Epoch] = []
    try:
        for event in train(config, data, validation):
            assert isinstance(event, Epoch)
            assert all(map(math.isfinite, floats_of(event)))
            epochs.append(event)
    except DivergedError as error:
        return epochs, error.epoch
    return epochs, None


def test_a_training_that_diverges_ends_with_the_epoch_it_did_in() -> None:
    config = TrainingConfig(dense(2, (1, "linear")), "mse", OptimizerSpec("sgd", 100.0), epochs=50, batch_size=None)
    epochs, diverged = until_diverged(config, Data(SAMPLES.X, Y=SAMPLES.X[:, :1]))
    assert 1 < len(epochs) < 50
    assert diverged == len(epochs)


@pytest.mark.parametrize(
    ("scale", "gradients_every", "expected"),
    [
        (1e200, None, 0),  # the inputs themselves do not fit
        (1e200, 1, 0),
        (1e30, 1, 0),  # the gradient does not fit
        (1e30, None, 1),  # and where nobody looks at it, the weights after a step do not
    ],
)
def test_inputs_too_large_for_float32_end_as_diverged(scale: float, gradients_every: int | None, expected: int) -> None:
    network = dense(2, (4, "relu"), (3, "relu"), (1, "linear"))
    config = TrainingConfig(network, "mse", OptimizerSpec("sgd", 1e-3), epochs=2, gradients_every=gradients_every)
    _, diverged = until_diverged(config, Data(SAMPLES.X * scale, Y=SAMPLES.X[:, :1]))
    assert diverged == expected


def test_targets_too_large_for_the_float_type_end_as_diverged_before_the_first_step() -> None:
    config = TrainingConfig(dense(2, (1, "linear")), "mse", dtype="float32", gradients_every=None)
    with pytest.raises(DivergedError) as refusal:
        next(train(config, Data(SAMPLES.X, Y=np.full((14, 1), 1e300))))
    assert refusal.value.epoch == 0


@settings(max_examples=200)
@given(
    scale=st.floats(-320, 307).map(lambda exponent: 10.0**exponent),
    target_scale=st.sampled_from([0.0, 1e-30, 1.0, 1e18, 1e30, 1e150, 1e300]),
    learning_rate=st.sampled_from([1e-30, 1e-3, 1.0, 1e10, 1e30, 1e38]),
    optimizer=st.sampled_from(sorted(STEPPING)),
    hidden=st.sampled_from(HIDDEN),
    fit=st.sampled_from(FITTING),
    dtype=st.sampled_from(["float32", "float64"]),
    gradients_every=st.sampled_from([None, 1]),
    schedule=st.sampled_from([ScheduleSpec(), ScheduleSpec("exponential", factor=1e-9, warmup_epochs=2)]),
    clip=clips,
    regularization=st.builds(
        RegularizationSpec,
        l1=st.sampled_from([0.0, 1e-30, 1e30]),
        l2=st.sampled_from([0.0, 1e-30, 1e30]),
        max_norm=st.sampled_from([None, 1e-18, 1.0, 1e18]),
    ),
)
def test_whatever_the_numbers_each_epoch_is_finite_or_the_training_diverged(
    scale: float,
    target_scale: float,
    learning_rate: float,
    optimizer: str,
    hidden: str,
    fit: tuple[str, str],
    dtype: str,
    gradients_every: int | None,
    schedule: ScheduleSpec,
    clip: ClipSpec | None,
    regularization: RegularizationSpec,
) -> None:
    output, cost = fit
    config = TrainingConfig(
        dense(2, (3, hidden), (2, output)),
        cost,
        OptimizerSpec(optimizer, learning_rate),
        epochs=4,
        batch_size=5,
        dtype=dtype,
        gradients_every=gradients_every,
        schedule=schedule,
        clip=clip,
        regularization=regularization,
    )
    data, validation = (replace(found, X=found.X * scale) for found in (SAMPLES, HELD_OUT))
    if cost == "mse":
        data, validation = (Data(found.X, Y=SAMPLES.X[: found.samples] * target_scale) for found in (data, validation))
    epochs, diverged = until_diverged(config, data, validation)
    assert diverged == (None if len(epochs) == 5 else len(epochs))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cost": "hinge"}, "cost"),
        ({"cost": "cross_entropy", "network": dense(2, (1, "linear"))}, "cost"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"dtype": "float16"}, "dtype"),
        ({"gradients_every": 0}, "gradients/every"),
        ({"optimizer": OptimizerSpec("sgd", 1e39)}, "optimizer/learning_rate"),
        ({"optimizer": OptimizerSpec("adam", 0.1, epsilon=1e-60)}, "optimizer/epsilon"),
        ({"schedule": ScheduleSpec("cosine", minimum=0.02)}, "schedule/minimum"),
        ({"clip": ClipSpec(norm=1e-20)}, "clip/norm"),
        ({"clip": ClipSpec(norm=1e20)}, "clip/norm"),
        ({"clip": ClipSpec(value=1e39)}, "clip/value"),
        ({"regularization": RegularizationSpec(l1=1e39)}, "regularization/l1"),
        ({"regularization": RegularizationSpec(l2=1e39)}, "regularization/l2"),
        ({"regularization": RegularizationSpec(max_norm=1e20)}, "regularization/max_norm"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_with_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(EngineError) as refusal:
        replace(CONFIG, **changes)
    assert refusal.value.field == field


def test_numbers_that_float32_cannot_hold_may_be_used_in_float64() -> None:
    replace(CONFIG, optimizer=OptimizerSpec("adam", 1e39, epsilon=1e-60), dtype="float64")


def test_data_that_does_not_fit_is_refused() -> None:
    wide, empty = Data(np.zeros((3, 5)), Y=np.zeros((3, 2))), SAMPLES.take(slice(0, 0))
    with pytest.raises(ShapeError, match="takes 2 inputs and the data has 5 features"):
        next(train(CONFIG, wide))
    with pytest.raises(ShapeError, match="takes 2 inputs and the validation data has 5 features"):
        next(train(CONFIG, SAMPLES, wide))
    with pytest.raises(ShapeError, match="The data has no samples"):
        next(train(CONFIG, empty))
    with pytest.raises(ShapeError, match="The validation data has no samples"):
        next(train(CONFIG, SAMPLES, empty))
    with pytest.raises(ShapeError, match="2 classes and the output layer 3 units"):
        next(train(replace(CONFIG, network=dense(2, (3, "softmax"))), SAMPLES))
    with pytest.raises(ConfigError, match="needs class labels"):
        next(train(CONFIG, Data(SAMPLES.X, Y=SAMPLES.X)))


@pytest.mark.parametrize("weighed", [False, True])
def test_a_column_of_ones_put_beside_each_batch_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, *, weighed: bool
) -> None:
    rng = np.random.default_rng(0)
    data = Data(
        rng.normal(size=(50, 6)),
        labels=rng.integers(0, 3, 50),
        classes=("a", "b", "c"),
        weights=rng.uniform(0, 2, 50) if weighed else None,
    )
    network = dense(6, (5, "tanh"), (3, "softmax"))
    config = TrainingConfig(network, optimizer=OptimizerSpec("adam"), epochs=3, batch_size=8, dtype="float64")

    def trained() -> list[Any]:
        found = []
        for epoch in train(config, data, data):
            assert isinstance(epoch, Epoch)
            found.append((epoch.network.parameters.tobytes(), epoch.cost, epoch.validation_cost, epoch.gradients))
        return found

    beside_all = trained()
    monkeypatch.setattr("chainrule.engine.config.GATHERED_BYTES", 0)
    assert trained() == beside_all
    trainee = Trainee(config, data, data)
    (*_, last) = train_stacked([trainee, trainee])
    assert isinstance(last, Round)
    of_stack = last[1]
    assert isinstance(of_stack, Epoch)
    assert (of_stack.network.parameters.tobytes(), of_stack.gradients) == (beside_all[-1][0], beside_all[-1][3])


def test_no_copy_is_made_of_many_narrow_samples() -> None:
    samples = 300_000
    X = np.random.default_rng(0).normal(size=(samples, 60)).astype(np.float32)
    data = Data(X, labels=np.arange(samples) % 2, classes=("a", "b"))
    config = TrainingConfig(dense(60, (8, "relu"), (1, "sigmoid")), epochs=1, batch_size=1000)
    tracemalloc.start()
    try:
        list(train(config, data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.6 * X.nbytes
    assert 0.8 * peak <= config.memory_bytes(samples) <= 5 * peak


@pytest.mark.parametrize(
    ("network", "samples", "how"),
    [
        (dense(50, (64, "relu"), (32, "relu"), (10, "softmax")), 6000, {"batch_size": 64}),
        (dense(20, (300, "tanh"), (300, "tanh"), (10, "softmax")), 500, {"batch_size": 100, "dtype": "float64"}),
        (dense(10, (16, "relu"), (10, "softmax")), 20000, {"batch_size": None, "gradients_every": None}),
        (dense(2, (500, "tanh"), (10, "softmax")), 9000, {}),
        (
            NetworkSpec(2, (*[LayerSpec(300, "tanh", normalization="batch")] * 2, LayerSpec(10, "softmax"))),
            9000,
            {"batch_size": 3000},
        ),
        (
            dense(20, (400, "tanh"), (400, "tanh"), (10, "softmax")),
            300,
            {"regularization": RegularizationSpec(1, 1, 1)},
        ),
    ],
    ids=["samples", "parameters", "one batch", "units", "normalized", "regularized"],
)
def test_the_memory_estimate_is_about_what_a_training_takes(
    network: NetworkSpec, samples: int, how: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(samples, network.inputs)).astype(np.float32), rng.integers(0, 10, samples)
    data = Data(X, labels=labels, classes=tuple("0123456789"))
    config = TrainingConfig(network, optimizer=OptimizerSpec("adam", 0.001), epochs=2, **how)
    tracemalloc.start()
    try:
        for event in train(config, data, data.take(slice(0, 1000))):
            event.resume_point()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.8 * peak <= config.memory_bytes(samples, min(1000, samples)) <= 5 * peak


def test_gradient_records_are_those_of_the_weighed_cost() -> None:
    rng = np.random.default_rng(2)
    data = replace(moons(80), weights=rng.uniform(0, 3, 80))
    config = replace(CONFIG, dtype="float64", epochs=2, batch_size=30, class_weights=(1.0, 4.0), label_smoothing=0.1)
    sought = goal(config, data)
    for epoch in epochs_of(config, data):
        assert epoch.gradients is not None
        found = backward(forward(epoch.network, data.X), "cross_entropy", sought.Y, sought.weights)
        for record in epoch.gradients:
            assert record.norm == pytest.approx(np.linalg.norm(found[record.name]), rel=1e-10)
