"""Calls of the API that many tests make, and what every answer and every refusal must look like."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from chainrule.app.api.problems import kinds
from chainrule.app.api.schemas.runs import Run
from chainrule.app.api.schemas.wire import Problem

XOR: dict[str, Any] = {
    "name": "xor",
    "dataset": "xor",
    "network": {"layers": [{"units": 8, "activation": "tanh"}, {"units": 1, "activation": "sigmoid"}]},
    "optimizer": {"name": "adam", "learning_rate": 0.05},
    "epochs": 20,
    "batch_size": 4,
    "seed": 7,
}
DIGITS: dict[str, Any] = {
    "name": "digits",
    "dataset": "digits",
    "validation": {"fraction": 0.25, "seed": 3},
    "network": {"layers": [{"units": 12, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "optimizer": {"name": "momentum", "learning_rate": 0.05},
    "epochs": 12,
    "batch_size": 64,
    "checkpoints": {"every": 5},
    "gradients": {"every": 4},
    "seed": 2,
}
LONG: dict[str, Any] = DIGITS | {"name": "long", "epochs": 50_000, "checkpoints": {"every": 10_000}, "gradients": {}}
"""Trains for minutes, for tests that look on."""
FLOWERS = """petal_length,petal_width,species
1.4,0.2,setosa
1.3,0.2,setosa
1.5,0.3,setosa
4.7,1.4,versicolor
4.5,1.5,versicolor
4.9,1.5,versicolor
6.0,2.5,virginica
5.1,1.9,virginica
5.9,2.1,virginica
"""
STATUS_OF = {kind.code: kind.status for kind in kinds()}


def submit(client: httpx.Client, spec: dict[str, Any], **headers: str) -> dict[str, Any]:
    """Submit a run."""
    response = client.post("/v1/runs", json=spec, headers=headers)
    assert response.status_code == 201, response.text
    run: dict[str, Any] = response.json()
    Run.model_validate(run)
    assert response.headers["location"] == f"/v1/runs/{run['id']}"
    return run


def finished(client: httpx.Client, spec: dict[str, Any], status: str = "succeeded") -> dict[str, Any]:
    """Submit a run and wait for its end."""
    return ended(client, submit(client, spec)["id"], status)


def ended(client: httpx.Client, run_id: str, status: str = "succeeded") -> dict[str, Any]:
    """Wait for the end of a run."""
    for _ in range(3):  # on a busy machine a minute may be short
        run: dict[str, Any] = client.get(f"/v1/runs/{run_id}", headers={"Prefer": "wait=60"}, timeout=90).json()
        if run["done"]:
            break
    assert (run["done"], run["status"]) == (True, status), run
    Run.model_validate(run)
    return run


def stop(client: httpx.Client, run_id: str) -> dict[str, Any]:
    """Cancel a run and wait until it has stopped."""
    answer = client.post(f"/v1/runs/{run_id}/cancel")
    assert answer.status_code in (200, 202), answer.text
    return ended(client, run_id, "cancelled")


def last_weights(client: httpx.Client, run_id: str) -> str:
    """Tell the SHA-256 of the weights a run has kept last."""
    digest: str = client.get(f"/v1/runs/{run_id}/checkpoints/last").json()["sha256"]
    return digest


def bearer(key: str) -> dict[str, str]:
    """Show a key."""
    return {"Authorization": f"Bearer {key}"}


def upload(client: httpx.Client, content: str | bytes, filename: str = "data.csv", **fields: str) -> dict[str, Any]:
    """Upload a dataset file."""
    response = client.post("/v1/datasets", files={"file": (filename, content)}, data=fields)
    assert response.status_code in (200, 201), response.text
    dataset: dict[str, Any] = response.json()
    return dataset


def refused(response: httpx.Response, code: str, pointer: str | None = None, *words: str) -> dict[str, Any]:
    """Insist on a refusal that a program and a person can act on; `words` must be in its detail."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body: dict[str, Any] = response.json()
    Problem.model_validate(body)
    assert body["code"] == code, body
    assert body["status"] == response.status_code == STATUS_OF[code]
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"].rstrip()[-1] in ".…)", body["detail"]
    for error in body.get("errors", ()):
        assert error["pointer"] == "" or error["pointer"].startswith("/")
        assert error["detail"]
    if pointer is not None:
        assert pointer in [error["pointer"] for error in body["errors"]], body
    for word in words:
        assert word in body["detail"], body["detail"]
    return body


def is_a_refusal(response: httpx.Response) -> bool:
    """Tell whether an answer is a well-formed refusal of the client's doing."""
    if response.status_code < 400:
        return False
    assert response.status_code < 500, response.text
    refused(response, response.json()["code"])
    return True


@dataclass(frozen=True)
class Event:
    """One server-sent event, or a comment (whose name is `:`)."""

    name: str
    data: Any
    id: str | None


def events(response: httpx.Response) -> Iterator[Event]:
    """Read server-sent events as the specification says."""
    name, data, event_id = "", list[str](), None
    for line in response.iter_lines():
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Event(name, json.loads("\n".join(data)), event_id)
            name, data, event_id = "", [], None
        elif not field:
            yield Event(":", value, None)
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            event_id = value
        else:
            assert field == "retry", line
            assert value.isdigit()


def stream(client: httpx.Client, run_id: str, after: int | None = None, **headers: str) -> list[Event]:
    """Follow a run to its end."""
    parameters = {} if after is None else {"after": after}
    with client.stream("GET", f"/v1/runs/{run_id}/events", params=parameters, headers=headers, timeout=60) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(events(response))
