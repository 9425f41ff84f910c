"""Who may do what: two owners who never see each other, and keys that open nothing."""

import hashlib
import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from chainrule.app.services import keys
from chainrule.app.store.database import Database
from tests.app.api.calls import FLOWERS, LONG, XOR, bearer, events, finished, refused, stop, stream, submit, upload
from tests.app.api.test_openapi import example_bodies, operations
from tests.conftest import KINDS
from tests.service import Service, serving

SWEEP = {"run": XOR, "strategy": {"kind": "seeds", "count": 2}}
ON_FLOWERS = {
    "dataset": "",
    "network": {"layers": [{"units": 3, "activation": "softmax"}]},
    "cost": "cross_entropy",
    "epochs": 2,
}


@pytest.fixture(scope="module", params=KINDS)
def guarded(request: pytest.FixtureRequest, fresh: Any, cache_dir: Path) -> Iterator[Service]:
    """The real service, which asks for keys, once on each database."""
    settings = {"database_url": fresh.url(request.param), "cache_dir": cache_dir, "slots": 1, "auth": "keys"}
    with serving(**settings, guess_limit=1000) as service:  # what follows guesses a lot
        yield service


@dataclass
class Owner:
    """One who has a key of each scope, and things of every kind."""

    name: str
    keys: dict[str, dict[str, Any]]
    client: httpx.Client
    ids: dict[str, str]


def new_owner(service: Service, name: str) -> Owner:
    """Make keys for an owner who has nothing yet."""
    database = Database(service.database_url)
    made = {scope: keys.create(database, name, name=scope, scope=scope) for scope in keys.SCOPES}
    database.dispose()
    return Owner(name, made, service.client(headers=bearer(made["admin"]["key"])), {})


@pytest.fixture(scope="module")
def alice(guarded: Service) -> Iterator[Owner]:
    """An owner who has one of everything."""
    owner = new_owner(guarded, "alice")
    with owner.client as client:
        dataset = upload(client, FLOWERS, "flowers.csv", name="alice's flowers")
        run = finished(client, ON_FLOWERS | {"dataset": dataset["id"], "name": "alice's run"})
        sweep = client.post("/v1/sweeps", json=SWEEP, headers={"Prefer": "wait=60"}, timeout=90).json()
        assert sweep["done"]
        owner.ids = {
            "run_id": run["id"],
            "dataset_id": dataset["id"],
            "sweep_id": sweep["id"],
            "key_id": owner.keys["read"]["id"],
            "webhook_id": client.post("/v1/webhooks", json={"url": "https://hooks.example/"}).json()["id"],
        }
        yield owner


@pytest.fixture
def stranger(guarded: Service) -> Iterator[Owner]:
    """Somebody else, who has nothing."""
    owner = new_owner(guarded, f"stranger-{next(_numbers)}")
    with owner.client:
        yield owner


_numbers = itertools.count()


@pytest.fixture(scope="module")
def document(guarded: Service) -> dict[str, Any]:
    """The OpenAPI document, which needs no key."""
    found: dict[str, Any] = httpx.get(f"{guarded.url}/openapi.json", timeout=60).raise_for_status().json()
    return found


PLAIN = {"epoch": "1", "step": "1"}
"""What else stands in paths, and is nobody's."""
LISTS = ("/v1/runs", "/v1/datasets", "/v1/sweeps", "/v1/keys", "/v1/webhooks")
"""What is read without an id, and must show one's own only."""
MADE = {"/v1/runs", "/v1/datasets", "/v1/sweeps", "/v1/keys", "/v1/webhooks", "/v1/gradient-checks",
        "/v1/initialization-previews"}  # fmt: skip
"""What is posted to without an id in the path; the ids in bodies have tests of their own, below."""
LOG = "/v1/audit"
NOBODYS = {"/v1/health/live", "/v1/health/ready"}
SERVICES = {"/v1/status", "/v1/diagnoses", "/metrics"}
"""What tells of the service as a whole."""


