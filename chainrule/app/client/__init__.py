"""The Python client: submit, wait, fetch weights and gradients as NumPy arrays. Needs httpx and NumPy only."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import numpy as np
from numpy.typing import NDArray

from chainrule.app.client.connection import DEFAULT_URL, LONGEST_PAUSE_S, TRIES, Resource, ServiceError, service_url
from chainrule.app.client.inspection import Epoch, Inspection, arrays_of, rows_of

__all__ = ["DEFAULT_URL", "Client", "Epoch", "Resource", "ServiceError", "service_url"]
LONGEST_WAIT_S = 30.0


class Client(Inspection):
    """Talks to a service, about all there is.

    What is safe to repeat is repeated when the connection breaks or the service is busy: reading, and
    creating, which carries an idempotency key.

    Args:
        url: of the service; CHAINRULE_URL, or http://127.0.0.1:8000, by default.
        timeout_s: how long an answer may take.
        key: to show, where the service asks for one; CHAINRULE_KEY by default.
    """

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
        body = {"name": name, "samples": rows_of(samples)}
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
        return arrays_of(self._get(f"runs/{run_id}/checkpoints/{epoch}/weights", params={"format": "npz"}))

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

    def diagnoses(self, run_id: str) -> list[Resource]:
        """See what is wrong with a run: verdicts with `sentence`, `fix`, epochs, values and threshold, worst first."""
        return [Resource(item) for item in self._get(f"runs/{run_id}/diagnoses").json()["items"]]

    def diagnosis_rules(self) -> list[Resource]:
        """List the rules of the diagnoses, with their thresholds."""
        return [Resource(item) for item in self._get("diagnoses").json()["items"]]

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


def _named(file: str | Path | BinaryIO) -> tuple[str, Any]:
    if isinstance(file, str | Path):
        return Path(file).name, Path(file).read_bytes()
    return Path(str(getattr(file, "name", "dataset"))).name, file


def _form_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list | tuple) else str(value)
