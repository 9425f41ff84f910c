"""What webhooks are told: signed, stored with the transition, tried again, and nothing sent into private networks."""

import json
from datetime import timedelta
from typing import Any, get_args

import pytest
from sqlalchemy import update

from chainrule.app.api.schemas.webhooks import Event
from chainrule.app.config import Settings
from chainrule.app.errors import Conflict, InvalidInput, NotFound
from chainrule.app.run_status import Reason, RunStatus
from chainrule.app.services import retention, runs, webhooks
from chainrule.app.services.webhooks import Refused, check_url, sign
from chainrule.app.store import attempts
from chainrule.app.store.attempts import Attempt
from chainrule.app.store.database import Database, now
from chainrule.app.store.models import WebhookDelivery
from tests.app.store.test_runs import claim, queued_run

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PUBLIC = "https://8.8.8.8/hook"


def made(database: Database, settings: Settings, *events: str) -> str:
    hook = webhooks.create(database, settings, name="", url=PUBLIC, events=list(events or webhooks.EVENTS))
    return str(hook["id"])


def told(database: Database, webhook_id: str) -> list[dict[str, Any]]:
    found = webhooks.deliveries(database, webhook_id, limit=50, cursor_id=None)
    return sorted(found, key=lambda delivery: str(delivery["created_at"]))


def make_due(database: Database) -> None:
    with database.writing() as session:
        due = update(WebhookDelivery).where(WebhookDelivery.next_at.is_not(None))
        session.execute(due.values(next_at=now() - timedelta(seconds=1)))


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example its libraries are tested with.
    signature = sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}')
    assert signature == "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def undone(database: Database, attempt: Attempt) -> None:
    with database.writing() as session:
        attempts.end_attempt(session, attempt, RunStatus.FAILED, Reason.DIVERGED)
        raise RuntimeError("the transaction is undone")


def test_every_change_of_a_run_is_told_in_the_transaction_that_makes_it(database: Database, settings: Settings) -> None:
    webhook_id = made(database, settings)
    run_id = queued_run(database)
    attempt = claim(database)
    assert attempt is not None
    with pytest.raises(RuntimeError, match="undone"):
        undone(database, attempt)
    with database.writing() as session:
        attempts.end_attempt(session, attempt, RunStatus.SUCCEEDED, Reason.COMPLETED)
        assert attempts.end_attempt(session, attempt, RunStatus.FAILED, Reason.DIVERGED) is None
    found = told(database, webhook_id)
    assert [one["type"] for one in found] == ["run.queued", "run.running", "run.succeeded"]
    assert {one["run"] for one in found} == {run_id}
    *_, last = webhooks.take(database, 9)
    assert set(json.loads(last.body)) == {"type", "timestamp", "data"}
    assert json.loads(last.body)["data"] == {"id": run_id, "status": "succeeded", "reason": "completed"}


def test_only_what_is_asked_for_is_told_and_only_of_ones_own_runs(database: Database, settings: Settings) -> None:
    asked, others = made(database, settings, "run.cancelled"), made(database.of("somebody"), settings)
    run_id = queued_run(database)
    runs.cancel(database, run_id, if_match=None)
    assert [one["type"] for one in told(database, asked)] == ["run.cancelled"]
    assert told(database.of("somebody"), others) == []
    with pytest.raises(NotFound):
        told(database.of("anybody"), asked)


def test_what_fails_is_tried_again_later_and_later_and_then_given_up(database: Database, settings: Settings) -> None:
    webhook_id = made(database, settings, "run.queued")
    queued_run(database)
    pauses = []
    for number in range(len(webhooks.PAUSES_S) + 1):
        (due,) = webhooks.take(database, 9)
        assert due.attempt == number + 1
        assert webhooks.take(database, 9) == []  # it is under way
        before = now()
        webhooks.settle(database, due, status_code=500, error="The answer was 500, and not 2xx.")
        (found,) = told(database, webhook_id)
        assert (found["attempts"], found["status_code"]) == (number + 1, 500)
        with database.reading() as session:
            stored = session.get(WebhookDelivery, due.id)
            assert stored is not None
            if stored.next_at is not None:
                pauses.append((stored.next_at - before).total_seconds())
        make_due(database)
    assert found["state"] == "failed"
    for pause, planned in zip(pauses, webhooks.PAUSES_S, strict=True):
        assert 0.8 * planned <= pause <= 1.2 * planned + 5
    assert webhooks.take(database, 9) == []


