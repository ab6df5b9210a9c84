"""A router for a long time with drift, swaps of versions and feedback: memory and file handles stay flat.

`make prove` soaks for EVERGREEN_PROVE_SOAK_S (1200); CI for a few seconds, which proves that the harness measures.
"""

import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import httpx
import psutil
import pytest

from absa.data.bundled import bundled_traffic
from absa.data.traffic.known_drift import Drift
from absa.ledger.routing import single
from tests.serving_replica import SURVEY, RunningReplica, ab

SOAK_S = float(os.environ.get("EVERGREEN_PROVE_SOAK_S", "6"))
SWAP_S = max(1.0, SOAK_S / 60)
LOOK_S = max(0.5, SOAK_S / 240)
MAX_GROWTH_MB = 20.0
MAX_MORE_FILES = 5
pytestmark = pytest.mark.timeout(SOAK_S + 120)


@pytest.fixture
def router(tmp_path: Path) -> Iterator[RunningReplica]:
    made = RunningReplica(tmp_path, tuning={"cache_entries": 500})
    made.build("2", seed=4)
    try:
        yield made.serve()
    finally:
        made.end()


@dataclass
class Customers:
    """Ask and tell what was right, until told to stop; the traffic drifts in every other swap."""

    url: str
    drifting: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    statuses: Counter[int] = field(default_factory=Counter)
    told: Counter[int] = field(default_factory=Counter)  # statuses of feedback

    def run(self) -> None:
        traffic = bundled_traffic(seed=0)
        with httpx.Client(base_url=self.url, timeout=10.0) as client:
            for request in traffic:
                if self.ended.is_set():
                    return
                traffic.switch(Drift(new_area_share=0.8) if self.drifting.is_set() else None)
                item = {"text": request.text, "aspect": request.aspect, "unit_id": request.unit_id}
                answer = client.post("/v1/predict", json=item)
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200 and request.feedback_label is not None:
                    feedback = {"request_id": answer.json()["request_id"], "label": request.feedback_label}
                    self.told[client.post("/v1/feedback", json=feedback, headers=SURVEY).status_code] += 1
                client.get("/v1/console")
                time.sleep(0.005)


PLANS = (ab("1", "2", 0.3), ab("1", "2", 0.0, mode="shadow"), single("2", salt="s"), single("1", salt="s"))


def test_memory_and_files_stay_flat_under_swaps(router: RunningReplica) -> None:
    assert router.process is not None
    parent = psutil.Process(router.process.pid)
    customers = Customers(router.url)
    thread = threading.Thread(target=customers.run)
    thread.start()
    looks: list[tuple[float, int]] = []
    swaps, wanted = 0, cycle(PLANS)
    try:
        for plan in PLANS:  # loads both versions and Parquet, however busy the machine is
            router.append(plan)
            time.sleep(SWAP_S)
        begun = swapped_at = time.monotonic()
        while time.monotonic() - begun < SOAK_S:
            if time.monotonic() - swapped_at >= SWAP_S:
                router.append(next(wanted))
                swapped_at, swaps = time.monotonic(), swaps + 1
                (customers.drifting.clear if customers.drifting.is_set() else customers.drifting.set)()
            everyone = [parent, *parent.children(recursive=True)]
            memory_mb = sum(each.memory_info().rss for each in everyone) / 1e6
            looks.append((memory_mb, sum(each.num_fds() for each in everyone)))
            time.sleep(LOOK_S)
        assert thread.is_alive(), "the customers went before the end"
    finally:
        customers.ended.set()
        thread.join(30)
    half = len(looks) // 2
    early, late = (
        [statistics.median(column) for column in zip(*part, strict=True)] for part in (looks[:half], looks[half:])
    )
    assert swaps >= 3
    assert set(customers.statuses) == {200}, customers.statuses
    assert set(customers.told) == {202}, customers.told
    assert late[0] - early[0] < MAX_GROWTH_MB, f"memory grew from {early[0]:.0f} to {late[0]:.0f} MB"
    assert late[1] - early[1] <= MAX_MORE_FILES, f"open files grew from {early[1]:.0f} to {late[1]:.0f}"
