"""One number of backpropagation, broken into the terms it is the sum of, or the operands it is a function of.

    C           (1/m) Σᵢ w⁽ⁱ⁾·E⁽ⁱ⁾                    over samples
    dW[l][j,k]  (1/m) Σᵢ dZ[l][i,j]·A[l-1][i,k]       over samples; db, dγ and dβ likewise
    Z[l][i,j]   Σₖ A[l-1][i,k]·W[l][j,k] + b[l][j]    over the units below
    dA[l][i,k]  Σⱼ dZ[l+1][i,j]·W[l+1][j,k]           over the units above
    E[i]        what each output adds to it           over the outputs
    A, N, dN, dZ, dA[L]                               functions of a few numbers

Terms are multiplied and added in float64, of factors as the network has them: their sum is the number itself, but for
the rounding of the network's own float type. The network is taken as it is used, with running statistics and without
dropout, so each sample is on its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from chainrule.engine import walk
from chainrule.engine.activations import activation
from chainrule.engine.arrays import FloatArray
from chainrule.engine.costs import cost
from chainrule.engine.errors import ShapeError, UnknownNameError
from chainrule.engine.gradients import equation, names
from chainrule.engine.network import EVALUATION_ROWS, Network, NetworkSpec
from chainrule.engine.normalization import EPSILON

SAMPLES, UNITS = "samples", "units"
BIAS = -1
"""The place of b among the terms of Z."""
OVER_SAMPLES = ("C", "dW", "db", "dgamma", "dbeta")
_GREEK = {"dgamma": "dγ", "dbeta": "dβ", "Zhat": "Ẑ", "gamma": "γ", "beta": "β"}


@dataclass(frozen=True)
class Term:
    """One term: which sample or unit, its factors by name, and what it adds to the number, the 1/m in it."""

    number: int
    factors: dict[str, float]
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """What one number is made of.

    Attributes:
        name, index: of the number.
        value: as the network computes it.
        equation: with its indices.
        over: what the terms run over; empty for a function of a few operands.
        terms: the largest, by magnitude.
        count: of all terms.
        rest: what the others add up to.
        operands: by name, of a function.
        function: g and g′, or E, where the equation mentions them.
        recomputed: the sum of all terms, or the function of the operands, in float64.
    """

    name: str
    index: tuple[int, ...]
    value: float
    equation: str
    over: str
    terms: list[Term]
    count: int
    rest: float
    recomputed: float
    operands: dict[str, float] = field(default_factory=dict)
    function: str = ""


def explained(spec: NetworkSpec) -> list[str]:
    """List what can be explained: C, E, and every quantity by name."""
    return ["C", "E", *names(spec)]


def shape_of(name: str, spec: NetworkSpec, m: int) -> tuple[int, ...]:
    """Tell the shape of what can be explained.

    Raises:
        UnknownNameError: the network has no such quantity.
    """
    if name not in explained(spec):
        raise UnknownNameError("quantity", name, explained(spec), "name")
    if name in ("C", "E"):
        return () if name == "C" else (m,)
    symbol = walk.symbol_of(name)
    number = int(name[len(symbol) :])
    units = spec.sizes[number]
    if symbol == "dW":
        return units, spec.sizes[number - 1]
    return (units,) if symbol in OVER_SAMPLES else (m, units)


def explain(
    network: Network,
    cost_name: str,
    X: FloatArray,
    Y: FloatArray,
    name: str,
    index: Sequence[int],
    weights: FloatArray | None = None,
    *,
    top: int = 10,
) -> Explanation:
    """Break one number into its terms.

    Args:
        network: with the weights to look at.
        cost_name: of the cost.
        X: (m, n_0) samples.
        Y: (m, n_L) targets.
        name: of the quantity, such as dW2, or C or E.
        index: of the number in it.
        weights: (m,) how much each sample's error counts; None where all count 1.
        top: how many terms to give one by one.

    Raises:
        UnknownNameError: the network has no such quantity.
        ShapeError: there is no such number in it.
    """
    shape, index = shape_of(name, network.spec, len(X)), tuple(index)
    if len(index) != len(shape) or not all(0 <= at < size for at, size in zip(index, shape, strict=True)):
        there = f"indices below {', '.join(map(str, shape))}" if shape else "no index"
        raise ShapeError(f"{name} has {there}; it was asked for {list(index)}.", "index")
    if walk.symbol_of(name) in OVER_SAMPLES:
        return _over_samples(network, cost_name, X, Y, name, index, weights, top)
    i = index[0]
    one = slice(i, i + 1)
    arrays = walk.arrays(network, cost_name, X[one], Y[one], None if weights is None else weights[one])
    sample = _Sample(network.spec, cost_name, arrays, name, i, weights is not None)
    return sample.explain(index[1] if len(index) > 1 else 0, top)


def _over_samples(
    network: Network, cost_name: str, X: FloatArray, Y: FloatArray, name: str, index: tuple[int, ...],
    weights: FloatArray | None, top: int,
) -> Explanation:  # fmt: skip
    """Explain what is a mean over samples, block by block."""
    m = len(X)
    chosen = _columns(name, index, weighted=weights is not None)
    gathered: dict[str, list[FloatArray]] = {shown: [] for shown in chosen}
    value = 0.0
    for start in range(0, m, EVALUATION_ROWS):
        rows = slice(start, start + EVALUATION_ROWS)
        arrays = walk.arrays(network, cost_name, X[rows], Y[rows], None if weights is None else weights[rows])
        value += float(arrays[name][index]) * len(arrays["A0"]) / m
        for shown, (array, column) in chosen.items():
            of_block = arrays[array] if column is None else arrays[array][:, column]
            gathered[shown].append(of_block.astype(np.float64))
    factors = {shown: np.concatenate(parts) for shown, parts in gathered.items()}
    terms = np.prod(list(factors.values()), axis=0) / m
    symbol = walk.symbol_of(name)
    number, at = name[len(symbol) :], ",".join(map(str, index))
    product = "·".join(_pretty(shown) for shown in chosen)
    left = "C" if name == "C" else f"{_GREEK.get(symbol, symbol)}[{number}][{at}]"
    found = _largest(terms, lambda i: {_at(shown, i): float(f[i]) for shown, f in factors.items()}, top)
    return Explanation(
        name, index, value, f"{left} = (1/m) Σᵢ {product}", SAMPLES, found.terms, found.count, found.rest, found.total,
        function=cost(cost_name).equation if name == "C" else "",
    )  # fmt: skip


def _pretty(shown: str) -> str:
    """Write dZ2[i,4] as equations do: dZ[2][i,4]."""
    name, bracket, rest = shown.partition("[")
    symbol = walk.symbol_of(name)
    number = name[len(symbol) :]
    return f"{_GREEK.get(symbol, symbol)}{f'[{number}]' if number else ''}{bracket}{rest}"


def _at(shown: str, i: int) -> str:
    return shown.replace("[i", f"[{i}")


def _columns(name: str, index: tuple[int, ...], *, weighted: bool) -> dict[str, tuple[str, int | None]]:
    """Name the factors of a term, sample i's, and say which array and which column each is."""
    symbol = walk.symbol_of(name)
    n = name[len(symbol) :]
    if name == "C":
        weight: dict[str, tuple[str, int | None]] = {"w[i]": ("w", None)} if weighted else {}
        return weight | {"E[i]": ("E", None)}
    j = index[0]
    if symbol == "dW":
        below = f"A{int(n) - 1}"
        return {f"dZ{n}[i,{j}]": (f"dZ{n}", j), f"{below}[i,{index[1]}]": (below, index[1])}
    if symbol == "db":
        return {f"dZ{n}[i,{j}]": (f"dZ{n}", j)}
    found: dict[str, tuple[str, int | None]] = {f"dN{n}[i,{j}]": (f"dN{n}", j)}
    return found | ({f"Zhat{n}[i,{j}]": (f"Zhat{n}", j)} if symbol == "dgamma" else {})


