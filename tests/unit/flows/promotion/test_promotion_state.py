"""Ledger history of a promotion: running experiment, end of a trial, contradictions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from absa.errors import PermanentError
from absa.ledger.history import champion_since, former_champion, last_drop, trial_end
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


def test_running_experiment_begins_with_its_first_plan() -> None:
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


def test_trial_end_lasts_until_the_next_trial() -> None:
    told = records(("promote", FIRST), ("challenge", NAMED), ("traffic", SHADOW), ("rollback", FIRST))
    ended = trial_end(told, "2")
    assert ended is not None
    assert ended.number == 4
    assert trial_end(told[:3], "2") is None
    assert trial_end(told, "3") is None
    assert trial_end([*told, *records(("challenge", NAMED))], "2") is None
    assert trial_end(records(("challenge", NAMED), ("promote", crowned("2"))), "2") is None


def test_each_challenger_has_at_most_the_champions_share() -> None:
    half = ramped(SEVERAL, 0.5)
    assert half.plan is not None
    assert [round(arm.share, 6) for arm in half.plan.arms] == [round(1 / 3, 6)] * 3
    assert half.plan.experiment == "v1-vs-v2-v3"
    run = running(records(("traffic", SEVERAL), ("traffic", half)))
    assert run is not None
    assert run.comparisons == 2


def test_dropped_arm_moves_units_to_the_champion_alone() -> None:
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


def test_arm_dropped_in_shadow_gets_no_band() -> None:
    left = ramped(dropped(SEVERAL, "2"), 0.25)
    assert left.plan is not None
    assert [(arm.version, arm.share) for arm in left.plan.challengers] == [("3", 0.25)]


def test_experiment_needs_different_versions() -> None:
    with pytest.raises(PermanentError, match="different versions"):
        shadowed(NAMED, ("2",))


def test_ramp_ends_with_equal_arms() -> None:
    policy = ExperimentPolicy(ramp=(0.05, 0.5), step_s=10)
    full = records(("traffic", ramped(ramped(SEVERAL, 0.05), 0.5)))[0]
    assert next_step(full, full.at + timedelta(hours=1), policy) == ("decide", None)


def test_second_roll_back_goes_further_back() -> None:
    told = records(*(("promote", crowned(v)) for v in "123"), ("rollback", crowned("2")))
    assert former_champion(told) == "1"
    assert former_champion([*told, *records(("rollback", crowned("1")))]) is None
    assert former_champion([*told, *records(("promote", crowned("4")))]) == "2"


def test_restored_champion_counts_from_its_return() -> None:
    told = records(("register", State()), *(("promote", crowned(v)) for v in "12"), ("rollback", FIRST))
    since = champion_since([*told, *records(("challenge", NAMED))])
    assert since == told[-1]
    assert champion_since(told[:1]) is None


def test_last_drop_is_of_present_champion() -> None:
    one_left = dropped(ramped(SEVERAL, 0.25), "2")
    told = records(("promote", FIRST), ("challenge", NAMED), ("traffic", SEVERAL), ("traffic", one_left))
    assert last_drop(told[:3]) is None
    assert last_drop(told) == (["2"], told[3])
    ended = [*told, replace(told[0], number=5, action="rollback")]
    assert last_drop(ended) == (["3"], ended[4])
    assert last_drop([*told, replace(told[0], number=5, action="promote", state=crowned("3"))]) is None
    assert last_drop([*ended, replace(told[2], number=6)]) is None
    assert last_drop([]) is None


def test_contradictions_of_head_and_aliases_are_found() -> None:
    told = records(("promote", FIRST), ("traffic", AB))
    assert contradictions(told, {"champion": "1", "challenger": "2"}) == []
    assert contradictions(told, None) == []
    assert "expected 1 as in the ledger, got 2" in contradictions(told, {"champion": "2", "challenger": "2"})[0]
    wrong = State(champion="9", challenger="8", plan=AB.plan)
    assert len(contradictions(records(("traffic", wrong)), None)) == 2
