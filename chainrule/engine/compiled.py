"""A recorded computation as machine code: the list of calls that `recording` makes, translated for Numba.

Neighbouring calls that go element by element through the same indices become one loop, and what only passes
from one to the next is never stored. Sums and maxima are loops. A product is a loop if it is small; otherwise
it is the gemm of the BLAS that NumPy itself uses, so there is one library, with one number of threads.

Sizes are arguments. The source depends on which calls there are, on how operands lie and on what is broadcast,
so all networks of one structure share it; it lies in a folder of `folder()`, under a name made of its hash, and
Numba keeps the machine code beside it. Nothing is reordered (no fast-math): a step gives the same bits wherever
a stretch of steps begins. It does not give those of NumPy, whose functions and sums round elsewhere.

This is the only file that imports Numba, and only when it is asked to compile.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import islice, repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np

from chainrule.engine.blas import gemm_address
from chainrule.engine.errors import ConfigError
from chainrule.engine.recording import Array, Call, Recorder, key, overlap

Compiled = Callable[[Sequence[Any], Callable[[], bool] | None], int]
Kind = tuple[str, int, Literal["C", "A"], bool]
"""What Numba is told of an array: its numbers, its axes, whether they lie in order ("C") or in any, and read-only."""
INSTALL = "pip install 'chainrule[fast]'"
STRETCH = 2**22
"""About so many elements are computed before it is asked whether to stop: some milliseconds."""
SMALL = 2**11
"""A product of at most so many multiplications is a loop: calling BLAS would take longer."""
_WRITTEN = {
    "add": "{} + {}", "subtract": "{} - {}", "multiply": "{} * {}", "divide": "{} / {}", "negative": "-{}",
    "positive": "{}", "reciprocal": "one / {}", "absolute": "abs({})", "exp": "math.exp({})",
    "expm1": "math.expm1({})", "log1p": "math.log1p({})", "tanh": "math.tanh({})", "sqrt": "math.sqrt({})",
}  # fmt: skip
"""How functions are written for Numba; others under NumPy's name, which takes longer to compile."""
_PRODUCT = """# {dtype}
import numba


@numba.njit(signature, error_model="numpy", cache=True)
def product(A, B, C):
    (n, k), m = A.shape, B.shape[1]
{large}    for i in range(n):
        for j in range(m):
            total = zero
            for p in range(k):
                total += A[i, p] * B[p, j]
            C[i, j] = total
"""
_LARGE = """    if n * k * m > {small}:
        A_as_it_is = A.strides[1] == A.itemsize or k == 1
        B_as_it_is = B.strides[1] == B.itemsize or m == 1
        gemm(
            101, 111 if A_as_it_is else 112, 111 if B_as_it_is else 112, n, m, k, one,
            A.ctypes.data, max(A.strides[0] // A.itemsize, k) if A_as_it_is else max(A.strides[1] // A.itemsize, n),
            B.ctypes.data, max(B.strides[0] // B.itemsize, m) if B_as_it_is else max(B.strides[1] // B.itemsize, k),
            zero, C.ctypes.data, max(C.strides[0] // C.itemsize, m),
        )
        return
"""
_STEPS = """# {dtype}, with {product}
import math

import numba
import numpy as np


@numba.njit(signature, error_model="numpy", nogil=True, cache=True)
def steps({arguments}):
{lines}
"""


@cache
def version() -> str | None:
    """Tell which Numba is installed, if any."""
    try:
        return importlib.metadata.version("numba")
    except importlib.metadata.PackageNotFoundError:
        return None


def check(step: str) -> None:
    """Check that steps can be computed here in the way that is wanted.

    Raises:
        ConfigError: they are to be compiled, and Numba is missing.
    """
    if step == "compiled" and version() is None:
        raise ConfigError(f"Compiled steps need Numba: {INSTALL}, or use step 'numpy'.", "step")


