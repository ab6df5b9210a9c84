"""Tests of what the monitor flow does beside judging: trying again, metrics, the webhook, the policy in force."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from absa.ledger.lifecycle import crowned
from absa.policies import StalenessPolicy
from absa.records.schema import Window
from absa.records.verdict import MAX_ATTEMPTS, Level, Verdict
from flows.monitoring import monitor_flow as flow_module
from flows.monitoring.monitor_flow import asked_at, judge_window, last_window, staleness_policy, tell, try_again
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from monitoring.performance import FrozenTest
from monitoring.verdicts import VerdictStore
from tests.homes import configure
from tests.stand_ins import FakeRegistry
from tests.unit.monitoring.conftest import Traffic

START = datetime(2026, 11, 23, 10, tzinfo=UTC)


def verdict(k: int, level: Level = "STALE", version: str = "1") -> Verdict:
    window = Window(start=START + timedelta(hours=k), end=START + timedelta(hours=k + 1))
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
def services(tmp_path: Path) -> Services:
    return build_services(Settings(home=tmp_path), environment={})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    keys: list[str] = []

    def start(_: Services, due: Verdict) -> str:
        keys.append(due.next_attempt_key)
        return "run"

    monkeypatch.setattr(flow_module, "start_retraining", start)
    monkeypatch.setattr(flow_module, "begin_retraining", start)
    return keys


def died(store: VerdictStore, stale: Verdict, times: int = 1) -> None:
    current = store.record(stale)
    for _ in range(times):
        begun = store.begin_attempt(current)
        current = store.end_attempt(stale.window, begun.attempts[-1].number, "failed")


def test_a_dead_attempt_is_tried_again_under_its_windows_next_key(services: Services, started: list[str]) -> None:
    store = VerdictStore(services.lake)
    died(store, verdict(0))
    assert try_again(services, store.record(verdict(1, "WATCH"))) == "run"
    assert started == [f"{verdict(0).window.key}-2"]


def test_nothing_is_tried_again_once_fresh_or_three_times_or_for_another_version(
    services: Services, started: list[str]
) -> None:
    store = VerdictStore(services.lake)
    died(store, verdict(0), MAX_ATTEMPTS)
    died(store, verdict(1, version="0"))
    assert try_again(services, store.record(verdict(2, "WATCH"))) is None
    died(store, verdict(3))
    assert try_again(services, store.record(verdict(4, "FRESH"))) is None
    assert started == []


def test_nothing_is_tried_again_while_a_retraining_runs(services: Services, started: list[str]) -> None:
    store = VerdictStore(services.lake)
    died(store, verdict(0))
    store.begin_attempt(store.record(verdict(1)))
    assert try_again(services, store.record(verdict(2, "WATCH"))) is None
    assert started == []


@pytest.mark.parametrize("hours_late", [0, 1, 2])
def test_a_run_that_a_worker_took_up_late_judges_the_window_that_it_was_scheduled_for(
    monkeypatch: pytest.MonkeyPatch, hours_late: int
) -> None:
    due = datetime.now(UTC) - timedelta(hours=hours_late)
    monkeypatch.setattr(flow_module, "flow_run", SimpleNamespace(scheduled_start_time=due))
    assert last_window(asked_at(), 3_600) == last_window(due, 3_600)


def test_a_run_by_hand_judges_the_last_window(monkeypatch: pytest.MonkeyPatch) -> None:
    before = datetime.now(UTC)
    assert before <= asked_at() <= datetime.now(UTC)
    early = SimpleNamespace(scheduled_start_time=before + timedelta(hours=3))  # started before its time
    monkeypatch.setattr(flow_module, "flow_run", early)
    assert asked_at() <= datetime.now(UTC)


@pytest.fixture
def stale(tmp_path: Path) -> tuple[Services, Window]:
    """A champion that was right far more often on its frozen test than in the last hour, with labels to learn from."""
    settings = Settings(home=tmp_path, staleness=StalenessPolicy(embed_rows=0, min_new_labels=50), trust="survey")
    confusion = json.dumps(FrozenTest.from_f1(0.9, 400).confusion)
    services = build_services(settings, environment={}, registry=FakeRegistry({"1": {"test_confusion": confusion}}))
    services.ledger.append(
        expected=0, actor="test", action="promote", reason="first", state=crowned("1"), versions={"1": "d"}
    )
    window = last_window(datetime.now(UTC), 3_600)
    Traffic(services.lake).send(window, 200, accuracy=0.4, labelled=1.0)
    return services, window


def test_a_window_that_is_judged_again_while_its_retraining_runs_stays_due_should_that_die(
    stale: tuple[Services, Window],
) -> None:
    services, window = stale
    store = VerdictStore(services.lake)
    first = judge_window.fn(services, window).verdict
    assert (first.verdict, first.action) == ("STALE", "retrain")
    store.begin_attempt(first)
    again = judge_window.fn(services, window).verdict
    assert not again.retraining_is_due
    assert store.end_attempt(window, 1, "failed").retraining_is_due


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


def test_two_stale_windows_are_one_message_and_both_stand_in_the_metrics(
    tmp_path: Path, hook: tuple[str, list[dict[str, object]]]
) -> None:
    url, told = hook
    services = build_services(Settings(home=tmp_path, alert_url=url), environment={})
    store = VerdictStore(services.lake)
    for k in range(2):
        tell(services, store.record(verdict(k)))
    assert len(told) == 1
    written = (services.home.folder("metrics") / "monitor.prom").read_text()
    assert 'evergreen_window_actions{action="retrain"} 2' in written


def test_one_false_alarm_a_month_sets_the_rate_of_a_window(tmp_path: Path) -> None:
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
