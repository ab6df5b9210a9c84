"""Lifecycle of versions: transitions of the ledger's state."""

import pytest

from absa.errors import PermanentError
from absa.ledger.lifecycle import challenged, crowned, promoted, ramped, rerouted, shadowed, withdrawn
from absa.ledger.routing import Arm, TrafficPlan, single
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


def test_operators_plan_keeps_champion_and_names_challenger() -> None:
    arms = (Arm(name="champion", version="1", share=0.8), Arm(name="challenger", version="3", share=0.2))
    plan = TrafficPlan(mode="ab", experiment="e", salt="s", arms=arms)
    state = rerouted(challenged(crowned("1"), "2"), plan)
    assert (state.champion, state.challenger, state.plan) == ("1", "3", plan)
    assert rerouted(state, single("1")).challenger == "3"
    with pytest.raises(PermanentError, match="the first arm must be the champion, version 1"):
        rerouted(state, single("2"))