def folder() -> Path:
    """Where sources and machine code are kept: NUMBA_CACHE_DIR, or a folder of the user's cache."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    return Path(chosen) if chosen else Path.home() / ".cache" / "chainrule" / "compiled"


def compiled_loop(recorder: Recorder) -> Compiled:
    """Make the loop, compiled.

    It takes, for each changing array, an array with the steps as its first axis, or an iterable of each step's;
    and a function that is asked now and then whether to stop. It returns how many steps it did.

    Raises:
        ConfigError: a call cannot be compiled.
    """
    check("compiled")
    translation = _Translation(recorder)
    lines = translation.lines()
    names = [*translation.changing, *translation.constants, "sizes", "first", "stop"]
    # How the steps of a changing array will lie is not known; what is only read may be read-only.
    kinds = [(a.dtype.name, a.ndim + 1, "A", key(a) not in translation.written) for a in recorder.samples.values()]
    kinds += [
        (a.dtype.name, a.ndim, "C" if a.flags.c_contiguous else "A", not a.flags.writeable)
        for a in translation.constants.values()
    ]
    function = _load(", ".join(names), "\n".join(lines), recorder.dtype.name, tuple(kinds))
    constants = (*translation.constants.values(), np.array(translation.sizes))
    at_once = max(1, STRETCH // translation.work)

    def loop(changing: Sequence[Any], stop: Callable[[], bool] | None) -> int:
        steps = next(len(given) for given in changing if isinstance(given, np.ndarray))
        given = [_of_steps(each, steps) for each in changing]
        done = 0
        while done < steps:
            until = min(done + at_once, steps)
            function(*given, *constants, done, until)
            done = until
            if done < steps and stop is not None and stop():
                break
        return done

    return loop


def _of_steps(given: Any, steps: int) -> Array:
    if isinstance(given, np.ndarray):
        return given
    if isinstance(given, repeat):
        value = next(given)
        return np.full((steps, *value.shape), value, value.dtype)
    return np.array(list(islice(given, steps)))


class _Translation:
    """Calls as the lines of a loop.

    Attributes:
        changing: names of the changing arrays.
        constants: names and arrays that are the same in each step.
        sizes: how far each inner loop runs.
        work: elements computed in a step, about.
        written: keys of the arrays that are written.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._names = {key(array): name for name, array in recorder.samples.items()}
        self.changing, self.constants = list(recorder.samples), dict[str, Array]()
        self.sizes: list[int] = []
        self.work = 0
        self.written = {key(call.out) for call in recorder.calls if call.out is not None}
        self._locals = 0

    def lines(self) -> list[str]:
        """Translate all calls."""
        body = []
        rest = list(self._recorder.calls)
        while rest:
            count = 1
            while count < len(rest) and _fits(rest[:count], rest[count]):
                count += 1
            group, rest = rest[:count], rest[count:]
            function = group[0].function
            if function in (np.dot, np.matmul):
                body += self._product(group[0])
            elif function is np.take:
                body += self._gather(group[0])
            elif isinstance(function, np.ufunc):
                body += self._elementwise(group, rest)
            elif getattr(function, "__name__", "") == "reduce":
                body += self._reduce(group[0])
            else:
                raise ConfigError("What decides by values, as a bound of a norm does, has no compiled step.", "step")
        numbers = [f"    {name}_ = {name}[()]" for name, array in self.constants.items() if array.ndim == 0]
        numbers += [f"    n{position} = sizes[{position}]" for position in range(len(self.sizes))]
        each = [f"{name}_ = {name}[s]" for name, array in self._recorder.samples.items() if array.ndim == 0]
        return [*numbers, "    for s in range(first, stop):", *(f"        {line}" for line in each + body)]

    def _name(self, array: Array) -> str:
        if key(array) not in self._names:
            self._recorder.check(array)
            name = f"a{len(self.constants)}"
            self._names[key(array)], self.constants[name] = name, array
        return self._names[key(array)]

    def _element(self, array: Array, index: Sequence[str], left: int = 0) -> str:
        """Write down an element of an operand, or what its last axes hold, at an index of what it is broadcast to."""
        name = self._name(array)
        if array.ndim == 0:
            return f"{name}_"
        axes = array.shape[: array.ndim - left]
        own = ["s"] if name in self._recorder.samples else []
        own += ["0" if size == 1 else i for size, i in zip(axes, index[len(index) - len(axes) :], strict=True)]
        return f"{name}[{', '.join(own)}]" if own else name

    def _nest(self, shape: Sequence[int]) -> tuple[list[str], list[str], str]:
        """Open loops over a shape; an axis of one has none. Returns lines, indices and the indentation inside."""
        lines, index, indent = [], [], ""
        for axis, size in enumerate(shape):
            if size == 1:
                index.append("0")
                continue
            index.append(f"i{axis}")
            lines.append(f"{indent}for i{axis} in range(n{len(self.sizes)}):")
            self.sizes.append(size)
            indent += "    "
        return lines, index, indent

    def _elementwise(self, group: Sequence[Call], rest: Sequence[Call]) -> list[str]:
        shape = _out(group[0]).shape
        self.work += len(group) * _out(group[0]).size
        lines, index, indent = self._nest(shape)
        held: dict[Any, str] = {}
        for call in group:
            _only(call)
            given = [held.get(key(value)) or self._element(value, index) for value in call.inputs]
            held[key(_out(call))] = local = f"t{self._locals}"
            self._locals += 1
            name = call.function.__name__
            written = _WRITTEN.get(name) or f"np.{name}({', '.join(['{}'] * len(given))})"
            lines.append(f"{indent}{local} = {written.format(*given)}")
        made = {key(_out(call)): _out(call) for call in group}
        for place, array in made.items():
            read = any(overlap(array, value) for call in rest for value in call.inputs)
            if read or not self._recorder.made(array):
                lines.append(f"{indent}{self._element(array, index)} = {held[place]}")
        return lines

    def _reduce(self, call: Call) -> list[str]:
        (given,), out, ufunc = call.inputs, _out(call), call.function.__self__
        self.work += given.size
        _only(call, "axis", "keepdims")
        axis = call.options["axis"] % given.ndim
        kept = call.options.get("keepdims", False)

        def both(index: list[str], at: str) -> tuple[str, str]:
            of_out = [*index[:axis], *(["0"] if kept else []), *index[axis:]]
            return self._element(out, of_out), self._element(given, [*index[:axis], at, *index[axis:]])

        def combined(so_far: str, more: str) -> str:
            return (_WRITTEN.get(ufunc.__name__) or f"np.{ufunc.__name__}({{}}, {{}})").format(so_far, more)

        size = f"n{len(self.sizes)}"
        self.sizes.append(given.shape[axis])
        others = [size for a, size in enumerate(given.shape) if a != axis]
        lines, index, indent = self._nest(others)
        target, first = both(index, "0")
        if axis == given.ndim - 1:
            # A long sum in the narrow type would lose digits.
            start = f"np.float64({first})" if ufunc is np.add else first
            return [
                *lines,
                f"{indent}total = {start}",
                f"{indent}for k in range(1, {size}):",
                f"{indent}    total = {combined('total', both(index, 'k')[1])}",
                f"{indent}{target} = total",
            ]
        begin = [*lines, f"{indent}{target} = {first}"]
        lines, index, indent = self._nest(others)
        target, more = both(index, "k")
        inner = [*lines, f"{indent}{target} = {combined(target, more)}"]
        return [*begin, f"for k in range(1, {size}):", *(f"    {line}" for line in inner)]

    def _gather(self, call: Call) -> list[str]:
        source, rows = call.inputs
        out = _out(call)
        self.work += out.size
        lines, index, indent = self._nest(out.shape)
        row = f"int({self._element(rows, index[:-1])})"
        return [*lines, f"{indent}{self._element(out, index)} = {self._name(source)}[{row}, {index[-1]}]"]

    def _product(self, call: Call) -> list[str]:
        A, B = call.inputs
        out = _out(call)
        self.work += out.size * A.shape[-1] // 8
        lines, index, indent = self._nest(out.shape[:-2])
        given = [self._element(array, index, 2) for array in (A, B, out)]
        return [*lines, f"{indent}product({', '.join(given)})"]