def nowhere(ids: dict[str, str]) -> dict[str, str]:
    """Make ids of the same form that lead to nothing."""
    return {name: f"{value[:-3]}zz{'y' if value[-1] != 'y' else 'x'}" for name, value in ids.items()}


def told(response: httpx.Response, ids: dict[str, str]) -> tuple[int, str, str]:
    """Write an answer down without the ids it was asked with."""
    text = response.text
    for name, value in ids.items():
        text = text.replace(value, name)
    return response.status_code, response.headers["content-type"], text


def test_to_another_owner_everything_is_as_if_it_were_not_there(
    document: dict[str, Any], alice: Owner, stranger: Owner
) -> None:
    tried = 0
    for method, path, operation in operations(document):
        named = re.findall(r"{(\w+)}", path)
        if not named:
            assert path in {*LISTS, *MADE, *NOBODYS, *SERVICES, LOG}, f"{method} {path} has no case here"
            continue
        missing = nowhere(alice.ids)
        assert set(named) <= {*alice.ids, *PLAIN}, f"{method} {path}: what should stand in it?"
        for body in [*example_bodies(document, operation)] or [None]:
            theirs, none = (
                stranger.client.request(method, path.format(**ids, **PLAIN), json=body) for ids in (alice.ids, missing)
            )
            refused(theirs, "not_found")
            assert told(theirs, alice.ids) == told(none, missing), f"{method} {path}"
            tried += 1
    assert tried > 25
    # Nothing of all that has changed anything.
    for path in ("/v1/runs/{run_id}", "/v1/datasets/{dataset_id}", "/v1/sweeps/{sweep_id}", "/v1/keys/{key_id}"):
        found = alice.client.get(path.format(**alice.ids))
        assert found.status_code == 200
        assert not found.json().get("cancel_requested")
        assert not found.json().get("revoked_at")


def test_lists_hold_ones_own_only(document: dict[str, Any], alice: Owner, stranger: Owner) -> None:
    for path in LISTS:
        assert stranger.client.get(path).status_code == 200
        assert not set(alice.ids.values()) & {item["id"] for item in stranger.client.get(path).json()["items"]}
        assert set(alice.ids.values()) & {item["id"] for item in alice.client.get(path).json()["items"]}
    assert stranger.client.get("/v1/runs", params={"dataset": alice.ids["dataset_id"]}).json()["items"] == []
    assert stranger.client.get("/v1/runs", params={"name": "alice's run"}).json()["items"] == []
    for method, path, _ in operations(document):
        if method == "GET" and ("{run_id}" in path or "{sweep_id}" in path):
            latest = {"run_id": "latest", "sweep_id": "latest"}
            refused(stranger.client.get(path.format(**latest, **PLAIN)), "not_found")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/v1/runs", ("dataset",)), ("/v1/runs?validate_only=true", ("dataset",)),
        ("/v1/runs", ("validation", "dataset")), ("/v1/gradient-checks", ("dataset",)),
        ("/v1/sweeps", ("run", "dataset")), ("/v1/sweeps?validate_only=true", ("run", "dataset")),
        ("/v1/sweeps", ("run", "validation", "dataset")),
    ],
)  # fmt: skip
def test_a_body_that_names_anothers_dataset_is_refused_as_if_there_were_none(
    alice: Owner, stranger: Owner, path: str, place: tuple[str, ...]
) -> None:
    missing = nowhere(alice.ids)
    own = upload(stranger.client, FLOWERS)["id"]

    def ask(dataset: str) -> httpx.Response:
        of_run = ON_FLOWERS | {"dataset": own}
        if path.startswith("/v1/gradient-checks"):
            del of_run["epochs"]
        body = json.loads(json.dumps({"run": of_run, "strategy": SWEEP["strategy"]} if place[0] == "run" else of_run))
        at = body
        for name in place[:-1]:
            at = at.setdefault(name, {})
        at[place[-1]] = dataset
        return stranger.client.post(path, json=body)

    theirs, none = ask(alice.ids["dataset_id"]), ask(missing["dataset_id"])
    refused(theirs, "invalid_input", "/" + "/".join(place), "There is no dataset")
    assert told(theirs, alice.ids) == told(none, missing)
    assert ask(own).status_code in (200, 201, 422)  # 422: validated on the set it is trained on is fine elsewhere


