"""The Python client: submit, wait, fetch weights and gradients as NumPy arrays. Needs httpx and NumPy only."""

import io
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

import httpx
import numpy as np
from numpy.typing import NDArray

DEFAULT_URL = "http://127.0.0.1:8000"
TRIES = 5
LONGEST_PAUSE_S = 5.0
LONGEST_WAIT_S = 30.0
LONGEST_ROWS = 4000
"""Characters of row numbers in a query; more are sent as JSON."""
Epoch = int | str
"""An epoch by number, `final` (whose weights the run ends with), `last` or `best`."""


class ServiceError(Exception):
    """What the service refused, and why.

    Attributes:
        status: the HTTP status.
        code: the kind of problem, such as `invalid_input`.
        detail: what is wrong and the way out.
        errors: the wrong places of the input, each with `pointer` and `detail`.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", "unknown"))
        self.detail = str(problem.get("detail", f"the service answered {status}"))
        self.errors: list[dict[str, str]] = list(problem.get("errors", ()))
        super().__init__("\n".join([self.detail, *(f"  {e['pointer']}: {e['detail']}" for e in self.errors[1:])]))


class Resource(Mapping[str, Any]):
    """An answer: its fields by name (`run["id"]`) and as attributes (`run.id`)."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> Any:
        """Give a field."""
        return self._fields[name]

    def __getattr__(self, name: str) -> Any:
        """Give a field."""
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(name) from None

    def __iter__(self) -> Iterator[str]:
        """Name the fields."""
        return iter(self._fields)

    def __len__(self) -> int:
        """Count the fields."""
        return len(self._fields)

    def __repr__(self) -> str:
        """Show the fields."""
        return f"Resource({self._fields!r})"


def service_url(given: str | None = None) -> str:
    """Say where the service is: the address given, or CHAINRULE_URL, or the default; without /v1 at its end."""
    return (given or os.environ.get("CHAINRULE_URL") or DEFAULT_URL).rstrip("/").removesuffix("/v1")


