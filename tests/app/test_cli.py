"""The command line, as a person or a script uses it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from typer.testing import CliRunner, Result

from chainrule.app import console
from chainrule.app.cli.frame import app
from chainrule.app.services import audit
from chainrule.app.services.audit import Change
from chainrule.app.services.keys import Caller
from chainrule.app.store import migrations
from chainrule.app.store.database import Database
from chainrule.app.store.models import Checkpoint
from tests.app.receiver import receiving
from tests.service import Service, serving

SPEC: dict[str, Any] = {
    "name": "fruit",
    "network": {"layers": [{"units": 4, "activation": "tanh"}, {"units": 2, "activation": "softmax"}]},
    "optimizer": {"name": "adam", "learning_rate": 0.05},
    "epochs": 60,
}
CSV = "weight,round,fruit\n" + "\n".join(f"{n / 40},{n % 2},{'apple' if n % 2 else 'pear'}" for n in range(40))


def chainrule(*arguments: str, url: str = "", status: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "160"} | ({"CHAINRULE_URL": url} if url else {})
    done = subprocess.run(
        [sys.executable, "-m", "chainrule", *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False, **options,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done


def typed(*arguments: str, url: str = "", status: int = 0) -> Result:
    """Run a command as `chainrule` does, without starting a process, which takes half a second of a core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console.output, "_width", 160)
        done = CliRunner().invoke(app, arguments, env={"CHAINRULE_URL": url or None}, catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done


def as_json(*arguments: str, url: str) -> Any:
    return json.loads(typed(*arguments, "--json", url=url).stdout)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    (tmp_path / "train.csv").write_text(CSV)
    return str(tmp_path / "spec.json"), str(tmp_path / "train.csv")


def test_submitting_with_data_and_watching_shows_progress_and_the_result(
    server: Service, files: tuple[str, str]
) -> None:
    spec, data = files
    out = chainrule("submit", spec, "--data", data, "--watch", url=server.url).stdout
    assert "60/60" in out
    assert "2 → 4 tanh → 2 softmax" in out
    assert "succeeded (completed)" in out


def test_every_command_that_reads_gives_json(server: Service, files: tuple[str, str], tmp_path: Path) -> None:
    spec, data = files
    run = as_json("submit", spec, "--data", data, "--watch", url=server.url)
    assert (run["status"], run["name"]) == ("succeeded", "fruit")
    run_id = run["id"]
    assert as_json("show", run_id, url=server.url)["id"] == run_id
    assert run_id in [found["id"] for found in as_json("runs", "--name", "fruit", url=server.url)]
    assert [row["epoch"] for row in as_json("epochs", run_id, "--after", "57", url=server.url)] == [58, 59, 60]
    weights = as_json("weights", run_id, "--epoch", "0", url=server.url)
    assert np.shape(weights["W1"]) == (4, 2)
    saved = as_json("weights", run_id, "--out", str(tmp_path / "w.npz"), url=server.url)
    assert np.load(saved["path"])["W2"].shape == (2, 4)
    for arguments, start in ((("w.onnx",), b"\x08"), (("w.bin", "--format", "torch"), b"")):
        saved = as_json("weights", run_id, "-o", str(tmp_path / arguments[0]), *arguments[1:], url=server.url)
        assert Path(saved["path"]).read_bytes().startswith(start)
    assert set(safetensors.numpy.load_file(saved["path"])) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    records = as_json("gradients", run_id, url=server.url)
    assert {record["gradient"] for record in records} == {"dW1", "db1", "dW2", "db2"}
    found = as_json("gradients", run_id, "--rows", "0,1", "--names", "dZ2,dW2", url=server.url)
    assert list(found["quantities"]) == ["dZ2", "dW2"]
    assert np.shape(found["quantities"]["dZ2"]["values"]) == (2, 2)
    assert [column["name"] for column in as_json("inputs", run_id, url=server.url)["columns"]] == ["weight", "round"]
    measured = as_json("metrics", run_id, "--epoch", "60", "--split", "training", url=server.url)
    assert (measured["epoch"], measured["samples"], np.sum(measured["confusion_matrix"])) == (60, 40, 40)
    predicted = as_json("predict", "[[0.1, 0], [0.1, 1]]", "--run", run_id, url=server.url)
    assert predicted["labels"] == ["pear", "apple"]
    assert "xor" in [found["id"] for found in as_json("datasets", url=server.url)]
    assert as_json("upload", data, url=server.url)["id"] == run["dataset"]
    categorical = as_json("upload", data, "--categorical-columns", "round", url=server.url)
    assert categorical["report"]["columns"][1] == {"name": "round", "kind": "categorical", "categories": ["0", "1"]}
    extended = as_json("extend", run_id, "--epochs", "3", "--watch", url=server.url)
    assert (extended["extends"], extended["progress"]["epochs_done"]) == (run_id, 63)
    changes = ("--set", "seed=4", "--set", 'optimizer={"name": "sgd"}', "--set", "name=pears")
    cloned = as_json("clone", run_id, *changes, url=server.url)
    assert (cloned["cloned_from"], cloned["name"], cloned["config"]["seed"]) == (run_id, "pears", 4)
    assert as_json("delete", run_id, url=server.url) == {"deleted": run_id}


def test_every_command_that_reads_gives_a_table(server: Service, files: tuple[str, str], tmp_path: Path) -> None:
    spec, data = files
    run_id = as_json("submit", spec, "--data", data, "--watch", url=server.url)["id"]
    for arguments, shown in (
        (("show", run_id), "cross_entropy, adam"),
        (("runs",), "fruit"),
        (("epochs", run_id), "learning rate"),
        (("inputs", run_id), "Inputs, scaling none"),
        (("weights", run_id), "(4, 2)"),
        (("weights", run_id, "--out", str(tmp_path / "w.safetensors")), "saved"),
        (("gradients", run_id), "standard deviation"),
        (("gradients", run_id, "--epoch", "60", "--names", "dW1"), "60  dW1"),
        (("gradients", run_id, "--rows", "0,1"), "dW[1] = (1/m)·dZ[1]ᵀ·A[0]"),
        (("metrics", run_id), "Confusion matrix: rows are actual classes"),
        (("predict", "[[0.1, 1]]", "--run", run_id), "apple"),
        (("datasets",), "digits"),
        (("upload", data), "the last column, and its values are words"),
        (("watch", run_id), "60/60"),
        (("extend", run_id, "--to", "70", "--watch"), f"extends   {run_id}"),
        (("clone", run_id, "--set", "epochs=2"), f"cloned from  {run_id}"),
        (("delete", run_id), f"deleted {run_id}"),
    ):
        assert shown in typed(*arguments, url=server.url).stdout, arguments


def test_a_spec_is_read_from_standard_input_and_cancelled(server: Service) -> None:
    endless = SPEC | {"dataset": "moons", "epochs": 10**7, "checkpoints": {"every": 10**6}}
    run = json.loads(chainrule("submit", "-", "--json", url=server.url, input=json.dumps(endless)).stdout)
    cancelled = as_json("cancel", run["id"], url=server.url)
    assert cancelled["cancel_requested"] or cancelled["status"] == "cancelled"
    watched = chainrule("watch", run["id"], url=server.url, status=1)
    assert "cancelled" in watched.stdout


def test_a_refusal_is_one_line_and_status_2(server: Service, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(json.dumps(SPEC | {"dataset": "nowhere"}))
    done = typed("submit", str(tmp_path / "bad.json"), url=server.url, status=2)
    assert done.stderr.startswith("refused (422 invalid_input): There is no dataset 'nowhere'")
    assert "Traceback" not in done.stderr
    (tmp_path / "no.json").write_text("{")
    assert "is not JSON" in typed("submit", str(tmp_path / "no.json"), url=server.url, status=2).stderr
    assert "No such file" in typed("submit", str(tmp_path / "gone.json"), url=server.url, status=2).stderr
    (tmp_path / "image.json").write_bytes(b"\x89PNG\xff")
    assert "is not UTF-8" in typed("submit", str(tmp_path / "image.json"), url=server.url, status=2).stderr
    assert "changes nothing" in typed("clone", "run_1", "--set", "seed", url=server.url, status=2).stderr
    assert "either epochs" in typed("extend", "run_1", url=server.url, status=2).stderr
    assert "name one with --out" in typed("weights", "--format", "onnx", url=server.url, status=2).stderr
    assert "is no row number" in typed("gradients", "latest", "--rows", "a", url=server.url, status=2).stderr


@pytest.mark.parametrize("samples", ["[1, 2]", "[[null, 1]]", "[[1, 2], [3]]", '{"samples": [[1, 2]]}', "[[1, 2]"])
def test_samples_that_are_no_rows_of_numbers_are_refused_in_a_line(server: Service, samples: str) -> None:
    done = typed("predict", samples, url=server.url, status=2)
    assert "samples" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_may_be_that_of_the_api_and_must_have_a_scheme(server: Service) -> None:
    assert "xor" in typed("datasets", url=f"{server.url}/v1/").stdout
    done = typed("datasets", url=server.url.removeprefix("http://"), status=2)
    assert "is no address of a service" in done.stderr


def test_a_name_is_shown_as_it_is_and_a_pipe_gets_plain_lines(server: Service, tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text(json.dumps(SPEC | {"name": "[red]a[/b]", "dataset": "moons"}))
    out = chainrule("submit", str(tmp_path / "odd.json"), "--watch", url=server.url).stdout
    assert "[red]a[/b]  6/60  cost" in out
    assert "name      [red]a[/b]\n" in out
    assert "[red]a[/b]" in chainrule("runs", url=server.url).stdout
    assert not re.search(r"\x1b|━| $", out, flags=re.MULTILINE)


def streams(server: Service) -> float:
    """Count those who follow a run."""
    with server.client() as client:
        found = re.search(r"^chainrule_event_streams ([\d.]+)$", client.get("/metrics").text, flags=re.MULTILINE)
    assert found is not None
    return float(found.group(1))


def test_ctrl_c_ends_watching_and_not_the_run(server: Service, tmp_path: Path) -> None:
    endless = SPEC | {"dataset": "moons", "epochs": 10**7, "checkpoints": {"every": 10**6}}
    (tmp_path / "endless.json").write_text(json.dumps(endless))
    run_id = as_json("submit", str(tmp_path / "endless.json"), url=server.url)["id"]
    command = [sys.executable, "-m", "chainrule", "watch", run_id]
    before = streams(server)
    watching = subprocess.Popen(
        command, env=os.environ | {"CHAINRULE_URL": server.url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        while streams(server) == before and watching.poll() is None:
            time.sleep(0.05)
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=120)
    finally:
        watching.kill()
        assert as_json("cancel", run_id, url=server.url)["id"] == run_id
    assert watching.returncode == 130
    assert said == f"The run goes on; see it again with: chainrule watch {run_id}\n"


def test_a_service_that_cannot_be_reached_is_one_line_and_status_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        done = chainrule("runs", url=f"http://127.0.0.1:{taken.getsockname()[1]}", status=2)
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_audit_log_of_all_owners_is_read_beside_the_database(fresh: Any) -> None:
    url = fresh.url("sqlite")
    database = Database(url)
    for number, owner in enumerate(("alice", "bob", "alice")):
        caller = Caller(owner, "admin", f"key_{owner}")
        made = Change("POST", "/v1/runs", f"run_{number}", "127.0.0.1", 201 if number else 0, f"r{number}")
        audit.record(database, caller, made)
    database.dispose()
    beside = ("--database-url", url)
    done = typed("audit", "--limit", "2", *beside)
    said = [line.partition(" ")[2] for line in done.stdout.splitlines()]
    assert said == [
        "alice key_alice 127.0.0.1 POST /v1/runs (run_2): 201", "bob key_bob 127.0.0.1 POST /v1/runs (run_1): 201",
    ]  # fmt: skip
    last = done.stderr.split()[-1]
    assert typed("audit", "--before", last, *beside).stdout.endswith("(run_0): unknown\n")
    lines = [json.loads(line) for line in typed("audit", "--ndjson", *beside).stdout.splitlines()]
    assert [(line["object_id"], line["status"]) for line in lines] == [("run_0", None), ("run_1", 201), ("run_2", 201)]
    since = typed("audit", "--ndjson", "--after", last, "--owner", "alice", *beside).stdout
    assert json.loads(since) == lines[2]
    assert json.loads(typed("audit", "--json", "--owner", "bob", *beside).stdout) == [lines[1]]
    assert "--before" in typed("audit", "--after", last, *beside, status=2).stderr


def test_help_lists_every_command() -> None:
    out = chainrule("--help").stdout
    for command in ("serve", "worker", "migrate", "demo", "submit", "watch", "runs", "show", "epochs", "weights",
                    "gradients", "metrics", "predict", "extend", "clone", "cancel", "delete", "datasets",
                    "upload", "attempts", "pause", "resume", "audit"):  # fmt: skip
        assert re.search(rf"\b{command}\b", out), command


def test_migrate_says_what_it_did(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/fresh.sqlite3"
    newest = max(file.name for file in (Path(migrations.__file__).parent / "versions").glob("0*.py"))[:4]
    assert chainrule("migrate", "--database-url", url).stdout == f"schema none → {newest}\n"
    assert chainrule("migrate", "--database-url", url).stdout == f"schema {newest}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serve", "--slots", "-1"), "CHAINRULE_SLOTS"),
        (("serve", "--port", "99999"), "CHAINRULE_PORT"),
        (("worker", "--slots", "0"), "at least one slot"),
        (("serve", "--database-url", "mysql://nowhere/x"), "mysql"),
        (("migrate", "--database-url", "sqlite://"), "must be a file"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_line(arguments: tuple[str, ...], said: str) -> None:
    done = chainrule(*arguments, status=2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_database_that_cannot_be_reached_is_said_in_a_line(command: str) -> None:
    done = chainrule(command, "--database-url", "postgresql://nobody@127.0.0.1:1/nothing", status=1)
    assert "cannot open the database" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_said_in_the_log(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = chainrule("serve", "--port", port, "--database-url", f"sqlite:///{tmp_path}/x.sqlite3", status=1)
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_the_demonstration_trains_digits_below_five_percent_and_ends(tmp_path: Path) -> None:
    out = chainrule("demo", "--exit", "--folder", str(tmp_path / "demo")).stdout
    found = re.search(r"Test-set classification error: ([\d.]+)%", out)
    assert found is not None, out
    assert float(found.group(1)) < 5
    for shown in ("Cost and error", "Gradient norms", "dW1", "db2", "epoch 1", "epoch 40", "/docs"):
        assert shown in out
    for equation in ("dZ[1] = dA[1] ⊙ g′(Z[1])", "dW[2] = (1/m)·dZ[2]ᵀ·A[1]", "dA[1] = dZ[2]·W[2]"):
        assert equation in out
    (saved,) = (tmp_path / "demo").glob("*.safetensors")
    assert saved.name in re.sub(r"\s", "", out)


@pytest.mark.parametrize("after_s", [0.7, 1.5])
def test_the_demonstration_ended_early_leaves_no_service_behind(tmp_path: Path, after_s: float) -> None:
    command = [sys.executable, "-m", "chainrule", "demo", "--folder", str(tmp_path / "demo")]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(after_s)
    demo.terminate()
    rest, _ = demo.communicate(timeout=120)  # which waits for all who hold the pipe: the service too
    assert "Traceback" not in rest


def test_the_demonstration_serves_until_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chainrule", "demo", "--folder", str(tmp_path / "demo")]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "160"}
    demo = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    lines = []
    for line in demo.stdout:
        lines.append(line)
        if "Serving until Ctrl-C" in line:
            break
    time.sleep(0.2)
    url = re.search(r"http://127\.0\.0\.1:\d+", "".join(lines))
    assert url is not None
    assert "succeeded" in chainrule("show", "latest", url=url.group()).stdout
    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, rest


def test_a_column_of_weights_can_be_named(server: Service, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(CSV)
    (tmp_path / "spec.json").write_text(json.dumps(SPEC | {"epochs": 5, "early_stopping": {"patience": 1}}))
    dataset = as_json("upload", str(tmp_path / "train.csv"), "--weight-column", "weight", url=server.url)
    assert (dataset["features"], dataset["report"]["weight_column"]) == (1, "weight")
    said = ("submit", str(tmp_path / "spec.json"), "--data", str(tmp_path / "train.csv"), "--weight-column", "weight")
    out = typed(*said, "--watch", url=server.url).stdout
    assert re.search(r"best epoch +\d", out)
    assert "early stopping patience 1" in out


def test_a_sweep_is_previewed_watched_listed_and_shown(server: Service, tmp_path: Path) -> None:
    run = SPEC | {"dataset": "xor", "epochs": 3}
    parameters = {"optimizer/learning_rate": [0.01, 0.1], "seed": [0, 1]}
    spec = tmp_path / "sweep.json"
    spec.write_text(json.dumps({"name": "rates", "run": run, "strategy": {"kind": "grid", "parameters": parameters}}))
    out = typed("sweep", str(spec), "--preview", url=server.url).stdout
    assert "4 members" in out
    assert "best by cost" in out
    made = as_json("sweep", str(spec), "--watch", url=server.url)
    assert (made["status"], made["members"]) == ("succeeded", 4)
    assert made["id"] in [found["id"] for found in as_json("sweeps", url=server.url)]
    assert "rates" in typed("sweeps", url=server.url).stdout
    shown = typed("show-sweep", made["id"], url=server.url).stdout
    runs = re.findall(r"run_\w+", shown)
    assert len(runs) == 4
    assert runs[0] == made["best"]["run"]
    assert "already succeeded" in typed("cancel-sweep", made["id"], url=server.url, status=2).stderr


def test_watching_a_sweep_none_of_whose_runs_succeeds_has_exit_status_1(server: Service, tmp_path: Path) -> None:
    run = SPEC | {"dataset": "xor", "optimizer": {"name": "sgd", "learning_rate": 1e30}, "epochs": 50, "cost": "mse"}
    run["network"] = {"layers": [{"units": 2, "activation": "linear"}]}
    spec = tmp_path / "sweep.json"
    spec.write_text(json.dumps({"run": run, "strategy": {"kind": "seeds", "count": 2}}))
    assert "2 failed" in typed("sweep", str(spec), "--watch", url=server.url, status=1).stdout


def test_verifying_ends_with_the_answer(server: Service, files: tuple[str, str]) -> None:
    spec, data = files
    run = as_json("submit", spec, "--data", data, "--watch", url=server.url)
    out = typed("verify", run["id"], url=server.url).stdout
    assert re.search(r"equal +yes", out)
    assert "61 epochs from 0 on, 61 weights" in out
    database = Database(server.database_url)
    with database.writing() as session:
        checkpoint = session.get(Checkpoint, (run["id"], 33))
        assert checkpoint is not None
        checkpoint.sha256 = "f" * 64
    database.dispose()
    out = typed("verify", run["id"], url=server.url, status=1).stdout
    assert re.search(r"first difference +epoch 33", out)
    assert f"{'f' * 64} expected" in out


def test_webhooks_are_made_tried_looked_after_and_removed(fresh: Any, cache_dir: Path) -> None:
    settings = {"database_url": fresh.url("sqlite"), "cache_dir": cache_dir, "slots": 0, "webhook_allow_private": True}
    with serving(**settings) as service, receiving() as receiver:
        url = service.url
        made = typed("webhooks", "add", receiver.url, "--event", "run.queued", "--name", "mine", url=url).stdout
        hook, secret = made.split()
        assert re.fullmatch(r"hook_\w+ whsec_\S+", made.strip())
        told = typed("webhooks", "test", hook, url=url).stdout
        assert told == "webhook.test delivered (1 tried, answered 204)\n"
        assert json.loads(receiver.came[0][1])["type"] == "webhook.test"
        receiver.answers = [500]
        assert "failed" in typed("webhooks", "test", hook, url=url, status=1).stdout
        sent = typed("webhooks", "deliveries", hook, "--limit", "1", url=url).stdout
        assert re.fullmatch(r"\S+Z – webhook\.test failed \(1 tried, .*500.*\)\n", sent)
        assert [one["status_code"] for one in as_json("webhooks", "deliveries", hook, url=url)] == [500, 204]
        (listed,) = as_json("webhooks", "list", url=url)
        assert (listed["id"], listed["name"], listed["events"], "secret" in listed) == (
            hook, "mine", ["run.queued"], False,
        )  # fmt: skip
        shown = typed("webhooks", "list", url=url).stdout
        assert all(word in shown for word in (hook, "mine", "run.queued", "enabled"))
        assert secret not in shown
        again = typed("webhooks", "rotate", hook, "--grace", "0", url=url).stdout.strip()
        assert again.startswith("whsec_")
        assert again != secret
        assert as_json("webhooks", "enable", hook, url=url)["enabled"]
        assert typed("webhooks", "remove", hook, url=url).stdout == f"removed {hook}\n"
        assert as_json("webhooks", "list", url=url) == []
        assert "refused (404 not_found)" in typed("webhooks", "test", hook, url=url, status=2).stderr
        assert "refused (422" in typed("webhooks", "add", "ftp://x", url=url, status=2).stderr
