import io

import numpy as np
import pytest

from chainrule.engine import OPTIMIZERS, ResumePoint


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resume_point_comes_back_from_its_arrays_to_the_bit(optimizer: str) -> None:
    rng = np.random.default_rng(0)
    state = {name: rng.normal(size=5).astype(np.float32) for name in OPTIMIZERS[optimizer].state}
    point = ResumePoint(3, 7, 2**40, rng.normal(size=5).astype(np.float32), state, cost_sum=0.1 + 0.2, wrong=11)
    stored = io.BytesIO()
    np.savez(stored, **point.to_arrays())  # type: ignore[arg-type]
    stored.seek(0)
    with np.load(stored, allow_pickle=False) as arrays:
        again = ResumePoint.from_arrays(dict(arrays))
    assert (again.epoch, again.step, again.steps, again.cost_sum, again.wrong) == (3, 7, 2**40, 0.1 + 0.2, 11)
    assert again.parameters.tobytes() == point.parameters.tobytes()
    assert again.parameters.dtype == np.float32
    assert {name: vector.tobytes() for name, vector in again.optimizer_state.items()} == {
        name: vector.tobytes() for name, vector in state.items()
    }
