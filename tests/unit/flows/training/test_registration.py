"""End of a training: the ledger's records of a new version, the attempt of its window, and the promotion."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from absa.errors import ConflictError, DeadlineMissedError, PermanentError, UnavailableError
from absa.evaluation.gate import Decision, GateDecision
from absa.job import EXIT_DEADLINE_MISSED
from absa.ledger.lifecycle import challenged, crowned, shadowed
from absa.ledger.state import State
from absa.records.schema import Window
from absa.records.verdict import Attempt
from flows.cli.status import status_lines
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.training import train_here
from flows.training.registration import put_in_force
from flows.training.requested_training import train_as_requested, train_on_machine
from flows.training.train_version import TrainedVersion, TrainingRequest
from monitoring.verdicts import VerdictStore
from tests.stand_ins import FakeDeployments, FakeRegistry, stale

DIGEST = "d" * 64
START = datetime(2026, 11, 23, 10, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(hours=1))


@pytest.fixture
def deployments() -> FakeDeployments:
    return FakeDeployments()


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def services(tmp_path: Path, deployments: FakeDeployments, registry: FakeRegistry) -> Services:
    return build_services(Settings(home=tmp_path), environment={}, registry=registry, deployments=deployments)


def known(services: Services, state: State) -> None:
    """A ledger with one record that names versions 1 and 2."""
    services.ledger.append(
        expected=0, actor="test", action="register", reason="before", state=state, versions={"1": DIGEST, "2": DIGEST}
    )


def settle(services: Services, version: str, verdict: Decision) -> str:
    """Return the action of `put_in_force` after the verdict of the gate."""
    package = SimpleNamespace(digest=DIGEST)
    candidate: Any = SimpleNamespace(decision=GateDecision(verdict=verdict, reasons=("because",)), package=package)
    return put_in_force(services, version, candidate, {"used_s": 1.0}, actor="test")


def actions(services: Services) -> list[str]:
    return [record.action for record in services.ledger.follow()]


def test_first_version_on_hold_serves_with_a_warning(services: Services) -> None:
    assert settle(services, "1", "HOLD") == "crowned"
    assert services.head().state == crowned("1")
    assert services.head().reason == "Warning: the gate's verdict is HOLD (because), but nothing else serves yet."
    assert [line.split(": ", 1)[1] for line in status_lines(services) if "because:" in line] == [services.head().reason]


@pytest.mark.parametrize("verdict", ["HOLD", "REJECT"])
def test_version_without_promotion_leaves_the_champion(services: Services, verdict: Decision) -> None:
    known(services, crowned("1"))
    assert settle(services, "3", verdict) == "kept"
    assert services.head().state == crowned("1")
    assert services.head().versions["3"] == DIGEST


def test_better_version_is_challenger(services: Services) -> None:
    known(services, crowned("1"))
    assert settle(services, "3", "PROMOTE") == "challenged"
    assert (services.head().state.champion, services.head().state.challenger) == ("1", "3")


def test_better_version_waits_for_the_running_experiment(services: Services) -> None:
    running = shadowed(challenged(crowned("1"), "2"))
    known(services, running)
    assert settle(services, "3", "PROMOTE") == "kept"
    assert services.head().state == running


def test_version_recorded_by_another_training_keeps_evidence(services: Services, registry: FakeRegistry) -> None:
    """Another training ends between this one's registration and its ledger step."""
    known(services, crowned("1"))
    registry.kept = {"3": {"digest": DIGEST, "gate": "PROMOTE"}, "4": {"digest": DIGEST, "gate": "HOLD"}}
    assert settle(services, "4", "HOLD") == "kept"
    assert settle(services, "3", "PROMOTE") == "challenged"
    assert settle(services, "3", "PROMOTE") == "challenged"  # a repeated step
    records = services.ledger.follow()[1:]
    told = [(each.action, services.ledger.evidence(each).get("training", {}).get("version")) for each in records]
    assert told == [("register", None), ("register", "4"), ("register", "3"), ("challenge", "3")]
    assert services.ledger.verify() == []


class StaleListing(FakeRegistry):
    """Registry that still lists version 2, which was deleted."""

    def versions(self) -> list[str]:
        return [*super().versions(), "2"]


def test_deleted_version_does_not_stop_the_next(tmp_path: Path) -> None:
    services = build_services(Settings(home=tmp_path), environment={}, registry=StaleListing())
    assert settle(services, "3", "HOLD") == "crowned"
    assert services.head().versions.keys() == {"3"}


def test_repeated_recording_writes_nothing(services: Services) -> None:
    known(services, crowned("1"))
    assert settle(services, "3", "PROMOTE") == "challenged"
    before = actions(services)
    assert settle(services, "3", "PROMOTE") == "challenged"
    assert actions(services) == before


