"""The fast path: the mathematics of `network`, written down once as a loop over batches (see `recording`).

What differs from the reading path, and why:

- Behind the input, units are rows and samples columns: W[l] need not be transposed, and sums and maxima
  over units run along long rows.
- A row of ones stands below A[l-1] where [W | b] lie together, so that Z, and dW with db, are one product each.
- The 1/m of the mean is applied to dZ[L], the smallest array it could be applied to; for sgd the learning
  rate goes with it.
- The outputs' Z are kept, so that cost and error are computed for many steps at once.

Everything takes leading axes: parameters (K, p) are those of K networks of one shape, trained as one
computation. Each then goes through the same operations, on its own numbers, as it would alone.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np

from chainrule.engine import normalization
from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray, IntArray
from chainrule.engine.clipping import by_norm, by_value
from chainrule.engine.compiled import compiled_loop
from chainrule.engine.config import TrainingConfig
from chainrule.engine.costs import cost
from chainrule.engine.network import FOLDED_INPUTS, NetworkSpec, running_views, views
from chainrule.engine.optimizers import OPTIMIZERS, fixed
from chainrule.engine.recording import Loop, Recorder
from chainrule.engine.regularization import MaxNorm, add_penalty, of_weights

LARGE = 2**15
"""A matrix of at least so many weights is changed while its gradient is computed, where nothing comes between."""

BLOCK = 2**16
"""An optimizer goes through a vector four times as long, or longer, in blocks of so many parameters: a block and its
state stay in the cache from the first operation to the last."""


def input_width(spec: NetworkSpec) -> int:
    """Tell how wide the rows of X must be: with a last column of ones where the first layer is folded."""
    return spec.inputs + (spec.inputs <= FOLDED_INPUTS)


class Batches:
    """Room for up to `steps` consecutive batches of m samples.

    Attributes:
        X: (…, steps, m, n_0) samples, or one more column, of ones; see `input_width`. Where each step gathers its
            own, room for one step's.
        rows: (…, steps, 1, m) which samples each step gathers; None where they are put in place before.
        Y: (…, steps, n_L, m) targets, units as rows.
        Z: (…, steps, n_L, m), where each step leaves Z[L].
        scale: (…, steps, 1, m), each sample's weight over m; None where all weigh 1.
        labels: (…, steps, 1, m) classes, where there are any.
        masks: l to (…, steps, n_l, m), what dropout multiplies A[l] by.
        changing: what differs from step to step by name, steps first.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        X: FloatArray,
        *,
        weighted: bool = False,
        dropped: Collection[int] = (),
        gathering: int | None = None,
    ) -> None:
        *lead, steps, m, _ = X.shape
        steps = gathering or steps
        self.X, self.steps, self.m = X, steps, m
        self.rows = None if gathering is None else np.zeros((*lead, steps, 1, m), np.intp)

        def room(units: int) -> FloatArray:
            return np.empty((*lead, steps, units, m), X.dtype)

        self.Y, self.Z = room(spec.outputs), room(spec.outputs)
        self.scale = room(1) if weighted else None
        self.labels = np.empty((*lead, steps, 1, m), np.int64)
        self.masks = {number: room(spec.sizes[number]) for number in dropped}
        of_steps = {"Y": self.Y, "Z": self.Z}
        if self.rows is None:
            of_steps |= {"X": X, "X_T": X.swapaxes(-1, -2)}
        else:
            of_members = self.rows.reshape(-1, steps, 1, m)
            of_steps |= {f"rows{k}": rows for k, rows in enumerate(of_members)}
        if self.scale is not None:
            of_steps["scale"] = self.scale
        of_steps |= {f"mask{number}": mask for number, mask in self.masks.items()}
        self.changing = {name: np.moveaxis(held, -3, 0) for name, held in of_steps.items()}

    def fill(
        self,
        member: Any,
        rows: IntArray,
        X: FloatArray | None,
        Y: FloatArray,
        weights: FloatArray | None = None,
        labels: IntArray | None = None,
    ) -> None:
        """Take samples over, from the first step on.

        Args:
            member: whose, of several; () for the only one, or for all.
            rows: (…, steps, m) which samples.
            X: (M, n_0) with the column of ones or without, to take them from; None where they are in place.
            Y: (M, n_L) targets.
            weights: (M,) how much each counts.
            labels: (M,) classes; None where there are none.
        """
        at = (*((member,) if isinstance(member, int) else member), ..., slice(rows.shape[-2]), slice(None), slice(None))
        if self.rows is not None:
            self.rows[at] = rows[..., None, :]
        elif X is not None:
            np.take(X, rows, axis=0, out=self.X[at][..., : X.shape[1]], mode="clip")
        self.Y[at] = Y.take(rows, axis=0).swapaxes(-1, -2)
        if self.scale is not None and weights is not None:
            self.scale[at] = weights[rows][..., None, :] / self.m
        if labels is not None:
            self.labels[at] = labels.take(rows)[..., None, :]

    def record_gathering(self, recorder: Recorder, sources: Sequence[FloatArray]) -> None:
        """Write down how a step gathers its samples, if it does.

        Args:
            recorder: with the changing arrays.
            sources: each network's (M, n_0) samples, with the column of ones or without.
        """
        if self.rows is None:
            return
        for k, (source, room) in enumerate(zip(sources, self.X.reshape(-1, *self.X.shape[-3:]), strict=True)):
            recorder.gather(source, recorder.changing[f"rows{k}"], room[..., : source.shape[1]])
        X = self.X[..., 0, :, :]
        recorder.changing |= {"X": recorder.watch(X), "X_T": recorder.watch(X.swapaxes(-1, -2))}


