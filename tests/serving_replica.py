"""A real router for tests: parent and workers as processes, a lake in a folder."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from absa.adapters.lake_stores import FolderLake
from absa.adapters.package_store import PackageStore
from absa.ledger.record import LedgerRecord
from absa.ledger.routing import Arm, TrafficPlan, single
from absa.ledger.state import State
from absa.ledger.store import Ledger
from absa.task import ABSA, TaskSpec
from tests.homes import configure
from tests.toy_package import build_toy_package

ROOT = Path(__file__).parents[1]
ADMIN = {"Authorization": "Bearer admin-token"}
SURVEY = {"X-API-Key": "survey-key"}
ITEM = {"text": "the app is great", "aspect": "app"}


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(
    condition: Callable[[], Any], *, seconds: float = 120.0, what: str = "the condition", every_s: float = 0.03
) -> Any:
    """Wait for something to be true, and return it."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            found = condition()
        except httpx.HTTPError:
            found = None
        if found:
            return found
        time.sleep(every_s)
    raise AssertionError(f"{what} did not come true within {seconds} s")


def ab(champion: str, challenger: str, share: float, *, mode: str = "ab") -> TrafficPlan:
    """A plan of two arms."""
    arms = (
        Arm(name="champion", version=champion, share=1 - share),
        Arm(name="challenger", version=challenger, share=share),
    )
    return TrafficPlan(mode=mode, experiment="e", salt="s", arms=arms)  # type: ignore[arg-type]


@dataclass
class RunningReplica:
    """A router under test. `environment` overrides variables, `tuning` the section [router]."""

    root: Path
    workers: int = 2
    environment: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    tuning: dict[str, object] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        self.lake = FolderLake(self.root / "lake")
        self.ledger = Ledger(self.lake)
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=10.0)

    def start(self) -> "RunningReplica":
        """Start the parent; `stop` ends it."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EVERGREEN_")},
            "EVERGREEN_HOME": str(self.root),
            "EVERGREEN_LAKE": str(self.root / "lake"),
            "EVERGREEN_REPLICA": "r1",
            "EVERGREEN_ROUTER_PORT": str(self.port),
            "EVERGREEN_WORKERS": str(self.workers),
            "EVERGREEN_ADMIN_TOKEN": "admin-token",
            "EVERGREEN_SECRET": "unit-secret",
            "EVERGREEN_FEEDBACK_KEYS": json.dumps({"survey-key": {"source": "survey"}}),
            **self.environment,
        }
        tuning = {"ship_interval_s": 0.5, "poll_interval_s": 0.1, **self.tuning}
        configure(Path(environment["EVERGREEN_HOME"]), router=tuning)
        with (self.root / "router.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving"], cwd=ROOT, env=environment, stderr=log, stdout=log
            )
        until(lambda: self.client.get("/healthz").status_code == 200, what="a worker's answer")
        return self

    def stop(self, *, seconds: float = 15.0) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(seconds)

    def end(self) -> None:
        """Whatever runs, end it."""
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def build(self, version: str, *, seed: int, task: TaskSpec = ABSA) -> str:
        """Put a toy package into the lake and return its digest, which `append` finds by the version."""
        folder = build_toy_package(self.root / "built" / version, seed=seed, task=task)
        self.digests[version] = PackageStore(self.lake).put(folder)
        return self.digests[version]

    def append(self, plan: TrafficPlan, *, digests: dict[str, str] | None = None, ready: bool = True) -> LedgerRecord:
        """Append a plan to the ledger; with `ready`, wait until every worker has it in force."""
        head = self.ledger.head()
        record = self.ledger.append(
            expected=head.number if head else 0,
            actor="test",
            action="traffic",
            reason="test",
            state=State(champion=plan.champion.version, plan=plan),
            versions=digests or {version: self.digests[version] for version in plan.versions},
        )
        if ready:
            self.wait_for(record.number)
        return record

    def wait_for(self, revision: int) -> None:
        """Wait until every worker has a revision in force."""
        until(
            lambda: [each["revision"] for each in self.models() if each["ready"]] == [revision] * self.workers,
            what=f"revision {revision} on every worker",
        )

    def serve(self, version: str = "1", *, seed: int = 0) -> "RunningReplica":
        """Start with one version in force."""
        self.build(version, seed=seed)
        self.start()
        self.append(single(version, salt="s"))
        return self

    def models(self) -> list[dict[str, Any]]:
        """Return the state of the workers."""
        workers: list[dict[str, Any]] = self.client.get("/v1/models").json()["workers"]
        return workers

    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [int(each["pid"]) for each in self.models()]

    def kill_worker(self, pid: int) -> None:
        """kill -9."""
        os.kill(pid, signal.SIGKILL)

    def metric(self, name: str) -> float:
        """Sum over the series of a metric; labels may be part of the name."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def rows(self, stream: str = "predictions") -> list[dict[str, Any]]:
        """Everything of a stream that lies in the lake."""
        tables = [pq.read_table(self.lake.url(key), partitioning=None) for key in self.lake.list(f"{stream}/")]
        return pa.concat_tables(tables).to_pylist() if tables else []

    def log(self) -> str:
        """Return the log of parent and workers."""
        return (self.root / "router.log").read_text(encoding="utf-8")
