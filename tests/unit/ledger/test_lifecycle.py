"""Lifecycle of versions: transitions of the ledger's state."""

import pytest

from absa.errors import PermanentError
from absa.ledger.lifecycle import challenged, crowned, promoted, ramped, shadowed, withdrawn
from absa.ledger.state import State


def test_challenger_keeps_its_salt_through_the_ramp() -> None:
    shadow = shadowed(challenged(crowned("1"), "2"))
    first = ramped(shadow, 0.05)
    second = ramped(first, 0.5)
    assert shadow.plan is not None
    assert first.plan is not None
    assert second.plan is not None
    assert shadow.plan.salt == first.plan.salt == second.plan.salt
    assert first.plan.experiment == "v1-vs-v2"
    assert second.plan.challengers[0].share == 0.5
    assert promoted(second) == crowned("2")
    assert withdrawn(second) == crowned("1")


def test_second_challenger_waits_for_the_first() -> None:
    with pytest.raises(PermanentError, match="end that experiment first"):
        challenged(shadowed(challenged(crowned("1"), "2")), "3")


def test_experiment_needs_champion_and_challenger() -> None:
    with pytest.raises(PermanentError):
        ramped(State(champion="1"), 0.1)
    with pytest.raises(PermanentError):
        promoted(crowned("1"))
