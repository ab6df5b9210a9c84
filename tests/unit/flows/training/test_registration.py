"""The end of a training: what the ledger says of a new version, and what becomes of the attempt that asked for it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import flows.training.training_flow as training
from absa.errors import ConflictError, DeadlineMissedError, UnavailableError
from absa.evaluation.gate import GateDecision, Verdict
from absa.job import EXIT_DEADLINE_MISSED
from absa.ledger.lifecycle import challenged, crowned, shadowed
from absa.ledger.state import State
from absa.records.schema import Window
from flows.cli.status import status_lines
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.training import train_here
from flows.training.registration import put_in_force
from monitoring.verdicts import Attempt, VerdictStore
from tests.stand_ins import FakeDeployments, FakeRegistry, stale

DIGEST = "d" * 64
START = datetime(2026, 11, 23, 10, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(hours=1))


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return build_services(
        Settings(home=tmp_path), environment={}, registry=FakeRegistry(), deployments=FakeDeployments()
    )


def known(services: Services, state: State) -> None:
    """A ledger with one record that names versions 1 and 2."""
    services.ledger.append(
        expected=0, actor="test", action="register", reason="before", state=state, versions={"1": DIGEST, "2": DIGEST}
    )


def settle(services: Services, version: str, verdict: Verdict) -> str:
    """What `put_in_force` calls the version after the gate's verdict."""
    package = SimpleNamespace(digest=DIGEST)
    candidate: Any = SimpleNamespace(decision=GateDecision(verdict=verdict, reasons=("because",)), package=package)
    return put_in_force.fn(services, version, candidate, {"used_s": 1.0}, actor="test")


def actions(services: Services) -> list[str]:
    return [record.action for record in services.ledger.follow()]


def test_a_first_version_is_champion_and_its_evidence_says_what_the_training_took(services: Services) -> None:
    assert settle(services, "1", "PROMOTE") == "crowned"
    assert actions(services) == ["register", "promote"]
    assert services.head().state == crowned("1")
    evidence = json.loads(services.lake.read(f"evidence/{services.head().evidence_digest}.json"))
    assert (evidence["verdict"], evidence["training"]) == ("PROMOTE", {"used_s": 1.0})


def test_a_first_version_that_is_no_better_than_the_baseline_is_registered_alone(services: Services) -> None:
    assert settle(services, "1", "REJECT") == "kept"
    assert actions(services) == ["register"]
    assert services.head().state.champion is None


def test_first_version_on_hold_serves_with_a_warning(services: Services) -> None:
    assert settle(services, "1", "HOLD") == "crowned"
    assert services.head().state == crowned("1")
    assert services.head().reason == "Warning: the gate says HOLD (because), but nothing else serves yet."
    assert [line.split(": ", 1)[1] for line in status_lines(services) if "because:" in line] == [services.head().reason]


@pytest.mark.parametrize("verdict", ["HOLD", "REJECT"])
def test_a_version_that_the_gate_does_not_promote_leaves_the_champion_alone(
    services: Services, verdict: Verdict
) -> None:
    known(services, crowned("1"))
    assert settle(services, "3", verdict) == "kept"
    assert services.head().state == crowned("1")
    assert services.head().versions["3"] == DIGEST


def test_a_better_version_is_challenger(services: Services) -> None:
    known(services, crowned("1"))
    assert settle(services, "3", "PROMOTE") == "challenged"
    assert (services.head().state.champion, services.head().state.challenger) == ("1", "3")


def test_a_better_version_waits_while_another_experiment_runs(services: Services) -> None:
    running = shadowed(challenged(crowned("1"), "2"))
    known(services, running)
    assert settle(services, "3", "PROMOTE") == "kept"
    assert services.head().state == running


def test_a_second_try_after_the_last_record_says_the_same_and_writes_nothing(services: Services) -> None:
    known(services, crowned("1"))
    assert settle(services, "3", "PROMOTE") == "challenged"
    before = actions(services)
    assert settle(services, "3", "PROMOTE") == "challenged"
    assert actions(services) == before


def test_a_second_try_after_the_first_record_goes_on_from_there(services: Services) -> None:
    known(services, crowned("1"))
    services.ledger.append(
        expected=1, actor="test", action="register", reason="version 3", state=crowned("1"), versions={"3": DIGEST}
    )
    assert settle(services, "3", "PROMOTE") == "challenged"
    assert actions(services) == ["register", "register", "challenge"]


@pytest.fixture
def asked(tmp_path: Path, services: Services, monkeypatch: pytest.MonkeyPatch) -> VerdictStore:
    """A window whose verdict began a retraining; the flow runs outside of Prefect."""
    store = VerdictStore(services.lake)
    store.begin_attempt(store.record(stale(WINDOW)), flow_run_id="run-1", at=WINDOW.end)
    monkeypatch.setattr(training, "build_services", lambda **_: services)
    monkeypatch.setattr(training, "flow_run", SimpleNamespace(id="run-1"))
    return store


def attempt_of(store: VerdictStore) -> Attempt:
    latest = store.latest(WINDOW)
    assert latest is not None
    return latest.attempts[-1]


def test_a_training_that_fails_ends_its_attempt_as_failed_with_the_reason(
    asked: VerdictStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UnavailableError("MLflow does not answer")

    monkeypatch.setattr(training, "run_continuous_training", fail)
    with pytest.raises(UnavailableError):
        training.continuous_training.fn(window=WINDOW.key, reason="drift")
    assert (attempt_of(asked).state, attempt_of(asked).detail) == ("failed", "MLflow does not answer")


def test_a_training_that_ends_starts_the_promotion_and_its_window_leads_to_no_other(
    asked: VerdictStore, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = training.Outcome(
        version="3", verdict="PROMOTE", reasons=(), snapshot=DIGEST, pos_neg_f1=0.7, champion_pos_neg_f1=0.6,
        budget_s=60.0, used_s=50.0, action="challenged",
    )  # fmt: skip
    monkeypatch.setattr(training, "run_continuous_training", lambda *_, **__: outcome)
    known(services, crowned("1"))
    assert training.continuous_training.fn(window=WINDOW.key)["version"] == "3"
    assert (attempt_of(asked).state, attempt_of(asked).detail) == ("completed", "version 3")
    assert cast(FakeDeployments, services.deployments).started == [
        ("promote/promote", {"version": "3", "revision": 1}, "promote-3")
    ]
    with pytest.raises(ConflictError, match="completed retraining already"):
        training.continuous_training.fn(window=WINDOW.key)


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Puts something in the flow's place that notes what it was asked for."""

    def put(error: Exception | None) -> list[Any]:
        seen: list[Any] = []

        def run(**asked_for: Any) -> None:
            seen.append(asked_for)
            if error is not None:
                raise error

        monkeypatch.setattr(training, "continuous_training", run)
        monkeypatch.setattr("flows.platform.settings.apply_environment", lambda _: {})
        return seen

    return put


@pytest.mark.parametrize(
    ("error", "code"), [(DeadlineMissedError("late"), EXIT_DEADLINE_MISSED), (UnavailableError("away"), 1), (None, 0)]
)
def test_a_training_machine_says_by_its_exit_code_how_it_went(
    error: Exception | None, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: Callable[..., list[Any]]
) -> None:
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    asked_for = flow(error)
    assert train_here.main(["--budget-s", "60", "--window", "none"]) == code
    assert asked_for == [{"window": None, "budget_s": 60.0, "reason": "manual"}]
