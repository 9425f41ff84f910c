"""A compiled step does what NumPy's does, to round-off, and the same to the bit wherever it begins."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from chainrule.engine import (
    ACTIVATIONS,
    COSTS,
    OPTIMIZERS,
    ClipSpec,
    ConfigError,
    Data,
    Epoch,
    LayerSpec,
    NetworkSpec,
    OptimizerSpec,
    RegularizationSpec,
    ResumePoint,
    Round,
    StepBoundary,
    Trainee,
    TrainingConfig,
    UnknownNameError,
    compiled,
    dense,
    digits,
    moons,
    train,
    train_stacked,
    training,
    xor,
)
from chainrule.engine.activations import Activation
from chainrule.engine.arrays import FloatArray
from chainrule.engine.costs import Cost
from chainrule.engine.optimizers import fixed
from chainrule.engine.recording import Recorder

pytestmark = pytest.mark.skipif(compiled.version() is None, reason="needs the extra fast")

ENTROPIC = ("sigmoid", "softmax")  # through others a cost's dA goes back as through a hidden one
DTYPES = {"float32": 1e-5, "float64": 1e-10}
SMALL = TrainingConfig(dense(2, (5, "tanh"), (2, "softmax")), epochs=6, batch_size=7, step="compiled")


@pytest.fixture(autouse=True, scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield


def numbers(samples: int, features: int, targets: int) -> Data:
    rng = np.random.default_rng(0)
    return Data(rng.normal(size=(samples, features)), Y=rng.uniform(0, 1, (samples, targets)))


def classes(samples: int) -> Data:
    return replace(numbers(samples, 4, 3), Y=None, labels=np.arange(samples) % 3, classes=("a", "b", "c"))


def ends(config: TrainingConfig, data: Data, resume: ResumePoint | None = None) -> FloatArray:
    *_, last = train(config, data, resume=resume)
    assert isinstance(last, Epoch)
    return last.network.parameters


def assert_both_end_alike(config: TrainingConfig, data: Data) -> None:
    by_numpy, by_compiled = (ends(replace(config, step=step), data) for step in ("numpy", "compiled"))
    np.testing.assert_allclose(by_compiled, by_numpy, rtol=0, atol=DTYPES[config.dtype] * np.abs(by_numpy).max())


def forward_and_back(g: Activation, Z: FloatArray, dA: FloatArray) -> FloatArray:
    A = g.forward(Z, axis=-2)
    return A + g.backward(dA, Z, A, axis=-2)


def output_dZ(c: Cost, g: Activation, Z: FloatArray, Y: FloatArray) -> FloatArray:
    return c.output_dZ(Z, g.forward(Z, axis=-2), Y, g, axis=-2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_activation_cost_and_optimizer_gives_the_numbers_of_numpy(dtype: str) -> None:
    rng = np.random.default_rng(0)
    Z, dA = (rng.normal(0, 3, (2, 4, 3, 5)).astype(dtype) for _ in range(2))  # steps first
    Z[1, 0, 0, :3] = -800, 800, 0
    recorder = Recorder(Z.dtype, {"Z": Z[0], "dA": dA[0]})
    given, results, expected = recorder.changing, [], []
    computations = [partial(forward_and_back, g) for g in ACTIVATIONS.values()]
    computations += [
        partial(output_dZ, c, ACTIVATIONS[name]) for c in COSTS.values() for name in ENTROPIC if name in c.fits
    ]
    for compute in computations:
        results.append(np.zeros_like(Z[0]))
        recorder.record(np.positive, (compute(given["Z"], given["dA"]),), {}, results[-1])
        with np.errstate(over="ignore"):
            expected.append(compute(Z[1], dA[1]))
    for optimizer in OPTIMIZERS.values():
        if optimizer.update is None:  # it searches, and is never compiled
            continue
        numbers = dict.fromkeys((*fixed(OptimizerSpec()), *optimizer.changing), Z.dtype.type(0.25))
        state = {name: np.ones_like(Z[0]) for name in optimizer.state}
        P = np.ones_like(Z[0])
        optimizer.update(
            numbers, recorder.watch(P), given["dA"], {name: recorder.watch(vector) for name, vector in state.items()}
        )
        wanted = np.ones_like(P), {name: np.ones_like(P) for name in state}
        for step in range(2):
            optimizer.update(numbers, wanted[0], dA[step], wanted[1])
        results += [P, *state.values()]
        expected += [wanted[0], *wanted[1].values()]
    assert compiled.compiled_loop(recorder)([Z, dA], None) == 2
    for result, wanted_result in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, wanted_result, rtol=DTYPES[dtype], atol=DTYPES[dtype])


CASES: dict[str, tuple[TrainingConfig, Data]] = {
    "products by BLAS, float32": (
        TrainingConfig(dense(64, (32, "relu"), (10, "softmax")), epochs=3), digits().take(slice(210))
    ),
    "products by BLAS, not folded": (
        TrainingConfig(dense(200, (33, "relu"), (17, "linear")), "mse", epochs=9, dtype="float64"), numbers(70, 200, 17)
    ),
    "by loops, one sample in a batch, one unit in a layer": (
        TrainingConfig(dense(2, (1, "tanh"), (1, "sigmoid")), batch_size=1, epochs=4, dtype="float64"), moons(50)
    ),
    "several epochs at once": (
        TrainingConfig(dense(2, (8, "tanh"), (1, "sigmoid")), "mse", batch_size=None, epochs=200, dtype="float64"),
        xor(),
    ),
    "dropout, weights, penalties, clipped by value": (
        TrainingConfig(
            NetworkSpec(2, (LayerSpec(9, "tanh", dropout=0.3), LayerSpec(2, "softmax"))),
            regularization=RegularizationSpec(l1=1e-3, l2=1e-2), clip=ClipSpec(value=0.05), epochs=50,
            class_weights=(0.5, 1.5), batch_size=16, dtype="float64",
        ),
        moons(50),
    ),
    "normalized over the batch": (
        TrainingConfig(
            NetworkSpec(2, (LayerSpec(9, "tanh", normalization="batch"), LayerSpec(2, "softmax"))), epochs=20,
            batch_size=16, dtype="float64",
        ),
        moons(50),
    ),
    "normalized over the layer": (
        TrainingConfig(
            NetworkSpec(2, (LayerSpec(9, "tanh", normalization="layer"), LayerSpec(2, "softmax"))), epochs=20,
            batch_size=16, dtype="float64",
        ),
        moons(50),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_way_through_a_step_ends_where_numpy_does(case: str) -> None:
    assert_both_end_alike(*CASES[case])


def test_the_same_training_gives_the_same_bits() -> None:
    assert np.array_equal(ends(SMALL, moons(50)), ends(SMALL, moons(50)))


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_training_interrupted_within_an_epoch_ends_with_the_same_bits(
    after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ends(SMALL, moons(50))
    monkeypatch.setattr(compiled, "STRETCH", 1)
    asked = count(1)
    events = train(SMALL, moons(50), snapshot_due=lambda: next(asked) >= after)
    boundary = next(event for event in events if isinstance(event, StepBoundary))
    assert boundary.step == after
    assert np.array_equal(ends(SMALL, moons(50), boundary.resume_point()), whole)


def test_stretches_of_any_length_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ends(SMALL, moons(50))
    monkeypatch.setattr(compiled, "STRETCH", 1)
    assert np.array_equal(ends(SMALL, moons(50)), whole)


def test_epochs_trained_at_once_have_the_bits_of_those_taken_up_one_by_one() -> None:
    config = replace(CASES["several epochs at once"][0], step="compiled")
    point = None
    for number in range(1, 80):
        epoch = next(event for event in train(config, xor(), resume=point) if event.epoch == number)
        point = epoch.resume_point()
    assert np.array_equal(ends(config, xor(), point), ends(config, xor()))


def test_each_network_of_a_stack_has_the_bits_it_has_alone() -> None:
    configs = [replace(SMALL, seed=seed, optimizer=OptimizerSpec("adam", 0.01 * (1 + seed))) for seed in range(3)]
    *_, last = train_stacked([Trainee(config, moons(50)) for config in configs])
    assert isinstance(last, Round)
    for k, config in enumerate(configs):
        found = last[k]
        assert isinstance(found, Epoch)
        assert np.array_equal(found.network.parameters, ends(config, moons(50)))


@pytest.mark.parametrize("inputs", [4, 200])
def test_samples_gathered_by_each_step_give_the_bits_of_samples_put_in_place(
    inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = replace(classes(50), X=np.random.default_rng(0).normal(size=(50, inputs)).astype(np.float32))
    data.X.flags.writeable = False
    config = replace(SMALL, network=dense(inputs, (5, "relu"), (3, "softmax")), epochs=2)
    in_place = ends(config, data)
    monkeypatch.setattr(training, "NEAR_BYTES", 0)
    assert np.array_equal(ends(config, data), in_place)
    *_, last = train_stacked([Trainee(config, data), Trainee(replace(config, seed=1), data)])
    assert isinstance(last, Round)
    assert isinstance(last[0], Epoch)
    assert np.array_equal(last[0].network.parameters, in_place)


def test_networks_of_one_structure_share_what_was_compiled() -> None:
    ends(SMALL, moons(50))
    before = set(compiled.folder().glob("step_*.py"))
    ends(replace(SMALL, network=dense(3, (11, "tanh"), (4, "softmax")), batch_size=9), numbers_of_four_classes())
    assert set(compiled.folder().glob("step_*.py")) == before


def numbers_of_four_classes() -> Data:
    return Data(numbers(40, 3, 1).X, labels=np.arange(40) % 4, classes=("a", "b", "c", "d"))


def test_a_second_process_finds_what_was_compiled(tmp_path: Path) -> None:
    program = (
        "from numba.core.event import Listener, register\n"
        "from chainrule.engine import TrainingConfig, dense, train, xor\n"
        "compiled = []\n"
        "class Watch(Listener):\n"
        "    def on_start(self, event): compiled.append(event)\n"
        "    def on_end(self, event): pass\n"
        "register('numba:compile', Watch())\n"
        "*_, last = train(TrainingConfig(dense(2, (1, 'sigmoid')), epochs=3, step='compiled'), xor())\n"
        "print(bool(compiled), last.network.parameters.tobytes().hex())\n"
    )
    env = {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=env).stdout
        for _ in range(2)
    )
    assert first.split()[0] == "True"
    assert second == first.replace("True", "False")


@pytest.mark.parametrize(
    "bound", [{"clip": ClipSpec(norm=1.0)}, {"regularization": RegularizationSpec(max_norm=1.0)}], ids=list
)
def test_a_bound_of_a_norm_is_refused(bound: dict[str, ClipSpec | RegularizationSpec]) -> None:
    with pytest.raises(ConfigError, match="use step 'numpy'") as caught:
        replace(SMALL, **bound)  # type: ignore[arg-type]
    assert caught.value.field == "step"


def test_a_way_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="compiled"):
        replace(SMALL, step="gpu")


def test_without_numba_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "version", lambda: None)
    compiled.check("numpy")
    with pytest.raises(ConfigError, match=r"chainrule\[fast\]"):
        next(train(SMALL, moons(50)))


def test_without_a_known_blas_products_are_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "gemm_address", lambda dtype: None)
    config, data = CASES["products by BLAS, float32"]
    for made in (compiled._load, compiled._product):
        monkeypatch.setattr(compiled, made.__name__, made.__wrapped__)
    assert_both_end_alike(config, data)


def test_a_function_that_decides_by_values_cannot_be_compiled() -> None:
    recorder = Recorder(np.dtype("float64"), {"X": np.zeros(3)})
    recorder.call(lambda array: None, np.zeros(3))
    with pytest.raises(ConfigError, match="no compiled step"):
        compiled.compiled_loop(recorder)
