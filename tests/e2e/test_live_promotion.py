"""Challengers through live traffic, on real parts: a better one is promoted, a worse one goes back on its own.

MLflow, Prefect with a work pool and its worker, and a router with two processes run as `evergreen up` runs them; the
promote flow is asked for and its run is killed on the way; customers write over HTTP. Only the models are toys.
"""

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from absa.data.traffic.pool_traffic import SimulatedRequest
from absa.ledger.lifecycle import crowned
from absa.ledger.record import LedgerRecord
from flows.demo.customers import send_traffic
from flows.platform.processes import Supervisor, bring_up, take_down
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from tests.command_line import evergreen
from tests.homes import choose_ports, configure, end_family, outer_environment
from tests.toy_package import WORDS, build_toy_package

GOOD = ("love", "great", "good", "fast", "easy")
BAD = ("terrible", "slow", "bad", "broken", "cannot")
EXPERIMENT = {"ramp": [0.25, 0.5], "step_s": 1, "shadow_s": 2, "min_exposure": 120}
SETTINGS = {
    "EVERGREEN_WORK_POOL": "here",
    "EVERGREEN_SCHEDULE_MONITOR": "false",
}
REGISTER = """
import json, sys
from pathlib import Path
import mlflow
from absa.adapters.package_store import PackageStore
from absa.adapters.mlflow_client import MODEL
from absa.adapters.mlflow_client import log_package
from flows.platform.services import build_services
services = build_services()
mlflow.set_tracking_uri(services.environment["MLFLOW_TRACKING_URI"])
digests = {}
for folder in map(Path, sys.argv[1:]):
    logged = log_package(folder, registered_model_name=MODEL)
    services.registry.set_tags(logged.version, {"gate": "PROMOTE"})
    digests[logged.version] = PackageStore(services.lake).put(folder)
print(json.dumps(digests))
"""


def customers(seed: int) -> Iterator[SimulatedRequest]:
    """Every text has one word with a sentiment; three in four say later what was right."""
    chance = random.Random(seed)
    number = 0
    while True:
        word = chance.choice((*GOOD, *BAD))
        label = WORDS[word]
        text = f"the app is {word} and a service to it {chance.randrange(10**9)}"
        told = label if chance.random() < 0.75 else None
        yield SimulatedRequest(
            number=number, text=text, aspect="app", true_label=label, unit_id=f"u{chance.randrange(3000)}",
            segment=None, feedback_label=told, feedback_delay_s=0.05,
        )  # fmt: skip
        number += 1