def test_the_same_file_of_two_owners_is_two_datasets(alice: Owner, stranger: Owner) -> None:
    response = stranger.client.post(
        "/v1/datasets", files={"file": ("f.csv", FLOWERS)}, data={"name": "mine"}
    )  # fmt: skip
    assert response.status_code == 201, "200 would tell that somebody has it"
    mine = response.json()
    assert mine["id"] != alice.ids["dataset_id"]
    assert mine["name"] == "mine"
    theirs = alice.client.get(f"/v1/datasets/{alice.ids['dataset_id']}").json()
    assert theirs["sha256"] == mine["sha256"]
    assert stranger.client.delete(f"/v1/datasets/{mine['id']}").status_code == 204
    assert alice.client.get(f"/v1/datasets/{alice.ids['dataset_id']}/preview").status_code == 200
    again = stranger.client.post("/v1/datasets", files={"file": ("f.csv", FLOWERS)})
    assert again.status_code == 201
    finished(stranger.client, ON_FLOWERS | {"dataset": again.json()["id"]})


def test_an_idempotency_key_is_its_owners(alice: Owner, stranger: Owner) -> None:
    mine, theirs = (submit(owner.client, XOR, **{"Idempotency-Key": "same"}) for owner in (alice, stranger))
    assert mine["id"] != theirs["id"]
    assert submit(alice.client, XOR, **{"Idempotency-Key": "same"})["id"] == mine["id"]


def test_a_sweep_that_makes_runs_later_makes_them_for_its_owner(stranger: Owner) -> None:
    halving = {
        "run": XOR | {"epochs": 4}, "strategy": {"kind": "seeds", "count": 4}, "halving": {"epochs": 1, "factor": 2},
    }  # fmt: skip
    sweep = stranger.client.post("/v1/sweeps", json=halving, headers={"Prefer": "wait=60"}, timeout=90).json()
    assert (sweep["done"], sweep["status"], sweep["rung"]) == (True, "succeeded", 2)
    runs = stranger.client.get("/v1/runs").json()["items"]
    assert len(runs) == sweep["members"] == 7


def test_following_and_waiting_work_with_a_key(stranger: Owner) -> None:
    run = submit(stranger.client, XOR, Prefer="wait=30")
    assert run["done"]
    events = stream(stranger.client, run["id"])
    assert (events[-1].name, events[-1].data["id"]) == ("end", run["id"])


def test_built_in_datasets_are_everybodys(alice: Owner, stranger: Owner) -> None:
    for owner in (alice, stranger):
        assert owner.client.get("/v1/datasets/xor").status_code == 200
        assert owner.client.get("/v1/datasets").json()["items"][0]["builtin"]


# Keys


def changed(text: str, at: int) -> str:
    """Put another character in one place."""
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


def in_database(service: Service, key_id: str, **values: Any) -> None:
    """Change a key as only time could."""
    from chainrule.app.store.models import ApiKey

    database = Database(service.database_url)
    with database.writing() as session:
        key = session.get(ApiKey, key_id)
        for name, value in values.items():
            setattr(key, name, value)
    database.dispose()


