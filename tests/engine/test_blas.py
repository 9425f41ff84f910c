from collections.abc import Callable

import numpy as np
import pytest

from chainrule.engine.arrays import DTYPES, FloatArray
from chainrule.engine.blas import SubtractProduct, gemm_address, kernel

LIE: dict[str, Callable[[FloatArray], FloatArray]] = {
    "in order": lambda array: array,
    "transposed": lambda array: np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2),
    "a part": lambda array: np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, 3)])[..., : array.shape[-1]],
}
pytestmark = pytest.mark.skipif(gemm_address("float32") is None, reason="NumPy's BLAS is another one here")


@pytest.mark.parametrize("lies", [(a, b) for a in LIE for b in LIE], ids="-".join)
@pytest.mark.parametrize("shape", [(7, 5, 9), (1, 5, 9), (7, 1, 9), (7, 5, 1)])
@pytest.mark.parametrize("stack", [(), (3,)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_is_subtracted_however_its_factors_lie(
    lies: tuple[str, str], shape: tuple[int, int, int], stack: tuple[int, ...], dtype: str
) -> None:
    rng, (n, k, m) = np.random.default_rng(0), shape
    A = LIE[lies[0]](rng.normal(size=(*stack, n, k)).astype(dtype))
    B = LIE[lies[1]](rng.normal(size=(*stack, k, m)).astype(dtype))
    C = rng.normal(size=(*stack, n, m)).astype(dtype)
    expected, subtract = C - A @ B, SubtractProduct()
    subtract(A, B, C)
    np.testing.assert_allclose(C, expected, rtol=1e-5, atol=1e-5)
    expected = C - A @ B
    subtract(A, B, C)
    np.testing.assert_allclose(C, expected, rtol=1e-5, atol=1e-5)


def test_other_arrays_are_not_taken_for_those_before() -> None:
    subtract, ones = SubtractProduct(), np.ones((2, 2), np.float32)
    for number in range(50):
        C = np.full((2, 2), number, np.float32)
        subtract(ones, np.full((2, 2), number, np.float32), C)
        np.testing.assert_array_equal(C, np.full((2, 2), -number))


def test_the_kernel_has_a_name() -> None:
    assert kernel() is None or kernel()
