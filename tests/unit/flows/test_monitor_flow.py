"""Tests of what the monitor flow does beside judging: trying again, metrics, the webhook, the policy in force."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from absa.schema import Window
from flows import monitor as flow_module
from flows.monitor import staleness_policy, tell, try_again
from flows.settings import Settings
from flows.wiring import Services
from monitoring.policy import MAX_ATTEMPTS, Level
from monitoring.verdicts import Verdict, VerdictStore

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
    return Services(settings=Settings(home=tmp_path), environment={})


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
    services = Services(settings=Settings(home=tmp_path, alert_url=url), environment={})
    store = VerdictStore(services.lake)
    for k in range(2):
        tell(services, store.record(verdict(k)))
    assert len(told) == 1
    written = (services.home.folder("metrics") / "monitor.prom").read_text()
    assert 'evergreen_window_actions{action="retrain"} 2' in written


def test_one_false_alarm_a_month_sets_the_rate_of_a_window(tmp_path: Path) -> None:
    hourly = Services(settings=Settings(home=tmp_path, false_alarms_a_month=1.0, window_s=3600), environment={})
    assert staleness_policy(hourly).false_alarm_rate == pytest.approx(1 / 720)
    assert staleness_policy(Services(settings=Settings(home=tmp_path), environment={})).false_alarm_rate == 0.01


def test_an_age_limit_and_what_a_training_is_worth_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    unset = staleness_policy(Services(settings=Settings.load(), environment={}))
    assert (unset.max_age_s, unset.answers_worth_a_training) == (None, 0.0)
    monkeypatch.setenv("EVERGREEN_MAX_AGE_S", "86400")
    monkeypatch.setenv("EVERGREEN_ANSWERS_WORTH_A_TRAINING", "120")
    policy = staleness_policy(Services(settings=Settings.load(), environment={}))
    assert (policy.max_age_s, policy.answers_worth_a_training) == (86_400.0, 120.0)