def _only(call: Call, *options: str) -> None:
    if not set(call.options) <= set(options):
        raise ConfigError(f"{call.function} with {', '.join(call.options)} has no compiled step.", "step")


def _out(call: Call) -> Array:
    assert call.out is not None, "only functions that are called whole have no result"
    return call.out


def _fits(group: Sequence[Call], call: Call) -> bool:
    """Whether a call can be done in the same loop as those before: what they share, they use at the same index."""
    if not all(isinstance(one.function, np.ufunc) and one.function is not np.matmul for one in (group[0], call)):
        return False
    if _out(call).shape != _out(group[0]).shape:
        return False
    written = [_out(one) for one in group]
    read = [value for one in group for value in one.inputs]
    pairs = [(value, other) for value in call.inputs for other in written]
    pairs += [(_out(call), other) for other in (*written, *read)]
    return all(key(value) == key(other) or not overlap(value, other) for value, other in pairs)


@lru_cache
def _load(arguments: str, lines: str, dtype: str, kinds: tuple[Kind, ...]) -> Any:
    """Have steps compiled, or what was compiled of them found again."""
    from numba import types

    arrays = [types.Array(getattr(types, of), axes, layout, read_only) for of, axes, layout, read_only in kinds]
    product = _product(dtype)
    given = {
        "signature": types.void(*arrays, types.Array(types.int64, 1, "C"), types.int64, types.int64),
        "product": product,
        "one": np.dtype(dtype).type(1),
    }
    return _module(
        _STEPS.format(dtype=dtype, product=product.__module__, arguments=arguments, lines=lines), given
    ).steps