@dataclass
class Stage:
    """The platform, under traffic when asked for."""

    services: Services

    def python(self, *words: str) -> str:
        """Run Python as a user of the platform would, and return what it printed."""
        done = subprocess.run(
            [sys.executable, *words], env=dict(self.services.environment), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def evergreen(self, *words: str) -> str:
        """Run the command."""
        return self.python("-m", "flows.cli", *words)

    @contextmanager
    def traffic(self, seed: int) -> Iterator[None]:
        """Customers write."""
        over = threading.Event()
        home = self.services.home
        thread = threading.Thread(
            target=lambda: send_traffic(
                customers(seed), url=home.url("router"), feedback_key=home.secrets()["feedback_key"], rate=150,
                duration_s=120, stop=over.is_set,
            )
        )  # fmt: skip
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def until(self, condition: Callable[[LedgerRecord], bool], seconds: float, what: str) -> LedgerRecord:
        """Wait for the ledger's head to be something."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            head = self.services.head()
            if condition(head):
                return head
            time.sleep(0.05)
        log = Supervisor(self.services.settings).log("deployments").read_text()[-3000:]
        raise AssertionError(f"{what} did not come within {seconds} s; the ledger says {head.reason}\n{log}")

    def follows(self, number: int) -> float:
        """Seconds until every router process has a ledger record in force."""
        began = time.monotonic()
        while time.monotonic() < began + 30:
            workers = httpx.get(f"{self.services.home.url('router')}/v1/models").json()["workers"]
            if [each["revision"] for each in workers if each["ready"]] == [number] * self.services.settings.workers:
                return time.monotonic() - began
            time.sleep(0.02)
        raise AssertionError(f"record {number} did not come into force everywhere")

    def kill_the_flow(self) -> None:
        """kill -9 of the process in which the promote flow runs."""
        worker = Supervisor(self.services.settings).running("deployments")
        assert worker is not None
        family = {process: " ".join(process.cmdline()) for process in worker.children(recursive=True)}
        runs = [p for p, command in family.items() if re.search(r"prefect\.\S*engine|runtime_bootstrap", command)]
        assert runs, family
        runs[-1].kill()

    def flow_runs(self) -> list[dict[str, Any]]:
        """Every flow run that Prefect knows."""
        answer = httpx.post(f"{self.services.environment['PREFECT_API_URL']}/flow_runs/filter", json={})
        runs: list[dict[str, Any]] = answer.json()
        return runs


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    kept = dict(os.environ)
    home = tmp_path / "home"
    wanted = outer_environment() | SETTINGS | {"EVERGREEN_HOME": str(home)}
    choose_ports(home)
    configure(home, experiment=EXPERIMENT, router={"ship_interval_s": 0.3})
    os.environ.clear()
    os.environ |= wanted
    services = build_services(Settings.load())
    stage = Stage(services)
    try:
        bring_up(services.settings, services.environment, ["mlflow", "prefect", "router"])
        bring_up(services.settings, services.environment, ["deployments"])
        toys = (
            build_toy_package(tmp_path / "1", forgets=("great", "fast", "slow", "broken")),
            build_toy_package(tmp_path / "2"),
            build_toy_package(tmp_path / "3", forgets=("love", "good", "easy", "bad", "cannot", "terrible")),
        )
        digests = json.loads(stage.python("-c", REGISTER, *map(str, toys)).splitlines()[-1])
        services.ledger.append(
            expected=0, actor="test", action="promote", reason="first", state=crowned("1"), versions=digests
        )
        stage.follows(1)
        yield stage
    finally:
        take_down(services.settings)
        end_family(home)
        os.environ.clear()
        os.environ |= kept


@pytest.mark.slow
@pytest.mark.timeout(600)  # the sum of what it waits for
def test_experiment_promotes_better_and_reverts_worse_challenger(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    services = stage.services

    with stage.traffic(seed=1):
        stage.evergreen("promote", "2")
        ended = stage.until(lambda head: head.state == crowned("2"), 90, "the promotion")
    assert ended.action == "promote"
    plans = [r.state.plan for r in services.ledger.follow() if r.state.plan is not None]
    tried = [(plan.mode, plan.challengers[0].share) for plan in plans if plan.challengers]
    assert tried[:2] == [("shadow", 0.0), ("ab", 0.25)]
    evidence = json.loads(services.lake.read(f"evidence/{ended.evidence_digest}.json"))
    assert evidence["low"] > 0
    assert evidence["infra"]["rows"] == 3

    with stage.traffic(seed=2):
        stage.evergreen("promote", "3")
        stage.until(lambda head: head.state.plan is not None and head.state.plan.mode == "shadow", 60, "the shadow")
        stage.kill_the_flow()
        ended = stage.until(lambda head: head.action == "rollback", 90, "the roll-back")
    assert ended.state == crowned("2")
    assert "Version 3" in ended.reason
    served = pl.read_parquet(Path(services.settings.lake_uri) / "predictions" / "**" / "*.parquet")
    assert set(served.filter(pl.col("experiment") == "v2-vs-v3")["model_version"]) <= {"2", "3"}

    assert "version 1 is champion" in stage.evergreen("rollback", "--reason", "complaints")
    stage.follows(services.head().number)
    answer = httpx.post(f"{services.home.url('router')}/v1/predict", json={"text": "it is great", "aspect": "it"})
    assert answer.json()["model_version"] == "1"

    assert "INCONSISTENT" not in stage.evergreen("status")
    capsys.readouterr()
    assert evergreen("ledger", "verify") == 0  # in this process, which spares its imports
    assert "all records, hashes and links are valid" in capsys.readouterr().out
    assert evergreen("ledger", "--at", ended.at.isoformat()) == 0
    assert "2 since" in capsys.readouterr().out
    states = sorted(run["state"]["type"] for run in stage.flow_runs())
    assert states == ["COMPLETED", "COMPLETED", "CRASHED"]
