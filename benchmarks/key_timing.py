"""Does the time of an answer tell anything about a key? Malformed, unknown and wrong keys in rotation.

    python -m benchmarks.key_timing [--rounds 2000]

A real service with SQLite on loopback, one connection, each kind of key in turn so that drift of the machine meets
all alike. Reported are the median, the 99th percentile, and how far each median is from that of all together; the
service answers every kind from the same path, so what is left is noise.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from chainrule.app.services import keys
from chainrule.app.store.database import Database
from tests.service import Service, serving


def kinds_of(service: Service) -> dict[str, str]:
    """Make one key of each kind that opens nothing."""
    database = Database(service.database_url)
    made = keys.create(database, "alice", name="", scope="read")
    database.dispose()
    good: str = made["key"]
    prefix, key_id, secret = good.split("_")

    def checked(text: str) -> str:
        return text + keys.checksum(text)

    other_id = f"{key_id[:-4]}0000"
    return {
        "known id, wrong secret": checked(f"{prefix}_{key_id}_{'A' * 43}"),
        "known id, secret right but for its last character": checked(f"{good[:-7]}{'A' if good[-7] != 'A' else 'B'}"),
        "known id, wrong checksum": f"{good[:-1]}{'A' if good[-1] != 'A' else 'B'}",
        "unknown id": checked(f"{prefix}_{other_id}_{secret[:43]}"),
        "truncated": good[:-5],
        "malformed": "x" * len(good),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        settings = {"database_url": f"sqlite:///{place}/t.sqlite3", "cache_dir": place, "slots": 0, "auth": "keys"}
        with serving(**settings, guess_limit=0) as service, service.client() as client:
            shown = kinds_of(service)
            times = measure(client, shown, rounds)
    overall = statistics.median(time for of_kind in times.values() for time in of_kind)
    print(f"{rounds} requests of each kind; median of all {overall:.0f} µs")
    for kind, taken in times.items():
        median = statistics.median(taken)
        p99 = statistics.quantiles(taken, n=100)[98]
        print(f"{kind:<50} median {median:6.0f} µs  p99 {p99:6.0f} µs  {100 * (median / overall - 1):+5.1f} %")


def measure(client: httpx.Client, shown: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """Time answers in microseconds, one of each kind after the other."""
    requests = {
        kind: client.build_request("GET", "/v1/runs", headers={"Authorization": f"Bearer {key}"})
        for kind, key in shown.items()
    }
    times: dict[str, list[float]] = {kind: [] for kind in shown}
    order = list(requests)
    for number in range(rounds + 50):
        for kind in order[number % len(order) :] + order[: number % len(order)]:
            before = time.perf_counter()
            response = client.send(requests[kind])
            taken = time.perf_counter() - before
            assert response.status_code == 401, kind
            if number >= 50:
                times[kind].append(taken * 1e6)
    return times


if __name__ == "__main__":
    main()
