"""Tests of the record that each requested training leaves in the lake."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from absa.errors import DeadlineMissedError, UnavailableError
from absa.records.trainings import TrainingState, read_trainings
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.training.requested_training import train_as_requested, train_on_machine
from flows.training.train_version import TrainedVersion, TrainingRequest
from tests.fake_lakes import CountingLake
from tests.stand_ins import FakeRegistry, FakeRuns

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
REQUEST = TrainingRequest(budget_s=60.0, reason="drift")
DONE = TrainedVersion(
    version="7", verdict="HOLD", reasons=("No clear gain.",), snapshot="d", f1=0.8, champion_f1=None, budget_s=60.0,
    used_s=41.0, action="kept",
)  # fmt: skip


@pytest.fixture
def services(tmp_path: Path) -> Services:
    registry = FakeRegistry()
    return build_services(
        Settings(home=tmp_path), environment={}, registry=registry, runs=FakeRuns(registry), clock=lambda: NOW
    )


def recorded(services: Services) -> TrainingState:
    ((state,), _) = read_trainings(services.lake)
    return state


def test_training_is_recorded_while_it_runs(services: Services) -> None:
    seen: list[TrainingState] = []

    def train(*_: Any, **__: Any) -> TrainedVersion:
        seen.append(recorded(services))
        return DONE

    train_as_requested(services, REQUEST, flow_run_id=None, train=train)
    assert (seen[0].outcome, seen[0].reason, seen[0].budget_s) == ("running", "drift", 60.0)
    ended = recorded(services)
    assert (ended.name, ended.outcome, ended.version, ended.verdict) == (seen[0].name, "completed", "7", "HOLD")
    assert ended.sentence == "version 7, HOLD, F1 0.800, 41 of 60 s used. No clear gain."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DeadlineMissedError("a budget of 60 s is too short"), "a budget of 60 s is too short"),
        (KeyError("what a customer wrote"), "KeyError, see the log"),
        (KeyboardInterrupt(), "stopped by Ctrl-C"),
    ],
)
def test_failed_training_keeps_its_reason(services: Services, error: BaseException, said: str) -> None:
    def train(*_: Any, **__: Any) -> TrainedVersion:
        raise error

    with pytest.raises(type(error)):
        train_as_requested(services, REQUEST, flow_run_id=None, train=train)
    assert (recorded(services).outcome, recorded(services).sentence) == ("failed", said)


def test_end_without_lake_fails_no_training(services: Services) -> None:
    class Leaving(CountingLake):
        away = False

        def write(self, key: str, data: bytes) -> None:
            if self.away:
                raise UnavailableError("the lake is away")
            super().write(key, data)

    lake = Leaving(services.lake)

    def train(*_: Any, **__: Any) -> TrainedVersion:
        lake.away = True
        return DONE

    done = train_as_requested(replace(services, lake=lake), REQUEST, flow_run_id=None, train=train)
    assert (done.version, recorded(services).outcome) == ("7", "running")


def test_training_without_machine_is_recorded_as_failed(services: Services) -> None:
    class NoMachine:
        def submit_job(self, **_: Any) -> Any:
            raise UnavailableError("no machine was available")

    queued = services.settings.model_copy(update={"training_queues": "spot", "training_definition": "d"})
    with pytest.raises(UnavailableError):
        train_on_machine(replace(services, settings=queued), REQUEST, batch=NoMachine())  # type: ignore[arg-type]
    assert (recorded(services).outcome, recorded(services).sentence) == ("failed", "no machine was available")
