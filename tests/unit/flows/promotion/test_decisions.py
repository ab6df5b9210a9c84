"""Decisions of a person: requests that are refused at once, and what a roll-back says it changed."""

from pathlib import Path

import pytest

from absa.errors import PermanentError
from absa.ledger.lifecycle import challenged, crowned, ramped, shadowed
from absa.ledger.record import LedgerRecord
from absa.ledger.state import State
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.decisions import ended_by, requested_promotion, roll_back, rollback_report
from tests.stand_ins import FakeRegistry

NAMED = challenged(crowned("2"), "3")
SHADOW = shadowed(NAMED, ("4",))


@pytest.fixture
def registry() -> FakeRegistry:
    """Registry whose version 4 was rejected by the gate."""
    return FakeRegistry({version: {"gate": "REJECT" if version == "4" else "PROMOTE"} for version in "1234"})


@pytest.fixture
def services(tmp_path: Path, registry: FakeRegistry) -> Services:
    return build_services(Settings(home=tmp_path), environment={}, registry=registry)


def tell(services: Services, *states: State) -> None:
    for state in states:
        head = services.ledger.head()
        services.ledger.append(
            expected=head.number if head else 0, actor="test", action="promote", reason="test", state=state,
            versions=dict.fromkeys("1234", "d"),
        )  # fmt: skip


def rolled_back(services: Services) -> list[str]:
    record = roll_back(services, reason="complaints")
    records: list[LedgerRecord] = services.ledger.follow()
    assert records[-1] == record
    return rollback_report(records)


def test_rollback_in_an_experiment_reports_both(services: Services) -> None:
    tell(services, crowned("1"), crowned("2"), NAMED, ramped(SHADOW, 0.25))
    assert rolled_back(services) == [
        "ended: experiment v2-vs-v3-v4 in an A/B test, version 3 (25% of the traffic), version 4 (25% of the traffic)",
        "version 2 stays champion and has all traffic again (ledger record 5); routers follow within seconds",
        "a second rollback would make version 1 champion in place of version 2",
    ]
    assert rolled_back(services) == [
        "version 1 is champion again, in place of version 2 (ledger record 6); routers follow within seconds",
        "a second rollback would change nothing: there is no champion before version 1",
    ]
    with pytest.raises(PermanentError, match="no former champion"):
        roll_back(services, reason="again")


def test_rollback_in_shadow_of_a_first_version(services: Services) -> None:
    tell(services, crowned("2"), NAMED, SHADOW)
    first, stays, second = rolled_back(services)
    assert first.startswith("ended: experiment v2-vs-v3-v4 in shadow, version 3 (0% of the traffic)")
    assert "version 2 stays champion" in stays
    assert "would change nothing" in second


def test_rollback_names_a_challenger_that_it_drops(services: Services) -> None:
    tell(services, crowned("1"), crowned("2"), NAMED)
    assert rolled_back(services)[0] == "ended: version 3 is no longer the challenger"


def test_promotion_at_once_names_what_it_ends(services: Services) -> None:
    tell(services, crowned("2"), NAMED, ramped(SHADOW, 0.25), crowned("1"))
    assert ended_by(services.ledger.follow())[0].startswith("ended: experiment v2-vs-v3-v4")


def test_request_carries_the_ledger_revision(services: Services) -> None:
    tell(services, crowned("1"), crowned("2"))
    asked = requested_promotion(services, ["3"], again=False)
    assert asked == {"version": "3", "others": [], "again": False, "revision": 2}
    tell(services, NAMED)
    assert requested_promotion(services, [], again=False)["version"] == "3"


@pytest.mark.parametrize(
    ("versions", "sentence"),
    [
        (["99"], "version 99 is not in the ledger"),
        (["2"], "is the champion already"),
        (["1"], "was champion until version 2 replaced it"),
        (["4"], "version 4 was rejected by the gate"),
        ([], "there is no challenger: train one, or name a version"),
    ],
)
def test_impossible_promotion_is_refused_at_once(services: Services, versions: list[str], sentence: str) -> None:
    tell(services, crowned("1"), crowned("2"))
    with pytest.raises(PermanentError, match=sentence):
        requested_promotion(services, versions, again=False)


def test_promotion_is_requested_without_mlflow(services: Services, registry: FakeRegistry) -> None:
    tell(services, crowned("2"))
    registry.away = True
    assert requested_promotion(services, ["3"], again=False)["version"] == "3"


def test_promotion_without_a_champion_is_refused(services: Services) -> None:
    with pytest.raises(PermanentError, match="no champion to challenge"):
        requested_promotion(services, ["3"], again=False)
