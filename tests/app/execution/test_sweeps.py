"""A sweep by halving through real workers: whoever is killed, it goes on."""

import signal
from pathlib import Path
from typing import Any

from chainrule.app.client import Client
from tests.service import serving

RUN: dict[str, Any] = {
    "dataset": "digits",
    "network": {"layers": [{"units": 16, "activation": "relu"}, {"units": 10, "activation": "softmax"}]},
    "optimizer": {"name": "adam"},
    "batch_size": 8,
    "epochs": 240,
}
SPEC = {"run": RUN, "strategy": {"kind": "seeds", "count": 4}, "halving": {"epochs": 60}}


def test_a_sweep_goes_on_after_all_were_killed_to_the_bits_of_one_nobody_disturbed(
    database_url: str, cache_dir: Path
) -> None:
    settings: dict[str, Any] = {"database_url": database_url, "cache_dir": cache_dir, "slots": 2}
    settings |= {"attempt_timeout_s": 3, "flush_interval_s": 0.05}
    with serving(**settings) as service, Client(service.url) as client:
        sweep_id = client.submit_sweep(SPEC)["id"]
        while client.sweep(sweep_id)["progress"]["epochs_done"] < 10:
            pass
        service.stop(signal.SIGKILL)
    with serving(**settings) as service, Client(service.url) as client:
        disturbed = client.wait_sweep(sweep_id, timeout_s=180)
        other = client.wait_sweep(client.submit_sweep(SPEC)["id"], timeout_s=180)
        assert any(client.run(member["run"])["failures"] for member in client.members(sweep_id)), "killed in training"
        ends = [
            [
                (member["rung"], member["varied"], client.checkpoint(member["run"], "final")["sha256"])
                for member in client.members(one["id"])
            ]
            for one in (disturbed, other)
        ]
    assert disturbed["status"] == "succeeded"
    assert len(ends[0]) == 4 + 2 + 1
    assert ends[0] == ends[1]