@lru_cache
def _product(dtype: str) -> Any:
    """Have C ← A·B compiled, for matrices that lie in any way."""
    import llvmlite.binding
    from numba import types

    number, size, pointer, flag = getattr(types, dtype), types.int64, types.intp, types.int32
    read, written = (types.Array(number, 2, "A", read_only) for read_only in (True, False))
    given = {
        "signature": types.void(read, read, written),
        "zero": np.dtype(dtype).type(0),
        "one": np.dtype(dtype).type(1),
    }
    large, address = "", gemm_address(dtype)
    if address is not None:
        large, symbol, matrix = _LARGE.format(small=SMALL), f"chainrule_gemm_{dtype}", (pointer, size)
        llvmlite.binding.add_symbol(symbol, address)
        arguments = (flag, flag, flag, size, size, size, number, *matrix, *matrix, number, *matrix)
        given["gemm"] = types.ExternalFunction(symbol, types.void(*arguments))
    return _module(_PRODUCT.format(dtype=dtype, large=large), given).product


def _module(source: str, given: Mapping[str, Any]) -> Any:
    """Load a module from a file that is made of its source, with some names given."""
    place = folder() / f"step_{hashlib.sha256(source.encode()).hexdigest()[:24]}.py"
    if not place.exists() or place.read_text("utf-8") != source:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_suffix(f".{os.getpid()}")
        draft.write_text(source, "utf-8")
        draft.replace(place)
    spec = importlib.util.spec_from_file_location(place.stem, place)
    assert spec is not None, "a file that has just been written can be loaded"
    assert spec.loader is not None, "so can any"
    module = importlib.util.module_from_spec(spec)
    vars(module).update(given)
    sys.modules[place.stem] = module  # where Numba looks when it finds its machine code again
    spec.loader.exec_module(module)
    return module