def record_gradient(
    recorder: Recorder,
    spec: NetworkSpec,
    cost_name: str,
    P: FloatArray,
    G: FloatArray,
    R: FloatArray,
    scale: Any,
    *,
    training: bool,
    large: Collection[int] = (),
    observed: "Observed | None" = None,
) -> dict[int, Any]:
    """Write down forward and backward for one batch, the recorder's X, X_T, Y and Z.

    Args:
        recorder: with the changing arrays of a batch, and masks of dropout if there are any.
        spec: the network's shape.
        cost_name: of the cost.
        P: (…, p) parameters, to be read.
        G: (…, p), where the gradient goes, times `scale`·m.
        R: (…, r) running statistics of batch normalization.
        scale: what dZ[L] is multiplied by; 1/m for the gradient of the mean.
        training: whether batch normalization takes μ and σ² of the batch, and moves R, or takes R.
        large: the layers whose dW is to be returned, and not left in G.
        observed: takes note of what else is to be kept of the pass.

    Returns:
        l to dW[l] of those.
    """
    watch, batch, last = recorder.watch, recorder.changing, len(spec.layers)
    lead, m = P.shape[:-1], batch["X"].shape[-2]
    # For vectors dot and matmul take different ways, and a network of a stack must go the way it goes alone.
    product: Any = np.matmul if lead or 1 in (m, *spec.sizes) else np.dot
    of, gradient, running = views(spec, P), views(spec, G), running_views(spec, R)
    g = {number: activation(layer.activation) for number, layer in enumerate(spec.layers, start=1)}
    A_ones, A, Z, normalized, dW = {0: batch["X_T"]}, {}, {}, {}, dict[int, Any]()
    for number in range(1, last + 1):
        units, layer = spec.sizes[number], of[number]
        Z[number] = batch["Z"] if number == last else watch(np.empty((*lead, units, m), P.dtype))
        if layer.folded is not None:
            product(watch(layer.folded), A_ones[number - 1], out=Z[number])
        else:
            product(watch(layer.W), A_ones[number - 1], out=Z[number])
            Z[number] += watch(layer.b[..., None])
        kind = spec.layers[number - 1].normalization
        if kind is not None:
            axis = normalization.axis_of(kind, training=training, units=-2, samples=-1)
            gamma, beta = (watch(layer.blocks[symbol][..., None]) for symbol in ("gamma", "beta"))
            followed = [watch(vector[..., None]) for vector in running.get(number, ())]
            normalized[number] = normalization.forward(Z[number], gamma, beta, axis, tuple(followed))
            if training and followed:
                normalization.follow(tuple(followed), normalized[number], m)
            Z[number] = normalized[number].N
        A[number] = g[number].forward(Z[number], axis=-2)
        if number < last:
            held = np.ones((*lead, units + (of[number + 1].folded is not None), m), P.dtype)
            A_ones[number], inner = watch(held), watch(held[..., :units, :])
            if f"mask{number}" in batch:
                np.multiply(A[number], batch[f"mask{number}"], out=inner)
            else:
                A[number] = recorder.into(inner, A[number])
            if observed is not None:
                observed.A[number] = held[..., :units, :]
    dZ = cost(cost_name).output_dZ(Z[last], A[last], batch["Y"], g[last], axis=-2) * scale
    for number in range(last, 0, -1):
        A_prev = batch["X"] if number == 1 else A_ones[number - 1].swapaxes(-1, -2)
        layer = gradient[number]
        if observed is not None:
            observed.squares[number] = np.empty((*lead, m), P.dtype)
            np.add.reduce(dZ * dZ, axis=-2, out=watch(observed.squares[number]))
        if layer.folded is not None:
            product(dZ, A_prev, out=watch(layer.folded))
        else:
            if number in large:
                dW[number] = product(dZ, A_prev)
            else:
                product(dZ, A_prev, out=watch(layer.W))
            np.add.reduce(dZ, axis=-1, out=watch(layer.b))
        if training and number in running:
            db = watch(layer.b)
            db *= 0  # as in `layers.backward`
        if number > 1:
            # Of W in [W | b] dot makes a copy, which the BLAS takes another way than a view: other bits, and slower.
            product_of_W: Any = product if of[number].folded is None else np.matmul
            dA = product_of_W(watch(of[number].W.swapaxes(-1, -2)), dZ)
            if f"mask{number - 1}" in batch:
                dA *= batch[f"mask{number - 1}"]
            dZ = g[number - 1].backward(dA, Z[number - 1], A[number - 1], axis=-2)
            if number - 1 in normalized:
                of_layer = gradient[number - 1].blocks
                np.add.reduce(dZ * normalized[number - 1].Z_hat, axis=-1, out=watch(of_layer["gamma"]))
                np.add.reduce(dZ, axis=-1, out=watch(of_layer["beta"]))
                dZ = normalization.backward(dZ, normalized[number - 1])
    return dW


