"""Monitor a window: what it records, starts, shows and reads, with fakes of every port but the lake."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from absa.adapters.lake_stores import FolderLake
from absa.errors import PermanentError, UnavailableError
from absa.ledger.lifecycle import crowned
from absa.policies import GatePolicy, StalenessPolicy
from absa.records.schema import Window
from absa.records.verdict import MAX_ATTEMPTS, Level, Verdict
from absa.records.windows import WindowData
from flows.monitoring.attempts import GRACE_S
from flows.monitoring.monitor_window import (
    STALE_EVENT,
    Monitored,
    MonitorRequest,
    due_window,
    last_window,
    monitor_window,
)
from flows.monitoring.watched import staleness_policy
from flows.platform.embedded import EmbeddedDeployments
from flows.platform.ports import RunState
from flows.platform.services import build_services
from flows.platform.settings import Settings
from flows.training.requested_training import train_as_requested
from flows.training.train_version import TrainedVersion, TrainingRequest
from monitoring.monitor import HISTORY_WINDOWS
from monitoring.performance import FrozenTest
from monitoring.verdicts import VerdictStore
from tests.homes import configure
from tests.stand_ins import FakeDeployments, FakeRegistry
from tests.unit.monitoring.conftest import Traffic

HOUR = timedelta(hours=1)
START = datetime(2026, 11, 23, 10, tzinfo=UTC)
NOW = START + timedelta(days=1)
LAST = Window(start=NOW - HOUR, end=NOW)


class ReadKeys(FolderLake):
    """Folder lake that counts the verdict records that are read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.verdicts: list[str] = []

    def read(self, key: str) -> bytes:
        if key.startswith("verdicts/"):
            self.verdicts.append(key)
        return super().read(key)


class Shown:
    """Reporter of a use case that keeps pages and lines."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.lines: list[str] = []

    def page(self, page: str, *, key: str, description: str) -> None:
        self.pages.append(page)

    def table(self, rows: Any, *, key: str, description: str) -> None:
        self.pages.append(description)

    def progress(self, *, key: str, description: str) -> Callable[[float], None]:
        return lambda _: None

    def log(self, line: str) -> None:
        self.lines.append(line)


class Address:
    """Reporter of windows that writes nothing; `fails` makes it unavailable."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    def report(
        self, data: WindowData, reference: pl.DataFrame | None, verdict: Verdict, *, replaces: str | None = None
    ) -> str:
        if self.fails:
            raise UnavailableError("the reports' server is unavailable")
        return f"report/{verdict.window.key}"


class World:
    """Installation whose champion was right far more often on its frozen test than in the last hour, with labels."""

    def __init__(self, home: Path, **settings: Any) -> None:
        policies = {"staleness": StalenessPolicy(embed_rows=0), "gate": GatePolicy(min_recent_rows=20)}
        self.lake = ReadKeys(home / "lake")
        self.deployments, self.shown = FakeDeployments(), Shown()
        confusion = json.dumps(FrozenTest.from_f1(0.9, 400).confusion)
        self.services = build_services(
            Settings(home=home, trust="survey", **{**policies, **settings}),
            environment={},
            lake=self.lake,
            registry=FakeRegistry({"1": {"test_confusion": confusion}}),
            deployments=self.deployments,
            reporter=self.shown,
            clock=lambda: NOW,
            steps=lambda _name, action, again=False: action(),
        )
        self.store = VerdictStore(self.lake)

    def crown(self) -> None:
        self.services.ledger.append(
            expected=0, actor="test", action="promote", reason="first", state=crowned("1"), versions={"1": "d"}
        )

    def serve(self, accuracy: float = 0.4) -> None:
        Traffic(self.lake).send(LAST, 200, accuracy=accuracy, labelled=1.0)

    def monitor(self, *, reporter: Address | None = None, **request: bool) -> Monitored:
        return monitor_window(self.services, MonitorRequest(window=LAST, **request), reporter=reporter or Address())


