"""Tests of settling retraining attempts whose runs were killed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.errors import PermanentError
from absa.ledger.lifecycle import crowned
from absa.ledger.record import Action
from absa.records.schema import Window
from flows.demo.monitor_runs import retrain_again, retraining_is_pending
from flows.monitoring.attempts import GRACE_S, WAIT_S, is_in_ledger, recent_verdicts, settle_attempts
from flows.platform.ports import RunState
from flows.platform.services import build_services
from flows.platform.settings import Settings
from monitoring.verdicts import VerdictStore
from tests.stand_ins import FakeDeployments, stale

START = datetime(2026, 11, 23, 10, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(hours=1))
BUDGET_S = 900.0


@pytest.fixture
def store(tmp_path: Path) -> VerdictStore:
    store = VerdictStore(FolderLake(tmp_path))
    store.begin_attempt(store.record(stale(WINDOW)), flow_run_id="run-1", at=WINDOW.end)
    return store


def settle(store: VerdictStore, state: RunState | None, after_s: float) -> tuple[list[str], list[str]]:
    given_up: list[str] = []
    said = settle_attempts(
        store,
        lambda _: state,
        lambda run, _: given_up.append(run),
        budget_s=BUDGET_S,
        now=WINDOW.end + timedelta(seconds=after_s),
    )
    return said, given_up


@pytest.mark.parametrize("name", ["Crashed", "Cancelled", "Failed"])
def test_silently_ended_run_frees_the_next_attempt(store: VerdictStore, name: str) -> None:
    said, given_up = settle(store, RunState(name=name, end="failed"), 10)
    latest = store.latest(WINDOW)
    assert latest is not None
    assert latest.retraining_is_due
    assert latest.next_attempt_key.endswith("-2")
    assert name in said[0]
    assert given_up == []


def test_failed_retraining_is_tried_three_times(store: VerdictStore, tmp_path: Path) -> None:
    deployments = FakeDeployments()
    services = build_services(
        Settings(home=tmp_path, lake=str(tmp_path), budget_s=BUDGET_S),
        environment={},
        deployments=deployments,
        clock=lambda: WINDOW.end,
    )
    assert retrain_again(services) is None  # it runs
    assert retraining_is_pending(services)
    for number in (1, 2):
        store.end_attempt(WINDOW, number, "failed", detail="too slow")
        assert retraining_is_pending(services)  # it may be tried again
        assert retrain_again(services) == f"attempt {number} failed: too slow; the next one starts"
        assert str(deployments.started[-1][2]).endswith(f"-{number + 1}")
        assert retrain_again(services) is None
    store.end_attempt(WINDOW, 3, "failed", detail="too slow")
    with pytest.raises(PermanentError, match="failed 3 times: too slow"):
        retrain_again(services)
    assert not retraining_is_pending(services)


def test_completed_retraining_is_not_pending(store: VerdictStore) -> None:
    store.end_attempt(WINDOW, 1, "completed")
    assert not retraining_is_pending(SimpleNamespace(lake=store._lake))  # type: ignore[arg-type]


def test_run_may_be_late_by_the_grace(store: VerdictStore) -> None:
    running = RunState(name="Running", end=None, began_at=WINDOW.end)
    late = {"budget_s": BUDGET_S, "now": WINDOW.end + timedelta(seconds=BUDGET_S + 60)}
    assert settle_attempts(store, lambda _: running, lambda *_: None, **late) == []
    assert len(settle_attempts(store, lambda _: running, lambda *_: None, grace_s=30, **late)) == 1


@pytest.mark.parametrize("waited_s", [0.0, 7200.0])
def test_run_is_given_up_long_past_its_budget(store: VerdictStore, waited_s: float) -> None:
    alive = RunState(name="Running", end=None, began_at=WINDOW.end + timedelta(seconds=waited_s))
    assert settle(store, alive, waited_s + BUDGET_S) == ([], [])
    said, given_up = settle(store, alive, waited_s + BUDGET_S + GRACE_S + 1)
    assert given_up == ["run-1"]
    assert "failed" in said[0]


def test_waiting_run_is_given_hours(store: VerdictStore) -> None:
    waiting = RunState(name="AwaitingConcurrencySlot", end=None)
    assert settle(store, waiting, WAIT_S - 1) == ([], [])
    assert settle(store, waiting, WAIT_S + 1)[1] == ["run-1"]


def test_attempts_of_short_windows_are_seen_for_hours(store: VerdictStore) -> None:
    known = store.latest(WINDOW)
    assert known is not None
    for minute in range(120):
        start = WINDOW.end + timedelta(minutes=minute)
        window = Window(start=start, end=start + timedelta(minutes=1))
        store.record(replace(known, window=window, action="none", attempts=()))
    now = WINDOW.end + timedelta(hours=2)
    assert [len(each.attempts) for each in recent_verdicts(store, now, span_s=2 * 3600 + 60)][:2] == [1, 0]
    assert len(recent_verdicts(store, now, span_s=60)) == 50
    assert settle(store, RunState(name="Crashed", end="failed"), 7200)[0]


def test_completed_run_completes_its_attempt(store: VerdictStore) -> None:
    settle(store, RunState(name="Completed", end="completed"), 10)
    latest = store.latest(WINDOW)
    assert latest is not None
    assert latest.attempts[0].state == "completed"
    assert not latest.retraining_is_due


@pytest.mark.parametrize(
    ("action", "verdict", "window", "end"),
    [
        ("challenge", "PROMOTE", WINDOW.key, "completed"),
        ("register", "HOLD", WINDOW.key, "completed"),
        ("register", "PROMOTE", WINDOW.key, "failed"),  # it was killed before it named its challenger
        ("challenge", "PROMOTE", None, "failed"),  # somebody's own training
    ],
)
def test_run_killed_after_its_ledger_record_has_completed(
    store: VerdictStore, tmp_path: Path, action: Action, verdict: str, window: str | None, end: str
) -> None:
    services = build_services(Settings(home=tmp_path, lake=str(tmp_path)), environment={})
    evidence = {"verdict": verdict, "training": {"used_s": 1.0, "window": window}}
    services.ledger.append(
        expected=0, actor="drift", action=action, reason="test", state=crowned("1"), versions={"1": "d"},
        evidence=evidence,
    )  # fmt: skip
    crashed = RunState(name="Crashed", end="failed")
    settle_attempts(
        store,
        lambda _: crashed,
        lambda *_: None,
        partial(is_in_ledger, services.ledger),
        budget_s=BUDGET_S,
        now=WINDOW.end,
    )
    latest = store.latest(WINDOW)
    assert latest is not None
    assert latest.attempts[0].state == end
    assert latest.retraining_is_due == (end == "failed")


def test_unknown_run_is_given_the_grace(store: VerdictStore) -> None:
    assert settle(store, None, GRACE_S - 1)[0] == []
    assert settle(store, None, GRACE_S + 1)[0]


def test_settling_twice_changes_nothing(store: VerdictStore) -> None:
    settle(store, RunState(name="Crashed", end="failed"), 10)
    before = store.latest(WINDOW)
    assert settle(store, RunState(name="Crashed", end="failed"), 20) == ([], [])
    assert store.latest(WINDOW) == before