@dataclass
class Observed:
    """Where a pass leaves what is looked at beside its gradient.

    Attributes:
        A: l to the hidden layers' (…, n_l, m).
        squares: l to (…, m), Σ over units of dZ[l]², dZ being scaled as the gradient is.
    """

    A: dict[int, FloatArray] = field(default_factory=dict)
    squares: dict[int, FloatArray] = field(default_factory=dict)


def gradient_pass(
    spec: NetworkSpec,
    cost_name: str,
    P: FloatArray,
    G: FloatArray,
    R: FloatArray,
    batches: Batches,
    observed: Observed | None = None,
) -> Callable[[], None]:
    """Make the pass that leaves the gradient of the cost of the first batch in G.

    It is that of the network as it is used: batch normalization takes running statistics.
    """
    recorder = Recorder(P.dtype, {name: held[0] for name, held in batches.changing.items()})
    scale = 1 / batches.m if batches.scale is None else recorder.changing["scale"]
    record_gradient(recorder, spec, cost_name, P, G, R, scale, training=False, observed=observed)
    return recorder.once()


class Steps:
    """The steps of training, for batches of one size.

    From the gradient G of the cost C, in this order:

        penalty      G ← G + λ₁·sign(W) + λ₂·W, at the weights
        clip         G ← G·min(1, c/‖G‖), or each element within ±c
        optimizer    P ← P − η·…
        max-norm     rows of W shortened to c

    Args:
        configs: of each network; they agree in all but numbers.
        P: (p,) parameters, or (K, p) of K networks.
        G: likewise, where the gradient goes.
        R: (r,) or (K, r) running statistics of batch normalization, which each step moves.
        state: the optimizer's vectors, likewise.
        batches: what the steps are taken for.
        kept: where each step leaves a copy of P and of the state, by name; (…, steps, p) each.
        sources: each network's samples, where steps gather their own.
    """

    def __init__(
        self,
        configs: Sequence[TrainingConfig],
        P: FloatArray,
        G: FloatArray,
        R: FloatArray,
        state: Mapping[str, FloatArray],
        batches: Batches,
        kept: Mapping[str, FloatArray] | None = None,
        sources: Sequence[FloatArray] = (),
    ) -> None:
        config, regularization = configs[0], configs[0].regularization
        self._configs, self._batches, self._lead, self._dtype = configs, batches, P.shape[:-1], P.dtype
        self._optimizer = OPTIMIZERS[config.optimizer.name]
        self._weighted = batches.scale is not None
        # Nothing stands between gradient and step: the rate can go where the 1/m is.
        self._at_once = config.optimizer.name == "sgd" and config.clip is None and not regularization.penalizes
        self._coefficients = () if self._at_once else self._optimizer.changing
        self._changing: dict[str, Any] = dict(batches.changing)
        for name, held in (kept or {}).items():
            self._changing[f"kept_{name}"] = np.moveaxis(held, -2, 0)
        changing = {name: held[0] for name, held in self._changing.items()}
        if self._at_once or not self._weighted:
            changing["factor"] = self._number([1.0] * len(configs), 2)
        changing |= {name: self._number([1.0] * len(configs), 1) for name in self._coefficients}

        recorder = Recorder(P.dtype, changing)
        batches.record_gathering(recorder, sources)
        watch, given = recorder.watch, recorder.changing
        scale = given["scale"] if self._weighted else given["factor"]
        if self._weighted and self._at_once:
            scale = scale * given["factor"]
        large = _large(config.network) if self._at_once else {}
        dW = record_gradient(recorder, config.network, config.cost, P, G, R, scale, training=True, large=large)
        watched_P, watched_G = watch(P), watch(G)
        l1, l2 = ([getattr(config.regularization, name) for config in configs] for name in ("l1", "l2"))
        add_penalty(
            watched_P,
            watched_G,
            watch(self._at_weights(l1)) if l1[0] > 0 else None,
            watch(self._at_weights(l2)) if l2[0] > 0 else None,
        )
        bounds = [c.clip.value for c in configs if c.clip is not None and c.clip.value is not None]
        if bounds:
            by_value(watched_G, watch(self._number([-c for c in bounds], 1)), watch(self._number(bounds, 1)))
        for c, of_member in zip(configs, self._of_members(G), strict=True):
            if c.clip is not None and c.clip.norm is not None:
                recorder.call(by_norm(c.clip.norm), of_member)
        if self._at_once:
            of, start = views(config.network, P), 0
            for number, (begin, end) in large.items():
                self._subtract(recorder, P[..., start:begin], G[..., start:begin])
                self._subtract(recorder, of[number].W, dW[number])
                start = end
            self._subtract(recorder, P[..., start:], G[..., start:])
        else:
            numbers = {
                name: watch(self._number([fixed(c.optimizer)[name] for c in configs], 1))
                for name in fixed(config.optimizer)
            }
            numbers |= {name: given[name] for name in self._coefficients}
            update = self._optimizer.update
            assert update is not None, "else a step is no update along one gradient"
            if P.size >= 4 * BLOCK and not self._lead and config.step != "compiled":
                blocks = _Blocks(update, numbers, self._coefficients, P, G, state)
                recorder.call(blocks, *(given[name] for name in self._coefficients))
            else:
                update(numbers, watched_P, watched_G, {name: watch(vector) for name, vector in state.items()})
        for c, of_member in zip(configs, self._of_members(P), strict=True):
            if c.regularization.max_norm is not None:
                recorder.call(MaxNorm(c.regularization.max_norm, c.network, P.dtype).shorten, of_member)
        for name in kept or {}:
            recorder.record(np.positive, (P if name == "P" else state[name],), {}, given[f"kept_{name}"])
        self._loop: Any
        if config.step == "compiled":
            self._loop = compiled_loop(recorder)
        else:
            self._loop = recorder.loop()
            self._changing = {name: list(held) for name, held in self._changing.items()}  # views made once

    def take(
        self, start: int, stop: int, rates: Sequence[Sequence[float]], ts: Sequence[int], due: Callable[[], bool] | None
    ) -> int:
        """Take the steps from `start` to `stop` of the batches, or up to where `due` says yes.

        Args:
            start: first of the batches.
            stop: behind the last.
            rates: the learning rate η of each network, for each step; once if it is the same for all.
            ts: the number t of steps each has taken so far.
            due: asked after each step; None to take them all.

        Returns:
            How many were taken.
        """
        arguments: list[Iterable[Any]] = [held[start:stop] for held in self._changing.values()]
        if self._at_once:
            divisor = 1 if self._weighted else self._batches.m
            arguments.append(_each([self._number([rate / divisor for rate in of_step], 2) for of_step in rates]))
        else:
            if not self._weighted:
                arguments.append(repeat(self._number([1 / self._batches.m] * len(ts), 2)))
            arguments += self._of_steps(stop - start, rates, ts)
        if self._configs[0].step == "compiled":
            return int(self._loop(arguments, due))
        return int(self._loop(zip(*arguments, strict=False), due))

    def _of_steps(self, steps: int, rates: Sequence[Sequence[float]], ts: Sequence[int]) -> list[Iterable[Any]]:
        """Give the optimizer's coefficients, an iterable for each."""
        if self._coefficients == ("rate",):
            return [_each([self._number(of_step, 1) for of_step in rates])]
        found: dict[str, list[Any]] = {name: [] for name in self._coefficients}
        for step, of_step in zip(range(1, steps + 1), _each(rates), strict=False):
            of_members = [
                self._optimizer.coefficients(config.optimizer, rate, t + step)
                for config, rate, t in zip(self._configs, of_step, ts, strict=True)
            ]
            for name, values in found.items():
                values.append(self._number([numbers[name] for numbers in of_members], 1))
        return list(found.values())

    def _subtract(self, recorder: Recorder, P: FloatArray, G: FloatArray) -> None:
        if P.size:
            watched = recorder.watch(P)
            watched -= recorder.watch(G)

    def _of_members(self, vector: FloatArray) -> list[FloatArray]:
        return list(vector) if self._lead else [vector]

    def _number(self, of_members: Sequence[float], axes: int) -> Any:
        """Make a number, or one for each network, that goes with arrays of so many axes."""
        if not self._lead:
            return np.array(of_members[0], self._dtype)
        return np.array(of_members, self._dtype).reshape(-1, *(1,) * axes)

    def _at_weights(self, of_members: Sequence[float]) -> FloatArray:
        vector: FloatArray = self._number(of_members, 1) * of_weights(self._configs[0].network, self._dtype)
        return vector


