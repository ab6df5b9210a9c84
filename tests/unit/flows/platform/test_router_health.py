"""Health of the router: a lost ledger record is named."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from absa.ledger.lifecycle import crowned
from flows.platform.host.router_health import ledger_problem
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.consistency import inconsistencies
from tests.stand_ins import FakeRegistry


@pytest.fixture
def services(tmp_path: Path) -> Services:
    settings = Settings(home=tmp_path, router_url="http://router")
    made = build_services(settings, environment={}, registry=FakeRegistry())
    made.ledger.append(
        expected=0, actor="a", action="promote", reason="first", state=crowned("1"), versions={"1": "d"}
    )
    return made


def test_lost_record_of_router_is_an_inconsistency(services: Services) -> None:
    answers: Iterator[Mapping[str, Any]] = iter([{"status": "ready"}, {"problem": "the lake lost ledger record 2"}])
    without, lost = (inconsistencies(services, ask=lambda _: next(answers)) for _ in range(2))
    assert [each for each in lost if each not in without] == ["router: the lake lost ledger record 2"]


def test_router_that_does_not_run_is_not_asked(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(url: str) -> Mapping[str, Any]:
        asked.append(url)
        return {"problem": "of another home"}

    assert ledger_problem(Settings(home=tmp_path), ask=ask) is None
    assert ledger_problem(Settings(home=tmp_path, router_url="http://router"), ask=ask) == "router: of another home"
    assert asked == ["http://router/readyz"]
