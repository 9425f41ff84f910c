"""Training by shards: the plain sum, in one order, wherever its parts are computed."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, repeat

import numpy as np
import pytest

from chainrule.engine import (
    ClipSpec,
    ConfigError,
    Data,
    EarlyStoppingSpec,
    Epoch,
    LayerSpec,
    Network,
    NetworkSpec,
    OptimizerSpec,
    RegularizationSpec,
    StepBoundary,
    Trainee,
    TrainingConfig,
    backward,
    dense,
    digits,
    forward,
    moons,
    train,
    train_stacked,
)
from chainrule.engine.arrays import FloatArray
from chainrule.engine.member import goal
from chainrule.engine.network import initialize
from chainrule.engine.sharding import Part, Shard

CONFIG = TrainingConfig(
    dense(64, (12, "tanh"), (10, "softmax")),
    optimizer=OptimizerSpec("adam", 0.01),
    epochs=3,
    batch_size=40,
    seed=3,
    dtype="float64",
)
SAMPLES = digits().take(slice(0, 205))  # five batches of 40 and one of 5
HELD_OUT = digits().take(slice(300, 400))
WEIGHED = replace(SAMPLES, weights=np.random.default_rng(0).uniform(0, 2, SAMPLES.samples))
REGRESSION = Data(SAMPLES.X, Y=SAMPLES.X[:, :3])
VARIED = {
    "plain": (CONFIG, SAMPLES),
    "float32": (replace(CONFIG, dtype="float32"), SAMPLES),
    "weighed": (replace(CONFIG, class_weights="balanced", label_smoothing=0.1), WEIGHED),
    "shaped": (
        replace(CONFIG, clip=ClipSpec(norm=0.5), regularization=RegularizationSpec(0.001, 0.002, 0.9)),
        SAMPLES,
    ),
    "clipped": (replace(CONFIG, clip=ClipSpec(value=0.01), optimizer=OptimizerSpec("sgd", 0.5)), SAMPLES),
    "dropping": (
        replace(CONFIG, network=NetworkSpec(64, (LayerSpec(12, "relu", dropout=0.3), LayerSpec(10, "softmax")))),
        SAMPLES,
    ),
    "normalizing": (
        replace(
            CONFIG, network=NetworkSpec(64, (LayerSpec(12, "relu", normalization="layer"), LayerSpec(10, "softmax")))
        ),
        SAMPLES,
    ),
    "wide": (
        replace(CONFIG, network=dense(64, (150, "relu"), (10, "sigmoid")), cost="cross_entropy"),
        SAMPLES,
    ),
    "regression": (replace(CONFIG, network=dense(64, (5, "tanh"), (3, "linear")), cost="mse"), REGRESSION),
    "labels": (
        replace(CONFIG, network=dense(64, (5, "tanh"), (3, "sigmoid")), cost="binary_cross_entropy"),
        Data(SAMPLES.X, Y=(SAMPLES.X[:, 2:5] > 0.5).astype(float)),
    ),
    "in order": (replace(CONFIG, shuffle=False), SAMPLES),
    "full batch": (replace(CONFIG, batch_size=None), SAMPLES),
    "stopping": (replace(CONFIG, epochs=6, early_stopping=EarlyStoppingSpec(2)), SAMPLES),
}


class OneByOne:
    """A gang that computes its shards one after another, the last one first."""

    def __init__(self, config: TrainingConfig, data: Data) -> None:
        self._shards = [Shard(config, data, number) for number in range(config.shards)]

    def parts(self, P: FloatArray, epoch: int, step: int) -> Sequence[Part]:
        return [shard.part(P, epoch, step) for shard in reversed(self._shards)][::-1]


def ends(config: TrainingConfig, data: Data, **given: object) -> list[tuple[object, ...]]:
    """What each epoch comes to, and its weights."""
    return [
        (e.epoch, e.cost, e.error, e.validation_cost, e.gradients, e.network.parameters.tobytes())
        for e in train(config, data, HELD_OUT if data is SAMPLES else None, **given)  # type: ignore[arg-type]
        if isinstance(e, Epoch)
    ]


@pytest.mark.parametrize("kind", VARIED)
def test_shards_come_to_what_one_piece_comes_to_but_for_rounding(kind: str) -> None:
    config, data = VARIED[kind]
    if kind == "float32":
        config = replace(config, epochs=1)
    nearness = 1e-3 if kind == "float32" else 1e-8
    pairs = zip(train(config, data), train(replace(config, shards=3), data), strict=True)
    for whole, cut in pairs:
        assert isinstance(whole, Epoch)
        assert isinstance(cut, Epoch)
        assert cut.cost == pytest.approx(whole.cost, rel=nearness)
        assert cut.error == whole.error
        now, then = cut.network.parameters, whole.network.parameters
        np.testing.assert_allclose(now, then, rtol=nearness, atol=nearness)


@pytest.mark.parametrize("kind", VARIED)
@pytest.mark.parametrize("shards", [2, 3])
def test_the_bits_do_not_depend_on_where_or_when_shards_are_computed(kind: str, shards: int) -> None:
    config, data = VARIED[kind]
    config = replace(config, shards=shards)
    assert ends(config, data) == ends(config, data) == ends(config, data, gang=OneByOne(config, data))


@pytest.mark.parametrize("kind", ["weighed", "dropping", "shaped", "stopping"])
def test_resuming_at_any_step_equals_never_stopping(kind: str) -> None:
    config, data = VARIED[kind]
    config = replace(config, shards=2)
    whole = ends(config, data)
    validation = HELD_OUT if data is SAMPLES else None
    for stop_at in (1, 4, 9):
        asked = chain([False] * (stop_at - 1), repeat(True))
        point, before = None, 0
        for event in train(config, data, validation, snapshot_due=asked.__next__):
            if isinstance(event, StepBoundary):
                point = event.resume_point()
                break
            before += 1
        assert point is not None
        assert ends(config, data, resume=point) == whole[before:]


def test_parts_are_of_the_mean_over_the_whole_batch() -> None:
    config = replace(CONFIG, shards=3, shuffle=False)
    network = initialize(config.network, 1, "float64")
    X, Y = SAMPLES.X[200:], goal(config, SAMPLES).Y[200:]  # the last batch, of 5: parts of 1, 2 and 2
    for number, rows in enumerate((slice(0, 1), slice(1, 3), slice(3, 5))):
        found = Shard(config, SAMPLES, number).part(network.parameters, 1, 5).G
        gradients = backward(forward(network, X[rows]), config.cost, Y[rows])
        share = (rows.stop - rows.start) / 5
        part = Network(config.network, found)
        for name, block in part.blocks.items():
            np.testing.assert_allclose(block, share * gradients[f"d{name}"], rtol=1e-10, atol=1e-14)


def test_a_last_batch_of_fewer_samples_than_shards_leaves_some_with_none() -> None:
    config = replace(CONFIG, shards=8, shuffle=False)
    part = Shard(config, SAMPLES, 0).part(initialize(config.network, 1, "float64").parameters, 1, 5)
    assert (part.cost, part.wrong, float(np.abs(part.G).max())) == (0.0, 0, 0.0)
    assert len(ends(config, SAMPLES)) == 4


def test_a_gradient_that_overflows_ends_the_training_as_diverged() -> None:
    steep = replace(
        CONFIG, optimizer=OptimizerSpec("sgd", 1e30), network=dense(2, (4, "relu"), (1, "linear")), cost="mse"
    )
    data = Data(moons().X, Y=moons().X[:, :1])
    with pytest.raises(Exception, match="became infinite or NaN"):
        ends(replace(steep, shards=2, epochs=20), data)


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"shards": 0}, "shards", "1 to 64 shards"),
        ({"shards": 65}, "shards", "1 to 64 shards"),
        ({"shards": 2, "step": "compiled"}, "step", "use step 'numpy'"),
        ({"shards": 2, "optimizer": OptimizerSpec("lbfgs"), "batch_size": None}, "shards", "Use another optimizer"),
        (
            {
                "shards": 2,
                "network": NetworkSpec(64, (LayerSpec(9, "relu", normalization="batch"), LayerSpec(10, "softmax"))),
            },
            "network/layers/0/normalization",
            "use 'layer', or leave shards out",
        ),
    ],
)
def test_what_does_not_go_with_shards_is_refused_with_the_fix(given: dict[str, object], field: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        replace(CONFIG, **given)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_batches_of_fewer_samples_than_shards_are_refused() -> None:
    with pytest.raises(ConfigError, match="larger batches"):
        next(iter(train(replace(CONFIG, shards=50), SAMPLES)))


def test_shards_are_not_stacked() -> None:
    config = replace(CONFIG, shards=2)
    with pytest.raises(ConfigError, match="by itself"):
        next(iter(train_stacked([Trainee(config, SAMPLES), Trainee(replace(config, seed=9), SAMPLES)])))
