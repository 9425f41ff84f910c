"""A computation written down once and then repeated: its NumPy calls, one after another, in a straight line.

A `Recorder` lends arrays that watch what is done with them. A function that is run on them once, written
as its equations are, changes nothing and leaves a list of calls; `Recorder.loop` turns the list into a loop
of nothing else. What a call returned the first time is where it writes from then on, so the loop makes no
arrays, looks nothing up and decides nothing: a function that decides by values must be recorded whole, by `call`.

Nothing is computed otherwise than the function would: same calls, same operands, same bits.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chainrule.engine.blas import SubtractProduct, gemm_address

Array = NDArray[Any]
Loop = Callable[[Iterable[tuple[Any, ...]], Callable[[], bool] | None], int]
_EXTREMES = (np.maximum, np.minimum)
"""They alone warn when `out` is given by position; and compare with an array twice as fast as with a number."""
_SPREAD = 2**16
"""A number that is compared with arrays of up to so many elements is made one of them."""


class Recorded(np.ndarray[Any, Any]):
    """An array that has its recorder write down what is computed with it."""

    recorder: "Recorder"
    plain: Array | None = None

    def __array_finalize__(self, source: Any) -> None:
        if source is not None:
            self.recorder = getattr(source, "recorder", None)  # type: ignore[assignment]

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.pop("out", (None,))[0]
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return self.recorder.record(function, inputs, options, out)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function is not np.dot:
            raise TypeError(f"{function.__name__} cannot be recorded; use ufuncs, their reduce, and dot.")
        options = dict(options)
        out = options.pop("out", None)
        return self.recorder.record(np.dot, args, options, out)


@dataclass(eq=False)
class Call:
    """A call: of a ufunc, of its reduce, of dot, matmul or take, or of a function as a whole, which has no out."""

    function: Any
    inputs: list[Any]
    options: dict[str, Any]
    out: Array | None


class Recorder:
    """Writes calls down.

    Args:
        dtype: of the numbers that stand in equations.
        changing: the arrays that are others each time the computation is repeated, by name; those given
            here are samples of their shapes.

    Attributes:
        calls: what has been written down.
        samples: the arrays that were given.
        changing: the same, watched.
    """

    def __init__(self, dtype: np.dtype[Any], changing: Mapping[str, Array]) -> None:
        self.dtype = dtype
        self.samples = dict(changing)
        self.calls: list[Call] = []
        self._numbers: dict[Any, Array] = {}
        self._own: set[int] = set()  # by identity: the arrays that were made for results
        self.changing = {name: self.watch(array) for name, array in changing.items()}

    def watch(self, array: Array) -> Any:
        """Lend a view that is watched."""
        if isinstance(array, Recorded):
            return array
        view = array.view(Recorded)
        view.recorder, view.plain = self, array
        return view

    def record(self, function: Any, inputs: Iterable[Any], options: dict[str, Any], out: Array | None) -> Any:
        """Write a call down; what returns something new is carried out once, to learn its shape."""
        plain = [self._plain(value) for value in inputs]
        if out is None:
            with np.errstate(all="ignore"):
                target = np.asarray(function(*plain, **options))
            self._own.add(id(target))
        else:
            target = self._plain(out)
        self.calls.append(Call(function, plain, options, target))
        return self.watch(target)

    def call(self, function: Callable[..., None], *arrays: Array) -> None:
        """Write down a function that changes arrays in place, as a whole."""
        self.calls.append(Call(function, [self._plain(array) for array in arrays], {}, None))

    def gather(self, source: Array, rows: Array, room: Array) -> None:
        """Write down that rows of an array are put into another one."""
        given = [self._plain(source), self._plain(rows)]
        self.calls.append(Call(np.take, given, {"axis": 0, "mode": "clip"}, self._plain(room)))

    def into(self, target: Array, result: Array) -> Any:
        """Have a result written to where it is needed; to be called right after it was computed."""
        target, made = self._plain(target), self._plain(result)
        last = self.calls[-1]
        if last.out is made and id(made) in self._own:
            last.out = target
            self._own.discard(id(made))
            return self.watch(target)
        return self.record(np.positive, (result,), {}, target)

    def made(self, array: Array) -> bool:
        """Tell whether an array was made for a result, so that nobody else knows of it."""
        return id(array) in self._own

    def check(self, value: Any) -> None:
        """Refuse what looks constant but lies in a changing array."""
        if isinstance(value, np.ndarray) and any(overlap(value, sample) for sample in self.samples.values()):
            raise TypeError("A view of a changing array must itself be given as changing.")

    def loop(self) -> Loop:
        """Make the loop.

        It takes the changing arrays of each repetition, in the order of `changing`, and a function that is
        asked after each one but the last whether to stop; it returns how many repetitions it did.
        """
        self._fuse()
        self._reuse()
        names: dict[tuple[Any, ...], str] = {key(array): name for name, array in self.samples.items()}
        constants: dict[str, Any] = {}

        def name_of(value: Any, prefix: str) -> str:
            found = key(value) if isinstance(value, np.ndarray) else (id(value),)
            if found not in names:
                self.check(value)
                names[found] = f"{prefix}{len(constants)}"
                constants[names[found]] = value
            return names[found]

        lines = []
        for call in self.calls:
            function = name_of(call.function, getattr(call.function, "__name__", "f").strip("<>"))
            given = [name_of(self._spread(call, value), "a") for value in call.inputs]
            options = [f"{option}={value!r}" for option, value in call.options.items()]
            if call.out is not None:
                by_name = call.function not in (np.dot, np.matmul) and (
                    call.function in _EXTREMES or not isinstance(call.function, np.ufunc)
                )
                given.append(f"out={name_of(call.out, 'a')}" if by_name else name_of(call.out, "a"))
            lines.append(f"        {function}({', '.join(given + options)})")
        source = "\n".join(
            [
                f"def loop(repetitions, stop, {', '.join(f'{name}={name}' for name in constants)}):",
                "    done = 0",
                f"    for {', '.join(self.samples)}, in repetitions:",
                *lines,
                "        done += 1",
                "        if stop is not None and stop():",
                "            break",
                "    return done",
            ]
        )
        made: dict[str, Any] = {}
        exec(_compiled(source), constants, made)  # noqa: S102  # of nothing but the names made above
        loop: Loop = made["loop"]
        return loop

    def once(self) -> Callable[[], None]:
        """Make a function that does it once, with the samples of the arrays that change.

        Nothing is compiled for it, which takes longer than the loop saves where it is needed some dozens of times.
        """
        self._fuse()
        self._reuse()
        steps = [
            partial(
                call.function,
                *[self._spread(call, value) for value in call.inputs],
                **call.options,
                **({} if call.out is None else {"out": call.out}),
            )
            for call in self.calls
        ]

        def once() -> None:
            for step in steps:
                step()

        return once

    def _plain(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return _unwatched(value)
        # NumPy takes arrays faster than Python's numbers.
        return self._numbers.setdefault(value, np.asarray(value, self.dtype))

    def _spread(self, call: Call, value: Array) -> Array:
        out = call.out
        if out is None or call.function not in _EXTREMES or value.ndim > 0 or out.size > _SPREAD:
            return value
        return self._numbers.setdefault((float(value), out.shape), np.full(out.shape, value, value.dtype))

    def _fuse(self) -> None:
        """Take a product from a matrix while it is computed, where nobody else reads it: one pass less over both."""
        for call in [call for call in self.calls if call.function is np.subtract]:
            taken, calls = call.inputs[1], self.calls
            made = next((one for one in calls if one.out is taken and one.function in (np.dot, np.matmul)), None)
            if made is None or not self.made(taken) or gemm_address(taken.dtype.name) is None:
                continue
            between = calls[calls.index(made) + 1 : calls.index(call)]
            written = [one.out for one in between if one.out is not None]
            alone = sum(_touches(one, taken) for one in calls) == 2
            if alone and not any(overlap(operand, out) for operand in made.inputs for out in written):
                assert call.out is not None
                calls[calls.index(call)] = Call(SubtractProduct(), [*made.inputs, call.out], {}, None)
                calls.remove(made)

    def _reuse(self) -> None:
        """Let a result overwrite an operand of its shape that nobody reads any more, so that less memory is touched."""
        for position, call in enumerate(self.calls):
            made = call.out
            if made is None or id(made) not in self._own or not isinstance(call.function, np.ufunc):
                continue
            if call.function is np.matmul:
                continue
            for operand in call.inputs:
                if id(operand) in self._own and operand.shape == made.shape and operand.dtype == made.dtype:
                    after = self.calls[position + 1 :]
                    if not any(_touches(later, operand) for later in after) and _alone(made, after):
                        _replace(self.calls[position:], made, operand)
                        break


@lru_cache
def _compiled(source: str) -> CodeType:
    return compile(source, "<loop>", "exec")


def _unwatched(value: Array) -> Array:
    """Give the plain array behind a watched one: the same object each time where it is the one that was watched."""
    if not isinstance(value, Recorded):
        return value
    return value.view(np.ndarray) if value.plain is None else value.plain


def key(array: Array) -> tuple[Any, ...]:
    """Tell what views of the same elements, in the same order, have in common."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


def overlap(one: Array, other: Array) -> bool:
    """Tell whether arrays may share an element; it goes by their extent."""
    return np.may_share_memory(one, other)


def _touches(call: Call, array: Array) -> bool:
    values = [*call.inputs, call.out]
    return any(isinstance(value, np.ndarray) and np.may_share_memory(value, array) for value in values)


def _alone(array: Array, calls: list[Call]) -> bool:
    """Whether calls use the array as a whole or not at all."""
    return all(
        value is array or not np.may_share_memory(value, array)
        for call in calls
        for value in (*call.inputs, call.out)
        if isinstance(value, np.ndarray)
    )


def _replace(calls: list[Call], old: Array, new: Array) -> None:
    for call in calls:
        call.inputs = [new if value is old else value for value in call.inputs]
        if call.out is old:
            call.out = new
