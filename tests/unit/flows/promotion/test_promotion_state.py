"""What the ledger alone says about a promotion: which experiment runs, how a trial ended, whether it is one story."""

from datetime import UTC, datetime, timedelta

import pytest

from absa.errors import PermanentError
from absa.ledger.history import champion_since, former_champion, trial_end
from absa.ledger.lifecycle import challenged, crowned, dropped, live_arms, promoted, ramped, shadowed
from absa.ledger.record import Action, LedgerRecord
from absa.ledger.routing import assign
from absa.ledger.state import State
from absa.policies import ExperimentPolicy
from flows.promotion.consistency import contradictions
from flows.promotion.promotion_look import next_step
from flows.promotion.running_experiment import running

START = datetime(2026, 11, 30, tzinfo=UTC)


def records(*steps: tuple[Action, State]) -> list[LedgerRecord]:
    return [
        LedgerRecord(number=n, at=START + timedelta(hours=n), actor="t", action=action, reason=f"r{n}", state=state)
        for n, (action, state) in enumerate(steps, start=1)
    ]


FIRST = crowned("1")
NAMED = challenged(FIRST, "2")
SHADOW = shadowed(NAMED)
AB = ramped(SHADOW, 0.25)
SEVERAL = shadowed(NAMED, ("3",))


def test_the_running_experiment_begins_with_its_first_plan_and_an_earlier_one_is_another() -> None:
    told = records(("promote", FIRST), ("challenge", NAMED), ("traffic", SHADOW), ("traffic", AB))
    run = running(told)
    assert run is not None
    assert [r.number for r in run.records] == [3, 4]
    assert [r.number for r in run.ab] == [4]
    again = records(
        *[(r.action, r.state) for r in told], ("rollback", FIRST), ("challenge", NAMED), ("traffic", SHADOW)
    )
    run = running(again)
    assert run is not None
    assert [r.number for r in run.records] == [7]
    assert running(again[:5]) is None


def test_a_trial_that_went_back_is_known_as_ended_until_it_begins_again() -> None:
    told = records(("promote", FIRST), ("challenge", NAMED), ("traffic", SHADOW), ("rollback", FIRST))
    ended = trial_end(told, "2")
    assert ended is not None
    assert ended.number == 4
    assert trial_end(told[:3], "2") is None
    assert trial_end(told, "3") is None
    assert trial_end([*told, *records(("challenge", NAMED))], "2") is None
    assert trial_end(records(("challenge", NAMED), ("promote", crowned("2"))), "2") is None


def test_several_challengers_have_arms_of_their_own_and_at_most_the_champions_share() -> None:
    half = ramped(SEVERAL, 0.5)
    assert half.plan is not None
    assert [round(arm.share, 6) for arm in half.plan.arms] == [round(1 / 3, 6)] * 3
    assert half.plan.experiment == "v1-vs-v2-v3"
    run = running(records(("traffic", SEVERAL), ("traffic", half)))
    assert run is not None
    assert run.comparisons == 2


def test_an_arm_that_is_dropped_moves_its_units_to_the_champion_and_nobody_else() -> None:
    before = ramped(SEVERAL, 0.25)
    after = dropped(before, "2")
    assert before.plan is not None
    assert after.plan is not None
    assert after.challenger == "3"
    assert [arm.version for arm in live_arms(after.plan)] == ["3"]
    for unit in map(str, range(300)):
        was, now = assign(before.plan, unit), assign(after.plan, unit)
        assert now.version == ("1" if was.version == "2" else was.version)
    assert dropped(after, "3") == FIRST
    raised = ramped(after, 0.33)
    assert raised.plan is not None
    assert [round(arm.share, 2) for arm in raised.plan.challengers] == [0.0, 0.33]
    assert promoted(raised, "3") == crowned("3")


def test_an_arm_that_fails_in_shadow_never_gets_a_band() -> None:
    left = ramped(dropped(SEVERAL, "2"), 0.25)
    assert left.plan is not None
    assert [(arm.version, arm.share) for arm in left.plan.challengers] == [("3", 0.25)]


def test_an_experiment_needs_different_versions() -> None:
    with pytest.raises(PermanentError, match="different versions"):
        shadowed(NAMED, ("2",))


def test_the_ramp_ends_where_every_arm_has_as_much_as_the_champion() -> None:
    policy = ExperimentPolicy(ramp=(0.05, 0.5), step_s=10)
    full = records(("traffic", ramped(ramped(SEVERAL, 0.05), 0.5)))[0]
    assert next_step(full, full.at + timedelta(hours=1), policy) == ("decide", None)


def test_a_second_roll_back_goes_further_back_and_not_to_what_was_rolled_back_from() -> None:
    told = records(*(("promote", crowned(v)) for v in "123"), ("rollback", crowned("2")))
    assert former_champion(told) == "1"
    assert former_champion([*told, *records(("rollback", crowned("1")))]) is None
    assert former_champion([*told, *records(("promote", crowned("4")))]) == "2"


def test_a_champion_that_came_back_is_champion_since_then_and_a_challenger_changes_nothing() -> None:
    told = records(("register", State()), *(("promote", crowned(v)) for v in "12"), ("rollback", FIRST))
    since = champion_since([*told, *records(("challenge", NAMED))])
    assert since == told[-1]
    assert champion_since(told[:1]) is None


def test_aliases_that_lag_and_plans_that_contradict_are_said() -> None:
    told = records(("promote", FIRST), ("traffic", AB))
    assert contradictions(told, {"champion": "1", "challenger": "2"}) == []
    assert contradictions(told, None) == []
    assert "alias champion stands at 2" in contradictions(told, {"champion": "2", "challenger": "2"})[0]
    wrong = State(champion="9", challenger="8", plan=AB.plan)
    assert len(contradictions(records(("traffic", wrong)), None)) == 2
