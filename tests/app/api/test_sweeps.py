"""Sweeps through the real service: members are runs like any other, and everything of a sweep adds up."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from chainrule.app.client import Client, ServiceError
from tests.service import Service

RUN: dict[str, Any] = {
    "dataset": "digits",
    "validation": {"fraction": 0.2, "seed": 0},
    "network": {"layers": [{"units": 12, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "optimizer": {"name": "adam", "learning_rate": 0.002},
    "epochs": 3,
    "batch_size": 64,
}
GRID: dict[str, Any] = {
    "name": "rates",
    "run": RUN,
    "strategy": {"kind": "grid", "parameters": {"optimizer/learning_rate": [0.001, 0.01], "seed": [1, 2, 3]}},
}


@pytest.fixture
def client(server: Service) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def ended(client: Client, spec: dict[str, Any]) -> Any:
    return client.wait_sweep(client.submit_sweep(spec)["id"], timeout_s=180)


def weights(client: Client, run_id: str) -> list[str]:
    return [checkpoint["sha256"] for checkpoint in client.checkpoints(run_id)]


def test_each_member_of_a_grid_ends_as_the_same_run_does_alone(client: Client) -> None:
    sweep = ended(client, GRID)
    members = client.members(sweep["id"])
    assert [member["varied"] for member in members] == [
        {"optimizer/learning_rate": rate, "seed": seed} for rate in (0.001, 0.01) for seed in (1, 2, 3)
    ]
    assert (sweep["status"], sweep["members"], sweep["statuses"]["succeeded"]) == ("succeeded", 6, 6)
    assert sweep["progress"] == {"epochs_done": 18, "epochs_total": 18, "percent": 100.0}
    best = min(members, key=lambda member: member["validation_cost"])
    assert sweep["best"] == dict(best)
    for member in (members[0], members[4]):
        run = client.run(member["run"])
        assert run["sweep"] == sweep["id"]
        spec = RUN | {
            "seed": member["varied"]["seed"],
            "optimizer": {"name": "adam", "learning_rate": member["varied"]["optimizer/learning_rate"]},
        }
        alone = client.wait(client.submit(spec)["id"], timeout_s=180)
        assert alone["sweep"] is None
        assert weights(client, run["id"]) == weights(client, alone["id"])
        assert [e["cost"] for e in client.stream_epochs(run["id"])] == [
            e["cost"] for e in client.stream_epochs(alone["id"])
        ]


def test_random_values_are_the_same_for_the_same_seed_and_lie_in_their_ranges(client: Client) -> None:
    strategy = {
        "kind": "random",
        "count": 30,
        "seed": 7,
        "parameters": {
            "optimizer/learning_rate": {"low": 1e-4, "high": 1e-1, "scale": "log"},
            "batch_size": {"low": 8, "high": 64, "integer": True},
            "network/layers/0/activation": {"choices": ["relu", "tanh"]},
        },
    }
    first, again = (client.preview_sweep({"run": RUN, "strategy": strategy}) for _ in range(2))
    assert first["varied"] == again["varied"]
    other = client.preview_sweep({"run": RUN, "strategy": strategy | {"seed": 8}})
    assert first["varied"] != other["varied"]
    rates = [varied["optimizer/learning_rate"] for varied in first["varied"]]
    assert 1e-4 <= min(rates) < 1e-3
    assert 1e-2 < max(rates) <= 1e-1
    assert {type(varied["batch_size"]) for varied in first["varied"]} == {int}
    assert {varied["network/layers/0/activation"] for varied in first["varied"]} == {"relu", "tanh"}
    assert first["members"] == 30
    assert first["stacks"] > 1  # other sizes and functions make other shapes


def test_seeds_count_from_the_first(client: Client) -> None:
    found = client.preview_sweep({"run": RUN, "strategy": {"kind": "seeds", "count": 3, "first": 5}})
    assert found["varied"] == [{"seed": 5}, {"seed": 6}, {"seed": 7}]
    assert (found["stacks"], found["objective"], found["rungs"]) == (1, "validation_cost", [3])


def test_a_preview_stores_nothing(client: Client) -> None:
    before = [sweep["id"] for sweep in client.sweeps()]
    client.preview_sweep(GRID)
    assert [sweep["id"] for sweep in client.sweeps()] == before


def test_halving_extends_the_best_of_each_rung_to_the_bits_of_a_run_from_the_start(client: Client) -> None:
    spec = GRID | {"run": RUN | {"epochs": 8}, "halving": {"epochs": 2, "factor": 2}}
    assert client.preview_sweep(spec)["rungs"] == [6, 3, 2]
    sweep = ended(client, spec)
    members = client.members(sweep["id"])
    assert [member["rung"] for member in members] == [0] * 6 + [1] * 3 + [2] * 2
    assert [member["epochs_done"] for member in members] == [2] * 6 + [4] * 3 + [8] * 2
    ranked = sorted(members[:6], key=lambda member: (member["validation_cost"], member["position"]))
    assert [member["varied"] for member in members[6:9]] == [member["varied"] for member in ranked[:3]]
    assert sweep["best"]["rung"] == 2 or sweep["best"]["validation_cost"] < min(
        member["validation_cost"] for member in members[9:]
    )
    last = members[9]
    spec_alone = RUN | {
        "epochs": 8,
        "seed": last["varied"]["seed"],
        "optimizer": {"name": "adam", "learning_rate": last["varied"]["optimizer/learning_rate"]},
    }
    alone = client.wait(client.submit(spec_alone)["id"], timeout_s=180)
    assert client.checkpoint(last["run"], "last")["sha256"] == client.checkpoint(alone["id"], "last")["sha256"]
    assert client.run(last["run"])["extends"] in {member["run"] for member in members[6:9]}


def test_a_sweep_is_followed_to_its_end(server: Service, client: Client) -> None:
    sweep = client.submit_sweep(GRID | {"run": RUN | {"epochs": 60}})
    events: list[tuple[str, dict[str, Any]]] = []
    with httpx.stream("GET", f"{server.url}/v1/sweeps/{sweep['id']}/events", timeout=60) as stream:
        name = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
    assert [name for name, _ in events][-1] == "end"
    assert {name for name, _ in events[:-1]} <= {"sweep"}
    done = [data["progress"]["epochs_done"] for _, data in events]
    assert done == sorted(done)
    assert done[-1] == 360
    answer = httpx.get(f"{server.url}/v1/sweeps/{sweep['id']}/events", headers={"Last-Event-ID": "end"})
    assert answer.status_code == 204


def test_a_cancelled_sweep_stops_all_its_runs_and_can_then_be_deleted(server: Service, client: Client) -> None:
    sweep = client.submit_sweep(GRID | {"run": RUN | {"epochs": 5000}})
    with pytest.raises(ServiceError) as refusal:
        client.delete_sweep(sweep["id"])
    assert refusal.value.status == 409
    client.cancel_sweep(sweep["id"])
    found = client.wait_sweep(sweep["id"], timeout_s=180)
    assert found["status"] == "cancelled"
    assert found["statuses"]["cancelled"] == 6
    assert client.cancel_sweep(sweep["id"])["status"] == "cancelled"
    run = client.members(sweep["id"])[0]["run"]
    client.delete_sweep(sweep["id"])
    for path in (f"sweeps/{sweep['id']}", f"runs/{run}"):
        assert httpx.get(f"{server.url}/v1/{path}").status_code == 404


def test_a_sweep_that_has_ended_cannot_be_cancelled(client: Client) -> None:
    sweep = ended(client, GRID | {"run": RUN | {"epochs": 1}})
    with pytest.raises(ServiceError, match="already succeeded") as refusal:
        client.cancel_sweep(sweep["id"])
    assert refusal.value.status == 409


def test_the_same_key_makes_one_sweep(client: Client) -> None:
    spec = GRID | {"run": RUN | {"epochs": 1}}
    first, again = (client.submit_sweep(spec, idempotency_key="one-sweep") for _ in range(2))
    assert first["id"] == again["id"]


def test_an_etag_changes_with_the_sweep(server: Service, client: Client) -> None:
    sweep = ended(client, GRID | {"run": RUN | {"epochs": 1}})
    first = httpx.get(f"{server.url}/v1/sweeps/{sweep['id']}")
    again = httpx.get(f"{server.url}/v1/sweeps/{sweep['id']}", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304


def test_suggested_values_are_trained_in_rounds_up_to_the_count(client: Client) -> None:
    pytest.importorskip("optuna", reason="NO OPTUNA: what it suggests was not tried")
    spec = suggested(**{"optimizer/learning_rate": {"low": 1e-4, "high": 1e-1, "scale": "log"}})
    assert client.preview_sweep(spec)["rungs"] == [2, 2]
    sweep = ended(client, spec)
    assert (sweep["status"], sweep["members"], sweep["rung"]) == ("succeeded", 4, 1)
    assert [member["rung"] for member in client.members(sweep["id"])] == [0, 0, 1, 1]


def test_the_best_member_is_told_by_the_epoch_whose_weights_it_ends_with(client: Client) -> None:
    run = RUN | {"epochs": 60, "early_stopping": {"patience": 2}, "optimizer": {"name": "adam", "learning_rate": 0.1}}
    sweep = ended(client, {"run": run, "strategy": {"kind": "seeds", "count": 3}})
    members = client.members(sweep["id"])
    for member in members:
        assert member["epoch"] == member["best_epoch"] < member["epochs_done"]
        costs = {row["epoch"]: row["validation_cost"] for row in client.stream_epochs(member["run"])}
        assert member["value"] == costs[member["epoch"]]
    assert sweep["best"]["value"] == min(member["value"] for member in members)


def test_classification_error_is_no_objective_where_there_are_no_classes(server: Service, client: Client) -> None:
    rows = {"name": "line", "samples": [[0.0], [1.0], [2.0]], "targets": [[0.0], [1.0], [2.0]]}
    dataset = httpx.post(f"{server.url}/v1/datasets", json=rows).json()["id"]
    run = {"dataset": dataset, "network": {"layers": [{"units": 1, "activation": "linear"}]}, "epochs": 1}
    spec = {"run": run, "strategy": {"kind": "seeds", "count": 2}}
    assert client.preview_sweep(spec)["objective"] == "cost"
    with pytest.raises(ServiceError, match="needs class labels"):
        client.preview_sweep(spec | {"objective": "error"})


def strategy(**parameters: Any) -> dict[str, Any]:
    return {"run": RUN, "strategy": {"kind": "grid", "parameters": parameters}}


def drawn(**parameters: Any) -> dict[str, Any]:
    return {"run": RUN, "strategy": {"kind": "random", "count": 2, "parameters": parameters}}


def suggested(**parameters: Any) -> dict[str, Any]:
    return {"run": RUN, "strategy": {"kind": "tpe", "count": 4, "parallel": 2, "parameters": parameters}}


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        (strategy(**{"optimizer/learning_rat": [1]}), "/strategy/parameters/optimizer~1learning_rat"),
        (strategy(**{"optimizer/learning_rate": [-1]}), "/strategy/parameters/optimizer~1learning_rate"),
        (strategy(**{"network/layers/5/units": [3]}), "/strategy/parameters/network~1layers~15~1units"),
        (strategy(**{"name/deeper": [3]}), "/strategy/parameters/name~1deeper"),
        (strategy(dataset=["nowhere"]), "/strategy/parameters/dataset"),
        (strategy(seed=[]), "/strategy/parameters/seed"),
        (strategy(seed=list(range(1000)), epochs=[1, 2]), "/strategy"),
        (GRID | {"objective": "validation_cost", "run": RUN | {"validation": None}}, "/objective"),
        (GRID | {"halving": {"epochs": 3, "factor": 2}}, "/halving/epochs"),
        (GRID | {"run": RUN | {"schedule": {"name": "cosine"}}, "halving": {"epochs": 1}}, "/run/schedule/name"),
        (
            {"run": RUN, "strategy": {"kind": "random", "count": 2, "parameters": {"seed": {"low": 3, "high": 1}}}},
            "/strategy/parameters/seed",
        ),
        (GRID | {"strategy": {"kind": "annealing"}}, "/strategy"),
        (GRID | {"strategy": {"kind": "seeds", "count": 2, "frist": 1}}, "/strategy/frist"),
        (drawn(seed={"lowest": 3}), "/strategy/parameters/seed/lowest"),
        (drawn(batch_size={"low": 1.2, "high": 1.8, "integer": True}), "/strategy/parameters/batch_size"),
        (
            strategy(**{"optimizer": [{"name": "adam"}], "optimizer/name": ["sgd"]}),
            "/strategy/parameters/optimizer~1name",
        ),
        (strategy(epochs=[8, 16]) | {"halving": {"epochs": 2}}, "/strategy/parameters/epochs"),
        (suggested(seed={"low": 0, "high": 9}) | {"halving": {"epochs": 1}}, "/halving"),
        (
            suggested(**{"optimizer/learning_rate": {"low": -1, "high": 1}}),
            "/strategy/parameters/optimizer~1learning_rate",
        ),
        (
            strategy(**{"schedule/name": ["constant", "cosine"]}) | {"halving": {"epochs": 1}},
            "/strategy/parameters/schedule~1name",
        ),
        (strategy(validation=[{"fraction": 0.2}, None]) | {"objective": "validation_cost"}, "/objective"),
        (GRID | {"run": RUN | {"epochs": 10**7}, "halving": {"epochs": 1}}, "/run/epochs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_sweep_that_makes_no_sense_is_refused_with_a_pointer(server: Service, spec: Any, pointer: str) -> None:
    answer = httpx.post(f"{server.url}/v1/sweeps", json=spec)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize("after", [-2, 10**12 + 1, 2**63, 10**30])
def test_a_place_among_members_that_no_sweep_has_is_refused(server: Service, after: int) -> None:
    answer = httpx.get(f"{server.url}/v1/sweeps/latest/members", params={"after": after})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == "/after"
