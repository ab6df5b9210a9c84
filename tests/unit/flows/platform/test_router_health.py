"""Health of the router: a start waits for its version, and a lost ledger record is named."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from absa.ledger.lifecycle import crowned
from flows.platform.host.router_health import ledger_problem, wait_for_version
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.consistency import inconsistencies
from tests.stand_ins import FakeRegistry


@pytest.fixture
def services(tmp_path: Path) -> Services:
    settings = Settings(home=tmp_path, router_url="http://router")
    made = build_services(settings, environment={}, registry=FakeRegistry())
    made.ledger.append(expected=0, actor="a", action="promote", reason="first", state=crowned("1"), versions={"1": "d"})
    return made


def worker(*, ready: bool, error: str | None = None) -> dict[str, Any]:
    return {"ready": ready, "models": [{"version": "1", "last_error": error}]}


class Router:
    """Answers with one list of workers after the other, then with the last one; counts seconds."""

    def __init__(self, *looks: list[dict[str, Any]]) -> None:
        self.looks, self.urls, self.now = list(looks), list[str](), 0.0

    def ask(self, url: str) -> Mapping[str, Any]:
        self.urls.append(url)
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {"workers": found} if found else {}

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, services: Services) -> list[str]:
        return wait_for_version(services, limit_s=5, ask=self.ask, clock=lambda: self.now, sleep=self.sleep)


def test_start_waits_until_every_worker_is_ready(services: Services) -> None:
    ready, loading = worker(ready=True), worker(ready=False)
    router = Router([], [loading], [ready, loading], [ready, ready])
    assert router.wait(services) == []
    assert len(router.urls) == 4
    assert router.urls[0].endswith("/v1/models")


def test_start_says_why_no_version_is_loaded(services: Services) -> None:
    (said,) = Router([worker(ready=False, error="its package is broken")] * 2).wait(services)
    assert said == "the router has loaded no version within 5 s and refuses predictions: its package is broken"
    (said,) = Router([]).wait(services)
    assert said.endswith("router.log")


def test_start_without_version_waits_for_nothing(tmp_path: Path) -> None:
    router = Router([])
    assert router.wait(build_services(Settings(home=tmp_path), environment={})) == []
    assert router.urls == []


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
