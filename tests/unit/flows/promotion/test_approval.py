"""A promotion that a person must approve: nothing is promoted before, and a guardrail does not wait for an answer."""

from dataclasses import dataclass
from pathlib import Path

import pytest

import flows.promotion.promote_flow
from absa.ledger.lifecycle import challenged, crowned, ramped
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.promote_flow import advance
from monitoring.experiments.ab_statistics import Decision, ExperimentDecision
from tests.stand_ins import FakeRegistry


@dataclass
class Asked:
    """Somebody who has said yes, or not yet."""

    yes: bool = False
    questions: int = 0
    withdrawn: bool = False

    def given(self) -> bool:
        self.questions += 1
        return self.yes

    def withdraw(self) -> None:
        self.withdrawn = True


def found(decision: Decision) -> dict[str, ExperimentDecision]:
    return {
        "2": ExperimentDecision(
            decision=decision, sentence=decision, estimate=0.1, low=0.05, high=0.15, exposure_champion=500,
            exposure_challenger=500, srm_p_value=1.0,
        )
    }  # fmt: skip


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    """Version 2 answers half of the traffic, and serves where it is looked at."""
    services = build_services(Settings(home=tmp_path, ramp="0.5"), environment={}, registry=FakeRegistry())
    state = challenged(crowned("1"), "2")
    for number, each in enumerate((crowned("1"), state, ramped(state, 0.5))):
        services.ledger.append(
            expected=number, actor="test", action="traffic", reason="r", state=each, versions={"1": "a", "2": "b"}
        )
    monkeypatch.setattr(flows.promotion.promote_flow, "must_serve", lambda *_: {"rows": 3})
    monkeypatch.setattr(flows.promotion.promote_flow, "judge", lambda *_: found("PROMOTE"))
    return services


def test_nothing_is_promoted_before_a_person_has_said_yes(services: Services) -> None:
    person = Asked()
    for _ in range(3):
        assert advance(services, "2", approval=person) is None
    assert (services.head().number, person.questions) == (3, 3)
    person.yes = True
    ended = advance(services, "2", approval=person)
    assert ended is not None
    assert (ended.action, ended.state) == ("promote", crowned("2"))


def test_a_guardrail_rolls_back_while_a_person_thinks_and_takes_the_question_back(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Asked()
    assert advance(services, "2", approval=person) is None
    monkeypatch.setattr(flows.promotion.promote_flow, "judge", lambda *_: found("ROLL_BACK"))
    ended = advance(services, "2", approval=person)
    assert ended is not None
    assert (ended.action, ended.state, person.withdrawn) == ("rollback", crowned("1"), True)