def test_who_takes_up_a_delivery_of_somebody_who_died_sends_the_same_and_the_dead_settle_nothing(
    database: Database, settings: Settings
) -> None:
    webhook_id = made(database, settings, "run.queued")
    queued_run(database)
    (dead,) = webhooks.take(database, 9)
    make_due(database)
    (due,) = webhooks.take(database, 9)
    assert (due.id, due.body, due.attempt) == (dead.id, dead.body, 2)
    webhooks.settle(database, dead, status_code=410, error="")
    assert told(database, webhook_id)[0]["state"] == "pending"
    assert webhooks.get(database, webhook_id)["enabled"]
    webhooks.settle(database, due, status_code=204, error="")
    assert told(database, webhook_id)[0]["state"] == "delivered"


def test_gone_disables_until_it_is_enabled_again(database: Database, settings: Settings) -> None:
    webhook_id = made(database, settings, "run.queued")
    for _ in range(2):
        queued_run(database)
    due, _ = webhooks.take(database, 9)
    webhooks.settle(database, due, status_code=410, error="The answer was 410, and not 2xx.")
    assert {one["state"] for one in told(database, webhook_id)} == {"failed"}
    assert "410" in webhooks.get(database, webhook_id)["disabled_reason"]
    queued_run(database)
    assert len(told(database, webhook_id)) == 2
    assert webhooks.enable(database, webhook_id)["enabled"]
    queued_run(database)
    assert len(told(database, webhook_id)) == 3


def test_a_rotated_secret_signs_beside_the_old_one_for_a_while(database: Database, settings: Settings) -> None:
    hook = webhooks.create(database, settings, name="", url=PUBLIC, events=["run.queued"])
    new = webhooks.rotate(database, hook["id"], grace_s=60)["secret"]
    assert new != hook["secret"]
    queued_run(database)
    (due,) = webhooks.take(database, 9)
    assert due.secrets == (new, hook["secret"])
    signatures = webhooks.headers(due, 1)["webhook-signature"].split()
    assert signatures == [f"v1,{sign(secret, due.id, 1, due.body)}" for secret in due.secrets]
    webhooks.rotate(database, hook["id"], grace_s=0)
    queued_run(database)
    (due,) = webhooks.take(database, 9)
    assert len(due.secrets) == 1
    assert "secret" not in webhooks.get(database, hook["id"])


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://localhost/x", "https://10.1.2.3/", "https://192.168.0.1/", "https://172.16.0.1/",
        "https://169.254.169.254/latest/meta-data", "https://0.0.0.0/", "https://[::1]/", "https://[fe80::1]/",
        "https://[fd00::1]/", "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/",
        "https://100.64.0.1/", "https://224.0.0.1/", "https://2130706433/", "https://0x7f.1/",
        "http://8.8.8.8/", "ftp://8.8.8.8/", "https://", "https:///x", "https://u:p@8.8.8.8/", "https://8.8.8.8:x/",
        "https://8.8.8.8/#x", "hooks.example",
    ],
)  # fmt: skip
def test_nothing_is_sent_into_private_networks_or_without_encryption(url: str) -> None:
    with pytest.raises(Refused):
        check_url(Settings(), url)


def test_intranets_are_for_those_who_allow_them() -> None:
    assert check_url(Settings(webhook_allow_private=True), "http://127.0.0.1:9/x") == ["127.0.0.1"]
    assert check_url(Settings(), PUBLIC) == ["8.8.8.8"]
    assert check_url(Settings(), "https://hooks.example/") == []  # it may be there later


def test_there_is_an_event_for_each_status() -> None:
    assert set(get_args(Event)) == set(webhooks.EVENTS)


def test_a_bad_address_is_refused_when_it_is_given(database: Database, settings: Settings) -> None:
    with pytest.raises(InvalidInput, match="private network"):
        webhooks.create(database, settings, name="", url="https://127.0.0.1/", events=["run.queued"])
    for _ in range(webhooks.MOST_WEBHOOKS):
        made(database, settings)
    with pytest.raises(Conflict, match="20 webhooks already"):
        made(database, settings)


def test_deliveries_that_are_over_are_forgotten_after_their_time(database: Database, settings: Settings) -> None:
    webhook_id = made(database, settings, "run.queued")
    for _ in range(2):
        queued_run(database)
    due, _ = webhooks.take(database, 9)
    webhooks.settle(database, due, status_code=200, error="")
    retention.tidy(database, settings)
    assert len(told(database, webhook_id)) == 2
    retention.tidy(database, settings.model_copy(update={"webhook_history_s": 0.0}))
    assert [one["state"] for one in told(database, webhook_id)] == ["pending"]
    webhooks.delete(database, webhook_id)
    with pytest.raises(NotFound):
        told(database, webhook_id)
