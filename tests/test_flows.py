"""Whole stories, with the real service, real processes and real signals."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.app.api import calls
from tests.app.api.calls import last_weights
from tests.conftest import KINDS
from tests.processes import busiest, fork_servers, trainers
from tests.service import Service, local_only, serving, working
from tests.waiting import wait_for

XOR = calls.XOR | {"epochs": 100}
LONG = {
    "name": "long",
    "dataset": "digits",
    "validation": {"fraction": 0.2, "seed": 3},
    "network": {"layers": [{"units": 32, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "epochs": 1000,
    "batch_size": 32,
    "checkpoints": {"every": 50},
    "seed": 11,
}
QUICK_RECOVERY = {"heartbeat_interval_s": 0.2, "attempt_timeout_s": 3.0, "flush_interval_s": 0.1}


def submit(client: httpx.Client, spec: dict[str, Any]) -> str:
    response = client.post("/v1/runs", json=spec)
    assert response.status_code == 201, response.text
    run_id: str = response.json()["id"]
    return run_id


def ended(client: httpx.Client, run_id: str, timeout_s: float = 180.0) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        run: dict[str, Any] = client.get(f"/v1/runs/{run_id}", headers={"Prefer": "wait=5"}).json()
        return run if run["done"] else None

    result: dict[str, Any] = wait_for(look, timeout_s)
    return result


def epochs_of(client: httpx.Client, run_id: str) -> list[int]:
    columns = client.get(f"/v1/runs/{run_id}/epochs", params={"limit": 10000}).json()["columns"]
    numbers: list[int] = columns["epoch"]
    return numbers


def under_way(client: httpx.Client, run_id: str, epochs: int) -> bool:
    progress = client.get(f"/v1/runs/{run_id}").json()["progress"]
    return bool(progress["epochs_done"] >= epochs)


def host(service: Service) -> psutil.Process:
    return psutil.Process(service.process.pid)


def kill_what_trains(service: Service) -> None:
    training = busiest(host(service))
    assert training is not None
    training.kill()


def kill_fork_servers(service: Service) -> None:
    for server in fork_servers(host(service)):
        server.kill()


@pytest.fixture(scope="module")
def undisturbed(fresh: Any, cache_dir: Path) -> str:
    """The weights an undisturbed run of LONG ends with."""
    with (
        serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=1) as service,
        service.client() as client,
    ):
        run_id = submit(client, LONG)
        assert ended(client, run_id)["status"] == "succeeded"
        return last_weights(client, run_id)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_whose_training_process_is_killed_ends_with_the_same_weights(
    fresh: Any, cache_dir: Path, undisturbed: str, kind: str
) -> None:
    with (
        serving(database_url=fresh.url(kind), cache_dir=cache_dir, slots=1, **QUICK_RECOVERY) as service,
        service.client() as client,
    ):
        run_id = submit(client, LONG)
        wait_for(lambda: under_way(client, run_id, 50))
        kill_what_trains(service)
        run = ended(client, run_id)
        assert (run["status"], run["attempts"], run["failures"]) == ("succeeded", 2, 1)
        assert ("queued", "child_lost") in [(t["status"], t["reason"]) for t in run["transitions"]]
        assert "SIGKILL" in str(run["transitions"])
        assert last_weights(client, run_id) == undisturbed
        assert epochs_of(client, run_id) == list(range(LONG["epochs"] + 1))  # type: ignore[operator]


@local_only
def test_a_process_that_is_killed_while_it_waits_for_an_order_costs_nothing(fresh: Any, cache_dir: Path) -> None:
    with (
        serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=1) as service,
        service.client() as client,
    ):
        (waiting,) = wait_for(lambda: trainers(host(service)))
        waiting.kill()
        run = ended(client, submit(client, XOR))
        assert (run["status"], run["attempts"], run["failures"]) == ("succeeded", 1, 0)


@pytest.mark.parametrize("moment", [pytest.param("before", marks=local_only), "while_it_trains"])
def test_no_run_is_lost_with_the_process_that_training_processes_are_forked_from(
    fresh: Any, cache_dir: Path, undisturbed: str, moment: str
) -> None:
    with (
        serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=4, **QUICK_RECOVERY) as service,
        service.client() as client,
    ):
        if moment == "before":
            wait_for(lambda: len(trainers(host(service))) == 4)
            kill_fork_servers(service)
        run_id = submit(client, LONG)
        if moment == "while_it_trains":
            wait_for(lambda: under_way(client, run_id, 50))
            kill_fork_servers(service)
        run = ended(client, run_id)
        assert (run["status"], run["attempts"], run["failures"]) == ("succeeded", 1, 0)
        assert last_weights(client, run_id) == undisturbed


@pytest.mark.parametrize("kind", KINDS)
def test_an_extension_that_is_killed_on_its_way_ends_with_the_weights_of_the_whole(
    fresh: Any, cache_dir: Path, undisturbed: str, kind: str
) -> None:
    with (
        serving(database_url=fresh.url(kind), cache_dir=cache_dir, slots=1, **QUICK_RECOVERY) as service,
        service.client() as client,
    ):
        first = submit(client, LONG | {"epochs": 70})
        assert ended(client, first)["status"] == "succeeded"
        run_id = client.post(f"/v1/runs/{first}/extend", json={"to": LONG["epochs"]}).json()["id"]
        assert client.delete(f"/v1/runs/{first}").status_code == 204
        wait_for(lambda: under_way(client, run_id, 150))
        kill_what_trains(service)
        run = ended(client, run_id)
        assert (run["status"], run["attempts"], run["failures"]) == ("succeeded", 2, 1)
        assert last_weights(client, run_id) == undisturbed
        assert epochs_of(client, run_id) == list(range(LONG["epochs"] + 1))  # type: ignore[operator]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_whose_worker_is_killed_is_finished_by_another_with_the_same_weights(
    fresh: Any, cache_dir: Path, undisturbed: str, kind: str
) -> None:
    url = fresh.url(kind)
    common = {"database_url": url, "cache_dir": cache_dir, **QUICK_RECOVERY}
    with (
        serving(slots=0, **common) as service,
        service.client() as client,
        working(slots=1, **common) as first,
    ):
        run_id = submit(client, LONG)
        wait_for(lambda: under_way(client, run_id, 50))
        children = psutil.Process(first.process.pid).children(recursive=True)
        first.process.kill()
        psutil.wait_procs(children, timeout=60)
        assert not [child for child in children if child.is_running()], "a dead worker left a process behind"
        with working(slots=1, **common):
            run = ended(client, run_id)
        assert (run["status"], run["attempts"], run["failures"]) == ("succeeded", 2, 1)
        assert ("queued", "worker_lost") in [(t["status"], t["reason"]) for t in run["transitions"]]
        assert last_weights(client, run_id) == undisturbed
        assert epochs_of(client, run_id) == list(range(LONG["epochs"] + 1))  # type: ignore[operator]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ending_the_service_leaves_running_runs_queued_with_their_resume_points(
    fresh: Any, cache_dir: Path, undisturbed: str, number: signal.Signals
) -> None:
    url = fresh.url("sqlite")
    with serving(database_url=url, cache_dir=cache_dir, slots=1) as service, service.client() as client:
        run_id = submit(client, LONG)
        wait_for(lambda: under_way(client, run_id, 50))
        assert service.stop(number) == 0
    with serving(database_url=url, cache_dir=cache_dir, slots=0) as service, service.client() as client:
        run = client.get(f"/v1/runs/{run_id}").json()
        assert (run["status"], run["reason"], run["failures"]) == ("queued", "drained", 0)
        assert 50 <= run["progress"]["epochs_done"] < LONG["epochs"]
    with serving(database_url=url, cache_dir=cache_dir, slots=1) as service, service.client() as client:
        assert ended(client, run_id)["status"] == "succeeded"
        assert last_weights(client, run_id) == undisturbed


def test_a_signal_to_all_processes_ends_the_service_as_one_to_the_service_does(fresh: Any, cache_dir: Path) -> None:
    url = fresh.url("sqlite")
    with serving(database_url=url, cache_dir=cache_dir, slots=2) as service, service.client() as client:
        run_ids = [submit(client, LONG) for _ in range(2)]
        wait_for(lambda: all(under_way(client, run_id, 50) for run_id in run_ids))
        everybody = psutil.Process(service.process.pid).children(recursive=True)
        service.process.terminate()
        for process in everybody:
            process.terminate()
        assert service.process.wait(timeout=120) == 0
        assert "Traceback" not in service.log.read_text()
    with serving(database_url=url, cache_dir=cache_dir, slots=0) as service, service.client() as client:
        for run_id in run_ids:
            run = client.get(f"/v1/runs/{run_id}").json()
            assert (run["status"], run["reason"]) == ("queued", "drained")
            assert (run["attempts"], run["failures"]) == (1, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_that_ends_under_load_puts_back_all_it_trains_with_nothing_lost(
    fresh: Any, cache_dir: Path, kind: str
) -> None:
    common = {"database_url": fresh.url(kind), "cache_dir": cache_dir}
    spec = LONG | {"epochs": 120}
    sweep = {"run": spec, "strategy": {"kind": "seeds", "count": 6}}

    def all_runs(client: httpx.Client) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = client.get("/v1/runs", params={"limit": 200}).json()["items"]
        return runs

    with serving(slots=3, **common) as service, service.client() as client:
        submit(client, spec)
        response = client.post("/v1/sweeps", json=sweep)
        assert response.status_code == 201, response.text
        wait_for(lambda: sum(run["progress"]["epochs_done"] > 3 for run in all_runs(client)) >= 3)
        seen = {run["id"]: run["progress"]["steps_done"] for run in all_runs(client)}
        assert service.stop() == 0
        assert "Traceback" not in service.log.read_text()
    with serving(slots=0, **common) as service, service.client() as client:
        stopped = all_runs(client)
        assert {run["status"] for run in stopped} <= {"queued", "succeeded"}
        drained = [run for run in stopped if run["reason"] == "drained"]
        assert len(drained) >= 2
        assert {(run["attempts"], run["failures"]) for run in drained} == {(1, 0)}
        # One that was claimed just before may have taken no step yet.
        assert all(run["progress"]["steps_done"] >= seen[run["id"]] for run in stopped)
        assert any(seen[run["id"]] > 0 for run in drained)
    with serving(slots=3, **common) as service, service.client() as client:
        for run in stopped:
            finished = ended(client, run["id"])
            assert (finished["status"], finished["failures"]) == ("succeeded", 0)
            assert epochs_of(client, run["id"]) == list(range(121))
        again = client.post(f"/v1/runs/{drained[0]['id']}/clone", json={}).json()["id"]
        assert ended(client, again)["status"] == "succeeded"
        assert last_weights(client, again) == last_weights(client, drained[0]["id"])


def train_two_long_epochs(database_url: str, cache_dir: Path, *, kill: bool) -> tuple[str, list[float], list[float]]:
    """Train two epochs of many small steps, killing the training in the middle of the first if asked."""
    samples = [[float((i * j) % 17) / 17 for j in range(1, 21)] for i in range(12000)]
    labels = [str(i % 10) for i in range(12000)]
    with (
        serving(database_url=database_url, cache_dir=cache_dir, slots=1, **QUICK_RECOVERY) as service,
        service.client() as client,
    ):
        dataset = client.post("/v1/datasets", json={"name": "d", "samples": samples, "labels": labels}).json()
        changes = {"dataset": dataset["id"], "validation": None, "epochs": 2, "batch_size": 1}
        run_id = submit(client, LONG | changes)
        if kill:
            wait_for(lambda: client.get(f"/v1/runs/{run_id}").json()["progress"]["steps_done"] > 0)
            assert client.get(f"/v1/runs/{run_id}").json()["progress"]["epochs_done"] == 0
            kill_what_trains(service)
        run = ended(client, run_id)
        assert (run["status"], run["attempts"]) == ("succeeded", 2 if kill else 1)
        columns = client.get(f"/v1/runs/{run_id}/epochs").json()["columns"]
        return last_weights(client, run_id), columns["cost"], columns["error"]


def test_a_kill_in_the_middle_of_a_long_epoch_costs_no_bit(fresh: Any, cache_dir: Path) -> None:
    undisturbed, killed = (train_two_long_epochs(fresh.url("sqlite"), cache_dir, kill=kill) for kill in (False, True))
    assert killed == undisturbed


def test_a_running_run_is_cancelled_within_its_grace(fresh: Any, cache_dir: Path) -> None:
    with (
        serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=1, grace_s=60) as service,
        service.client() as client,
    ):
        run_id = submit(client, LONG | {"epochs": 50000, "checkpoints": {"every": 10000}})
        wait_for(lambda: under_way(client, run_id, 1))
        started = time.monotonic()
        response = client.post(f"/v1/runs/{run_id}/cancel")
        assert response.status_code == 202
        assert response.json()["cancel_requested"] is True
        run = ended(client, run_id)
        assert (run["status"], run["reason"]) == ("cancelled", "cancel_requested")
        assert time.monotonic() - started < 60, "it was killed"
        recorded = epochs_of(client, run_id)
        assert recorded == list(range(run["progress"]["epochs_done"] + 1))


def test_a_wish_to_cancel_outlives_the_worker_that_was_asked_to_end_first(fresh: Any, cache_dir: Path) -> None:
    common = {"database_url": fresh.url("sqlite"), "cache_dir": cache_dir}
    with serving(slots=0, **common) as service, service.client() as client, working(slots=1, **common) as worker:
        run_id = submit(client, LONG | {"epochs": 50000, "checkpoints": {"every": 10000}})
        wait_for(lambda: under_way(client, run_id, 1))
        worker.process.send_signal(signal.SIGTERM)
        assert client.post(f"/v1/runs/{run_id}/cancel").status_code in (200, 202)
        assert worker.process.wait(timeout=120) == 0
        run = client.get(f"/v1/runs/{run_id}").json()
        assert (run["status"], run["reason"]) == ("cancelled", "cancel_requested")


def test_a_run_that_is_to_be_cancelled_ends_though_every_worker_is_dead(fresh: Any, cache_dir: Path) -> None:
    common = {"database_url": fresh.url("sqlite"), "cache_dir": cache_dir, **QUICK_RECOVERY}
    with serving(slots=0, **common) as service, service.client() as client, working(slots=1, **common) as worker:
        run_id = submit(client, LONG | {"epochs": 50000, "checkpoints": {"every": 10000}})
        wait_for(lambda: under_way(client, run_id, 1))
        worker.process.kill()
        assert client.post(f"/v1/runs/{run_id}/cancel").status_code == 202
        run = ended(client, run_id)
        assert (run["status"], run["reason"]) == ("cancelled", "cancel_requested")
        (attempt,) = client.get(f"/v1/runs/{run_id}/attempts").json()["items"]
        assert (attempt["status"], attempt["detail"]) == ("cancelled", "no heartbeat for 3 s")


def test_a_worker_that_is_told_to_end_while_it_is_stopped_ends_when_it_goes_on(fresh: Any, cache_dir: Path) -> None:
    with working(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=1) as worker:
        wait_for(lambda: "is ready" in worker.log.read_text())
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT):
            worker.process.send_signal(number)
            time.sleep(0.1)
        assert worker.process.wait(timeout=10) == 0


def test_a_worker_that_cannot_reach_its_database_says_so_in_few_words(cache_dir: Path) -> None:
    with working(database_url="postgresql://nobody@127.0.0.1:1/nothing", cache_dir=cache_dir, slots=1) as worker:
        assert worker.process.wait(timeout=120) == 1
        log = worker.log.read_text()
        assert "cannot open the database" in log
        assert "Traceback" not in log


def test_a_run_that_diverges_fails_and_says_so(fresh: Any, cache_dir: Path) -> None:
    with (
        serving(database_url=fresh.url("sqlite"), cache_dir=cache_dir, slots=1) as service,
        service.client() as client,
    ):
        spec = XOR | {
            "network": {"layers": [{"units": 8, "activation": "relu"}, {"units": 1, "activation": "linear"}]},
            "cost": "mse",
            "optimizer": {"name": "sgd", "learning_rate": 1e6},
        }
        run = ended(client, submit(client, spec))
        assert (run["status"], run["reason"]) == ("failed", "diverged")
        assert "epoch" in run["detail"]


@pytest.mark.parametrize("kind", KINDS)
def test_many_submissions_at_once_are_each_trained_exactly_once(fresh: Any, cache_dir: Path, kind: str) -> None:
    with serving(database_url=fresh.url(kind), cache_dir=cache_dir, slots=4) as service:
        submitted: list[str] = []

        def submit_some() -> None:
            with service.client() as client:
                submitted.extend(submit(client, XOR) for _ in range(10))

        threads = [threading.Thread(target=submit_some) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with service.client() as client:
            assert len(set(submitted)) == 80
            for run_id in submitted:
                run = ended(client, run_id)
                assert (run["status"], run["attempts"]) == ("succeeded", 1)
                assert epochs_of(client, run_id) == list(range(XOR["epochs"] + 1))
            hashes = {last_weights(client, run_id) for run_id in submitted}
            assert len(hashes) == 1
        log = service.log.read_text()
        assert "locked" not in log
        assert "Traceback" not in log
