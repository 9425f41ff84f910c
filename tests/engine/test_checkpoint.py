import io

import numpy as np
import pytest

from chainrule.engine import OPTIMIZERS, ResumePoint


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resume_point_comes_back_from_its_arrays_to_the_bit(optimizer: str) -> None:
    rng = np.random.default_rng(0)
    state = {name: rng.normal(size=5).astype(np.float32) for name in OPTIMIZERS[optimizer].state}
    more = {name: rng.normal(size=5).astype(np.float32) for name in ("best", "running", "best_running")}
    point = ResumePoint(3, 7, 2**40, rng.normal(size=5).astype(np.float32), state, cost_sum=0.1 + 0.2, wrong=11, **more)
    stored = io.BytesIO()
    np.savez(stored, **point.to_arrays())  # type: ignore[arg-type]
    stored.seek(0)
    with np.load(stored, allow_pickle=False) as arrays:
        again = ResumePoint.from_arrays(dict(arrays))
    assert (again.epoch, again.step, again.steps, again.cost_sum, again.wrong) == (3, 7, 2**40, 0.1 + 0.2, 11)
    assert again.parameters.tobytes() == point.parameters.tobytes()
    assert again.parameters.dtype == np.float32
    assert {name: getattr(again, name).tobytes() for name in more} == {name: a.tobytes() for name, a in more.items()}
    assert {name: vector.tobytes() for name, vector in again.optimizer_state.items()} == {
        name: vector.tobytes() for name, vector in state.items()
    }


def test_a_resume_point_of_before_there_were_running_statistics_is_read() -> None:
    arrays = ResumePoint(1, 0, 4, np.zeros(3), best=np.ones(3)).to_arrays()
    assert not {"running", "best_running"} & set(arrays)
    again = ResumePoint.from_arrays(arrays)
    assert (again.running, again.best_running) == (None, None)