def verdict(k: int, level: Level = "STALE", version: str = "1") -> Verdict:
    window = Window(start=START + k * HOUR, end=START + (k + 1) * HOUR)
    return Verdict(
        window=window,
        verdict=level,
        version=version,
        by_version={},
        reasons=(),
        action="retrain" if level == "STALE" else "none",
        action_reason="300 new labels are there to learn from.",
        at=window.end,
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.crown()
    world.serve()
    return world


def died(store: VerdictStore, stale: Verdict, times: int = 1) -> None:
    current = store.record(stale)
    for _ in range(times):
        begun = store.begin_attempt(current)
        current = store.end_attempt(stale.window, begun.attempts[-1].number, "failed")


def test_stale_window_starts_one_retraining(world: World) -> None:
    done = world.monitor()
    assert (done.verdict.verdict, done.verdict.action) == ("STALE", "retrain")
    assert [(name, key) for name, _, key in world.deployments.started] == [
        ("continuous-training/continuous-training", f"{LAST.key}-1")
    ]
    assert done.flow_run == world.deployments.runs[f"{LAST.key}-1"]
    (attempt,) = done.verdict.attempts
    assert (attempt.state, attempt.flow_run_id) == ("started", done.flow_run)
    assert done.verdict.report_uri == f"report/{LAST.key}"
    assert world.deployments.events == ["evergreen.verdict", STALE_EVENT]
    assert world.monitor().flow_run is None
    assert len(world.deployments.started) == 1


def test_labels_that_gate_lacks_are_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path, gate=GatePolicy())
    world.crown()
    world.serve()
    verdict = world.monitor().verdict
    assert (verdict.verdict, verdict.action, world.deployments.started) == ("STALE", "ask_labels", [])
    assert verdict.action_reason.startswith("Label 25 more rows")


def test_retraining_without_prefect_is_left_to_command(world: World) -> None:
    alone = replace(world.services, deployments=EmbeddedDeployments(world.lake))
    done = monitor_window(alone, MonitorRequest(window=LAST, take_over=False), reporter=Address())
    [run] = alone.requested_runs()
    assert run.parameters == {"window": LAST.key, "reason": "drift", "budget_s": alone.settings.budget_s}
    assert done.flow_run == run.run_id
    world.deployments.states[run.run_id] = None  # servers started meanwhile: Prefect does not know the command's run
    late = replace(world.services, clock=lambda: NOW + timedelta(seconds=GRACE_S + 60))
    monitor_window(late, MonitorRequest(window=LAST), reporter=Address())
    assert world.deployments.started == []

    def train(*_: object, **__: object) -> TrainedVersion:
        return TrainedVersion(
            version="2", verdict="HOLD", reasons=(), snapshot="s", f1=0.9, champion_f1=0.8, budget_s=1.0, used_s=1.0,
            action="kept",
        )  # fmt: skip

    train_as_requested(alone, TrainingRequest(**run.parameters), flow_run_id=run.run_id, train=train)
    kept = world.store.latest(LAST)
    assert kept is not None
    assert [(each.state, each.flow_run_id) for each in kept.attempts] == [("completed", run.run_id)]


def test_dead_retraining_keeps_its_window_due(world: World) -> None:
    first = world.monitor()
    assert not world.monitor().verdict.retraining_is_due
    world.deployments.states[str(first.flow_run)] = RunState(name="Crashed", end="failed")
    second = world.monitor()
    assert [key for *_, key in world.deployments.started] == [f"{LAST.key}-1", f"{LAST.key}-2"]
    assert [attempt.state for attempt in second.verdict.attempts] == ["failed", "started"]


def test_unavailable_prefect_fails_only_the_attempt(world: World) -> None:
    world.deployments.away = True
    with pytest.raises(UnavailableError):
        world.monitor()
    kept = world.store.latest(LAST)
    assert kept is not None
    assert (kept.verdict, [attempt.state for attempt in kept.attempts]) == ("STALE", ["failed"])


def test_request_without_retraining_starts_none(world: World) -> None:
    done = world.monitor(retrain=False, report=False)
    assert (done.flow_run, done.verdict.report_uri, world.deployments.started) == (None, None, [])
    assert done.verdict.retraining_is_due


def test_unavailable_report_keeps_verdict_and_retraining(world: World) -> None:
    with pytest.raises(UnavailableError):
        world.monitor(reporter=Address(fails=True))
    kept = world.store.latest(LAST)
    assert kept is not None
    assert (kept.verdict, [attempt.state for attempt in kept.attempts]) == ("STALE", ["started"])


def test_fresh_window_starts_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.crown()
    world.serve(accuracy=0.95)
    done = world.monitor()
    assert (done.verdict.verdict, done.flow_run) == ("FRESH", None)
    assert world.deployments.events == ["evergreen.verdict"]


