"""What a client asks about the inside of a run: gradients, walks, samples, curvature, steps, as NumPy arrays."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from chainrule.app.client.connection import Connection, Resource

LONGEST_ROWS = 4000
"""Characters of row numbers in a query; more are sent as JSON."""
Epoch = int | str
"""An epoch by number, `final` (whose weights the run ends with), `last` or `best`."""


class Inspection(Connection):
    """Looks inside runs, at the weights of any kept epoch."""

    def gradients(
        self, run_id: str, *, epoch: Epoch = "final", names: Sequence[str] | None = None, per_sample: bool = False,
        rows: Sequence[int] | None = None, samples: Any = None, labels: Any = None, targets: Any = None,
        mode: str = "evaluation",
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        """Compute quantities of backpropagation: Z1, A1, dA1, dZ1, dW1, db1, … at the weights of an epoch.

        Args:
            run_id: of the run.
            epoch: whose weights.
            names: which quantities; all by default.
            per_sample: dW and db of each sample, without the mean.
            rows: row numbers of the run's dataset.
            samples: or rows sent along, with `labels` or `targets`.
            labels: their classes by name.
            targets: their numeric targets.
            mode: `evaluation`, with running statistics of batch normalization, or `training`, with those of the rows.
        """
        query = _question(names, rows, samples, labels, targets) | {"per_sample": per_sample, "mode": mode}
        path = f"runs/{run_id}/checkpoints/{epoch}/gradients"
        return arrays_of(self._send("POST", path, json=query, params={"format": "npz"}))

    def explain_gradients(
        self, run_id: str, *, epoch: Epoch = "final", names: Sequence[str] | None = None, values: bool = False,
        rows: Sequence[int] | None = None, samples: Any = None, labels: Any = None, targets: Any = None,
        mode: str = "evaluation",
    ) -> Resource:  # fmt: skip
        """Compute the same with equations, shapes and norms, and without the arrays unless `values`."""
        query = _question(names, rows, samples, labels, targets) | {"values": values, "mode": mode}
        return Resource(self._send("POST", f"runs/{run_id}/checkpoints/{epoch}/gradients", json=query).json())

    def walk(
        self, run_id: str, *, epoch: Epoch = "final", rows: Sequence[int] | None = None, samples: Any = None,
        labels: Any = None, targets: Any = None, split: str | None = None, mode: str = "evaluation",
        reduce: str | None = None, names: Sequence[str] | None = None,
    ) -> Resource:  # fmt: skip
        """Walk samples through the network and back: `steps` with their equations, `arrays` by name.

        Args:
            run_id: of the run.
            epoch: whose weights.
            rows: row numbers of the run's dataset.
            samples: or rows sent along, with `labels` or `targets`.
            labels: their classes by name.
            targets: their numeric targets.
            split: or `training` or `validation`, all samples of it.
            mode: `evaluation`, with running statistics of batch normalization, or `training`, with those of the rows.
            reduce: `mean` for means over the samples, `none` for a row for each; by default mean for a split.
            names: only these arrays; by default all.
        """
        query = _selection(rows, samples, labels, targets, split) | {"mode": mode, "reduce": reduce}
        query |= {"names": None if names is None else list(names)}
        found = self._inspect(run_id, epoch, "walk", query)
        arrays = {name: np.array(one["values"], dtype=np.float64) for name, one in found["arrays"].items()}
        return Resource(found | {"arrays": arrays})

    def explain(
        self, run_id: str, name: str = "C", index: Sequence[int] = (), *, epoch: Epoch = "final",
        rows: Sequence[int] | None = None, samples: Any = None, labels: Any = None, targets: Any = None,
        split: str | None = None, top: int = 10,
    ) -> Resource:  # fmt: skip
        """Break one number into its terms: `explain(run, "dW2", [4, 5], split="training")`.

        Args:
            run_id: of the run.
            name: of the quantity: dW1, db1, Z1, A1, dA1, dZ1, …, E, or C.
            index: of the number in it, from 0.
            epoch: whose weights.
            rows: row numbers of the run's dataset.
            samples: or rows sent along, with `labels` or `targets`.
            labels: their classes by name.
            targets: their numeric targets.
            split: or `training` or `validation`, all samples of it.
            top: how many terms to give one by one.
        """
        query = _selection(rows, samples, labels, targets, split)
        query |= {"name": name, "index": [int(at) for at in index], "top": top}
        return Resource(self._inspect(run_id, epoch, "explain", query))

    def coherence(
        self, run_id: str, *, epoch: Epoch = "final", rows: Sequence[int] | None = None, samples: Any = None,
        labels: Any = None, targets: Any = None, split: str | None = None, mode: str = "evaluation",
        gram: bool = False, classes: bool = False, top: int = 10,
    ) -> Resource:  # fmt: skip
        """Measure each sample's own gradient: `norms`, the `largest`, and `quantities` such as the noise scale.

        Args:
            run_id: of the run.
            epoch: whose weights.
            rows: row numbers of the run's dataset.
            samples: or rows sent along, with `labels` or `targets`.
            labels: their classes by name.
            targets: their numeric targets.
            split: or `training` or `validation`, all samples of it.
            mode: `evaluation` or `training`, as of `gradients`.
            gram: give `pairs` too, the inner products and cosines of each two.
            classes: give `pairs` without those, only the mean cosines between classes and between batches.
            top: how many of the largest to name.
        """
        query = _selection(rows, samples, labels, targets, split) | {
            "mode": mode, "gram": gram, "classes": classes, "top": top,
        }  # fmt: skip
        return Resource(self._inspect(run_id, epoch, "coherence", query))

    def samples(
        self, run_id: str, *, epoch: Epoch = "final", split: str | None = None, sort: str = "cost",
        order: str | None = None, wrong: bool | None = None, label: str | None = None, predicted: str | None = None,
        features: bool = False, offset: int = 0, limit: int = 20,
    ) -> Resource:  # fmt: skip
        """List samples of a split: `items`, each with target, prediction, probability, cost and gradient norm.

        Args:
            run_id: of the run.
            epoch: whose weights.
            split: `training` or `validation`; validation where the run has it, by default.
            sort: by `cost`, `confidence`, `gradient_norm` or `index`.
            order: `largest` or `smallest` first.
            wrong: only those got wrong, or right.
            label: only those of this class.
            predicted: only those taken for this class.
            features: give their features too.
            offset: how many to leave out before the first.
            limit: how many, at most 1,000.
        """
        asked = _query(
            split=split, sort=sort, order=order, wrong=wrong, predicted=predicted, features=features, offset=offset,
            limit=limit,
        )  # fmt: skip
        asked |= {} if label is None else {"class": label}
        return Resource(self._get(f"runs/{run_id}/checkpoints/{epoch}/samples", params=asked).json())

    def array(
        self, run_id: str, name: str, *, epoch: Epoch = "final", rows: Sequence[int] | None = None,
        split: str | None = None, mode: str = "evaluation",
    ) -> NDArray[Any]:  # fmt: skip
        """Fetch one array of a walk by name, as float32: W1, Z1, dW1, …; of a split means over its samples."""
        asked = _query(rows, name=name, split=split, mode=mode, format="f32")
        response = self._get(f"runs/{run_id}/checkpoints/{epoch}/array", params=asked)
        shape = [int(size) for size in response.headers["X-Array-Shape"].split(",") if size]
        return np.frombuffer(response.content, "<f4").reshape(shape)

    def surface(self, run_id: str, *, epoch: Epoch = "final", n: int = 60, units: bool = False) -> Resource:
        """Compute the outputs over a grid of two features: `x`, `y`, `outputs` (n_L, n, n), and `units` by layer."""
        path = f"runs/{run_id}/checkpoints/{epoch}/surface"
        found = self._get(path, params={"n": n, "units": units}).json()
        found |= {name: np.array(found[name], dtype=np.float64) for name in ("x", "y", "outputs")}
        if found["units"] is not None:
            found["units"] = {name: np.array(planes, np.float64) for name, planes in found["units"].items()}
        return Resource(found)

    def embedding(
        self, run_id: str, *, epoch: Epoch = "final", layer: int | None = None, basis: str = "last",
        split: str | None = None, limit: int = 500,
    ) -> Resource:  # fmt: skip
        """See samples in the plane in which a layer's outputs vary most, at the last epoch or (`epoch`) at this one."""
        asked = _query(layer=layer, basis=basis, split=split, limit=limit)
        return Resource(self._get(f"runs/{run_id}/checkpoints/{epoch}/embedding", params=asked).json())

    def attributions(
        self, run_id: str, rows: Sequence[int], *, epoch: Epoch = "final", method: str = "saliency",
        baseline: str = "zero", unit: int | None = None, steps: int = 50,
    ) -> Resource:  # fmt: skip
        """See which inputs an output is due to: `saliency`, `gradient_times_input` or `integrated_gradients`."""
        asked = _query(rows, method=method, baseline=baseline, unit=unit, steps=steps)
        return Resource(self._get(f"runs/{run_id}/checkpoints/{epoch}/attributions", params=asked).json())

    def compare_gradients(
        self, run_id: str, gradients: Mapping[str, Any], *, epoch: Epoch = "final",
        rows: Sequence[int] | None = None, samples: Any = None, labels: Any = None, targets: Any = None,
        split: str | None = None, mode: str = "evaluation",
    ) -> Resource:  # fmt: skip
        """Hold gradients of your own against the service's, block by block; `sentence` of a block names the mistake.

        Args:
            run_id: of the run.
            gradients: dW1, db1, … by name, as you computed them; not all need be there.
            epoch: at whose weights.
            rows: over which rows of the run's dataset.
            samples: or rows sent along, with `labels` or `targets`.
            labels: their classes by name.
            targets: their numeric targets.
            split: or `training` or `validation`, all samples of it.
            mode: `evaluation` or `training`, as of `gradients`.
        """
        asked = _query(rows, split=split, mode=mode)
        if samples is None and len(asked.get("rows", "")) <= LONGEST_ROWS:
            archive = io.BytesIO()
            np.savez_compressed(archive, allow_pickle=False, **{n: np.asarray(G) for n, G in gradients.items()})
            path = f"runs/{run_id}/checkpoints/{epoch}/gradient-comparisons"
            headers = {"Content-Type": "application/x-npz"}
            sent = self._send("POST", path, params=asked, content=archive.getvalue(), headers=headers)
            return Resource(sent.json())
        query = _selection(rows, samples, labels, targets, split) | {"mode": mode}
        query["gradients"] = {name: np.asarray(G, dtype=np.float64).tolist() for name, G in gradients.items()}
        return Resource(self._inspect(run_id, epoch, "gradient-comparisons", query))

    def steps(
        self, run_id: str, epoch: Epoch = "last", *, after: int = 0, limit: int = 1000, rows: bool = False
    ) -> Resource:
        """Replay an epoch: `columns` and `blocks` of each step as arrays, `verified` if it ended with the kept weights.

        Args:
            run_id: of the run.
            epoch: which, from 1.
            after: only steps behind this one.
            limit: most steps of the answer; `next_after` tells where more begin.
            rows: name the dataset's rows in each step's batch.
        """
        asked = {"after": after, "limit": limit, "rows": rows}
        found = self._get(f"runs/{run_id}/epochs/{epoch}/steps", params=asked).json()
        found["columns"] = {name: _column(values) for name, values in found["columns"].items()}
        found["blocks"] = {
            name: {key: one if key == "layer" else _column(one) for key, one in block.items()}
            for name, block in found["blocks"].items()
        }
        return Resource(found)

    def step_gradients(
        self, run_id: str, epoch: Epoch, step: int, *, names: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute quantities of a step's own backpropagation, before its update; with dropout its masks too."""
        asked = _query(names=_listed(names), format="npz")
        return arrays_of(self._get(f"runs/{run_id}/epochs/{epoch}/steps/{step}/gradients", params=asked))

    def cost_along(self, run_id: str, epoch: Epoch, step: int) -> Resource:
        """Compute the cost along a step: `costs` at the places `s`, the fitted `parabola`, and `alpha`."""
        found = self._get(f"runs/{run_id}/epochs/{epoch}/steps/{step}/cost-along").json()
        return Resource(found | {"s": _column(found["s"]), "costs": _column(found["costs"])})

    def histograms(
        self, run_id: str, *, names: Sequence[str] | None = None, layers: Sequence[int] | None = None,
        epochs: str | None = None, at_most: int = 100, split: str | None = None,
    ) -> Resource:  # fmt: skip
        """Count W, dW, Z, A, dZ and updates of the kept epochs, in bins that are the same for all.

        Args:
            run_id: of the run.
            names: of W, b, Z, A, dA, dZ, dW, db, update.
            layers: from 1; all by default.
            epochs: a range `0-50`, or a list `0,5,10`; all by default.
            at_most: of more epochs so many are looked at, evenly spread.
            split: over all of `training` or `validation`, in place of the first min(512, m) training samples.
        """
        asked = _query(names=_listed(names), layers=_listed(layers), epochs=epochs, at_most=at_most, split=split)
        found = self._get(f"runs/{run_id}/histograms", params=asked).json()
        found["edges"] = np.array([-np.inf, *found["edges"][1:-1], np.inf])
        return Resource(found)

    def joint_histogram(self, run_id: str, *, epoch: Epoch = "final", layers: Sequence[int] | None = None) -> Resource:
        """Count pairs of a weight and its gradient: `layers` to `cells` of [bin of w, bin of its gradient, count]."""
        asked = _query(layers=_listed(layers))
        return Resource(self._get(f"runs/{run_id}/checkpoints/{epoch}/joint-histogram", params=asked).json())

    def what_if(
        self, run_id: str, *, epoch: Epoch = "final", rows: Sequence[int] | None = None, samples: Any = None,
        labels: Any = None, targets: Any = None, split: str | None = None, inputs: Sequence[Mapping[str, Any]] = (),
        parameters: Sequence[Mapping[str, Any]] = (), learning_rate: float | None = None, step: bool = False,
        mode: str = "evaluation",
    ) -> Resource:  # fmt: skip
        """Ask what would be if a number were another: `before` and `after`, and nothing is stored.

        Args:
            run_id: of the run.
            epoch: whose weights.
            rows: row numbers of the run's dataset.
            samples: or rows sent along, with `labels` or `targets`.
            labels: their classes by name.
            targets: their numeric targets.
            split: or `training` or `validation`, all samples of it.
            inputs: changed features, `{"sample": 0, "feature": 3, "value": 0.5}`.
            parameters: changed weights and biases, `{"name": "W2", "index": [4, 5], "value": 0.1}`.
            learning_rate: another η of the step.
            step: take one step of the run's training from both.
            mode: `evaluation` or `training`, as of `gradients`.
        """
        query = _selection(rows, samples, labels, targets, split) | {"mode": mode, "step": step}
        query |= {"inputs": [dict(one) for one in inputs], "parameters": [dict(one) for one in parameters]}
        return Resource(self._inspect(run_id, epoch, "what-if", query | {"learning_rate": learning_rate}))

    def spectrum(self, run_id: str, *, epoch: Epoch = "final") -> Resource:
        """Read the singular values of each W, with stable rank and condition, by layer."""
        found = self._get(f"runs/{run_id}/checkpoints/{epoch}/spectrum").json()
        for layer in found["layers"].values():
            layer["singular_values"] = _column(layer["singular_values"])
        return Resource(found)

    def distance(self, run_id: str, *, epochs: str | None = None, at_most: int = 1000) -> Resource:
        """Read how far the weights have come by each kept epoch: `distance`, `path`, `cosine` of successive ways."""
        asked = _query(epochs=epochs, at_most=at_most)
        found = self._get(f"runs/{run_id}/distance", params=asked).json()
        columns = ("distance", "path", "moved", "cosine", "norm")
        return Resource(found | {name: np.array(found[name], dtype=np.float64) for name in columns})

    def curvature(
        self, run_id: str, *, epoch: Epoch = "final", rows: Sequence[int] | None = None, split: str | None = None,
        products: int = 40, probes: int = 20, seed: int = 0,
    ) -> Resource:  # fmt: skip
        """Measure how the cost bends: λ_max in `largest`, `trace`, and the `edge` 2/η.

        Args:
            run_id: of the run.
            epoch: whose weights.
            rows: over which rows of the run's dataset; by default the first min(512, m) of those trained on.
            split: or `training` or `validation`, all samples of it.
            products: most products H·v that λ_max may take.
            probes: vectors the trace is estimated by; 0 for none.
            seed: of what is drawn.
        """
        asked = _query(rows, split=split, products=products, probes=probes, seed=seed)
        return Resource(self._get(f"runs/{run_id}/checkpoints/{epoch}/curvature", params=asked).json())

    def gradient_variance(
        self, run_id: str, *, epoch: Epoch = "final", rows: Sequence[int] | None = None, split: str | None = None,
    ) -> Resource:  # fmt: skip
        """Measure how each weight's gradient differs from sample to sample: `quantities`, `confusion`, `blocks`.

        `mean` and `variance` of a block are arrays. Without rows and split it is over all the run trains on.
        """
        asked = _query(rows, split=split, values=True)
        found = self._get(f"runs/{run_id}/checkpoints/{epoch}/gradient-variance", params=asked).json()
        for block in found["blocks"].values():
            block |= {name: np.array(block[name], dtype=np.float64) for name in ("mean", "variance")}
        return Resource(found)

    def predict(self, run_id: str, samples: Any, *, epoch: Epoch = "final") -> Resource:
        """Put raw samples through the network: `outputs` as an array, and for classifiers `labels` by name."""
        body = {"samples": rows_of(samples)}
        found = self._send("POST", f"runs/{run_id}/checkpoints/{epoch}/predict", json=body).json()
        return Resource(found | {"outputs": np.array(found["outputs"], dtype=np.float64)})

    def metrics(self, run_id: str, *, epoch: Epoch = "final", split: str | None = None) -> Resource:
        """Measure the network of an epoch on all samples of a split, by default on those held out for validation.

        By `kind`, which depends on the targets: `classification` has the error, the scores of each class and the
        confusion matrix (as an array), `multi_label` errors and the scores of each label, `regression` RMSE, MAE
        and R².

        Args:
            run_id: of the run.
            epoch: whose weights.
            split: `training` or `validation`; validation where the run has it, by default.
        """
        path = f"runs/{run_id}/checkpoints/{epoch}/metrics"
        found = self._get(path, params=_query(split=split)).json()
        if "confusion_matrix" in found:
            found["confusion_matrix"] = np.array(found["confusion_matrix"], dtype=np.int64)
        return Resource(found)

    def check_gradients(self, spec: Mapping[str, Any]) -> Resource:
        """Check analytic gradients of a network against central differences."""
        return Resource(self._send("POST", "gradient-checks", json=dict(spec)).json())

    def _inspect(self, run_id: str, epoch: Epoch, what: str, query: Mapping[str, Any]) -> dict[str, Any]:
        path = f"runs/{run_id}/checkpoints/{epoch}/{what}"
        found: dict[str, Any] = self._send("POST", path, json=dict(query)).json()
        return found


def _query(rows: Sequence[int] | None = None, **asked: Any) -> dict[str, Any]:
    """Make a query of what is asked for; what is None is left out."""
    given = asked | {"rows": None if rows is None else _listed([int(row) for row in rows])}
    return {name: value for name, value in given.items() if value is not None}


def _listed(values: Sequence[Any] | None) -> str | None:
    return None if values is None else ",".join(map(str, values))


def _question(
    names: Sequence[str] | None, rows: Sequence[int] | None, samples: Any, labels: Any, targets: Any
) -> dict[str, Any]:
    query: dict[str, Any] = {}
    if names is not None:
        query["names"] = list(names)
    if rows is not None:
        query["rows"] = [int(row) for row in rows]
    if samples is not None:
        query["samples"] = rows_of(samples)
    if labels is not None:
        query["labels"] = np.asarray(labels).tolist()
    if targets is not None:
        Y = np.asarray(targets, dtype=np.float64)
        query["targets"] = Y.reshape(len(Y), -1).tolist()
    return query


def _selection(
    rows: Sequence[int] | None, samples: Any, labels: Any, targets: Any, split: str | None
) -> dict[str, Any]:
    query = _question(None, rows, samples, labels, targets)
    return query if split is None else query | {"split": split}


def _column(values: Sequence[Any]) -> NDArray[Any]:
    return np.array(values, dtype=np.int64 if values and isinstance(values[0], int) else np.float64)


def rows_of(samples: Any) -> list[Any]:
    """Make lists of samples, as JSON has them: numbers, and names of categories."""
    try:
        given = np.asarray(samples)
        if given.dtype.kind not in "UO":
            found: list[Any] = given.astype(np.float64).tolist()
            return found
        return [[value if isinstance(value, str) else float(value) for value in row] for row in samples]
    except (TypeError, ValueError) as error:
        raise ValueError("samples must be rows of numbers or categories, each of the same length") from error


def arrays_of(response: httpx.Response) -> dict[str, NDArray[Any]]:
    """Read the arrays of an answer that is an NPZ archive."""
    with np.load(io.BytesIO(response.content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
