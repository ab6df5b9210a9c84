"""`evergreen promote` and `evergreen rollback` in a home without servers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from absa.errors import PermanentError
from absa.ledger.lifecycle import challenged, crowned, promoted, shadowed
from absa.ledger.record import LedgerRecord
from flows.cli.promotion.promotion_commands import roll_back_now, start_promotion, step_text
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.promotion_plan import RunningStep
from tests.stand_ins import FakeDeployments, FakeRegistry

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """A home with champion 1 and challenger 2."""
    made = build_services(
        Settings(home=tmp_path),
        environment={},
        registry=FakeRegistry({"1": {}, "2": {}}),
        deployments=FakeDeployments(),
    )
    for number, state in enumerate((crowned("1"), challenged(crowned("1"), "2"))):
        made.ledger.append(
            expected=number, actor="t", action="promote" if number == 0 else "challenge", reason="r", state=state,
            versions={"1": "a", "2": "b"} if number == 0 else None,
        )  # fmt: skip
    return made


def ended(services: Services, state: Any, action: str) -> Callable[..., LedgerRecord]:
    """Return a fake experiment that ends with a record."""

    def run(trial: Any, *, sleep: Callable[[float], None]) -> LedgerRecord:
        assert trial.request.versions == ("2",)
        sleep(0.0)
        services.ledger.append(expected=2, actor="t", action="traffic", reason="s", state=shadowed(state, ()))
        sleep(0.0)
        after = promoted(state) if action == "promote" else crowned("1")
        return services.ledger.append(expected=3, actor="t", action=action, reason="It is so.", state=after)

    return run


@pytest.mark.parametrize(("action", "champion"), [("promote", "2"), ("rollback", "1")])
def test_promotion_without_prefect_runs_here(
    services: Services, action: str, champion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ended(services, challenged(crowned("1"), "2"), action)
    result = start_promotion(services, [], again=False, prefect_serves=lambda: False, run=run)
    said = capsys.readouterr().err
    assert "1. shadow" in said
    assert "Ctrl-C stops it" in said
    assert "no router runs in this home" in said
    assert result.facts == {
        "versions": ["2"], "champion": champion, "record": 4, "ended": [], "reason": "It is so.", "flow_run": None,
        "url": None,
    }  # fmt: skip
    assert result.meaning.startswith(f"Version {champion} ")


def test_stopped_promotion_names_ways_on(services: Services) -> None:
    def run(*_: Any, **__: Any) -> LedgerRecord:
        raise KeyboardInterrupt

    result = start_promotion(services, [], again=False, prefect_serves=lambda: False, run=run)
    assert (result.code, result.facts["champion"]) == (130, "1")
    assert result.following.startswith("evergreen promote, or evergreen up in the background, to continue")


def test_promotion_with_prefect_is_a_run_there(services: Services) -> None:
    result = start_promotion(services, ["2"], again=False, prefect_serves=lambda: True)
    assert result.facts["flow_run"] == "run-2"
    assert result.lines[-1].startswith("started: http")
    assert "1. shadow" in result.lines[1]


def test_approval_without_prefect_is_refused(tmp_path: Path, services: Services) -> None:
    asking = build_services(
        Settings(home=tmp_path, approval=True), environment={}, registry=FakeRegistry({"1": {}, "2": {}})
    )
    with pytest.raises(PermanentError, match="approval is on, and an operator gives it on a page of Prefect"):
        start_promotion(asking, [], again=False, prefect_serves=lambda: False)


def test_rollback_is_facts_too(services: Services) -> None:
    services.ledger.append(
        expected=2, actor="t", action="promote", reason="r", state=promoted(challenged(crowned("1"), "2"))
    )
    facts = roll_back_now(services, reason="complaints").facts
    assert (facts["champion"], facts["before"], facts["record"], facts["former"]) == ("1", "2", 4, None)


def test_step_has_time_left_or_latest_end() -> None:
    end = NOW + timedelta(days=2)
    step = RunningStep(step="shadow", following="A/B at 1 %", next_at=NOW + timedelta(minutes=30), ends_at=end)
    assert step_text(step, NOW) == "shadow; next A/B at 1 % in 30 min"
    last = RunningStep(step="A/B at 50 %", following="a decision by the labels", next_at=None, ends_at=end)
    assert step_text(last, NOW).endswith("as soon as there are enough labels, by 2026-12-02 12:00 UTC at the latest")
