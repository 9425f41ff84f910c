import numpy as np
import pytest

from chainrule.engine.arrays import FloatArray
from chainrule.engine.recording import Recorder

F32 = np.dtype(np.float32)


def test_a_recorded_computation_gives_the_bits_of_the_function_it_was_recorded_from() -> None:
    rng = np.random.default_rng(0)
    W = rng.normal(size=(4, 6)).astype(F32)

    def function(X: FloatArray, W: FloatArray) -> FloatArray:
        Z = np.dot(W, X)
        result: FloatArray = np.tanh(Z) * 2 + np.add.reduce(Z * Z, axis=0, keepdims=True) - 1
        return result

    recorder = Recorder(F32, {"X": np.empty((6, 5), F32), "out": np.empty((4, 5), F32)})
    np.positive(function(recorder.changing["X"], recorder.watch(W)), out=recorder.changing["out"])
    loop = recorder.loop()
    given = [(rng.normal(size=(6, 5)).astype(F32), np.empty((4, 5), F32)) for _ in range(3)]
    assert loop(iter(given), None) == 3
    for X, out in given:
        assert out.tobytes() == function(X, W).tobytes()


def test_recording_changes_nothing() -> None:
    P, G = np.ones(3, F32), np.full(3, 0.5, F32)
    recorder = Recorder(F32, {"rate": np.array(0.1, F32)})
    watched = recorder.watch(P)
    watched -= recorder.changing["rate"] * recorder.watch(G)
    np.testing.assert_array_equal(P, 1)
    assert recorder.loop()([(np.float32(0.1),), (np.float32(0.1),)], None) == 2
    np.testing.assert_allclose(P, 0.9)


def test_a_result_that_is_needed_later_is_not_overwritten() -> None:
    recorder = Recorder(F32, {"X": np.empty(4, F32), "out": np.empty(4, F32)})
    first = recorder.changing["X"] + 1
    second = first * 2
    np.add(first, second * 3, out=recorder.changing["out"])
    X, out = np.arange(4, dtype=F32), np.empty(4, F32)
    recorder.loop()([(X, out)], None)
    np.testing.assert_array_equal(out, 7 * (X + 1))


def test_it_stops_after_the_repetition_it_is_told_to() -> None:
    total = np.zeros(1, F32)
    recorder = Recorder(F32, {"X": np.empty(1, F32)})
    watched = recorder.watch(total)
    watched += recorder.changing["X"]
    answers = iter([False, False, True])
    assert recorder.loop()([(np.ones(1, F32),)] * 5, lambda: next(answers)) == 3
    assert total[0] == 3


def test_a_function_that_decides_by_values_is_called_whole() -> None:
    G = np.array([3.0, 4.0], F32)
    recorder = Recorder(F32, {"rate": np.array(0, F32)})

    def halve_if_long(vector: FloatArray) -> None:
        if np.dot(vector, vector) > 10:
            vector *= 0.5

    recorder.call(halve_if_long, G)
    recorder.loop()([(0,)] * 3, None)
    np.testing.assert_array_equal(G, [1.5, 2.0])


def test_what_cannot_be_repeated_is_refused() -> None:
    recorder = Recorder(F32, {"X": np.empty((2, 3), F32)})
    with pytest.raises(TypeError, match="where cannot be recorded"):
        np.where(recorder.changing["X"], 1, 0)
    recorder.changing["X"].T + 1
    with pytest.raises(TypeError, match="view of a changing array"):
        recorder.loop()
