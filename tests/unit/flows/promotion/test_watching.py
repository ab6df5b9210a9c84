"""Followers of dead promote runs: a silent experiment gets a new run, a watched or planned one is left alone."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from absa.ledger.lifecycle import challenged, crowned, promoted, shadowed
from absa.ledger.record import LedgerRecord
from absa.records.schema import utc_now
from flows.platform.ports import RunState
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.take_over import SILENCE_S, follow, sign_of_life, take_over
from tests.stand_ins import FakeDeployments

LATER = timedelta(seconds=SILENCE_S + 1)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Version 2 is in shadow, version 3 beside it."""
    services = build_services(Settings(home=tmp_path), environment={})
    first = crowned("1")
    append(services, "train", first)
    append(services, "train", challenged(first, "2"))
    append(services, "promote-flow", shadowed(challenged(first, "2"), ("3",)))
    return services


def append(services: Services, actor: str, state: Any) -> LedgerRecord:
    head = services.ledger.head()
    return services.ledger.append(
        expected=head.number if head else 0,
        actor=actor,
        action="traffic",
        reason="test",
        state=state,
        versions=dict.fromkeys("123", "d"),
    )


def look(services: Services, at: datetime, state: RunState | None = None) -> tuple[list[Any], list[str]]:
    """Started and abandoned runs."""
    prefect = FakeDeployments({"run-1": state})
    said = take_over(replace(services, deployments=prefect), at)
    assert len(said) == len(prefect.started)
    return prefect.started, prefect.crashed


def test_watched_experiment_is_left_alone(services: Services) -> None:
    sign_of_life(services, "v1-vs-v2-v3", "run-1")
    assert look(services, utc_now() + timedelta(seconds=SILENCE_S - 5)) == ([], [])


@pytest.mark.parametrize(("state", "given_up"), [(RunState(name="Running", end=None), ["run-1"]), (None, [])])
def test_silent_experiment_gets_a_new_run(services: Services, state: RunState | None, given_up: list[str]) -> None:
    sign_of_life(services, "v1-vs-v2-v3", "run-1")
    started, crashed = look(services, utc_now() + LATER, state)
    assert [(name, parameters) for name, parameters, _ in started] == [
        ("promote/promote", {"version": "2", "others": ["3"], "revision": 3})
    ]
    assert crashed == given_up
    again, _ = look(services, utc_now() + 2 * LATER)
    assert again[0][2] == started[0][2]  # two who come by start one run


@pytest.mark.parametrize("first", ["follow", "take_over"])
def test_dead_promotion_has_one_follower(services: Services, first: str) -> None:
    """After a reboot a worker finds the dead run and its old sign of life in one look."""
    sign_of_life(services, "v1-vs-v2-v3", "run-1")
    prefect, later = FakeDeployments(), utc_now() + LATER
    services = replace(services, deployments=prefect)
    looks = [
        lambda: follow(prefect, "run-1", {"version": "2", "revision": 3}),
        lambda: take_over(services, later),
    ]
    for each in looks if first == "follow" else looks[::-1]:
        each()
    prefect.crash("run-1", "")
    take_over(services, later + LATER)
    assert prefect.runs == {"after-run-1": "run-2"}


def test_ended_follower_leaves_one_more_try(services: Services) -> None:
    sign_of_life(services, "v1-vs-v2-v3", "run-1")
    prefect = FakeDeployments()
    services = replace(services, deployments=prefect)
    take_over(services, utc_now() + LATER)
    prefect.crash("run-2", "refused")
    for _ in range(3):
        assert "run run-3 continues the experiment" in take_over(services, utc_now() + LATER)[0]
    assert sorted(prefect.runs.values()) == ["run-2", "run-3"]


def test_run_dead_before_its_first_look_is_followed(services: Services) -> None:
    started, given_up = look(services, utc_now() + LATER)
    assert len(started) == 1
    assert given_up == []


def test_sign_of_an_earlier_experiment_is_ignored(services: Services) -> None:
    old = {"at": "2020-01-01T00:00:00.000000Z", "flow_run_id": "run-0"}
    services.lake.write("experiments/v1-vs-v2-v3/watched.json", json.dumps(old).encode())
    assert look(services, utc_now()) == ([], [])
    assert look(services, utc_now() + LATER, RunState(name="Running", end=None))[1] == []


def test_operators_own_experiment_is_left_alone(services: Services) -> None:
    append(services, "promote-flow", promoted(services.head().state, "2"))
    assert look(services, utc_now() + LATER) == ([], [])
    append(services, "person:ada", shadowed(challenged(crowned("2"), "3")))
    assert look(services, utc_now() + LATER) == ([], [])


def trained(services: Services, *, start_promotion: bool) -> LedgerRecord:
    """A challenger as a training names it, whose next step would be to start its promotion."""
    head = services.ledger.head()
    return services.ledger.append(
        expected=head.number if head else 0,
        actor="drift",
        action="challenge",
        reason="the gate says PROMOTE",
        state=challenged(crowned("1"), "2"),
        versions=dict.fromkeys("12", "d"),
        evidence={"verdict": "PROMOTE", "training": {"used_s": 1.0, "start_promotion": start_promotion}},
    )


def test_challenger_of_a_killed_training_is_tried(tmp_path: Path) -> None:
    services = build_services(Settings(home=tmp_path), environment={})
    trained(services, start_promotion=True)
    append(services, "drift", services.head().state)  # a later training registers a version that is no better
    assert look(services, utc_now())[0] == [("promote/promote", {"version": "2", "revision": 2}, "promote-2")]
    append(services, "promote-flow", shadowed(services.head().state))
    assert look(services, utc_now())[0] == []


def test_challenger_without_requested_promotion_is_left_alone(tmp_path: Path) -> None:
    services = build_services(Settings(home=tmp_path), environment={})
    assert look(services, utc_now()) == ([], [])
    trained(services, start_promotion=False)
    assert look(services, utc_now()) == ([], [])
    trained(services, start_promotion=True)
    prefect = FakeDeployments({"run-2": RunState(name="Failed", end="failed")})
    assert take_over(replace(services, deployments=prefect), utc_now()) == []
    assert len(prefect.started) == 1
