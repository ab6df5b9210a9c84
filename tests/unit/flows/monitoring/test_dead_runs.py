"""Looks for dead runs: which are ended, whether their slots are freed, and which runs are left alone."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.errors import UnavailableError
from absa.records.layout import flow_run_key
from flows.monitoring.dead_runs import DeadRuns, is_only_worker
from flows.platform.liveness import SILENT_S, leave_sign, sign_of
from flows.platform.ports import HeldState, UnfinishedRun
from flows.platform.services import build_services
from flows.platform.settings import Settings
from tests.stand_ins import FakeDeployments

NOW = datetime(2026, 11, 30, tzinfo=UTC)
NAMES = ("continuous-training", "monitor", "promote", "batch")


def run(name: str, *, state: HeldState = "RUNNING", age_s: float = 3600.0) -> UnfinishedRun:
    return UnfinishedRun(
        run_id=f"id-{name}",
        name=name,
        deployment=f"{name}/{name}",
        state=state,
        state_id=f"state-{name}",
        since=NOW - timedelta(seconds=age_s),
        parameters={"version": "2"},
    )


@dataclass
class Stage:
    """A worker on the host "here", whose clocks stand still until they are moved."""

    runs: FakeDeployments
    lake: FolderLake
    time_s: float = 0.0
    processes: set[str] = field(default_factory=set)

    def worker(self, *, only: bool = True, host: str = "here") -> DeadRuns:
        return DeadRuns(
            self.runs,
            self.lake,
            host=host,
            only_worker=only,
            clock=lambda: self.time_s,
            now=lambda: NOW + timedelta(seconds=self.time_s),
            with_a_process=lambda: self.processes,
        )


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(FakeDeployments(), FolderLake(tmp_path))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELLING"])
def test_dead_run_frees_its_slot_at_start(stage: Stage, name: str, state: HeldState) -> None:
    dead = run(name, state=state)
    stage.runs.active, stage.runs.taken = [dead], {dead.deployment: 1}
    said = stage.worker().look()
    assert stage.runs.ended == {dead.run_id}
    assert stage.runs.crashed == ([] if state == "CANCELLING" else [dead.run_id])
    assert stage.runs.taken == {dead.deployment: 0}
    assert f"run {name} of {dead.deployment} was {state} and is dead" in said[0]
    followed = name == "promote" and state != "CANCELLING"
    assert list(stage.runs.runs) == (["after-id-promote"] if followed else [])


def test_run_with_a_process_outlives_its_worker(stage: Stage) -> None:
    """A training goes on when its worker dies: the next worker leaves it alone."""
    stage.runs.active = [run("continuous-training"), run("batch")]
    leave_sign(stage.lake, "id-continuous-training")
    sign = sign_of(stage.lake, "id-continuous-training")
    assert sign is not None
    stage.processes = {"id-batch"}  # has not left its sign yet
    worker = stage.worker(host=sign.host)
    for _ in range(3):
        assert worker.look() == []
        stage.time_s += 3600


def test_run_of_another_worker_is_left_alone(stage: Stage) -> None:
    stage.runs.active = [run("monitor"), run("batch", state="PENDING")]
    worker = stage.worker(only=False)
    for _ in range(20):
        leave_sign(stage.lake, "id-monitor")  # its host renews it
        if stage.time_s > 300:
            stage.runs.active[1] = run("batch")  # its machine came
            leave_sign(stage.lake, "id-batch")
        assert worker.look() == []
        stage.time_s += 60


def test_run_of_lost_host_ends_after_silence(stage: Stage) -> None:
    stage.runs.active = [run("monitor")]
    leave_sign(stage.lake, "id-monitor")
    worker = stage.worker(only=False)
    ends = []
    while not stage.runs.ended and stage.time_s < 3600:
        worker.look()
        ends.append(stage.time_s)
        stage.time_s += 60
    assert ends[-1] == SILENT_S
    assert "gave no sign" in stage.runs.reasons["id-monitor"]


def test_lake_outage_kills_no_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs grow old while the lake is unavailable; silence counts from the first look that reads them."""
    stage.runs.active = [run("monitor")]
    leave_sign(stage.lake, "id-monitor")
    worker = stage.worker(only=False)
    assert worker.look() == []

    def away(_: str) -> list[str]:
        raise UnavailableError("the lake is unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(stage.lake, "list", away)
        for _ in range(10):
            stage.time_s += 60
            with pytest.raises(UnavailableError):
                worker.look()
    assert worker.look() == [], "its host has not come to renew its sign"
    stage.time_s += 60
    leave_sign(stage.lake, "id-monitor")
    assert worker.look() == []


def test_slot_freed_twice_is_taken_again(stage: Stage) -> None:
    """Prefect freed the dead run's slot when its lease ran out, and again when the run was set to Crashed."""
    dead, alive = run("continuous-training"), replace(run("continuous-training"), run_id="id-2", name="second")
    stage.processes = {"id-2"}
    stage.runs.active, stage.runs.taken = [dead, alive], {dead.deployment: 0}
    said = stage.worker().look()
    assert stage.runs.taken == {dead.deployment: 1}
    assert said[-1] == "continuous-training/continuous-training: 0 slots were taken, 1 runs are unfinished; corrected"


def test_wrong_slots_are_corrected_once_certain(stage: Stage) -> None:
    worker, corrected = stage.worker(), "monitor/monitor: 1 slots were taken, 0 runs are unfinished; corrected"
    stage.runs.taken = {"monitor/monitor": 1}
    assert worker.look() == [corrected], "before this worker takes a run"
    stage.runs.taken = {"monitor/monitor": 1}
    assert worker.look() == [], "a run may be taking it"
    stage.runs.taken = {"monitor/monitor": 0}
    assert worker.look() == []
    stage.runs.taken = {"monitor/monitor": 1}
    assert [worker.look(), worker.look()] == [[], [corrected]]


def test_look_that_failed_is_made_up_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect goes away between two calls: the promotion is still followed, the limits still corrected."""
    stage.runs.active, stage.runs.taken = [run("promote"), run("monitor")], {"promote/promote": 2}
    worker = stage.worker()

    def away(*_: object) -> None:
        raise UnavailableError("Prefect is unavailable")

    for calls in ("crash", "limits"):
        with monkeypatch.context() as patched:
            patched.setattr(stage.runs, calls, away)
            with pytest.raises(UnavailableError):
                worker.look()
    assert worker.look() == ["promote/promote: 2 slots were taken, 0 runs are unfinished; corrected"]
    assert [key for _, _, key in stage.runs.started] == ["after-id-promote"] * 2, "with one key one run starts"
    assert stage.runs.crashed == ["id-promote", "id-monitor"]


def test_notes_of_finished_runs_are_deleted(stage: Stage) -> None:
    stage.runs.active, stage.processes = [run("batch")], {"id-batch"}
    for run_id in ("id-batch", "id-finished"):
        leave_sign(stage.lake, run_id)
    sign = sign_of(stage.lake, "id-batch")
    assert sign is not None
    stage.worker(host=sign.host).look()
    assert stage.lake.list("flow_runs/") == [flow_run_key("id-batch")]


@pytest.mark.parametrize(
    ("host", "address", "only"),
    [
        ("127.0.0.1", "own", True),
        ("0.0.0.0", "own", False),  # other machines can reach it
        ("127.0.0.1", "http://prefect:4200/api", False),
    ],
)
def test_worker_of_unshared_server_is_alone(tmp_path: Path, host: str, address: str, only: bool) -> None:
    settings = Settings(home=tmp_path, host=host)
    own = f"{build_services(settings, environment={}).home.url('prefect')}/api"
    environment = {"PREFECT_API_URL": own if address == "own" else address}
    assert is_only_worker(build_services(settings, environment=environment)) == only