@pytest.fixture
def asked(services: Services) -> VerdictStore:
    """A window whose verdict began a retraining."""
    store = VerdictStore(services.lake)
    store.begin_attempt(store.record(stale(WINDOW)), flow_run_id="run-1", at=WINDOW.end)
    return store


REQUEST = TrainingRequest(budget_s=60.0, reason="drift", window=WINDOW.key, start_promotion=True)
CHALLENGED = TrainedVersion(
    version="3", verdict="PROMOTE", reasons=(), snapshot=DIGEST, f1=0.7, champion_f1=0.6,
    budget_s=60.0, used_s=50.0, action="challenged",
)  # fmt: skip


def ends(outcome: TrainedVersion) -> Callable[..., TrainedVersion]:
    return lambda *_, **__: outcome


def fails(error: Exception) -> Callable[..., TrainedVersion]:
    def train(*_: object, **__: object) -> TrainedVersion:
        raise error

    return train


def attempt_of(store: VerdictStore) -> Attempt:
    latest = store.latest(WINDOW)
    assert latest is not None
    return latest.attempts[-1]


def test_failed_training_ends_its_attempt(asked: VerdictStore, services: Services) -> None:
    with pytest.raises(UnavailableError):
        train_as_requested(services, REQUEST, flow_run_id="run-1", train=fails(UnavailableError("MLflow is down")))
    assert (attempt_of(asked).state, attempt_of(asked).detail) == ("failed", "MLflow is down")


def test_completed_training_starts_one_promotion(
    asked: VerdictStore, services: Services, deployments: FakeDeployments
) -> None:
    known(services, crowned("1"))
    assert train_as_requested(services, REQUEST, flow_run_id="run-1", train=ends(CHALLENGED)) == CHALLENGED
    assert (attempt_of(asked).state, attempt_of(asked).detail) == ("completed", "version 3")
    assert deployments.started == [("promote/promote", {"version": "3", "revision": 1}, "promote-3")]
    with pytest.raises(ConflictError, match="completed retraining already"):
        train_as_requested(services, REQUEST, flow_run_id="run-2", train=ends(CHALLENGED))


def test_training_by_hand_records_no_attempt(
    asked: VerdictStore, services: Services, deployments: FakeDeployments
) -> None:
    by_hand = replace(REQUEST, window=None, start_promotion=False)
    train_as_requested(services, by_hand, flow_run_id="run-1", train=ends(CHALLENGED))
    assert attempt_of(asked).state == "started"
    assert deployments.started == []


class LostMachine:
    """AWS Batch whose machines are taken away."""

    def submit_job(self, **_: Any) -> dict[str, str]:
        return {"jobId": "job-1"}

    def describe_jobs(self, **_: Any) -> dict[str, Any]:
        return {"jobs": [{"status": "FAILED", "statusReason": "Host EC2 (instance i-1) terminated."}]}

    def terminate_job(self, **_: Any) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("left_open", [True, False])
def test_lost_machine_ends_an_open_attempt(asked: VerdictStore, tmp_path: Path, left_open: bool) -> None:
    settings = Settings(home=tmp_path, training_queues="spot", training_definition="training")
    services = build_services(settings, environment={})
    if not left_open:
        asked.end_attempt(WINDOW, 1, "failed", detail="the machine said so")
    with pytest.raises(UnavailableError, match="taken away"):
        train_on_machine(services, REQUEST, batch=LostMachine())
    detail = "every training machine was taken away before the training ended; run it again"
    assert attempt_of(asked).detail == (detail if left_open else "the machine said so")


@pytest.mark.parametrize(
    ("more", "sentence"), [({"base": "b"}, "has no bases"), ({"sources": ("a.csv",)}, "reads the lake only")]
)
def test_machine_takes_neither_base_nor_files(services: Services, more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PermanentError, match=sentence):
        train_on_machine(services, replace(REQUEST, **more), batch=LostMachine())


@pytest.mark.parametrize(
    ("error", "code"), [(DeadlineMissedError("late"), EXIT_DEADLINE_MISSED), (UnavailableError("away"), 1), (None, 0)]
)
def test_machine_reports_the_result_by_its_exit_code(error: Exception | None, code: int) -> None:
    asked_for: list[Any] = []

    def run(**parameters: Any) -> None:
        asked_for.append(parameters)
        if error is not None:
            raise error

    assert train_here.main(["--budget-s", "60", "--window", "none"], run=run) == code
    assert asked_for == [{"window": None, "budget_s": 60.0, "reason": "manual"}]