class _Blocks:
    """An optimizer's update of long vectors, block by block.

    Args:
        update: of the optimizer.
        numbers: what it takes, by name.
        coefficients: the names of those that it is given each time.
        P: (p,) parameters.
        G: (p,) gradient.
        state: the optimizer's vectors, (p,) each.
    """

    __name__ = "blocks"

    def __init__(
        self,
        update: Callable[[Mapping[str, Any], FloatArray, FloatArray, dict[str, FloatArray]], None],
        numbers: Mapping[str, Any],
        coefficients: Sequence[str],
        P: FloatArray,
        G: FloatArray,
        state: Mapping[str, FloatArray],
    ) -> None:
        self._parts: list[tuple[Loop, list[list[FloatArray]]]] = []
        vectors, whole = {"P": P, "G": G} | dict(state), P.size - P.size % BLOCK
        for start, stop, size in ((0, whole, BLOCK), (whole, P.size, P.size - whole)):
            if size > 0:
                parts = {
                    name: [vector[at : at + size] for at in range(start, stop, size)]
                    for name, vector in vectors.items()
                }
                samples = {name: of_vector[0] for name, of_vector in parts.items()}
                recorder = Recorder(P.dtype, samples | {name: np.ones((), P.dtype) for name in coefficients})
                given = recorder.changing
                taken = {name: recorder.watch(np.asarray(number)) for name, number in numbers.items()}
                taken |= {name: given[name] for name in coefficients}
                update(taken, given["P"], given["G"], {name: given[name] for name in state})
                self._parts.append((recorder.loop(), list(parts.values())))

    def __call__(self, *coefficients: FloatArray) -> None:
        """Update all blocks with these coefficients."""
        for loop, parts in self._parts:
            loop(zip(*parts, *map(repeat, coefficients), strict=False), None)


def _large(spec: NetworkSpec) -> dict[int, tuple[int, int]]:
    """Tell where in the vector of parameters W[l] begins and ends that are better changed one by one."""
    found, start = {}, 0
    for number, view in views(spec, np.empty(spec.parameter_count, np.bool_)).items():
        if view.folded is None and view.W.size >= LARGE:
            found[number] = start, start + view.W.size
        start += sum(block.size for block in view.blocks.values())
    return found


def _each(values: Sequence[Any]) -> Iterable[Any]:
    """Give one value again and again, or several one after another."""
    return repeat(values[0]) if len(values) == 1 else values
