import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.engine import ConfigError
from chainrule.engine.arrays import dtype_of, generator

places = st.tuples(
    st.integers(0, 2**70),
    st.sampled_from(["shuffle", "split", "weights 1"]),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
)


@given(places)
def test_a_generator_is_a_pure_function_of_its_place(place: tuple[int, str, int, int]) -> None:
    np.testing.assert_array_equal(generator(*place).random(8), generator(*place).random(8))


@given(places, places)
def test_generators_of_different_places_differ(
    one: tuple[int, str, int, int], other: tuple[int, str, int, int]
) -> None:
    same = generator(*one).random(8).tobytes() == generator(*other).random(8).tobytes()
    assert same == (one == other)


def test_seed_and_purpose_cannot_be_mistaken_for_each_other() -> None:
    assert generator(1, "1/x").random() != generator(11, "x").random() != generator(1, "x").random()


def test_streams_of_neighbouring_steps_and_epochs_do_not_overlap() -> None:
    drawn = [generator(0, "noise", epoch, step).random(1000) for epoch in range(3) for step in range(3)]
    assert len(set(np.concatenate(drawn).tolist())) == 9000


def test_an_unknown_dtype_is_refused_with_those_known() -> None:
    with pytest.raises(ConfigError, match=r"'float16'.*float32, float64") as refusal:
        dtype_of("float16")
    assert refusal.value.field == "dtype"
