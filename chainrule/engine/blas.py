"""The BLAS that NumPy itself uses, for what NumPy does not offer: C ← C − A·B in one pass, and its own name.

It is found by its symbols in NumPy's extension, so there is one library, with one number of threads.
"""

import ctypes
import importlib
from functools import cache
from typing import Any

from chainrule.engine.arrays import FloatArray

SYMBOLS = {"float32": ("scipy_cblas_sgemm64_", "cblas_sgemm64_"), "float64": ("scipy_cblas_dgemm64_", "cblas_dgemm64_")}
"""The names a BLAS with 64-bit integers gives to its gemm."""
ROW_MAJOR, AS_IT_IS, TRANSPOSED = 101, 111, 112


@cache
def gemm_address(dtype: str) -> int | None:
    """Find the address of NumPy's gemm; None for a BLAS that calls it something else."""
    found = (getattr(_library(), name, None) for name in SYMBOLS[dtype])
    return next((ctypes.cast(function, ctypes.c_void_p).value for function in found if function is not None), None)


class SubtractProduct:
    """C ← C − A·B, in place; of stacks along the first axis, for each.

    What BLAS is told of the arrays is kept while they are the same ones, for asking them takes microseconds.
    """

    __name__ = "subtract_product"

    def __init__(self) -> None:
        self._told: tuple[FloatArray, FloatArray, FloatArray, Any, list[Any]] | None = None

    def __call__(self, A: FloatArray, B: FloatArray, C: FloatArray) -> None:
        """Do it.

        Args:
            A: (…, n, k), in order or as the transpose of what is.
            B: (…, k, m), likewise.
            C: (…, n, m), in order.
        """
        told = self._told
        if told is None or told[0] is not A or told[1] is not B or told[2] is not C:
            matrices = [(A, B, C)] if C.ndim == 2 else list(zip(A, B, C, strict=True))
            told = self._told = A, B, C, _gemm(C.dtype.name), [_arguments(*each) for each in matrices]
        gemm = told[3]
        for arguments in told[4]:
            gemm(*arguments)


def _arguments(A: FloatArray, B: FloatArray, C: FloatArray) -> tuple[Any, ...]:
    (n, m), k = C.shape, A.shape[1]
    (A_order, A_width), (B_order, B_width) = _lies(A), _lies(B)
    return (
        ROW_MAJOR, A_order, B_order, n, m, k, -1.0, A.ctypes.data, A_width, B.ctypes.data, B_width, 1.0,
        C.ctypes.data, m,
    )  # fmt: skip


def _lies(array: FloatArray) -> tuple[int, int]:
    """Tell BLAS whether a matrix is transposed, and how far apart its rows, or columns, are."""
    rows, columns = (stride // array.itemsize for stride in array.strides)
    if columns == 1 and rows >= array.shape[1]:
        return AS_IT_IS, rows
    return TRANSPOSED, max(columns, array.shape[0])


@cache
def _gemm(dtype: str) -> Any:
    number = {"float32": ctypes.c_float, "float64": ctypes.c_double}[dtype]
    flag, size, matrix = ctypes.c_int, ctypes.c_int64, (ctypes.c_void_p, ctypes.c_int64)
    arguments = (flag, flag, flag, size, size, size, number, *matrix, *matrix, number, *matrix)
    address = gemm_address(dtype)
    assert address is not None, "asked for where it was found only"
    return ctypes.CFUNCTYPE(None, *arguments)(address)


def kernel() -> str | None:
    """Name the kind of processor whose code OpenBLAS has chosen; None for a BLAS that does not tell."""
    ask = getattr(_library(), "scipy_openblas_get_corename64_", None)
    if ask is None:
        return None
    ask.restype = ctypes.c_char_p
    name: bytes | None = ask()
    return None if name is None else name.decode()


def set_threads(number: int) -> None:
    """Have OpenBLAS use so many threads from now on, in this process; another BLAS goes by its environment."""
    tell = getattr(_library(), "scipy_openblas_set_num_threads64_", None)
    if tell is not None:
        tell(ctypes.c_int(number))


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(importlib.import_module("numpy._core._multiarray_umath").__file__)