def test_a_key_that_is_not_right_opens_nothing(
    guarded: Service, document: dict[str, Any], alice: Owner, stranger: Owner
) -> None:
    good = stranger.keys["submit"]["key"]
    revoked, expired = (stranger.client.post("/v1/keys", json={"scope": "admin"}).json() for _ in range(2))
    assert stranger.client.post(f"/v1/keys/{revoked['id']}/revoke").status_code == 200
    in_database(guarded, expired["id"], expires_at=datetime.now(UTC) - timedelta(seconds=1))
    guess = good[:-49] + "A" * 43
    wrong = {
        "none": {},
        "expired": bearer(expired["key"]),
        "revoked": bearer(revoked["key"]),
        "truncated": bearer(good[:-1]),
        "shortened": bearer(good[:40]),
        "longer": bearer(good + "A"),
        "another secret": bearer(guess + keys.checksum(guess)),
        "another checksum": bearer(changed(good, len(good) - 1)),
        "another id": bearer(changed(good, 15).replace("A", "a", 1)),
        "upper case": bearer(good.upper()),
        "the id alone": bearer(stranger.keys["submit"]["id"]),
        "the hash": bearer(hashlib.sha256(good.encode()).hexdigest()),
        "empty": {"Authorization": "Bearer"},
        "words": bearer("let me in"),
        "huge": bearer("chainrule_" + "a" * 5000),
        "basic": {"Authorization": f"Basic {good}"},
        "bare": {"Authorization": good},
        "elsewhere": {"X-Api-Key": good},
        "cookie": {"Cookie": f"key={good}"},
    }
    with guarded.client() as client:
        for name, headers in wrong.items():
            response = client.get("/v1/runs", headers=headers)
            refused(response, "unauthenticated")
            assert response.headers["www-authenticate"].startswith('Bearer realm="chainrule"'), name
        two = client.get("/v1/runs", headers=[("Authorization", f"Bearer {key}") for key in (good, good)])
        refused(two, "unauthenticated")
        refused(client.get("/v1/runs", params={"key": good, "access_token": good}), "unauthenticated")
        for method, path, _ in operations(document):
            response = client.request(method, path.format(**alice.ids, **PLAIN), headers=bearer(guess))
            if path in NOBODYS:
                assert response.status_code == 200
            else:
                refused(response, "unauthenticated")
        refused(client.get("/v1/nothing"), "unauthenticated")
        assert client.get("/v1/runs", headers=bearer(good)).status_code == 200


def test_a_key_may_do_what_its_scope_says_and_no_more(guarded: Service, document: dict[str, Any], alice: Owner) -> None:
    reading = {"/v1/runs/{run_id}/checkpoints/{epoch}/gradients", "/v1/gradient-checks", "/v1/initialization-previews"}
    reading |= {
        f"/v1/runs/{{run_id}}/checkpoints/{{epoch}}/{what}"
        for what in ("predict", "walk", "explain", "gradient-comparisons", "coherence", "what-if")
    }
    missing = nowhere(alice.ids)
    for scope, (method, path, _) in itertools.product(("read", "submit"), operations(document)):
        if path in NOBODYS:
            continue
        needed = "admin" if path.startswith(("/v1/keys", "/v1/audit")) else "submit"
        needed = "read" if needed == "submit" and (method == "GET" or path in reading) else needed
        with guarded.client(headers=bearer(alice.keys[scope]["key"])) as client:
            response = client.request(method, path.format(**missing, **PLAIN))
        if keys.SCOPES.index(scope) < keys.SCOPES.index(needed):
            refused(response, "forbidden", None, needed, scope)
            assert f'scope="{needed}"' in response.headers["www-authenticate"]
        else:
            assert response.status_code not in (401, 403), f"{method} {path} with {scope}: {response.text}"


def test_a_rotated_key_is_good_under_its_new_secret_and_for_a_while_under_the_old(
    guarded: Service, stranger: Owner
) -> None:
    def works(key: str) -> bool:
        return httpx.get(f"{guarded.url}/v1/runs", headers=bearer(key)).status_code == 200

    first = stranger.client.post("/v1/keys", json={"scope": "read", "name": "laptop"}).json()
    second = stranger.client.post(f"/v1/keys/{first['id']}/rotate", json={}).json()
    assert second["id"] == first["id"]
    assert second["key"] != first["key"]
    assert works(first["key"])
    assert works(second["key"])
    third = stranger.client.post(f"/v1/keys/{first['id']}/rotate", json={"grace_s": 0}).json()
    assert [works(each["key"]) for each in (first, second, third)] == [False, False, True]
    assert stranger.client.post(f"/v1/keys/{first['id']}/revoke").json()["revoked_at"]
    assert not works(third["key"])
    refused(stranger.client.post(f"/v1/keys/{first['id']}/rotate", json={}), "conflict", None, "revoked")
    again = stranger.client.post(f"/v1/keys/{first['id']}/revoke")
    assert again.status_code == 200


