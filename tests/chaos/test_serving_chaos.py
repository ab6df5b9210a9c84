"""The router while things are killed, swapped, broken and full. EVERGREEN_CHAOS=full runs more of each."""

import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from absa.ledger.routing import single
from tests.serving_replica import ITEM, RunningReplica, ab, until

FULL = os.environ.get("EVERGREEN_CHAOS") == "full"


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[RunningReplica]:
    made = RunningReplica(tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReplica]:
    """A router that serves version 1, for tests that leave it so."""
    made = RunningReplica(tmp_path_factory.mktemp("shared"))
    try:
        yield made.serve()
        assert made.stop() == 0
    finally:
        made.end()


class Load:
    """Clients that ask until told to stop. A request whose connection breaks is not answered; anything else counts."""

    def __init__(self, replica: RunningReplica, *, clients: int = 4) -> None:
        self.answered: list[str] = []
        self.broken = 0
        self.statuses: dict[int, int] = {}
        self._url = replica.url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(index,), daemon=True) for index in range(clients)]

    def _ask(self, index: int) -> None:
        client = httpx.Client(base_url=self._url, timeout=10.0)
        number = 0
        while not self._stop.is_set():
            number += 1
            text = f"the app is great {index} {number}"
            try:
                answer = client.post("/v1/predict", json={"text": text, "aspect": "app", "unit_id": f"u{number}"})
            except httpx.HTTPError:
                self.broken += 1
                client.close()
                client = httpx.Client(base_url=self._url, timeout=10.0)
                continue
            self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
            if answer.status_code == 200:
                self.answered.append(answer.json()["request_id"])
        client.close()

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(15)


def assert_exactly_once(replica: RunningReplica, load: Load) -> None:
    """Every answered request lies in the lake, and nothing lies there twice."""
    logged = [row["request_id"] for row in replica.rows()]
    assert len(logged) == len(set(logged))
    assert set(load.answered) <= set(logged)


@pytest.mark.timeout(600 if FULL else 300)
def test_killing_workers_under_load_loses_no_answered_request(replica: RunningReplica) -> None:
    replica.serve()
    kills = 20 if FULL else 3
    with Load(replica) as load:
        for number in range(kills):
            time.sleep(0.4)
            victims = until(replica.pids)
            replica.kill_worker(victims[number % len(victims)])
            # one that dies again and again within seconds is started again after ten of them at the latest
            until(lambda: len({*replica.pids()} - {*victims}) >= 1, what="a new worker", seconds=20)  # noqa: B023
        until(lambda: [each["ready"] for each in replica.models()] == [True, True], seconds=20)
    assert replica.stop() == 0
    assert set(load.statuses) == {200}
    assert len(load.answered) > 100
    assert_exactly_once(replica, load)


def test_killed_parent_ends_workers_and_log_is_recovered(replica: RunningReplica) -> None:
    replica.tuning = {"ship_interval_s": 60}
    replica.serve()
    with Load(replica, clients=2) as load:
        until(lambda: len(load.answered) > 20)
        pids = replica.pids()
        assert replica.process is not None
        replica.process.send_signal(signal.SIGKILL)
        replica.process.wait()
        until(lambda: not any(psutil.pid_exists(pid) for pid in pids), what="the end of the workers")
    replica.start()
    until(lambda: replica.client.get("/readyz").status_code == 200)
    assert replica.stop() == 0
    assert load.answered
    assert_exactly_once(replica, load)


@pytest.mark.timeout(900 if FULL else 300)
def test_version_changes_under_load_lose_no_request(replica: RunningReplica) -> None:
    replica.build("2", seed=4)
    replica.build("3", seed=8)
    replica.serve()
    swaps = 100 if FULL else 8

    def memory_mb() -> float:
        return sum(psutil.Process(pid).memory_info().rss for pid in replica.pids()) / 1e6

    with Load(replica, clients=2) as load:
        for version in ("2", "3", "1"):
            replica.append(single(version, salt="s"))
        before = memory_mb()
        for swap in range(swaps):
            if FULL:
                time.sleep(3.0)
            replica.append(single("123"[swap % 3], salt="s") if swap % 2 else ab("1", "2", 0.5))
        after = memory_mb()
    assert set(load.statuses) == {200}
    assert load.broken == 0
    assert after < before + (30 if FULL else 60)
    assert replica.stop() == 0
    assert_exactly_once(replica, load)
    assert len({row["model_version"] for row in replica.rows()}) == 3


def test_rubbish_on_the_wire_kills_no_worker(shared: RunningReplica) -> None:
    before = shared.pids()
    chosen = random.Random(7)
    body = json.dumps(ITEM).encode()
    good = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    for _ in range(1000 if FULL else 150):
        data = bytearray(good)
        for _ in range(chosen.randint(1, 12)):
            data[chosen.randrange(len(data))] = chosen.randrange(256)
        with socket.create_connection(("127.0.0.1", shared.port), timeout=1) as connection:
            connection.sendall(bytes(data) if chosen.random() < 0.8 else chosen.randbytes(200))
            connection.settimeout(0.005)
            try:
                connection.recv(4096)
            except (TimeoutError, ConnectionResetError):
                continue
    assert shared.client.post("/v1/predict", json=ITEM).status_code == 200
    assert sorted(shared.pids()) == sorted(before)
    assert "Traceback" not in shared.log()
    assert "traceback" not in shared.log()


@pytest.mark.parametrize(("lost", "seed"), [("config.json", 1), ("model.onnx", 2), ("warmup.jsonl", 3)])
def test_absent_or_damaged_package_does_not_touch_serving(shared: RunningReplica, lost: str, seed: int) -> None:
    failures, version = shared.metric("evergreen_follow_failures_total"), f"new{seed}"
    digest = shared.build(version, seed=seed)
    if lost == "model.onnx":
        shared.lake.write(f"packages/{digest}/{lost}", b"rot")
    else:
        shared.lake.delete(f"packages/{digest}/{lost}")
    shared.append(ab("1", version, 0.5), ready=False)
    with Load(shared, clients=2) as load:
        until(lambda: shared.metric("evergreen_follow_failures_total") > failures and digest in shared.log())
        already = len(load.answered)
        until(lambda: len(load.answered) > already + 20)
    assert set(load.statuses) == {200}
    assert load.broken == 0
    assert shared.client.post("/v1/predict", json=ITEM).json()["model_version"] == "1"
    shared.append(single("1", salt="s"))


def test_predictions_survive_dead_lake_and_full_spool(
    replica: RunningReplica,
) -> None:
    replica.tuning = {"spool_limit_mb": 0.02}
    replica.serve()
    lake = replica.root / "lake"
    lake.rename(replica.root / "lake-away")
    lake.write_text("not a folder", encoding="utf-8")
    with Load(replica) as load:
        until(lambda: replica.metric("evergreen_log_dropped_total") > 20)
    time.sleep(1.0)  # what the workers say about themselves is half a second old
    dropped = replica.metric("evergreen_log_dropped_total")
    until(lambda: replica.metric("evergreen_ship_failures_total") > 0)
    assert set(load.statuses) == {200}
    assert load.broken == 0
    lake.unlink()
    (replica.root / "lake-away").rename(lake)
    until(replica.rows)
    assert replica.stop() == 0
    logged = [row["request_id"] for row in replica.rows()]
    assert len(logged) == len(set(logged))
    missing = set(load.answered) - set(logged)
    assert 0 < len(missing) <= dropped