class Client:
    """Talks to a service.

    What is safe to repeat is repeated when the connection breaks or the service is busy: reading, and
    creating, which carries an idempotency key.

    Args:
        url: of the service; CHAINRULE_URL, or http://127.0.0.1:8000, by default.
        timeout_s: how long an answer may take.
        key: to show, where the service asks for one; CHAINRULE_KEY by default.
    """

    def __init__(self, url: str | None = None, *, timeout_s: float = 60.0, key: str | None = None) -> None:
        self.url = service_url(url)
        shown = key or os.environ.get("CHAINRULE_KEY")
        headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        self._http = httpx.Client(base_url=f"{self.url}/v1/", timeout=timeout_s, headers=headers)

    def __enter__(self) -> Self:
        """Use it in a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its connections."""
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def ready(self) -> bool:
        """Tell whether the service can do its work."""
        try:
            return self._http.get("health/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    # Datasets

    def upload(self, file: str | Path | BinaryIO, *, labels: str | Path | None = None, **options: Any) -> Resource:
        """Upload a dataset file: CSV, NPY, NPZ or IDX.

        Args:
            file: a path, or an open binary file.
            labels: the labels file of an IDX pair.
            options: `name`, `format`, `header`, `label_column`, `target_columns`, `categorical_columns`,
                `weight_column`, `divide_by`.
        """
        files = {"file": _named(file)}
        if labels is not None:
            files["labels_file"] = _named(labels)
        fields = {name: _form_value(value) for name, value in options.items() if value is not None}
        return Resource(self._create("datasets", data=fields, files=files).json())

    def upload_rows(
        self,
        samples: Any,
        *,
        labels: Any = None,
        targets: Any = None,
        feature_names: Sequence[str] | None = None,
        weights: Any = None,
        name: str = "",
    ) -> Resource:
        """Make a dataset of arrays or lists: samples as rows, with class labels or numeric targets.

        A column of texts is categorical. `weights` say how much each sample's error counts.
        """
        body = {"name": name, "samples": _rows(samples)}
        if feature_names is not None:
            body["feature_names"] = list(feature_names)
        if labels is not None:
            body["labels"] = np.asarray(labels).tolist()
        if targets is not None:
            Y = np.asarray(targets, dtype=np.float64)
            body["targets"] = Y.reshape(len(Y), -1).tolist()
        if weights is not None:
            body["weights"] = np.asarray(weights, dtype=np.float64).tolist()
        return Resource(self._create("datasets", json=body).json())

    def datasets(self) -> Iterator[Resource]:
        """List the datasets."""
        return self._pages("datasets", {})

    def dataset(self, dataset_id: str) -> Resource:
        """Look at one dataset."""
        return Resource(self._get(f"datasets/{dataset_id}").json())

    # Runs

    def submit(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Resource:
        """Submit a run; under a key of your own, submitting it again is answered with the same run."""
        return Resource(self._create("runs", json=dict(spec), key=idempotency_key).json())

    def validate(self, spec: Mapping[str, Any]) -> Resource:
        """Check a spec and estimate what it takes; submit nothing."""
        response = self._send("POST", "runs", json=dict(spec), params={"validate_only": True})
        return Resource(response.json())

    def run(self, run_id: str) -> Resource:
        """Look at one run."""
        return Resource(self._get(f"runs/{run_id}").json())

    def runs(self, **filters: Any) -> Iterator[Resource]:
        """List runs, newest first; filters: `status`, `name`, `dataset`, `verifies`, `deleted`, `sort`."""
        return self._pages("runs", filters)

    def events(self, run_id: str, after: int = -1) -> Iterator[tuple[str, dict[str, Any]]]:
        """Follow a run: (`epoch`, …) for each epoch behind `after`, (`diagnosis`, …), (`status`, …), (`end`, the run).

        A connection that breaks is taken up again behind the last epoch.
        """
        failures = 0
        while True:
            try:
                for name, data in self._stream(run_id, after):
                    failures = 0
                    if name == "epoch":
                        after = data["epoch"]
                    yield name, data
                    if name == "end":
                        return
            except (httpx.TransportError, ServiceError) as error:
                failures += 1
                if failures >= TRIES or (isinstance(error, ServiceError) and error.status < httpx.codes.BAD_GATEWAY):
                    raise
            time.sleep(min(0.1 * 2**failures, LONGEST_PAUSE_S))

    def stream_epochs(self, run_id: str, after: int = -1) -> Iterator[dict[str, Any]]:
        """Give each epoch behind `after` as it is recorded, until the run has ended."""
        return (data for name, data in self.events(run_id, after) if name == "epoch")

    def wait(
        self, run_id: str, *, timeout_s: float | None = None, progress: Callable[[Resource], None] | None = None
    ) -> Resource:
        """Wait until a run has ended.

        Args:
            run_id: of the run.
            timeout_s: how long at most; for ever by default.
            progress: called with the run as it is now, and each time it has changed.

        Raises:
            TimeoutError: it has not ended in time.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        headers: dict[str, str] = {}
        while True:
            response = self._get(f"runs/{run_id}", headers=headers)
            if response.status_code != httpx.codes.NOT_MODIFIED:
                run = Resource(response.json())
                if progress is not None:
                    progress(run)
                    headers["If-None-Match"] = response.headers["ETag"]
                if run["done"]:
                    return run
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"run {run_id} is still {run['status']}")
            headers["Prefer"] = f"wait={math.ceil(min(left, LONGEST_WAIT_S))}"

    def extend(
        self, run_id: str, *, epochs: int | None = None, to: int | None = None, idempotency_key: str | None = None
    ) -> Resource:
        """Make a run that goes on where one has ended, exactly: for so many epochs more, or up to so many in all."""
        body = {name: value for name, value in (("epochs", epochs), ("to", to)) if value is not None}
        return Resource(self._create(f"runs/{run_id}/extend", json=body, key=idempotency_key).json())

    def clone(
        self, run_id: str, changes: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Resource:
        """Submit a run with the config of another; `changes` replace whole fields, None takes one to its default."""
        return Resource(self._create(f"runs/{run_id}/clone", json=dict(changes or {}), key=idempotency_key).json())

    def verify(
        self, run_id: str, *, after: int | None = None, to: int | None = None, idempotency_key: str | None = None
    ) -> Resource:
        """Make a run that trains another once more and compares; wait for it, then read its `verification`."""
        body = {name: value for name, value in (("after", after), ("to", to)) if value is not None}
        return Resource(self._create(f"runs/{run_id}/verify", json=body, key=idempotency_key).json())

    def submit_sweep(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Resource:
        """Submit many runs of one spec with some of its fields varied."""
        return Resource(self._create("sweeps", json=dict(spec), key=idempotency_key).json())

    def preview_sweep(self, spec: Mapping[str, Any]) -> Resource:
        """Tell what the members of a sweep would be; submit nothing."""
        return Resource(self._send("POST", "sweeps", json=dict(spec), params={"validate_only": True}).json())

    def sweep(self, sweep_id: str = "latest") -> Resource:
        """Look at one sweep: how far its runs have come, and which is best."""
        return Resource(self._get(f"sweeps/{sweep_id}").json())

    def sweeps(self, **filters: Any) -> Iterator[Resource]:
        """List sweeps, newest first; `deleted=True` for those that can be restored."""
        return self._pages("sweeps", filters)

    def members(self, sweep_id: str = "latest") -> list[Resource]:
        """List the runs of a sweep, each with the values that make it differ."""
        found: list[Resource] = []
        after: int | None = -1
        while after is not None:
            page = self._get(f"sweeps/{sweep_id}/members", params={"after": after, "limit": 1000}).json()
            found += map(Resource, page["items"])
            after = page["next_after"]
        return found

    def wait_sweep(
        self, sweep_id: str, *, timeout_s: float | None = None, progress: Callable[[Resource], None] | None = None
    ) -> Resource:
        """Wait until a sweep has ended; `progress` is called with it each second or so.

        Raises:
            TimeoutError: it has not ended in time.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            wait = max(0, math.ceil(min(left, 1 if progress else 30)))
            found = Resource(self._get(f"sweeps/{sweep_id}", headers={"Prefer": f"wait={wait}"}).json())
            if progress is not None:
                progress(found)
            if found["done"]:
                return found
            if left <= 0:
                raise TimeoutError(f"Sweep {sweep_id} is still {found['status']}.")

    def cancel_sweep(self, sweep_id: str) -> Resource:
        """Cancel every run of a sweep that has not ended."""
        return Resource(self._send("POST", f"sweeps/{sweep_id}/cancel").json())

    def delete_sweep(self, sweep_id: str, *, purge: bool = False) -> None:
        """Delete a sweep that has ended, with its runs; purged it cannot be restored."""
        self._send("DELETE", f"sweeps/{sweep_id}", params={"purge": purge})

    def restore_sweep(self, sweep_id: str) -> Resource:
        """Bring a deleted sweep back, with the runs that were deleted with it."""
        return Resource(self._send("POST", f"sweeps/{sweep_id}/restore").json())

    def attempts(self, run_id: str) -> list[Resource]:
        """List the attempts at a run: which worker trained it, from which step to which, and why that ended."""
        return [Resource(item) for item in self._get(f"runs/{run_id}/attempts").json()["items"]]

    def cancel(self, run_id: str) -> Resource:
        """Cancel a run: a waiting one at once, a running one at its next step."""
        return Resource(self._send("POST", f"runs/{run_id}/cancel").json())

    def pause(self, run_id: str) -> Resource:
        """Pause a run: a waiting one at once, a running one at its next step."""
        return Resource(self._send("POST", f"runs/{run_id}/pause").json())

    def resume(self, run_id: str) -> Resource:
        """Let a paused run go on where it stopped."""
        return Resource(self._send("POST", f"runs/{run_id}/resume").json())

    def delete(self, run_id: str, *, purge: bool = False) -> None:
        """Delete a run that has ended; purged it cannot be restored."""
        self._send("DELETE", f"runs/{run_id}", params={"purge": purge})

    def restore(self, run_id: str) -> Resource:
        """Bring a deleted run back, with all it recorded."""
        return Resource(self._send("POST", f"runs/{run_id}/restore").json())

    def inputs(self, run_id: str) -> Resource:
        """See how raw features become a run's input: scaling and one-hot columns, as fitted to its training samples."""
        return Resource(self._get(f"runs/{run_id}/inputs").json())

    # Webhooks

    def add_webhook(self, url: str, *, events: Sequence[str] | None = None, name: str = "") -> Resource:
        """Have changes of runs posted to an address; the answer has the secret they are signed by, this once."""
        body: dict[str, Any] = {"url": url, "name": name} | ({} if events is None else {"events": list(events)})
        return Resource(self._send("POST", "webhooks", json=body).json())

    def webhooks(self) -> Iterator[Resource]:
        """List webhooks, newest first."""
        return self._pages("webhooks", {})

    def test_webhook(self, webhook_id: str) -> Resource:
        """Post a test message to a webhook, and tell how that went."""
        return Resource(self._send("POST", f"webhooks/{webhook_id}/test").json())

    def rotate_webhook(self, webhook_id: str, *, grace_s: int = 86400) -> Resource:
        """Give a webhook a new secret; messages are signed by the old one too, for `grace_s` more."""
        return Resource(self._send("POST", f"webhooks/{webhook_id}/rotate", json={"grace_s": grace_s}).json())

    def enable_webhook(self, webhook_id: str) -> Resource:
        """Enable a webhook again whose receiver answered 410."""
        return Resource(self._send("POST", f"webhooks/{webhook_id}/enable").json())

    def deliveries(self, webhook_id: str) -> Iterator[Resource]:
        """List what a webhook was told and is to be told, newest first."""
        return self._pages(f"webhooks/{webhook_id}/deliveries", {})

    def delete_webhook(self, webhook_id: str) -> None:
        """Delete a webhook, with what it has not been told yet."""
        self._send("DELETE", f"webhooks/{webhook_id}")

    # What a run recorded

    def epochs(self, run_id: str, *, after: int = -1) -> dict[str, NDArray[Any]]:
        """Fetch what each epoch came to, as one array for each column; NaN where there is no number."""
        columns: dict[str, list[Any]] = {}
        while True:
            page = self._get(f"runs/{run_id}/epochs", params={"after": after, "limit": 10_000}).json()
            for name, values in page["columns"].items():
                columns.setdefault(name, []).extend(values)
            if page["next_after"] is None:
                break
            after = page["next_after"]
        return {
            name: np.array(values, dtype=np.int64 if name == "epoch" else np.float64)
            for name, values in columns.items()
        }

    def checkpoints(self, run_id: str) -> Iterator[Resource]:
        """List the epochs whose weights are kept."""
        return self._behind(f"runs/{run_id}/checkpoints", {})

    def checkpoint(self, run_id: str, epoch: Epoch = "final") -> Resource:
        """Look at one checkpoint."""
        return Resource(self._get(f"runs/{run_id}/checkpoints/{epoch}").json())

    def weights(self, run_id: str, epoch: Epoch = "final") -> dict[str, NDArray[Any]]:
        """Fetch the weights of an epoch: W1, b1, W2, …"""
        return _arrays(self._get(f"runs/{run_id}/checkpoints/{epoch}/weights", params={"format": "npz"}))

    def save_weights(
        self, run_id: str, path: str | Path, epoch: Epoch = "final", *, format: str = "safetensors"
    ) -> Path:
        """Save the weights of an epoch as `safetensors`, `npz`, `json`, `onnx` or `torch`."""
        response = self._get(f"runs/{run_id}/checkpoints/{epoch}/weights", params={"format": format})
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(response.content)
        return target

    def gradient_records(self, run_id: str, *, layer: int | None = None) -> Iterator[Resource]:
        """List the recorded statistics of each gradient."""
        return self._behind(f"runs/{run_id}/gradients", {} if layer is None else {"layer": layer})

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
        return _arrays(self._send("POST", path, json=query, params={"format": "npz"}))

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

    def diagnoses(self, run_id: str) -> list[Resource]:
        """See what is wrong with a run: verdicts with `sentence`, `fix`, epochs, values and threshold, worst first."""
        return [Resource(item) for item in self._get(f"runs/{run_id}/diagnoses").json()["items"]]

    def diagnosis_rules(self) -> list[Resource]:
        """List the rules of the diagnoses, with their thresholds."""
        return [Resource(item) for item in self._get("diagnoses").json()["items"]]

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
        asked: dict[str, Any] = {"split": split, "sort": sort, "order": order, "wrong": wrong, "class": label}
        asked |= {"predicted": predicted, "features": features, "offset": offset, "limit": limit}
        path = f"runs/{run_id}/checkpoints/{epoch}/samples"
        return Resource(self._get(path, params={n: value for n, value in asked.items() if value is not None}).json())

    def array(
        self, run_id: str, name: str, *, epoch: Epoch = "final", rows: Sequence[int] | None = None,
        split: str | None = None, mode: str = "evaluation",
    ) -> NDArray[Any]:  # fmt: skip
        """Fetch one array of a walk by name, as float32: W1, Z1, dW1, …; of a split means over its samples."""
        asked: dict[str, Any] = {"name": name, "mode": mode, "format": "f32"}
        asked |= {} if rows is None else {"rows": ",".join(str(int(row)) for row in rows)}
        asked |= {} if split is None else {"split": split}
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
        asked = {"layer": layer, "basis": basis, "split": split, "limit": limit}
        path = f"runs/{run_id}/checkpoints/{epoch}/embedding"
        return Resource(self._get(path, params={n: value for n, value in asked.items() if value is not None}).json())

    def attributions(
        self, run_id: str, rows: Sequence[int], *, epoch: Epoch = "final", method: str = "saliency",
        baseline: str = "zero", unit: int | None = None, steps: int = 50,
    ) -> Resource:  # fmt: skip
        """See which inputs an output is due to: `saliency`, `gradient_times_input` or `integrated_gradients`."""
        asked: dict[str, Any] = {"rows": ",".join(str(int(row)) for row in rows), "method": method}
        asked |= {"baseline": baseline, "steps": steps} | ({} if unit is None else {"unit": unit})
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
        listed = "" if rows is None else ",".join(str(int(row)) for row in rows)
        if samples is None and len(listed) <= LONGEST_ROWS:
            archive, asked = io.BytesIO(), {"mode": mode}
            np.savez_compressed(archive, allow_pickle=False, **{n: np.asarray(G) for n, G in gradients.items()})
            if rows is not None:
                asked["rows"] = listed
            if split is not None:
                asked["split"] = split
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
        asked = {"format": "npz"} | ({} if names is None else {"names": ",".join(names)})
        return _arrays(self._get(f"runs/{run_id}/epochs/{epoch}/steps/{step}/gradients", params=asked))

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
        asked: dict[str, Any] = {"at_most": at_most, "epochs": epochs, "split": split}
        asked |= {} if names is None else {"names": ",".join(names)}
        asked |= {} if layers is None else {"layers": ",".join(map(str, layers))}
        given = {name: value for name, value in asked.items() if value is not None}
        found = self._get(f"runs/{run_id}/histograms", params=given).json()
        found["edges"] = np.array([-np.inf, *found["edges"][1:-1], np.inf])
        return Resource(found)

    def joint_histogram(self, run_id: str, *, epoch: Epoch = "final", layers: Sequence[int] | None = None) -> Resource:
        """Count pairs of a weight and its gradient: `layers` to `cells` of [bin of w, bin of its gradient, count]."""
        asked = {} if layers is None else {"layers": ",".join(map(str, layers))}
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
        asked: dict[str, Any] = {"at_most": at_most} | ({} if epochs is None else {"epochs": epochs})
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
        asked: dict[str, Any] = {"products": products, "probes": probes, "seed": seed}
        asked |= {} if rows is None else {"rows": ",".join(str(int(row)) for row in rows)}
        asked |= {} if split is None else {"split": split}
        return Resource(self._get(f"runs/{run_id}/checkpoints/{epoch}/curvature", params=asked).json())

    def gradient_variance(
        self, run_id: str, *, epoch: Epoch = "final", rows: Sequence[int] | None = None, split: str | None = None,
    ) -> Resource:  # fmt: skip
        """Measure how each weight's gradient differs from sample to sample: `quantities`, `confusion`, `blocks`.

        `mean` and `variance` of a block are arrays. Without rows and split it is over all the run trains on.
        """
        asked: dict[str, Any] = {"values": True} | ({} if split is None else {"split": split})
        asked |= {} if rows is None else {"rows": ",".join(str(int(row)) for row in rows)}
        found = self._get(f"runs/{run_id}/checkpoints/{epoch}/gradient-variance", params=asked).json()
        for block in found["blocks"].values():
            block |= {name: np.array(block[name], dtype=np.float64) for name in ("mean", "variance")}
        return Resource(found)

    def predict(self, run_id: str, samples: Any, *, epoch: Epoch = "final") -> Resource:
        """Put raw samples through the network: `outputs` as an array, and for classifiers `labels` by name."""
        body = {"samples": _rows(samples)}
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
        found = self._get(path, params={} if split is None else {"split": split}).json()
        if "confusion_matrix" in found:
            found["confusion_matrix"] = np.array(found["confusion_matrix"], dtype=np.int64)
        return Resource(found)

    def check_gradients(self, spec: Mapping[str, Any]) -> Resource:
        """Check analytic gradients of a network against central differences."""
        return Resource(self._send("POST", "gradient-checks", json=dict(spec)).json())

    # Keys

    def create_key(self, scope: str, *, name: str = "", expires_at: str | None = None) -> Resource:
        """Make a key of scope `read`, `submit` or `admin`; its field `key` is shown this once."""
        body = {"scope": scope, "name": name, "expires_at": expires_at}
        return Resource(self._send("POST", "keys", json=body, repeat=False).json())

    def keys(self) -> Iterator[Resource]:
        """List the keys of this key's owner, newest first."""
        return self._pages("keys", {})

    def rotate_key(self, key_id: str, *, grace_s: int = 3600) -> Resource:
        """Give a key a new secret, shown this once; the old one is good for `grace_s` more."""
        return Resource(self._send("POST", f"keys/{key_id}/rotate", json={"grace_s": grace_s}, repeat=False).json())

    def revoke_key(self, key_id: str) -> Resource:
        """Make a key worthless from now on."""
        return Resource(self._send("POST", f"keys/{key_id}/revoke").json())

    def audit(self) -> Iterator[Resource]:
        """List the changes that keys of this key's owner have asked for, newest first."""
        return self._pages("audit", {})

    # Requests

    def _inspect(self, run_id: str, epoch: Epoch, what: str, query: Mapping[str, Any]) -> dict[str, Any]:
        path = f"runs/{run_id}/checkpoints/{epoch}/{what}"
        found: dict[str, Any] = self._send("POST", path, json=dict(query)).json()
        return found

    def _get(self, path: str, **options: Any) -> httpx.Response:
        return self._send("GET", path, **options)

    def _create(self, path: str, *, key: str | None = None, **options: Any) -> httpx.Response:
        return self._send("POST", path, headers={"Idempotency-Key": key or uuid.uuid4().hex}, **options)

    def _send(self, method: str, path: str, *, repeat: bool = True, **options: Any) -> httpx.Response:
        for failed in range(1 if repeat else TRIES, TRIES + 1):
            try:
                response = self._http.request(method, path, **options)
                if response.status_code not in (429, 503) or failed == TRIES:
                    return _checked(response)
                pause_s = _retry_after_s(response)
            except httpx.TransportError:
                if failed == TRIES or isinstance(options.get("files", {}).get("file", ("", b""))[1], io.IOBase):
                    raise
                pause_s = 0.0
            time.sleep(min(max(pause_s, 0.1 * 2**failed), LONGEST_PAUSE_S))
        raise AssertionError("unreachable")

    def _stream(self, run_id: str, after: int) -> Iterator[tuple[str, dict[str, Any]]]:
        # Without a word for a minute the connection is dead: the service sends a comment every 15 s.
        with self._http.stream("GET", f"runs/{run_id}/events", params={"after": after}, timeout=60.0) as response:
            if response.is_error:
                response.read()
            _checked(response)
            name, data = "", ""
            for line in response.iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data += value
                elif not line and data:
                    yield name, json.loads(data)
                    name, data = "", ""

    def _pages(self, path: str, filters: dict[str, Any]) -> Iterator[Resource]:
        cursor: str | None = None
        while True:
            page = self._get(path, params=filters | ({"cursor": cursor} if cursor else {})).json()
            yield from map(Resource, page["items"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _behind(self, path: str, filters: dict[str, Any]) -> Iterator[Resource]:
        after = -1
        while True:
            page = self._get(path, params=filters | {"after": after}).json()
            yield from map(Resource, page["items"])
            if page["next_after"] is None:
                return
            after = page["next_after"]


def _question(
    names: Sequence[str] | None, rows: Sequence[int] | None, samples: Any, labels: Any, targets: Any
) -> dict[str, Any]:
    query: dict[str, Any] = {}
    if names is not None:
        query["names"] = list(names)
    if rows is not None:
        query["rows"] = [int(row) for row in rows]
    if samples is not None:
        query["samples"] = _rows(samples)
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


def _rows(samples: Any) -> list[Any]:
    try:
        given = np.asarray(samples)
        if given.dtype.kind not in "UO":
            found: list[Any] = given.astype(np.float64).tolist()
            return found
        return [[value if isinstance(value, str) else float(value) for value in row] for row in samples]
    except (TypeError, ValueError) as error:
        raise ValueError("samples must be rows of numbers or categories, each of the same length") from error


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        raise ServiceError(response.status_code, problem if isinstance(problem, dict) else {})
    return response


def _retry_after_s(response: httpx.Response) -> float:
    given = response.headers.get("Retry-After", "")
    return float(given) if given.isdigit() else 0.0


def _arrays(response: httpx.Response) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(response.content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _named(file: str | Path | BinaryIO) -> tuple[str, Any]:
    if isinstance(file, str | Path):
        return Path(file).name, Path(file).read_bytes()
    return Path(str(getattr(file, "name", "dataset"))).name, file


def _form_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list | tuple) else str(value)
