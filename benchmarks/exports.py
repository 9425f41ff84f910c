"""Exported ONNX models in onnxruntime: the largest difference from what the engine computes.

`python -m benchmarks.exports`, or `make parity`: every activation function, in a hidden layer and as outputs, and
every cost of the outputs it goes with. A difference is max |A − A'| / max(1, max |A|) over 300 samples; that of
a cost is relative.
"""

from collections.abc import Iterator

import numpy as np
import onnxruntime

from benchmarks.report import keep, keeping
from chainrule.app.services.onnx_models import encode_onnx
from chainrule.engine import ACTIVATIONS, COSTS, Network, dense, initialize, predict
from chainrule.engine.arrays import FloatArray
from chainrule.engine.network import mean_cost
from chainrule.engine.preprocessing import identity
from tests.engine.problems import FITTING, HIDDEN

ROWS, INPUTS, OUTPUTS = 300, 6, 5
FLOATS = ("float32", "float64")


def main() -> None:
    """Print the table, and keep it if there is a file for it."""
    output = keeping(__doc__)
    lines = []
    for what, differences in (("outputs", _of_outputs), ("cost", _of_costs)):
        largest = [max(differences(dtype)) for dtype in FLOATS]
        lines.append(f"| {what} | {' | '.join(f'{number:.1e} ({where})' for number, where in largest)} |")
    text = (
        f"ONNX models in onnxruntime {onnxruntime.__version__} against the engine, {len(HIDDEN)} activation functions "
        f"of hidden layers × {len(ACTIVATIONS)} of outputs, {len(FITTING)} pairs of outputs and cost: the largest "
        f"difference.\n\n| | {' | '.join(FLOATS)} |\n|---|--:|--:|\n" + "\n".join(lines)
    )
    print(text)
    if output:
        keep("Exports in an ONNX runtime", text, output)


def _of_outputs(dtype: str) -> Iterator[tuple[float, str]]:
    for hidden in HIDDEN:
        for of_outputs in ACTIVATIONS:
            network = _network(hidden, of_outputs, dtype)
            expected = predict(network, _samples(dtype))
            difference = np.max(np.abs(_computed(network) - expected)) / max(1.0, np.max(np.abs(expected)))
            yield float(difference), f"{hidden}, {of_outputs}"


def _of_costs(dtype: str) -> Iterator[tuple[float, str]]:
    Y = np.eye(OUTPUTS)[np.arange(ROWS) % OUTPUTS]
    for of_outputs, name in FITTING:
        network = _network("tanh", of_outputs, dtype)
        A = Z = _computed(network).astype(np.float64)
        if name.endswith("cross_entropy"):
            # It is computed from Z, which the model keeps to itself: take it back from A.
            Z = np.log(A) - (np.log1p(-A) if of_outputs == "sigmoid" else 0)
        found = float(np.mean(COSTS[name].per_sample(Z, A, Y, ACTIVATIONS[of_outputs])))
        expected = mean_cost(network, name, _samples(dtype), Y)
        yield abs(found - expected) / abs(expected), f"{of_outputs}, {name}"


def _network(hidden: str, of_outputs: str, dtype: str) -> Network:
    network = initialize(dense(INPUTS, (16, hidden), (12, hidden), (OUTPUTS, of_outputs)), 3, dtype)
    rng = np.random.default_rng(7)
    for name, block in network.blocks.items():
        if name.startswith("b"):
            block += rng.normal(0, 0.5, block.shape).astype(dtype)
    return network


def _samples(dtype: str) -> FloatArray:
    return np.random.default_rng(1).normal(0, 1, (ROWS, INPUTS)).astype(dtype)


def _computed(network: Network) -> FloatArray:
    content = encode_onnx(network, identity(INPUTS), 0, {})
    samples = _samples(network.parameters.dtype.name)
    outputs: FloatArray = onnxruntime.InferenceSession(content).run(None, {"samples": samples})[0]
    return outputs


if __name__ == "__main__":
    main()
