import numpy as np
import pytest

from chainrule.engine import (
    ConfigError,
    Data,
    Epoch,
    LayerSpec,
    Network,
    NetworkSpec,
    OptimizerSpec,
    TrainingConfig,
    backward,
    forward,
    initialize,
    train,
)
from chainrule.engine.arrays import generator
from chainrule.engine.dropout import masks
from chainrule.engine.optimizers import Stepper

SPEC = NetworkSpec(
    4, (LayerSpec(9, "tanh", dropout=0.4), LayerSpec(5, "sigmoid", dropout=0.25), LayerSpec(3, "softmax"))
)


def drawn(steps: range, m: int = 8, p: float = 0.4, epoch: int = 2, seed: int = 1) -> np.ndarray:
    return masks(seed, 1, p, epoch, steps, 9, 8, m, np.dtype(np.float64))


def test_a_mask_zeroes_its_share_and_keeps_the_mean() -> None:
    found = masks(0, 1, 0.3, 1, range(200), 50, 32, 32, np.dtype(np.float64))
    assert np.mean(found == 0) == pytest.approx(0.3, abs=0.003)
    assert np.mean(found) == pytest.approx(1, abs=0.005)
    assert len(np.unique(found)) == 2


def test_the_masks_of_a_step_do_not_depend_on_which_are_drawn_with_them() -> None:
    whole = drawn(range(12))
    for start, stop in ((0, 1), (3, 7), (11, 12)):
        np.testing.assert_array_equal(drawn(range(start, stop)), whole[start:stop])
    # A last smaller batch has the first samples' share of its own stretch.
    assert drawn(range(12, 13), m=3).shape == (1, 9, 3)


def test_no_two_steps_epochs_layers_or_seeds_share_a_mask() -> None:
    found = [drawn(range(3)), drawn(range(3), epoch=3), drawn(range(3), seed=2)]
    found.append(masks(1, 2, 0.4, 2, range(3), 9, 8, 8, np.dtype(np.float64)))
    assert len({mask.tobytes() for three in found for mask in three}) == 12


def test_training_with_dropout_ends_where_the_reading_path_does() -> None:
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(21, 4)), rng.integers(0, 3, 21)
    config = TrainingConfig(
        SPEC, optimizer=OptimizerSpec("adam", 0.01), epochs=7, batch_size=8, dtype="float64", gradients_every=None
    )
    events = train(config, Data(X, labels=labels, classes=("a", "b", "c")))
    *_, last = (event for event in events if isinstance(event, Epoch))
    network, Y, t = initialize(SPEC, 0, "float64"), np.eye(3)[labels], 0
    stepper = Stepper(config.optimizer, network.parameters)
    for epoch in range(1, 8):
        order = generator(0, "shuffle", epoch).permutation(21)
        for step, start in enumerate(range(0, 21, 8)):
            rows = order[start : start + 8]
            masked = {
                number: masks(0, number, p, epoch, range(step, step + 1), units, 8, len(rows), np.dtype(np.float64))[
                    0
                ].T
                for number, p, units in ((1, 0.4, 9), (2, 0.25, 5))
            }
            found = backward(forward(network, X[rows], masked), "cross_entropy", Y[rows])
            G = Network.from_named(SPEC, {name[1:]: found[name] for name in found if name[:2] in ("dW", "db")})
            t += 1
            stepper.step(network.parameters, G.parameters, t)
    np.testing.assert_allclose(last.network.parameters, network.parameters, rtol=1e-10)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_a_share_that_makes_no_sense_is_refused(p: float) -> None:
    with pytest.raises(ConfigError, match="dropout") as refusal:
        NetworkSpec(4, (LayerSpec(9, "tanh", dropout=p), LayerSpec(3, "softmax")))
    assert refusal.value.field == "network/layers/0/dropout"


def test_the_output_layer_has_no_dropout() -> None:
    with pytest.raises(ConfigError, match="output layer"):
        NetworkSpec(4, (LayerSpec(3, "softmax", dropout=0.1),))
