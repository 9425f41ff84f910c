"""A stack trains each of its networks to the bits it would have had alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from chainrule.engine import (
    ClipSpec,
    ConfigError,
    Data,
    DivergedError,
    EarlyStoppingSpec,
    Epoch,
    LayerSpec,
    NetworkSpec,
    OptimizerSpec,
    RegularizationSpec,
    Round,
    ScheduleSpec,
    StepBoundary,
    Trainee,
    TrainingConfig,
    dense,
    digits,
    fast,
    moons,
    recording,
    stack_key,
    train,
    train_stacked,
    training,
    xor,
)
from tests.engine.stacks import stacks

K = 5


def wide() -> Data:
    rng = np.random.default_rng(0)
    return Data(rng.normal(size=(50, 200)), Y=rng.normal(size=(50, 3)))


def weighed() -> Data:
    data = moons(60)
    return replace(data, weights=np.linspace(0.5, 2, data.samples))


def few(rows: int = 131) -> Data:
    return digits().take(slice(rows))


CASES: dict[str, tuple[TrainingConfig, Data]] = {
    "digits, ragged": (TrainingConfig(dense(64, (17, "relu"), (10, "softmax")), batch_size=16), few()),
    "digits, float64": (TrainingConfig(dense(64, (9, "gelu"), (10, "sigmoid")), dtype="float64"), few()),
    "one sample in the last batch": (TrainingConfig(dense(2, (5, "tanh"), (1, "sigmoid")), batch_size=7), moons(50)),
    "one sample in each batch": (TrainingConfig(dense(2, (5, "tanh"), (2, "softmax")), batch_size=1), moons(20)),
    "wide, not folded": (TrainingConfig(dense(200, (8, "silu"), (3, "linear")), "mse", batch_size=16), wide()),
    "full batch": (TrainingConfig(dense(2, (8, "tanh"), (1, "sigmoid")), "mse", batch_size=None, epochs=70), xor()),
    "weights": (TrainingConfig(dense(2, (6, "relu"), (2, "softmax")), class_weights=(0.5, 1.5)), weighed()),
    "dropout": (
        TrainingConfig(NetworkSpec(2, (LayerSpec(9, "tanh", dropout=0.3), LayerSpec(2, "softmax")))),
        weighed(),
    ),
    "layer normalization, one sample in each batch": (
        TrainingConfig(
            NetworkSpec(2, (LayerSpec(19, "tanh", normalization="layer"), LayerSpec(2, "softmax"))), batch_size=1
        ),
        moons(20),
    ),
    "layer normalization, ragged": (
        TrainingConfig(
            NetworkSpec(64, (LayerSpec(19, "relu", normalization="layer"), LayerSpec(10, "softmax"))), batch_size=13
        ),
        few(),
    ),
    "batch normalization": (
        TrainingConfig(
            NetworkSpec(
                200,
                (
                    LayerSpec(19, "gelu", normalization="batch"),
                    LayerSpec(6, "tanh", normalization="batch"),
                    LayerSpec(3, "linear"),
                ),
            ),
            "mse",
            batch_size=16,
        ),
        wide(),
    ),
    "batch normalization, watched": (
        TrainingConfig(
            NetworkSpec(2, (LayerSpec(9, "tanh", normalization="batch"), LayerSpec(2, "softmax"))),
            batch_size=None,
            epochs=12,
            early_stopping=EarlyStoppingSpec(patience=2, min_delta=0.02),
        ),
        moons(60),
    ),
    "watched": (
        TrainingConfig(
            dense(2, (6, "relu"), (2, "softmax")),
            epochs=12,
            schedule=ScheduleSpec("plateau", patience=1),
            early_stopping=EarlyStoppingSpec(patience=3, min_delta=0.02),
        ),
        moons(60),
    ),
}
SHAPED: list[dict[str, Any]] = [
    {"optimizer": OptimizerSpec("sgd")},
    {"optimizer": OptimizerSpec("adam")},
    {"optimizer": OptimizerSpec("nesterov"), "clip": ClipSpec(value=0.01)},
    {
        "optimizer": OptimizerSpec("adamw"),
        "clip": ClipSpec(norm=0.3),
        "regularization": RegularizationSpec(1e-3, 1e-2, 0.9),
    },
]


def members(config: TrainingConfig) -> list[TrainingConfig]:
    """Vary all that may differ within a stack."""
    varied = []
    for k in range(K):
        optimizer = replace(
            config.optimizer, learning_rate=0.004 * (k + 1), momentum=0.5 + 0.05 * k, beta1=0.8 + 0.02 * k
        )
        clip = config.clip and ClipSpec(
            norm=config.clip.norm and config.clip.norm * (k + 1),
            value=config.clip.value and config.clip.value * (k + 1),
        )
        regularization = config.regularization
        if regularization.l1:
            regularization = RegularizationSpec(1e-3 * (k + 1), 1e-2 * (k + 1), 0.9 - 0.1 * k)
        varied.append(replace(config, optimizer=optimizer, clip=clip, regularization=regularization, seed=k))
    return varied


def told(epoch: Epoch) -> tuple[Any, ...]:
    return (
        epoch.epoch,
        epoch.cost,
        epoch.error,
        epoch.validation_cost,
        epoch.validation_error,
        epoch.learning_rate,
        epoch.best_epoch,
        epoch.last,
        epoch.gradients,
        epoch.network.parameters.tobytes(),
        epoch.network.running.tobytes(),
        None if epoch.best is None else epoch.best.parameters.tobytes(),
    )


def alone(config: TrainingConfig, data: Data, validation: Data | None) -> list[tuple[Any, ...]]:
    return [told(event) for event in train(config, data, validation) if isinstance(event, Epoch)]


@pytest.mark.parametrize("shaped_by", SHAPED, ids=lambda shaped: shaped["optimizer"].name)
@pytest.mark.parametrize("case", CASES)
def test_each_network_of_a_stack_has_the_bits_it_has_alone(case: str, shaped_by: dict[str, Any]) -> None:
    config, data = CASES[case]
    varied = members(replace(config, **shaped_by, epochs=min(config.epochs, 12 if "full" not in case else 70)))
    data, validation = data.split(0.2, 0)
    found: list[list[tuple[Any, ...]]] = [[] for _ in varied]
    for event in train_stacked([Trainee(each, data, validation) for each in varied]):
        assert isinstance(event, Round)
        for k, epoch in event.items():
            assert isinstance(epoch, Epoch)
            found[k].append(told(epoch))
    assert found == [alone(each, data, validation) for each in varied]


@pytest.mark.parametrize("case", ["digits, ragged", "wide, not folded", "weights", "dropout", "batch normalization"])
def test_samples_gathered_by_each_step_give_the_bits_of_samples_put_in_place(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, data = CASES[case]
    configs = members(replace(config, epochs=3))
    in_place = [alone(config, data, None) for config in configs]
    monkeypatch.setattr(training, "NEAR_BYTES", 0)
    assert [alone(config, data, None) for config in configs] == in_place
    of_stack: list[list[Any]] = [[] for _ in configs]
    for found in train_stacked([Trainee(config, data) for config in configs]):
        assert isinstance(found, Round)
        for k, epoch in found.items():
            assert isinstance(epoch, Epoch)
            of_stack[k].append(told(epoch))
    assert of_stack == in_place


@pytest.mark.parametrize("fused", [True, False])
def test_weights_changed_while_their_gradient_is_computed_end_alike(
    monkeypatch: pytest.MonkeyPatch, *, fused: bool
) -> None:
    config, data = CASES["wide, not folded"]
    configs = [replace(each, optimizer=OptimizerSpec("sgd", 0.01 * (1 + k))) for k, each in enumerate(members(config))]
    as_one_vector = [alone(config, data, None) for config in configs]
    monkeypatch.setattr(fast, "LARGE", 0)
    if not fused:
        monkeypatch.setattr(recording, "gemm_address", lambda dtype: None)
    one_by_one = [alone(config, data, None) for config in configs]
    for found, expected in zip(one_by_one, as_one_vector, strict=True):
        assert [epoch[1] for epoch in found] == pytest.approx([epoch[1] for epoch in expected], rel=1e-5)
    of_stack: list[list[Any]] = [[] for _ in configs]
    for found_of_all in train_stacked([Trainee(config, data) for config in configs]):
        assert isinstance(found_of_all, Round)
        for k, epoch in found_of_all.items():
            assert isinstance(epoch, Epoch)
            of_stack[k].append(told(epoch))
    assert of_stack == one_by_one


@settings(max_examples=60, deadline=None)
@given(members=stacks())
def test_each_network_of_any_stack_has_the_bits_it_has_alone(members: list[Trainee]) -> None:
    together: list[list[Any]] = [[] for _ in members]
    for event in train_stacked(members):
        assert isinstance(event, Round)
        for k, epoch in event.items():
            together[k].append(bits(epoch))
    for member, found in zip(members, together, strict=True):
        assert [bits(epoch) for epoch in train(member.config, member.data)] == found


def bits(epoch: Any) -> tuple[Any, ...]:
    assert isinstance(epoch, Epoch)
    point = epoch.resume_point()
    state = {name: vector.tobytes() for name, vector in point.optimizer_state.items()}
    running = None if point.running is None else point.running.tobytes()
    return point.parameters.tobytes(), state, running, epoch.cost, epoch.error, epoch.gradients, epoch.probe


@pytest.mark.parametrize("case", CASES)
def test_an_epoch_that_nobody_asked_for_can_still_be_told_when_all_is_over(case: str) -> None:
    config, data = CASES[case]
    varied = [replace(each, schedule=ScheduleSpec("step", every=2)) for each in members(config)]
    rounds = list(train_stacked([Trainee(each, data) for each in varied]))
    found: list[list[Any]] = [[] for _ in varied]
    for event in rounds:
        assert isinstance(event, Round)
        for k, epoch in event.items():
            assert isinstance(epoch, Epoch)
            assert event[k] is epoch
            found[k].append((epoch.epoch, epoch.cost, epoch.error, epoch.learning_rate, epoch.best_epoch, epoch.last))
    for k, each in enumerate(varied):
        expected = [told(event) for event in train(each, data) if isinstance(event, Epoch)]
        assert found[k] == [(*of_one[:3], *of_one[5:8]) for of_one in expected]


def test_each_network_of_a_stack_is_watched_as_its_own_config_has_it() -> None:
    config, data = CASES["watched"]
    stopping = replace(config, schedule=ScheduleSpec())
    configs = [replace(config, early_stopping=None), stopping]
    for k in (0, 1):
        ordered = configs[k:] + configs[:k]
        found: list[list[Any]] = [[], []]
        for event in train_stacked([Trainee(each, data) for each in ordered]):
            assert isinstance(event, Round)
            for place, epoch in event.items():
                assert isinstance(epoch, Epoch)
                found[place].append(told(epoch))
        assert found == [alone(each, data, None) for each in ordered]


def test_nothing_comes_after_the_round_in_which_the_last_has_diverged() -> None:
    config, data = CASES["full batch"]
    network, optimizer = dense(2, (8, "tanh"), (1, "linear")), OptimizerSpec("sgd", learning_rate=1e30)
    one = replace(config, network=network, optimizer=optimizer)
    *_, last = train_stacked([Trainee(replace(one, seed=seed), data) for seed in (0, 1)])
    assert isinstance(last, Round)
    assert {type(found) for found in last.values()} == {DivergedError}


def test_networks_of_a_stack_may_have_data_of_their_own() -> None:
    config, data = CASES["digits, ragged"]
    parts = [data.split(0.3, seed) for seed in range(K)]
    varied = members(config)
    *_, last = train_stacked([Trainee(each, *part) for each, part in zip(varied, parts, strict=True)])
    assert isinstance(last, Round)
    for k, (each, part) in enumerate(zip(varied, parts, strict=True)):
        epoch = last[k]
        assert isinstance(epoch, Epoch)
        assert told(epoch) == alone(each, *part)[-1]


@pytest.mark.parametrize("case", ["digits, ragged", "dropout", "watched", "full batch", "batch normalization"])
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_a_stack_can_be_taken_apart_anywhere_and_put_together_otherwise(case: str, steps: int) -> None:
    config, data = CASES[case]
    data, validation = data.split(0.2, 0)
    varied = members(replace(config, optimizer=OptimizerSpec("adam"), epochs=12))
    expected = [alone(each, data, validation)[-1] for each in varied]
    asked = 0

    def due() -> bool:
        nonlocal asked
        asked += 1
        return asked >= steps

    points: list[Any] = [None] * K
    for event in train_stacked([Trainee(each, data, validation) for each in varied], snapshot_due=due):
        if isinstance(event, StepBoundary):
            points = [event.resume_point(k) for k in range(K)]
            break
        points = [epoch.resume_point() for epoch in event.values() if isinstance(epoch, Epoch)]
        if due() and len(event) == K:
            break
    ends: dict[int, Any] = {}
    for chosen in ((0, 3), (1, 2), (4,)):
        trainees = [Trainee(varied[k], data, validation, points[k]) for k in chosen]
        for event in train_stacked(trainees):
            assert isinstance(event, Round)
            for place, epoch in event.items():
                assert isinstance(epoch, Epoch)
                ends[chosen[place]] = told(epoch)
    assert [ends[k] for k in range(K)] == expected


def test_who_diverges_leaves_and_the_others_go_on() -> None:
    config, data = CASES["wide, not folded"]
    varied = members(replace(config, optimizer=OptimizerSpec("sgd"), epochs=8))
    varied[2] = replace(varied[2], optimizer=OptimizerSpec("sgd", learning_rate=1e6))
    rounds = [event for event in train_stacked([Trainee(each, data) for each in varied]) if isinstance(event, Round)]
    diverged = [event for event in rounds if isinstance(event.get(2), DivergedError)]
    assert len(diverged) == 1
    assert 2 not in rounds[-1]
    for k in (0, 1, 3, 4):
        epoch = rounds[-1][k]
        assert isinstance(epoch, Epoch)
        assert told(epoch) == alone(varied[k], data, None)[-1]


@pytest.mark.parametrize(
    "other",
    [
        {"batch_size": 8},
        {"optimizer": OptimizerSpec("adam")},
        {"network": dense(64, (16, "relu"), (10, "softmax"))},
        {"dtype": "float64"},
        {"clip": ClipSpec(norm=1.0)},
        {"regularization": RegularizationSpec(l2=0.1)},
    ],
)
def test_networks_that_differ_in_more_than_numbers_are_not_stacked(other: dict[str, Any]) -> None:
    config, data = CASES["digits, ragged"]
    changed = replace(config, **other)
    assert stack_key(changed) != stack_key(config)
    with pytest.raises(ConfigError, match="differ in numbers only"):
        next(iter(train_stacked([Trainee(config, data), Trainee(changed, data)])))
    with pytest.raises(ConfigError, match="differ in numbers only"):
        next(iter(train_stacked([Trainee(config, data), Trainee(config, few(100))])))


def test_numbers_alone_do_not_keep_networks_apart() -> None:
    config, _ = CASES["digits, ragged"]
    assert {stack_key(each) for each in members(config)} == {stack_key(config)}