def test_window_without_champion_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(PermanentError, match="run `evergreen train` first"):
        world.monitor()
    assert world.store.history() == []


def test_unavailable_registry_judges_without_frozen_test(world: World) -> None:
    registry = world.services.registry
    assert isinstance(registry, FakeRegistry)
    registry.away = True
    assert world.monitor().verdict.version == "1"
    assert any("aliases lag" in page for page in world.shown.pages)


def test_dead_attempt_of_earlier_window_is_tried_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.crown()
    died(world.store, verdict(20))
    assert world.monitor().verdict.verdict == "WATCH"  # no traffic
    assert [key for *_, key in world.deployments.started] == [f"{verdict(20).window.key}-2"]


@pytest.mark.parametrize("before", ["three attempts", "another version", "a running retraining"])
def test_earlier_window_is_not_tried_again(tmp_path: Path, before: str) -> None:
    world = World(tmp_path)
    world.crown()
    died(world.store, verdict(18, version="0" if before == "another version" else "1"), MAX_ATTEMPTS - 1)
    if before == "three attempts":
        world.store.end_attempt(world.store.begin_attempt(_latest(world, 18)).window, MAX_ATTEMPTS, "failed")
    if before == "a running retraining":
        running = world.store.record(replace(verdict(19), at=NOW))
        world.store.begin_attempt(running, flow_run_id="elsewhere", at=NOW)
    assert world.monitor().flow_run is None
    assert world.deployments.started == []


def _latest(world: World, k: int) -> Verdict:
    found = world.store.latest(verdict(k).window)
    assert found is not None
    return found


def test_look_reads_each_verdict_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.crown()
    for k in range(-HISTORY_WINDOWS - 50, 0):
        world.store.record(verdict(k, "FRESH"))
    world.lake.verdicts.clear()
    world.monitor()
    old = [key for key in world.lake.verdicts if LAST.key not in key]
    assert len(old) == len(set(old)) <= HISTORY_WINDOWS


@pytest.mark.parametrize("hours_late", [-3, 0, 1, 2])
def test_late_run_judges_its_due_window(hours_late: int) -> None:
    due = NOW - hours_late * HOUR
    assert due_window(due, NOW, 3_600).end == min(due, NOW)


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, object]]]]:
    told: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", told
    server.shutdown()
    server.server_close()


def test_two_stale_windows_send_one_message(tmp_path: Path, hook: tuple[str, list[dict[str, object]]]) -> None:
    url, told = hook
    world = World(tmp_path, alert_url=url)
    world.crown()
    world.serve()
    world.store.record(verdict(22))
    world.monitor()
    world.monitor()
    assert len(told) == 1
    written = (world.services.home.folder("metrics") / "monitor.prom").read_text()
    assert 'evergreen_window_actions{action="retrain"} 2' in written


def test_unavailable_webhook_keeps_the_verdict(tmp_path: Path) -> None:
    world = World(tmp_path, alert_url="http://127.0.0.1:9/")
    world.crown()
    world.serve()
    assert world.monitor().verdict.verdict == "STALE"
    assert "the next window of the incident tries again" in world.shown.lines[0]


def test_monthly_false_alarm_sets_window_rate(tmp_path: Path) -> None:
    hourly = build_services(
        Settings(home=tmp_path, staleness=StalenessPolicy(false_alarms_a_month=1.0), window_s=3600), environment={}
    )
    assert staleness_policy(hourly).false_alarm_rate == pytest.approx(1 / 720)
    assert staleness_policy(build_services(Settings(home=tmp_path), environment={})).false_alarm_rate == 0.01


def test_staleness_policy_comes_from_the_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    unset = staleness_policy(build_services(Settings.load(), environment={}))
    assert (unset.max_age_s, unset.answers_worth_a_training) == (None, 0.0)
    configure(tmp_path, staleness={"max_age_s": 86400, "answers_worth_a_training": 120})
    policy = staleness_policy(build_services(Settings.load(), environment={}))
    assert (policy.max_age_s, policy.answers_worth_a_training) == (86_400.0, 120.0)


def test_last_window_is_on_a_shared_grid() -> None:
    now = datetime(2026, 11, 30, 12, 0, 7, tzinfo=UTC)
    window = last_window(now, 60)
    end = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
    assert window == Window(start=end - timedelta(minutes=1), end=end)
    assert last_window(now + timedelta(seconds=50), 60) == window