def test_a_stream_ends_when_its_key_is_revoked(guarded: Service, stranger: Owner) -> None:
    key = stranger.client.post("/v1/keys", json={"scope": "submit"}).json()
    run = submit(stranger.client, LONG)
    with (
        guarded.client(headers=bearer(key["key"])) as client,
        client.stream("GET", f"/v1/runs/{run['id']}/events", timeout=60) as response,
    ):
        following = events(response)
        assert next(following).name in ("epoch", "status")
        assert stranger.client.post(f"/v1/keys/{key['id']}/revoke").status_code == 200
        assert "end" not in [event.name for event in following]
        refused(client.get(f"/v1/runs/{run['id']}/events"), "unauthenticated", None, "revoked")
    assert not stranger.client.get(f"/v1/runs/{run['id']}").json()["done"]
    stop(stranger.client, run["id"])


def test_the_old_secret_ends_with_its_grace(guarded: Service, stranger: Owner) -> None:
    key = stranger.client.post("/v1/keys", json={"scope": "read"}).json()
    stranger.client.post(f"/v1/keys/{key['id']}/rotate", json={"grace_s": 100})
    in_database(guarded, key["id"], previous_until=datetime.now(UTC) - timedelta(seconds=1))
    refused(httpx.get(f"{guarded.url}/v1/runs", headers=bearer(key["key"])), "unauthenticated", None, "rotated")


def test_a_secret_is_shown_once_and_kept_nowhere(guarded: Service, stranger: Owner) -> None:
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    made = stranger.client.post("/v1/keys", json={"scope": "read", "name": "ci", "expires_at": soon})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    key = made.json()
    shown = key.pop("key")
    _, middle, end = shown.split("_")
    assert (key["id"], key["owner"]) == (f"key_{middle}", stranger.name)
    assert end[-6:] == keys.checksum(shown[:-6])
    assert stranger.client.get(made.headers["location"]).json() == key
    assert stranger.client.get("/v1/keys").json()["items"][0] == key
    from chainrule.app.store.models import ApiKey

    database = Database(guarded.database_url)
    with database.reading() as session:
        kept = session.get(ApiKey, key["id"])
        assert kept is not None
        row = {column.name: getattr(kept, column.name) for column in ApiKey.__table__.columns}
    database.dispose()
    assert end[:20] not in str(row)
    assert row["sha256"] == hashlib.sha256(shown.encode()).hexdigest()
    refused(stranger.client.post("/v1/keys", json={"scope": "read", "expires_at": "2020-01-01T00:00:00Z"}),
            "invalid_input", "/expires_at")  # fmt: skip


def test_when_a_key_was_used_is_known_to_the_hour(guarded: Service, stranger: Owner) -> None:
    key = stranger.client.post("/v1/keys", json={"scope": "read"}).json()
    assert key["last_used_at"] is None
    httpx.get(f"{guarded.url}/v1/runs", headers=bearer(key["key"]))
    used = stranger.client.get(f"/v1/keys/{key['id']}").json()["last_used_at"]
    assert datetime.fromisoformat(used).timestamp() % 3600 == 0
    assert abs(datetime.fromisoformat(used).timestamp() - time.time()) < 7200