@dataclass(frozen=True)
class _Chosen:
    """The largest terms, how many there are, what the others and what all add up to."""

    terms: list[Term]
    count: int
    rest: float
    total: float


def _largest(
    terms: FloatArray, factors: Callable[[int], dict[str, float]], top: int, bias: int | None = None
) -> _Chosen:
    """Choose the terms that are largest in magnitude; the one at `bias` is b's."""
    size = np.where(np.isnan(terms), np.inf, np.abs(terms))
    order = [int(n) for n in np.argsort(-size, kind="stable")[:top]]
    left = np.ones(len(terms), bool)
    left[order] = False
    chosen = [Term(BIAS if n == bias else n, factors(n), float(terms[n])) for n in order]
    return _Chosen(chosen, len(terms), float(np.sum(terms[left])), float(np.sum(terms)))


class _Sample:
    """Explains a number of one sample, i; its arrays have one row."""

    def __init__(
        self, spec: NetworkSpec, cost_name: str, arrays: Mapping[str, FloatArray], name: str, i: int, weighted: bool
    ) -> None:
        self._spec, self._cost, self._name, self._i, self._weighted = spec, cost_name, name, i, weighted
        self._arrays = {key: np.asarray(array, np.float64) for key, array in arrays.items()}
        self._symbol = walk.symbol_of(name)
        self._l = int(name[len(self._symbol) :] or 0)
        self._layer = spec.layers[self._l - 1] if self._l else None

    def explain(self, j: int, top: int) -> Explanation:
        """Explain unit j's number."""
        symbol, last = self._symbol, self._l == len(self._spec.layers)
        if symbol == "E":
            return self._error(top)
        if symbol == "Z":
            return self._weighted_sum(j, top)
        if symbol == "dA" and not last:
            return self._carried_back(j, top)
        if symbol == "A":
            return self._activation(j)
        if symbol == "N":
            return self._normalized(j)
        if symbol == "dA":
            return self._output_slope(j)
        if symbol == "dZ" and self._layer is not None and self._layer.normalization:
            return self._through_normalization(j)
        return self._through_activation(j)

    def _of(self, name: str, j: int) -> float:
        return float(self._arrays[name][0, j])

    def _shown(self, name: str, j: int) -> str:
        return f"{name}[{self._i},{j}]"

    def _sum(
        self, j: int, equation: str, terms: FloatArray, factors: Callable[[int], dict[str, float]], top: int,
        bias: int | None = None,
    ) -> Explanation:  # fmt: skip
        found, array = _largest(terms, factors, top, bias), self._arrays[self._name]
        index = (self._i,) if array.ndim == 1 else (self._i, j)
        value = float(array[0] if array.ndim == 1 else array[0, j])
        return Explanation(
            self._name, index, value, equation, UNITS, found.terms, found.count, found.rest, found.total
        )  # fmt: skip

    def _function(
        self, j: int, equation: str, operands: dict[str, float], recomputed: float, function: str = ""
    ) -> Explanation:
        return Explanation(
            self._name, (self._i, j), self._of(self._name, j), equation, "", [], 0, 0.0, float(recomputed), operands,
            function,
        )  # fmt: skip

    def _error(self, top: int) -> Explanation:
        L = len(self._spec.layers)
        output = activation(self._spec.layers[-1].activation)
        Z, A, Y = (self._arrays[name] for name in (f"Z{L}", f"A{L}", "Y"))
        if output.name == "softmax" and "cross_entropy" in self._cost:
            above = Z[0] - np.max(Z[0])
            terms = Y[0] * (np.log(np.sum(np.exp(above))) - above)
        else:
            terms = cost(self._cost).per_sample(Z[0][:, None], A[0][:, None], Y[0][:, None], output)
        names = (f"A{L}", "Y")
        return self._sum(
            0, cost(self._cost).equation, terms, lambda k: {self._shown(name, k): self._of(name, k) for name in names},
            top,
        )  # fmt: skip

    def _weighted_sum(self, j: int, top: int) -> Explanation:
        n, below, i = self._l, f"A{self._l - 1}", self._i
        W, b = self._arrays[f"W{n}"], self._arrays[f"b{n}"]
        terms = np.append(self._arrays[below][0] * W[j], b[j])

        def factors(k: int) -> dict[str, float]:
            if k == len(terms) - 1:
                return {f"b{n}[{j}]": float(b[j])}
            return {self._shown(below, k): self._of(below, k), f"W{n}[{j},{k}]": float(W[j, k])}

        text = f"Z[{n}][{i},{j}] = Σₖ A[{n - 1}][{i},k]·W[{n}][{j},k] + b[{n}][{j}]"
        return self._sum(j, text, terms, factors, top, bias=len(terms) - 1)

    def _carried_back(self, k: int, top: int) -> Explanation:
        n, i = self._l + 1, self._i
        W = self._arrays[f"W{n}"]

        def factors(j: int) -> dict[str, float]:
            return {self._shown(f"dZ{n}", j): self._of(f"dZ{n}", j), f"W{n}[{j},{k}]": float(W[j, k])}

        text = f"dA[{n - 1}][{i},{k}] = Σⱼ dZ[{n}][{i},j]·W[{n}][j,{k}]"
        return self._sum(k, text, self._arrays[f"dZ{n}"][0] * W[:, k], factors, top)

    @property
    def _before_g(self) -> str:
        return f"{'N' if self._layer is not None and self._layer.normalization else 'Z'}{self._l}"

    def _activation(self, j: int) -> Explanation:
        if self._layer is None:
            return self._function(j, equation("A0", self._spec, self._cost), {}, self._of("A0", j))
        g, before = activation(self._layer.activation), self._before_g
        Z = self._arrays[before]
        operands = {self._shown(before, j): self._of(before, j)}
        if g.name == "softmax":
            top = float(np.max(Z))
            operands |= {f"maxₖ {before}[{self._i},k]": top, "Σₖ e^(zₖ − max)": float(np.sum(np.exp(Z - top)))}
        text = f"A[{self._l}][{self._i},{j}] = g({_pretty(self._shown(before, j))})"
        return self._function(j, text, operands, g.forward(Z)[0, j], g.equation)

    def _normalized(self, j: int) -> Explanation:
        n = self._l
        gamma, beta, hat = (
            float(self._arrays[f"gamma{n}"][j]),
            float(self._arrays[f"beta{n}"][j]),
            self._of(f"Zhat{n}", j),
        )
        text = f"N[{n}][{self._i},{j}] = γ[{n}][{j}]·Ẑ[{n}][{self._i},{j}] + β[{n}][{j}]"
        operands = {f"gamma{n}[{j}]": gamma, self._shown(f"Zhat{n}", j): hat, f"beta{n}[{j}]": beta}
        return self._function(j, text, operands, gamma * hat + beta)

    def _output_operands(self, j: int) -> dict[str, float]:
        names = (f"A{self._l}", "Y")
        operands = {self._shown(name, j): self._of(name, j) for name in names}
        return operands | ({f"w[{self._i}]": float(self._arrays["w"][0])} if self._weighted else {})

    def _output_slope(self, j: int) -> Explanation:
        found, L = cost(self._cost), self._l
        Z, A, Y = (self._arrays[name] for name in (f"Z{L}", f"A{L}", "Y"))
        slope = found.output_dA(Z, A, Y, activation(self._spec.layers[-1].activation))[0, j]
        w = float(self._arrays["w"][0]) if self._weighted else 1.0
        text = equation(self._name, self._spec, self._cost, weighted=self._weighted)
        return self._function(j, text, self._output_operands(j), w * slope, found.equation)

    def _through_activation(self, j: int) -> Explanation:
        assert self._layer is not None
        n, g, before = self._l, activation(self._layer.activation), self._before_g
        text = equation(self._name, self._spec, self._cost, weighted=self._weighted)
        if n == len(self._spec.layers) and "cross_entropy" in self._cost:
            w = float(self._arrays["w"][0]) if self._weighted else 1.0
            value = w * (self._of(f"A{n}", j) - self._of("Y", j))
            return self._function(j, text, self._output_operands(j), value, g.equation)
        Z, A, dA = (self._arrays[name] for name in (before, f"A{n}", f"dA{n}"))
        operands = {self._shown(f"dA{n}", j): self._of(f"dA{n}", j)}
        if g.name == "softmax":
            operands |= {self._shown(f"A{n}", j): self._of(f"A{n}", j), "Σₖ daₖ·aₖ": float(np.sum(dA * A))}
        else:
            slope = g.backward(np.ones_like(dA), Z, A)[0, j]
            operands |= {f"g′({self._shown(before, j)})": float(slope)}
        return self._function(j, text, operands, g.backward(dA, Z, A)[0, j], g.equation)

    def _through_normalization(self, j: int) -> Explanation:
        assert self._layer is not None
        n, running = self._l, self._layer.normalization == "batch"
        dN, hat, gamma = self._arrays[f"dN{n}"][0], self._arrays[f"Zhat{n}"][0], self._arrays[f"gamma{n}"]
        variance = self._arrays[f"running_var{n}"][j] if running else self._arrays[f"var{n}"][0, 0]
        scale = float(1 / np.sqrt(variance + EPSILON))
        operands = {self._shown(f"dN{n}", j): float(dN[j]), f"gamma{n}[{j}]": float(gamma[j])}
        d, value = gamma * dN, gamma[j] * dN[j]
        if not running:
            mean, along = float(np.mean(d)), float(np.mean(d * hat))
            operands |= {
                "mean(dẐ)": mean, self._shown(f"Zhat{n}", j): float(hat[j]), "mean(dẐ ⊙ Ẑ)": along,
            }  # fmt: skip
            value = d[j] - mean - hat[j] * along
        operands["1/√(σ² + ε)"] = scale
        text = equation(self._name, self._spec, self._cost, weighted=self._weighted)
        return self._function(j, text, operands, value * scale)
