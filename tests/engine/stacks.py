"""Stacks of networks of any shape, for tests of what holds for all of them."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from chainrule.engine import (
    ClipSpec,
    Data,
    LayerSpec,
    NetworkSpec,
    OptimizerSpec,
    RegularizationSpec,
    Trainee,
    TrainingConfig,
)
from tests.engine.problems import HIDDEN, STEPPING

EPOCHS = 4
ACTIVATIONS = st.sampled_from(HIDDEN)
UNITS = st.integers(1, 8) | st.integers(9, 70)
DROPOUT = st.sampled_from([0.0, 0.0, 0.4])
PLAIN = st.builds(LayerSpec, UNITS, ACTIVATIONS, dropout=DROPOUT)
NORMALIZED = st.builds(
    LayerSpec, st.integers(2, 40), ACTIVATIONS, dropout=DROPOUT, normalization=st.sampled_from(["layer", "batch"])
)
REGULARIZATION = st.builds(
    RegularizationSpec,
    l1=st.sampled_from([0.0, 1e-3]),
    l2=st.sampled_from([0.0, 1e-3]),
    max_norm=st.sampled_from([None, 1.5]),
)
CLIP = st.sampled_from([None, ClipSpec(norm=0.5), ClipSpec(value=0.05)])


@st.composite
def stacks(draw: st.DrawFn) -> list[Trainee]:
    """Draw one to three networks of one shape, with data of their own or all with the same."""
    inputs, samples = draw(st.integers(1, 8) | st.sampled_from([127, 128, 129])), draw(st.integers(1, 70))
    batch = draw(st.integers(1, samples) | st.just(samples))
    plain = samples == 1 or batch == 1 or samples % batch == 1  # a batch of one sample has no variance
    hidden = tuple(draw(st.lists(PLAIN if plain else PLAIN | NORMALIZED, max_size=3)))
    outputs, classifies = draw(st.integers(1, 12)), draw(st.booleans())
    output = LayerSpec(outputs, ("softmax" if outputs > 1 else "sigmoid") if classifies else "linear")
    config = TrainingConfig(
        NetworkSpec(inputs, (*hidden, output)),
        "cross_entropy" if classifies else "mse",
        OptimizerSpec(draw(st.sampled_from(STEPPING)), 0.01),
        epochs=EPOCHS,
        batch_size=batch,
        gradients_every=draw(st.sampled_from([None, 1, 2])),
        dtype=draw(st.sampled_from(["float32", "float64"])),
        clip=draw(CLIP),
        regularization=draw(REGULARIZATION),
    )
    members, rng = list[Trainee](), np.random.default_rng(0)
    shared, weighed = draw(st.booleans()), draw(st.booleans())
    for seed in range(draw(st.integers(1, 3))):
        if not members or not shared:
            X = rng.standard_normal((samples, inputs))
            weights = rng.uniform(0.5, 2, samples) if weighed else None
            if classifies:
                classes = tuple(f"class {number}" for number in range(max(outputs, 2)))
                data = Data(X, labels=rng.integers(0, len(classes), samples), classes=classes, weights=weights)
            else:
                data = Data(X, Y=rng.standard_normal((samples, outputs)), weights=weights)
        members.append(Trainee(replace(config, seed=seed), data))
    return members