def test_every_change_is_in_the_audit_log_of_its_owner_alone(guarded: Service, alice: Owner, stranger: Owner) -> None:
    run = finished(stranger.client, XOR)
    key = stranger.keys["read"]
    with guarded.client(headers=bearer(key["key"])) as reader:
        refused(reader.post("/v1/runs", json=XOR), "forbidden")
        reader.get("/v1/runs")
        predicted = reader.post(f"/v1/runs/{run['id']}/checkpoints/final/predict", json={"samples": [[0.0, 1.0]]})
        assert predicted.status_code == 200
    refused(stranger.client.post(f"/v1/runs/{alice.ids['run_id']}/cancel"), "not_found")
    refused(stranger.client.post("/v1/runs", content=b"{", headers={"Content-Type": "application/json"}), "malformed")
    gone = stranger.client.delete(f"/v1/runs/{run['id']}")
    assert gone.status_code == 204
    refused(httpx.delete(f"{guarded.url}/v1/runs/{run['id']}"), "unauthenticated")
    items = stranger.client.get(LOG).json()["items"]
    shown = [(item["method"], item["route"], item["object_id"], item["status"], item["key_id"]) for item in items]
    admin = stranger.keys["admin"]["id"]
    assert shown == [
        ("DELETE", "/v1/runs/{run_id}", run["id"], 204, admin),
        ("POST", "/v1/runs", None, 400, admin),
        ("POST", "/v1/runs/{run_id}/cancel", alice.ids["run_id"], 404, admin),
        ("POST", "/v1/runs", None, 403, key["id"]),
        ("POST", "/v1/runs", run["id"], 201, admin),
    ]
    assert items[0]["request_id"] == gone.headers["x-request-id"]
    assert {(item["owner"], item["client"]) for item in items} == {(stranger.name, "127.0.0.1")}
    page = stranger.client.get(LOG, params={"limit": 2}).json()
    rest = stranger.client.get(LOG, params={"limit": 3, "cursor": page["next_cursor"]}).json()
    assert [page["items"] + rest["items"], rest["next_cursor"]] == [items, None]
    assert {item["owner"] for item in alice.client.get(LOG).json()["items"]} == {"alice"}


def test_a_body_that_is_too_large_is_in_the_audit_log(fresh: Any, cache_dir: Path) -> None:
    url = fresh.url("sqlite")
    with serving(database_url=url, cache_dir=cache_dir, slots=0, auth="keys", max_request_bytes=2000) as service:
        owner = new_owner(service, "alice")
        large = json.dumps(XOR | {"name": " " * 5000}).encode()
        with owner.client as client:
            for path in ("/v1/runs", "/v1/runs/run_1/clone", "/v1/nothing", "/v1/gradient-checks"):
                refused(client.post(path, content=large, headers={"Content-Type": "application/json"}), "too_large")
            chunks = client.post("/v1/runs", content=iter([large]), headers={"Content-Type": "application/json"})
            refused(chunks, "too_large")
            items = client.get(LOG).json()["items"]
    assert [(item["route"], item["object_id"], item["status"]) for item in items] == [
        ("/v1/runs", None, 413),
        ("/v1/runs/{run_id}/clone", "run_1", 413),
        ("/v1/runs", None, 413),
    ]


def test_a_change_whose_outcome_cannot_be_written_down_is_in_the_log_all_the_same(fresh: Any, cache_dir: Path) -> None:
    url = fresh.url("postgresql")
    with (
        serving(database_url=url, cache_dir=cache_dir, slots=0, auth="keys") as service,
        psycopg.connect(url, autocommit=True) as database,
    ):
        owner = new_owner(service, "alice")
        refusal = "BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END"
        database.execute(f"CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ {refusal} $$".encode())
        database.execute("CREATE TRIGGER no_room BEFORE UPDATE ON audit_entries EXECUTE FUNCTION no_room()")
        with owner.client as client:
            assert client.post("/v1/runs", json=XOR).status_code in (503, 507)
            (run,) = client.get("/v1/runs").json()["items"]
            (entry,) = client.get(LOG).json()["items"]
            assert (run["status"], entry["method"], entry["route"]) == ("queued", "POST", "/v1/runs")
            assert (entry["status"], entry["key_id"]) == (None, owner.keys["admin"]["id"])
            database.execute("DROP TRIGGER no_room ON audit_entries")
            assert client.post(f"/v1/runs/{run['id']}/cancel").status_code == 200
            assert [each["status"] for each in client.get(LOG).json()["items"]] == [200, None]
