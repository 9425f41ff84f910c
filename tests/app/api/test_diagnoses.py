"""Diagnoses over HTTP: the rules, the verdicts on runs, and the events; the same for all who ask, whenever they do."""

from typing import Any

import httpx
import pytest

from chainrule.app.api.schemas.diagnoses import DiagnosisRules, Verdicts
from chainrule.engine.rules import RULES
from tests.app.api.calls import DIGITS, XOR, ended, finished, refused, stream

ZEROS: dict[str, Any] = {
    "name": "zeros", "dataset": "digits", "epochs": 12, "batch_size": 50, "seed": 1, "checkpoints": {"every": 4},
    "network": {"layers": [{"units": 9, "activation": "tanh", "initializer": "zeros"},
                           {"units": 10, "activation": "softmax", "initializer": "zeros"}]},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
}  # fmt: skip


@pytest.fixture(scope="module")
def zeros(client: httpx.Client) -> dict[str, Any]:
    return finished(client, ZEROS)


def verdicts(client: httpx.Client, run: dict[str, Any]) -> list[dict[str, Any]]:
    response = client.get(f"/v1/runs/{run['id']}/diagnoses")
    assert response.status_code == 200, response.text
    Verdicts.model_validate(response.json())
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def test_the_rules_are_listed_with_their_thresholds(client: httpx.Client) -> None:
    response = client.get("/v1/diagnoses")
    items = DiagnosisRules.model_validate(response.json()).items
    assert [(one.id, one.threshold, one.fix) for one in items] == [(r.id, r.threshold, r.fix) for r in RULES]
    headers = {"If-None-Match": response.headers["etag"]}
    assert client.get("/v1/diagnoses", headers=headers).status_code == 304


def test_a_run_that_cannot_learn_is_told_why(client: httpx.Client, zeros: dict[str, Any]) -> None:
    found = {one["rule"]: one for one in verdicts(client, zeros)}
    assert {"symmetric", "vanishing", "no_signal", "one_class", "plateau"} <= found.keys()
    vanishing = found["vanishing"]
    places = ("layer", "first_epoch", "raised_at", "last_epoch")
    assert [vanishing[name] for name in places] == [1, 0, 1, 12]
    assert (vanishing["active"], vanishing["value"], vanishing["threshold"]) == (True, 0, 1e-3)
    assert "layer 1" in vanishing["sentence"]
    assert found["symmetric"]["fix"].startswith("Begin with random weights")
    assert client.get(vanishing["link"]).status_code == 200
    for one in found.values():
        assert not any(brace in one["sentence"] + one["fix"] for brace in "{}")


def test_every_link_of_a_verdict_leads_to_what_is_kept(client: httpx.Client) -> None:
    run = finished(
        client, ZEROS | {"name": "linked", "epochs": 11, "checkpoints": {"every": 4}, "gradients": {"every": 5}}
    )
    found = verdicts(client, run)
    assert found
    for one in found:
        assert client.get(one["link"]).status_code == 200, one["link"]


def test_a_run_has_its_verdicts_in_short_alone_and_in_lists(client: httpx.Client, zeros: dict[str, Any]) -> None:
    names = ("rule", "severity", "title", "layer", "first_epoch", "raised_at", "last_epoch", "active")
    short = [{name: one[name] for name in names} for one in verdicts(client, zeros)]
    assert sorted(zeros["diagnoses"], key=str) == sorted(short, key=str)
    (listed,) = client.get("/v1/runs", params={"name": "zeros", "limit": 1}).json()["items"]
    assert listed["diagnoses"] == zeros["diagnoses"]


def test_a_healthy_run_has_none_that_is_no_hint(client: httpx.Client, digits_run: dict[str, Any]) -> None:
    assert [one for one in digits_run["diagnoses"] if one["severity"] != "info"] == []


def test_events_tell_of_verdicts_before_the_epoch_they_were_raised_at(
    client: httpx.Client, zeros: dict[str, Any]
) -> None:
    heard = stream(client, zeros["id"])
    told = [(n, event.data) for n, event in enumerate(heard) if event.name == "diagnosis"]
    assert {data["rule"] for _, data in told} == {one["rule"] for one in zeros["diagnoses"]}
    for n, data in told:
        later = next(event for event in heard[n:] if event.name == "epoch")
        assert (data["state"], later.data["epoch"]) == ("raised", data["epoch"])
        assert data["sentence"]
    rest = stream(client, zeros["id"], after=2)
    assert [e.data for e in rest if e.name == "diagnosis"] == [data for _, data in told if data["epoch"] > 2]


def test_a_run_that_diverges_is_told_at_once(client: httpx.Client) -> None:
    spec = XOR | {"name": "diverging", "optimizer": {"name": "sgd", "learning_rate": 1e38}, "gradients": {"every": 7}}
    run = finished(client, spec, "failed")
    assert run["reason"] == "diverged"
    (found,) = [one for one in verdicts(client, run) if one["rule"] == "nonfinite"]
    assert found["raised_at"] == run["progress"]["epochs_done"] + 1
    heard = stream(client, run["id"])
    assert [event.data["rule"] for event in heard if event.name == "diagnosis"][-1] == "nonfinite"
    assert heard[-1].name == "end"


def test_without_recorded_gradients_costs_are_looked_at(client: httpx.Client) -> None:
    spec = ZEROS | {"name": "costs", "gradients": {"every": 0}}
    assert {one["rule"] for one in verdicts(client, finished(client, spec))} == {"plateau"}


def test_an_extended_run_has_the_verdicts_of_one_that_never_stopped(client: httpx.Client) -> None:
    whole = finished(client, ZEROS | {"name": "whole", "epochs": 16, "gradients": {"every": 2}})
    part = finished(client, ZEROS | {"name": "part", "epochs": 8, "gradients": {"every": 2}})
    response = client.post(f"/v1/runs/{part['id']}/extend", json={"to": 16}, headers={"Prefer": "wait=60"})
    extended = response.json()
    assert extended["done"], extended
    assert extended["diagnoses"] == whole["diagnoses"]
    assert verdicts(client, extended) == [
        one | {"link": one["link"].replace(whole["id"], extended["id"])} for one in verdicts(client, whole)
    ]


def test_verdicts_of_an_ended_run_may_be_kept_and_others_are_asked_for_again(
    client: httpx.Client, zeros: dict[str, Any]
) -> None:
    first = client.get(f"/v1/runs/{zeros['id']}/diagnoses")
    assert "immutable" in first.headers["cache-control"]
    headers = {"If-None-Match": first.headers["etag"]}
    assert client.get(f"/v1/runs/{zeros['id']}/diagnoses", headers=headers).status_code == 304
    assert "no-cache" in client.get("/v1/runs/latest/diagnoses").headers["cache-control"]
    refused(client.get("/v1/runs/run_none/diagnoses"), "not_found")


def test_a_verification_has_no_verdicts_of_its_own(client: httpx.Client) -> None:
    run = finished(client, DIGITS | {"name": "verified", "epochs": 3})
    made = client.post(f"/v1/runs/{run['id']}/verify", json={}).json()
    assert ended(client, made["id"])["diagnoses"] == []
